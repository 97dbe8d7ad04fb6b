"""The etcd in memory keeps what the store promises: the store's contract, which real members pass, run with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.control.embedded import ensure_namespaces
from tests.lab.store_fixture import MakeStore
from tests.lab.test_embedded_store import TestWorkers
from tests.lab.test_store_contract import (
    TestCreateAndRead,
    TestDelete,
    TestRaces,
    TestRefused,
    TestSharedStatus,
    TestUpdate,
    TestUpdateStatus,
)
from tests.lab.test_store_watch import TestInformer, TestWatch
from tests.memory_etcd import MemoryEtcd

__all__ = [
    "TestCreateAndRead",
    "TestDelete",
    "TestInformer",
    "TestRaces",
    "TestRefused",
    "TestSharedStatus",
    "TestUpdate",
    "TestUpdateStatus",
    "TestWatch",
    "TestWorkers",
]


@pytest.fixture
def make_store() -> Iterator[MakeStore]:
    etcd = MemoryEtcd()
    store = EtcdStore(MemoryEtcd(etcd))
    ensure_namespaces(store)
    for name in ("c0w1", "c0w2"):
        store.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}})
    yield lambda deadline=0: EtcdStore(MemoryEtcd(etcd))
    store.close()


@pytest.fixture
def store(make_store: MakeStore) -> EtcdStore:
    return make_store()
