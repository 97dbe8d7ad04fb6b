"""Which worker a pod gets where no scheduler runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knetsim.api.objects import Object
from knetsim.control.embedded import choose_worker, count_pods, is_ready
from knetsim.errors import NotReady


def build_node(name: str, *, ready: bool = True, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": {"conditions": conditions}}


def build_pod(**spec: Any) -> Object:
    return {"kind": "Pod", "metadata": {"name": "c1", "namespace": "default"}, "spec": spec}


WORKERS = [build_node(f"c0w{number}") for number in (1, 2, 10)]


def test_fewest_pods_first_then_the_number_in_the_name() -> None:
    assert choose_worker(build_pod(), WORKERS, {}) == "c0w1"
    assert choose_worker(build_pod(), WORKERS, {"c0w1": 2, "c0w2": 1, "c0w10": 1}) == "c0w2"
    assert choose_worker(build_pod(), reversed(WORKERS), {"c0w1": 2, "c0w2": 1}) == "c0w10"


def test_ready_before_not_ready() -> None:
    nodes = [build_node("c0w1", ready=False), build_node("c0w2")]
    assert choose_worker(build_pod(), nodes, {"c0w2": 50}) == "c0w2"
    with pytest.raises(NotReady, match=r"1 node\(s\) had untolerated taint\(s\)"):
        choose_worker(build_pod(), nodes[:1], {})
    patient = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]
    assert choose_worker(build_pod(tolerations=patient), nodes[:1], {}) == "c0w1"
    assert choose_worker(build_pod(), [{**nodes[0], "status": {}}, nodes[1]], {"c0w2": 50}) == "c0w2"
    assert choose_worker(build_pod(), [{**nodes[0], "status": {}}], {}) == "c0w1"
    assert not is_ready({"status": {}})
    assert not is_ready({})


def test_selector_cordon_and_taints() -> None:
    taint = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    nodes = [
        build_node("c0w1", labels={"zone": "a"}),
        build_node("c0w2", labels={"zone": "b"}, unschedulable=True),
        build_node("c0w3", labels={"zone": "b"}, taints=[taint]),
    ]
    assert choose_worker(build_pod(nodeSelector={"zone": "a"}), nodes, {}) == "c0w1"
    with pytest.raises(NotReady, match="Pod default/c1") as caught:
        choose_worker(build_pod(nodeSelector={"zone": "b"}), nodes, {})
    assert caught.value.why == (
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector,"
        " 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    )
    everything = {"operator": "Exists"}
    assert choose_worker(build_pod(nodeSelector={"zone": "b"}, tolerations=[everything]), nodes, {}) == "c0w2"
    for tolerated in (
        {"key": "dedicated", "operator": "Exists"},
        {"key": "dedicated", "value": "gpu"},
        {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
    ):
        assert choose_worker(build_pod(nodeSelector={"zone": "b"}, tolerations=[tolerated]), nodes, {}) == "c0w3"
    for not_tolerated in (
        {"key": "dedicated", "value": "cpu"},
        {"key": "other", "operator": "Exists"},
        {"key": "dedicated", "operator": "Exists", "effect": "NoExecute"},
        {"key": "dedicated"},
    ):
        with pytest.raises(NotReady):
            choose_worker(build_pod(nodeSelector={"zone": "b"}, tolerations=[not_tolerated]), nodes, {})


AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERENCE = "preferredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ({"key": "zone", "operator": "In", "values": ["b", "c"]}, "c0w2"),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, "c0w2"),
        ({"key": "disk", "operator": "Exists"}, "c0w2"),
        ({"key": "disk", "operator": "DoesNotExist"}, "c0w1"),
        ({"key": "size", "operator": "Gt", "values": ["5"]}, "c0w2"),
        ({"key": "size", "operator": "Lt", "values": ["5"]}, "c0w1"),
    ],
)
def test_node_affinity(expression: Object, chosen: str) -> None:
    nodes = [
        build_node("c0w1", labels={"zone": "a", "size": "4"}),
        build_node("c0w2", labels={"zone": "b", "size": "10", "disk": "ssd"}),
    ]
    term = {"matchExpressions": [expression]}
    required = build_pod(affinity={"nodeAffinity": {AFFINITY: {"nodeSelectorTerms": [term]}}})
    assert choose_worker(required, nodes, {chosen: 50}) == chosen
    preferred = build_pod(affinity={"nodeAffinity": {PREFERENCE: [{"weight": 1, "preference": term}]}})
    assert choose_worker(preferred, nodes, {chosen: 50}) == chosen
    (other,) = (node for node in nodes if node["metadata"]["name"] != chosen)
    with pytest.raises(NotReady, match="didn't match Pod's node affinity/selector"):
        choose_worker(required, [other], {})
    assert choose_worker(preferred, [other], {}) == other["metadata"]["name"]


def test_affinity_to_a_name() -> None:
    fields = [{"key": "metadata.name", "operator": "In", "values": ["c0w10"]}]
    terms = [{}, {"matchFields": fields}]
    pod = build_pod(affinity={"nodeAffinity": {AFFINITY: {"nodeSelectorTerms": terms}}})
    assert choose_worker(pod, WORKERS, {"c0w10": 50}) == "c0w10"


def test_no_workers_at_all() -> None:
    with pytest.raises(NotReady, match="no nodes available to schedule pods"):
        choose_worker(build_pod(), [], {})


def test_pods_that_ended_do_not_count() -> None:
    pods = [{**build_pod(nodeName="c0w1"), "status": {"phase": phase}} for phase in ("Running", "Failed", "Succeeded")]
    assert count_pods([*pods, build_pod(nodeName="c0w1"), build_pod()]) == {"c0w1": 2, "": 1}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 60))
def test_pods_are_spread_evenly(workers: int, pods: int) -> None:
    nodes, load = [build_node(f"c0w{number}") for number in range(workers)], Counter[str]()
    for _ in range(pods):
        load[choose_worker(build_pod(), nodes, load)] += 1
    assert max(load.values(), default=0) - min(load[f"c0w{number}"] for number in range(workers)) <= 1
