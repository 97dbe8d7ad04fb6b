"""The loops of the embedded control plane, on a whole store in memory."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.objects import Object, name_of
from knetsim.control.embedded import EmbeddedControl
from knetsim.errors import NotFound, ObjectError
from knetsim.system.wait import wait_until
from tests.memory_etcd import MemoryEtcd

SECONDS = 60.0
READY = [{"type": "Ready", "status": "True"}]


@pytest.fixture
def store() -> Iterator[EtcdStore]:
    store = EtcdStore(MemoryEtcd())
    yield store
    store.close()


@pytest.fixture
def control(store: EtcdStore) -> Iterator[EmbeddedControl]:
    control = EmbeddedControl(store, ipaddress.IPv4Network("100.64.0.0/16"))
    control.start(SECONDS)
    yield control
    control.stop()


def wait(what: str, condition: Callable[[], bool]) -> None:
    wait_until(what, lambda: "" if condition() else "not yet", SECONDS)


def add_node(store: EtcdStore, name: str, **spec: Any) -> None:
    status = {"conditions": READY}
    store.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec, "status": status})


def build_pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    containers = [{"name": "main", "image": "pause:3.10", "ports": [{"containerPort": 8080, "name": "http"}]}]
    metadata = {"name": name, "labels": labels or {}}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"containers": containers, **spec}}


def build_service(name: str, **spec: Any) -> Object:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], **spec}
    return {"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec}


def run(store: EtcdStore, name: str, address: str, *, ready: bool = True) -> None:
    conditions = [{"type": "Ready", "status": str(ready)}]
    pod = {**build_pod(name), "status": {"phase": "Running", "podIP": address, "conditions": conditions}}
    store.update_status(pod)


def node_of(store: EtcdStore, name: str) -> str:
    return str(store.get("Pod", name)["spec"].get("nodeName", ""))


def scheduled(store: EtcdStore, name: str) -> Object:
    conditions = store.get("Pod", name)["status"].get("conditions", [])
    return next((item for item in conditions if item["type"] == "PodScheduled"), {})


def endpoints(store: EtcdStore, service: str) -> dict[str, Object]:
    """address → conditions, of all slices of a Service."""
    found = {}
    for one in store.list("EndpointSlice").items:
        if one["metadata"]["labels"]["kubernetes.io/service-name"] == service:
            found.update({item["addresses"][0]: item["conditions"] for item in one["endpoints"]})
    return found


class TestScheduler:
    def test_pods_are_spread(self, store: EtcdStore, control: EmbeddedControl) -> None:
        for number in (1, 2, 3):
            add_node(store, f"c0w{number}")
        for number in range(9):
            store.create(build_pod(f"p{number}"))
        wait("all pods bound", lambda: all(node_of(store, f"p{number}") for number in range(9)))
        assert Counter(node_of(store, f"p{number}") for number in range(9)) == {"c0w1": 3, "c0w2": 3, "c0w3": 3}

    def test_one_that_fits_nowhere_waits_until_one_does(self, store: EtcdStore, control: EmbeddedControl) -> None:
        add_node(store, "c0w1", unschedulable=True)
        store.create(build_pod("p1"))
        why = "0/1 nodes are available: 1 node(s) were unschedulable."
        # it may hear of the pod first and say that there are no Nodes at all
        wait("the condition", lambda: scheduled(store, "p1").get("message") == why)
        condition = scheduled(store, "p1")
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
        wait("the event", lambda: why in (one["message"] for one in store.list("Event").items))
        event = next(one for one in store.list("Event").items if one["message"] == why)
        assert (event["reason"], event["type"]) == ("FailedScheduling", "Warning")
        assert event["source"]["component"] == "default-scheduler"
        assert control.status() == [("Pod default/p1", f"has no worker: {why}")]
        node = store.get("Node", "c0w1")
        store.update({**node, "spec": {}})
        wait("the pod bound", lambda: node_of(store, "p1") == "c0w1")
        wait("nothing to tell", lambda: control.status() == [])

    def test_what_is_not_its_own(self, store: EtcdStore, control: EmbeddedControl) -> None:
        add_node(store, "c0w1")
        store.create(build_pod("other", schedulerName="mine"))
        store.create(build_pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
        store.create(build_pod("own"))
        wait("the pod bound", lambda: node_of(store, "own") == "c0w1")
        assert control.scheduler.wait_idle(SECONDS)
        assert node_of(store, "other") == node_of(store, "gated") == ""
        assert scheduled(store, "gated")["reason"] == "SchedulingGated"
        store.update({**(pod := store.get("Pod", "gated")), "spec": {**pod["spec"], "schedulingGates": []}})
        wait("the pod bound", lambda: node_of(store, "gated") == "c0w1")


class TestServices:
    def test_addresses_and_ports(self, store: EtcdStore, control: EmbeddedControl) -> None:
        spec = store.create(build_service("a"))["spec"]
        assert (spec["clusterIP"], spec["clusterIPs"]) == ("100.64.1.0", ["100.64.1.0"])
        assert store.create(build_service("b", clusterIP="None"))["spec"]["clusterIPs"] == ["None"]
        spec = store.create(build_service("c", type="NodePort", clusterIP="100.64.10.1"))["spec"]
        assert (spec["clusterIP"], spec["ports"][0]["nodePort"]) == ("100.64.10.1", 30086)
        store.create(build_service("d", type="ExternalName", externalName="example.com", ports=[]))
        for taken in ("100.64.10.1", "100.64.0.1", "100.64.1.0"):
            with pytest.raises(ObjectError, match="another Service's"):
                store.create(build_service("e", clusterIP=taken))
        with pytest.raises(ObjectError, match=r"not in the range of Services, 100\.64\.0\.0/16"):
            store.create(build_service("e", clusterIP="10.0.0.1"))
        port = {"port": 80, "nodePort": 30086}
        with pytest.raises(ObjectError, match="30086 is another Service's"):
            store.create(build_service("e", type="NodePort", ports=[port]))
        with pytest.raises(ObjectError, match="is no NodePort"):
            store.create(build_service("e", type="NodePort", ports=[{**port, "nodePort": 80}]))

    def test_what_a_service_had_is_free_when_it_is_gone(self, store: EtcdStore, control: EmbeddedControl) -> None:
        store.create(
            build_service("a", type="NodePort", clusterIP="100.64.10.1", ports=[{"port": 1, "nodePort": 30001}])
        )
        store.delete("Service", "a")

        def again() -> bool:
            try:
                store.create(build_service("b", clusterIP="100.64.10.1"))
            except ObjectError:
                return False
            return True

        wait("the address is free", again)

    def test_an_update_keeps_what_was_allotted(self, store: EtcdStore, control: EmbeddedControl) -> None:
        created = store.create(build_service("a", type="NodePort"))
        ports = [{"name": "http", "port": 80}, {"name": "more", "port": 81}]
        updated = store.update(build_service("a", type="NodePort", ports=ports))
        assert updated["spec"]["clusterIP"] == created["spec"]["clusterIP"]
        assert [port["nodePort"] for port in updated["spec"]["ports"]] == [30086, 30087]
        with pytest.raises(ObjectError, match="cannot change"):
            store.update(build_service("a", clusterIP="100.64.10.9"))
        assert "nodePort" not in store.update(build_service("a"))["spec"]["ports"][0]

    def test_written_where_nobody_asked(self, store: EtcdStore, control: EmbeddedControl) -> None:
        other = EtcdStore(MemoryEtcd(store.etcd))  # type: ignore[arg-type]
        other.create(build_service("a"))
        wait("the address", lambda: "clusterIP" in store.get("Service", "a")["spec"])
        other.create(build_service("b", clusterIP=store.get("Service", "a")["spec"]["clusterIP"]))
        wait(
            "the event",
            lambda: any(item["reason"] == "ClusterIPAlreadyAllocated" for item in store.list("Event").items),
        )
        other.close()


class TestSlices:
    def test_a_service_and_its_pods(self, store: EtcdStore, control: EmbeddedControl) -> None:
        add_node(store, "c0w1")
        store.create(build_service("web"))
        wait("the empty slice", lambda: len(store.list("EndpointSlice").items) == 1)
        for number in (1, 2):
            store.create(build_pod(f"p{number}", {"app": "web"}, nodeName="c0w1"))
            run(store, f"p{number}", f"11.0.0.{number}", ready=number == 1)
        store.create(build_pod("other", {"app": "db"}, nodeName="c0w1"))
        run(store, "other", "11.0.0.9")
        wait("both endpoints", lambda: len(endpoints(store, "web")) == 2)
        assert endpoints(store, "web") == {
            "11.0.0.1": {"ready": True, "serving": True, "terminating": False},
            "11.0.0.2": {"ready": False, "serving": False, "terminating": False},
        }
        (one,) = store.list("EndpointSlice").items
        assert one["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
        run(store, "p2", "11.0.0.2")
        wait("both ready", lambda: all(item["ready"] for item in endpoints(store, "web").values()))
        store.delete("Pod", "p1")
        wait("one is ending", lambda: endpoints(store, "web")["11.0.0.1"]["terminating"])
        assert endpoints(store, "web")["11.0.0.1"] == {"ready": False, "serving": True, "terminating": True}
        store.delete("Pod", "p1", grace_seconds=0)
        wait("one is gone", lambda: list(endpoints(store, "web")) == ["11.0.0.2"])
        store.delete("Service", "web")
        wait("no slice", lambda: store.list("EndpointSlice").items == [])

    def test_a_slice_that_somebody_deletes_is_back(self, store: EtcdStore, control: EmbeddedControl) -> None:
        store.create(build_service("web"))
        wait("the slice", lambda: len(store.list("EndpointSlice").items) == 1)
        name = name_of(store.list("EndpointSlice").items[0])
        store.delete("EndpointSlice", name)
        wait("another", lambda: [name_of(one) != name for one in store.list("EndpointSlice").items] == [True])

    def test_one_pod_of_many_touches_one_slice(self, store: EtcdStore, control: EmbeddedControl) -> None:
        add_node(store, "c0w1")
        for number in range(250):
            store.create(build_pod(f"p{number}", {"app": "web"}, nodeName="c0w1"))
            run(store, f"p{number}", f"11.0.{number // 100}.{number % 100}")
        store.create(build_service("web"))
        wait("all endpoints", lambda: len(endpoints(store, "web")) == 250)
        before = {name_of(one): one["metadata"]["resourceVersion"] for one in store.list("EndpointSlice").items}
        assert max(len(one["endpoints"]) for one in store.list("EndpointSlice").items) <= 100
        run(store, "p7", "11.0.0.7", ready=False)
        wait("one not ready", lambda: not endpoints(store, "web")["11.0.0.7"]["ready"])
        after = {name_of(one): one["metadata"]["resourceVersion"] for one in store.list("EndpointSlice").items}
        assert before.keys() == after.keys()
        assert sum(before[name] != after[name] for name in before) == 1


def test_a_namespace_is_emptied(store: EtcdStore, control: EmbeddedControl) -> None:
    store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}})
    service = build_service("web")
    service["metadata"]["namespace"] = "shop"
    store.create(service)
    store.delete("Namespace", "shop")

    def gone() -> bool:
        try:
            store.get("Namespace", "shop")
        except NotFound:
            return True
        return False

    wait("the namespace is gone", gone)


def test_a_namespace_waits_for_what_finalizers_hold(store: EtcdStore, control: EmbeddedControl) -> None:
    store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}})
    metadata = {"name": "held", "namespace": "shop", "finalizers": ["example.com/hold"]}
    store.create({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata})
    store.delete("Namespace", "shop")
    wait("its end", lambda: "deletionTimestamp" in store.get("ConfigMap", "held", "shop")["metadata"])
    held = store.get("ConfigMap", "held", "shop")
    store.update({**held, "metadata": {**held["metadata"], "finalizers": []}})
    wait("the namespace is gone", lambda: "shop" not in map(name_of, store.list("Namespace").items))
    assert store.list("EndpointSlice").items == []
