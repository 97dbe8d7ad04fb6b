"""The loops of the embedded control plane on real etcd members: the same tests as on the store in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from knetsim.api.etcd import Etcd
from knetsim.api.etcd_store import EtcdStore
from tests.lab.etcd_fixture import EtcdMembers, members
from tests.unit.test_embedded_loops import (
    SECONDS,
    TestScheduler,
    TestSlices,
    add_node,
    build_pod,
    build_service,
    control,
    endpoints,
    node_of,
    run,
    test_a_namespace_is_emptied,
    wait,
)

__all__ = ["TestScheduler", "TestSlices", "control", "members", "test_a_namespace_is_emptied"]


@pytest.fixture
def store(members: EtcdMembers) -> Iterator[EtcdStore]:
    store = EtcdStore(Etcd(members.targets, deadline=SECONDS))
    store.etcd.delete_prefix("/registry/")
    yield store
    store.close()


@pytest.mark.usefixtures("control")
def test_a_member_that_dies_is_not_noticed(store: EtcdStore, members: EtcdMembers) -> None:
    """Watches and writes go on with the other two."""
    add_node(store, "c0w1")
    store.create(build_service("web"))
    members.kill(members.leader())
    try:
        store.create(build_pod("p1", {"app": "web"}))
        wait("the pod bound", lambda: node_of(store, "p1") == "c0w1")
        run(store, "p1", "11.0.0.1")
        wait("the endpoint", lambda: list(endpoints(store, "web")) == ["11.0.0.1"])
    finally:
        members.restore()
