"""A Node that is no longer heard of, and its pods; the clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.events import EventRecorder
from knetsim.api.informer import Informer
from knetsim.api.objects import format_micro_time
from knetsim.control.embedded.namespaces import ensure_namespaces
from knetsim.control.embedded.node_monitor import BY_NODE, GRACE_SECONDS, LEASE_NAMESPACE, NodeMonitor
from knetsim.system.wait import wait_until
from tests.memory_etcd import MemoryEtcd

SECONDS = 60.0
READY = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}, {"type": "Mine", "status": "True"}]


class Cluster:
    """Nodes with a Lease and a pod each, in a store, and the loop that watches them."""

    def __init__(self, store: EtcdStore) -> None:
        self.store, self.now, self._serial = store, 1000.0, 0
        ensure_namespaces(store)
        by_node = {BY_NODE: lambda obj: [obj["spec"].get("nodeName", "")]}
        self.nodes, self.leases = Informer(store, "Node"), Informer(store, "Lease", LEASE_NAMESPACE)
        self.pods = Informer(store, "Pod", indexes=by_node)
        self._informers = (self.nodes, self.leases, self.pods)
        for informer in self._informers:
            informer.start()
            informer.wait_synced(SECONDS)
        events = EventRecorder(store, "node-controller")
        self.monitor = NodeMonitor(store, self.nodes, self.leases, self.pods, events, steady=lambda: self.now)

    def close(self) -> None:
        self.monitor.stop()
        for informer in self._informers:
            informer.stop()

    def add(self, name: str) -> None:
        """A Node, its Lease and a pod that runs there, which all informers have heard of."""
        status = {"conditions": READY}
        self.store.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "status": status})
        lease = {
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
            "spec": {"renewTime": format_micro_time(0.0)},
        }
        self.store.create({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", **lease})
        spec = {"nodeName": name, "containers": [{"name": "main", "image": "pause"}]}
        made = self.store.create({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": f"p-{name}"}, "spec": spec})
        self._heard(self.store.update_status({**made, "status": {"phase": "Running", "conditions": READY}}))
        for kind, space in (("Node", None), ("Lease", LEASE_NAMESPACE)):
            self._heard(self.store.get(kind, name, space))

    def renew(self, name: str) -> None:
        """The Lease, as its kubelet renews it, by a clock of its own."""
        self._serial += 1
        lease: Any = self.store.get("Lease", name, LEASE_NAMESPACE)
        self._heard(self.store.update({**lease, "spec": {"renewTime": format_micro_time(self._serial)}}))

    def recover(self, name: str) -> None:
        """The Node, as its kubelet says again that it is ready."""
        node = self.store.get("Node", name)
        self._heard(self.store.update_status({**node, "status": {**node["status"], "conditions": READY}}))

    def _heard(self, obj: Any) -> None:
        informer = next(each for each in self._informers if each.kind == obj["kind"])
        space, name, wanted = obj["metadata"].get("namespace"), obj["metadata"]["name"], obj["metadata"]
        informer.wait_for(
            lambda each: (
                int(((each.get(space, name) or {}).get("metadata") or {}).get("resourceVersion", 0))
                >= int(wanted["resourceVersion"])
            ),
            SECONDS,
            name,
        )

    def look(self) -> None:
        """Until the loop has looked at what there is."""
        assert self.monitor.wait_idle(SECONDS)

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the loop looks."""
        self.now += seconds
        self.monitor.look_at_clock()
        self.look()

    def ready(self, kind: str, name: str) -> str:
        obj = self.store.get(kind, name, None if kind == "Node" else "default")
        return next(one["status"] for one in obj["status"]["conditions"] if one["type"] == "Ready")

    def wait(self, kind: str, name: str, status: str) -> None:
        wait_until(f"{kind} {name}", lambda: "" if self.ready(kind, name) == status else "not yet", SECONDS)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    store = EtcdStore(MemoryEtcd())
    cluster = Cluster(store)
    yield cluster
    cluster.close()
    store.close()


def test_a_node_that_falls_silent_and_its_pods_are_not_ready(cluster: Cluster) -> None:
    for name in ("c0w1", "c0w2"):
        cluster.add(name)
    cluster.monitor.start()
    cluster.look()
    for _ in range(9):
        cluster.renew("c0w2")
        cluster.pass_time(GRACE_SECONDS / 10)
    assert cluster.ready("Node", "c0w1") == "True", "there is still time"
    cluster.renew("c0w2")
    cluster.pass_time(GRACE_SECONDS / 10)
    cluster.wait("Node", "c0w1", "Unknown")
    cluster.wait("Pod", "p-c0w1", "False")
    assert cluster.ready("Node", "c0w2") == cluster.ready("Pod", "p-c0w2") == "True"
    lost = cluster.store.get("Node", "c0w1")["status"]["conditions"]
    assert [one["status"] for one in lost] == ["Unknown", "True"], "what others say of it stays"
    cluster.look()
    events = {(one["involvedObject"]["name"], one["reason"]) for one in cluster.store.list("Event")[0]}
    assert events == {("c0w1", "NodeNotReady"), ("p-c0w1", "NodeNotReady")}


def test_a_node_that_is_heard_of_again_is_left_to_its_kubelet(cluster: Cluster) -> None:
    cluster.add("c0w1")
    cluster.monitor.start()
    cluster.look()
    cluster.pass_time(GRACE_SECONDS)
    cluster.wait("Node", "c0w1", "Unknown")
    cluster.renew("c0w1")
    cluster.recover("c0w1")
    for _ in range(9):
        cluster.pass_time(GRACE_SECONDS / 10)
    assert cluster.ready("Node", "c0w1") == "True"
    cluster.pass_time(GRACE_SECONDS)
    cluster.wait("Node", "c0w1", "Unknown")


def test_a_node_that_is_gone_is_forgotten(cluster: Cluster) -> None:
    cluster.add("c0w1")
    cluster.monitor.start()
    cluster.look()
    cluster.store.delete("Node", "c0w1")
    cluster.nodes.wait_for(lambda each: each.get(None, "c0w1") is None, SECONDS, "its end")
    cluster.pass_time(GRACE_SECONDS)
    assert cluster.ready("Pod", "p-c0w1") == "True"
    assert cluster.store.list("Event")[0] == []
