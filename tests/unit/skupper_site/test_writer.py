"""Objects that are made of something: the one of a name is not always the one that was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.control.embedded import ensure_namespaces
from knetsim.node.skupper.grants import TOKEN_UID
from knetsim.node.skupper.objects import CONTROLLED
from knetsim.node.skupper.writer import ObjectWriter
from tests.memory_etcd import MemoryEtcd


class Written:
    """A writer, its store, and how often it wanted another look."""

    def __init__(self) -> None:
        self.store, self.looks = EtcdStore(MemoryEtcd()), 0
        ensure_namespaces(self.store)
        self.writer = ObjectWriter(self.store, self._look)

    def _look(self) -> None:
        self.looks += 1

    def uids(self) -> list[str]:
        """The tokens of the Secrets that are there."""
        return [each["metadata"]["annotations"][TOKEN_UID] for each in self.store.list("Secret").items]


@pytest.fixture
def written() -> Iterator[Written]:
    made = Written()
    yield made
    made.store.close()


def build_secret(token: str) -> dict[str, Any]:
    annotations = {CONTROLLED: "true", TOKEN_UID: token}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "to-c0", "namespace": "default", "annotations": annotations},
    }


def test_made_twice_is_made_once(written: Written) -> None:
    assert [written.writer.make(build_secret("one")) for _ in range(2)] == ["", ""]
    assert written.uids() == ["one"]


def test_another_of_its_name_does_not_stand_for_it(written: Written) -> None:
    written.store.create(build_secret("one"))
    assert written.writer.make(build_secret("two")) == "there is another Secret default/to-c0"
    assert (written.uids(), written.looks > 0) == (["one"], True)


def test_what_was_made_is_taken_back_and_nothing_else(written: Written) -> None:
    written.writer.make(build_secret("one"))
    written.writer.take_back(build_secret("two"))
    assert written.uids() == ["one"]
    for _ in range(2):
        written.writer.take_back(build_secret("one"))
        assert written.uids() == []
