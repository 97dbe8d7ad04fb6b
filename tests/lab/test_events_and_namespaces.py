"""Straight on etcd: Events that vanish, namespaces that are emptied, pods that are spread when they are written."""

from __future__ import annotations

from collections import Counter

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.events import EventRecorder
from knetsim.control.embedded import build_namespace, ensure_namespaces, reconcile_namespace, write_pod, write_pods
from knetsim.errors import AlreadyExists, KnetsimError, NotFound, ObjectError
from tests.lab.etcd_fixture import members
from tests.lab.store_fixture import MakeStore, build_lease, build_pod, listed, make_store

__all__ = ["make_store", "members"]

pytestmark = pytest.mark.parametrize("make_store", ["etcd"], indirect=True)


@pytest.fixture
def store(make_store: MakeStore) -> EtcdStore:
    store = make_store()
    assert isinstance(store, EtcdStore)
    return store


class TestEventsEnd:
    def test_hang_on_one_lease_a_minute_and_vanish_with_it(self, store: EtcdStore) -> None:
        pod, recorder = store.create(build_pod("c1")), EventRecorder(store, "kubelet")
        for reason in ("Pulled", "Started"):
            recorder.record(pod, reason, "")
        leases = {self.lease_of(store, event["metadata"]["name"]) for event in store.list("Event").items}
        assert len(leases) == 1
        (lease,) = leases
        assert 3600 <= store.etcd.lease_keepalive(lease) <= 3660
        store.etcd.lease_revoke(lease)
        assert store.list("Event").items == []
        recorder.record(pod, "Started", "")
        assert [event["count"] for event in store.list("Event").items] == [1]
        assert self.lease_of(store, store.list("Event").items[0]["metadata"]["name"]) not in leases

    @staticmethod
    def lease_of(store: EtcdStore, name: str) -> int:
        stored = store.etcd.get(f"/registry/events/default/{name}")
        assert stored is not None
        assert stored.lease
        return stored.lease

    def test_one_that_cannot_be_written_is_dropped(
        self, store: EtcdStore, make_store: MakeStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        pod = store.create(build_pod("c1"))
        recorder = EventRecorder(store, "kubelet")
        store.close()
        recorder.record(pod, "Started", "")
        assert "an Event is lost: Started" in caplog.text


class TestNamespaces:
    def test_the_standard_ones_once(self, store: EtcdStore) -> None:
        before = listed(store, "Namespace")
        ensure_namespaces(store)
        assert listed(store, "Namespace") == before
        assert set(before) == {"default", "kube-system", "kube-public", "kube-node-lease"}

    def test_is_emptied_then_gone(self, store: EtcdStore) -> None:
        store.create(build_namespace("shop"))
        pod = build_pod("c1")
        pod["metadata"]["namespace"] = "shop"
        store.create(pod)
        store.create(build_lease("l1", "shop"))
        store.create(build_lease("l1"))
        assert reconcile_namespace(store, "shop"), "nothing to do: it is not being deleted"
        store.delete("Namespace", "shop")
        assert not reconcile_namespace(store, "shop"), "the pod takes its time"
        assert store.get("Pod", "c1", "shop")["metadata"]["deletionTimestamp"]
        assert not reconcile_namespace(store, "shop")
        store.delete("Pod", "c1", "shop", grace_seconds=0)
        assert reconcile_namespace(store, "shop")
        with pytest.raises(NotFound):
            store.get("Namespace", "shop")
        assert reconcile_namespace(store, "shop")
        assert set(listed(store, "Lease")) == {"default/l1"}
        store.create(build_namespace("shop"))
        store.create(build_lease("l2", "shop"))


class TestWritePods:
    def unbound(self, name: str, **spec: object) -> dict[str, object]:
        pod = build_pod(name, **spec)
        del pod["spec"]["nodeName"]
        return pod

    def test_spread(self, store: EtcdStore) -> None:
        store.create(build_pod("bound"))
        written = write_pods(store, [self.unbound(f"p{number}") for number in range(5)])
        assert [pod["metadata"]["name"] for pod in written] == [f"p{number}" for number in range(5)]
        assert Counter(pod["spec"]["nodeName"] for pod in written) == {"c0w2": 3, "c0w1": 2}
        assert write_pod(store, build_pod("named", nodeName="C0w2"))["spec"]["nodeName"] == "c0w2"
        assert write_pod(store, self.unbound("last"))["spec"]["nodeName"] == "c0w1"

    def test_all_are_checked_before_one_is_written(self, store: EtcdStore) -> None:
        with pytest.raises(ObjectError, match="Pod default/p2"):
            write_pods(store, [self.unbound("p1"), self.unbound("p2", nodeSelector=[])])
        assert store.list("Pod").items == []

    def test_one_that_fits_nowhere_waits(self, store: EtcdStore) -> None:
        written = write_pods(store, [self.unbound("p1", nodeSelector={"zone": "a"}), self.unbound("p2")])
        assert [pod["spec"].get("nodeName") for pod in written] == [None, "c0w1"]

    def test_one_that_exists_stops_no_other(self, store: EtcdStore) -> None:
        store.create(build_pod("p1"))
        with pytest.raises(AlreadyExists):
            write_pods(store, [self.unbound(f"p{number}") for number in range(3)])
        assert set(listed(store)) == {"default/p0", "default/p1", "default/p2"}

    def test_none(self, store: EtcdStore) -> None:
        assert write_pods(store, []) == []


def test_what_is_no_object_hides_no_other(store: EtcdStore, caplog: pytest.LogCaptureFixture) -> None:
    """A kube-apiserver fails every list of the kind until such a key is deleted."""
    store.create(build_lease("l1"))
    store.etcd.put("/registry/leases/default/bad", "no JSON")
    assert set(listed(store, "Lease")) == {"default/l1"}
    changes = [next(watch) for watch in [store.watch("Lease")] for _ in range(2)]
    assert [change.type for change in changes] == ["ADDED", "SYNCED"]
    assert "/registry/leases/default/bad holds no object" in caplog.text
    with pytest.raises(KnetsimError, match="this key holds no object") as caught:
        store.get("Lease", "bad")
    assert caught.value.hint == "etcdctl del /registry/leases/default/bad"
