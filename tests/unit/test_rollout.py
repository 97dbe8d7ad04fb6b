"""What is still missing of a workload, in words; and when Services lead to their pods."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.control.embedded.namespaces import ensure_namespaces
from knetsim.node.service_objects import BY_OWNER, index_by_owner
from knetsim.rollout import collect_objects, explain_rollout, find_endpoints, wait_endpoints
from knetsim.scenario import parse_scenario
from tests.memory_etcd import MemoryEtcd

SECONDS = 30.0


def workload(kind: str, spec: Any, status: Any, generation: int = 2) -> Any:
    return {"kind": kind, "metadata": {"name": "web", "generation": generation}, "spec": spec, "status": status}


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"])
def test_replicas(kind: str) -> None:
    seen = {"observedGeneration": 2}
    assert explain_rollout(workload(kind, {"replicas": 3}, {**seen, "readyReplicas": 3})) == ""
    assert explain_rollout(workload(kind, {"replicas": 3}, {**seen, "readyReplicas": 1})) == "1 of 3 pods are ready"
    assert explain_rollout(workload(kind, {"replicas": 0}, seen)) == ""


def test_daemons() -> None:
    status = {"observedGeneration": 2, "desiredNumberScheduled": 3, "numberReady": 2}
    assert explain_rollout(workload("DaemonSet", {}, status)) == "2 of 3 pods are ready"
    assert explain_rollout(workload("DaemonSet", {}, {**status, "numberReady": 3})) == ""


def test_what_its_controller_has_not_seen_counts_for_nothing() -> None:
    status = {"observedGeneration": 1, "readyReplicas": 3}
    assert "has not seen it" in explain_rollout(workload("Deployment", {"replicas": 3}, status))


def pod(address: str, ready: str = "True", **metadata: Any) -> Any:
    status = {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]}
    return {
        "kind": "Pod",
        "metadata": {"namespace": "default", "labels": {"app": "web", "x": "y"}, **metadata},
        "status": status,
    }


def service(**spec: Any) -> Any:
    meta = {"name": "web", "namespace": "default"}
    return {"kind": "Service", "metadata": meta, "spec": {"selector": {"app": "web"}, **spec}}


def test_endpoints_are_the_ready_pods_of_the_selector() -> None:
    pods = [
        pod("11.0.0.1"),
        pod("11.0.0.2", labels={"app": "web"}),
        pod("11.0.0.3", ready="False"),
        pod("11.0.0.4", labels={"app": "other"}),
        pod("11.0.0.5", labels=None),
        pod("11.0.0.6", namespace="elsewhere"),
        pod("11.0.0.7", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod(""),
    ]
    assert find_endpoints(service(), pods) == {"11.0.0.1", "11.0.0.2"}


@pytest.mark.parametrize("spec", [{"selector": None}, {"selector": {}}, {"type": "ExternalName"}])
def test_no_endpoints_without_a_selector_that_counts(spec: Any) -> None:
    assert find_endpoints(service(**spec), [pod("11.0.0.1")]) == set()


class Slices(Informer):
    """An informer of slices; once somebody waits and has found them wanting, `then` happens."""

    def __init__(self, store: EtcdStore, then: Callable[[], object]) -> None:
        super().__init__(store, "EndpointSlice", indexes={BY_OWNER: index_by_owner})
        self._then, self._listed, self.met = then, False, False
        self.start()
        self.wait_synced(SECONDS)
        self._listed, self.met = True, False

    def wait_for(self, condition: Callable[[Informer], bool], timeout: float, what: str) -> None:
        if self._listed:
            assert not condition(self)
            self._then()
        super().wait_for(condition, timeout, what)
        self.met = True


def endpoint_slice(address: str, ready: bool) -> Any:
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": address, "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
    }


def test_a_service_is_waited_for_until_its_slices_list_every_pod() -> None:
    store = EtcdStore(MemoryEtcd())
    ensure_namespaces(store)
    store.create(endpoint_slice("11.0.0.1", True))
    store.create(endpoint_slice("11.0.0.2", False))

    def complete() -> None:
        found = store.get("EndpointSlice", "11.0.0.2", "default")
        store.update({**found, "endpoints": endpoint_slice("11.0.0.2", True)["endpoints"]})

    slices = Slices(store, complete)
    try:
        wait_endpoints([service()], [pod("11.0.0.1"), pod("11.0.0.2")], slices, SECONDS)
        assert slices.met
    finally:
        slices.stop()


def test_a_service_that_gets_no_slice_holds_up_nobody() -> None:
    store = EtcdStore(MemoryEtcd())
    ensure_namespaces(store)
    slices = Slices(store, lambda: None)
    try:
        wait_endpoints([service()], [pod("11.0.0.1")], slices, 0.0)
        assert not slices.met
    finally:
        slices.stop()


def test_codes_by_which_sites_link_are_drawn_at_every_start() -> None:
    clusters = [{"name": "C0", "workers": 1}, {"name": "C1", "workers": 1}]
    spec = {"clusters": clusters, "multicluster": {"links": [{"from": "C1", "to": "C0"}]}}
    text = {"apiVersion": "knetsim.io/v1", "kind": "Scenario", "metadata": {"name": "lab"}, "spec": spec}
    loaded = parse_scenario(json.dumps(text))
    codes = set()
    for _ in range(3):
        objects = collect_objects(loaded)
        [code] = [obj["spec"]["code"] for obj in objects["C0"] if obj["kind"] == "AccessGrant"]
        assert [obj["spec"]["code"] for obj in objects["C1"] if obj["kind"] == "AccessToken"] == [code]
        assert len(code) >= 24
        codes.add(code)
    assert len(codes) == 3
