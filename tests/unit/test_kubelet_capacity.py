"""Which pods a worker takes, which fields it cannot carry out, which files are static pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from knetsim.node.kubelet.capacity import NodeBook, host_ports, matches_node, pod_requests
from knetsim.node.kubelet.not_simulated import TABLE, find_not_simulated
from knetsim.node.kubelet.static_pods import build_mirror, hash_of, is_mirror, read_static_pods

NODE = {
    "metadata": {"name": "c0w1", "uid": "u-1", "labels": {"zone": "a", "cores": "4"}},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
}


def container(name: str = "web", *, cpu: str = "", memory: str = "", port: int = 0, ip: str = "", **more) -> dict:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    ports = [{"containerPort": 80, "hostPort": port, "hostIP": ip}] if port else []
    return {"name": name, "resources": {"requests": requests}, "ports": ports, **more}


def pod(*containers: dict, **spec) -> dict:
    return {"metadata": {"name": "c1"}, "spec": {"containers": list(containers) or [container()], **spec}}


# --- requests


def test_requests_add_up_and_init_containers_peak() -> None:
    side = container("s", cpu="100m", restartPolicy="Always")
    spec = pod(container(cpu="250m", memory="64Mi"), container(cpu="1"), initContainers=[side, container("i", cpu="2")])
    assert pod_requests(spec["spec"]) == {"pods": 1, "cpu": 2100, "memory": 64 * 2**20}
    spec["spec"]["initContainers"][1] = container("i", cpu="1")
    assert pod_requests(spec["spec"])["cpu"] == 1350
    assert pod_requests({**spec["spec"], "overhead": {"cpu": "50m"}})["cpu"] == 1400
    assert pod_requests({**spec["spec"], "resources": {"requests": {"cpu": "3"}}})["cpu"] == 3000


def test_a_worker_that_is_full() -> None:
    book = NodeBook()
    assert book.admit("a", pod(container(cpu="1500m")), NODE) is None
    assert book.admit("a", pod(container(cpu="1500m")), NODE) is None, "twice is once"
    assert book.admit("b", pod(container(cpu="600m")), NODE) == (
        "OutOfcpu",
        "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000",
    )
    assert book.admit("c", pod(container(memory="2Gi")), NODE).reason == "OutOfmemory"
    book.release("a")
    book.release("a")
    assert book.admit("b", pod(container(cpu="600m")), NODE) is None
    for name in ("d", "e"):
        assert book.admit(name, pod(), NODE) is None
    assert book.admit("f", pod(), NODE).reason == "OutOfpods"


def test_resources_that_no_node_has_are_not_the_kubelets_to_refuse() -> None:
    given = pod({"name": "w", "resources": {"requests": {"example.com/gpu": "1"}}})
    assert NodeBook().admit("a", given, NODE) is None


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [("", "", True), ("", "10.0.0.1", True), ("10.0.0.1", "10.0.0.2", False), ("10.0.0.1", "10.0.0.1", True)],
)
def test_ports_of_the_worker(first: str, second: str, clash: bool) -> None:
    book = NodeBook()
    assert book.admit("a", pod(container(port=80, ip=first)), NODE) is None
    rejection = book.admit("b", pod(container(port=80, ip=second)), NODE)
    assert (rejection is not None) is clash
    if rejection:
        assert rejection.reason == "NodePorts"
    assert book.admit("c", pod(container(port=81)), NODE) is None
    assert host_ports(pod(container(port=9))["spec"]) == [("", "TCP", 9)]


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "other", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "zone", "operator": "DoesNotExist"}, False),
        ({"key": "cores", "operator": "Gt", "values": ["3"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["3"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["3"]}, False),
    ],
)
def test_node_affinity(expression: dict, fits: bool) -> None:
    def spec(term: dict) -> dict:
        required = {"nodeSelectorTerms": [term]}
        return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}

    assert matches_node(spec({"matchExpressions": [expression]}), NODE) is fits
    assert not matches_node(spec({}), NODE)
    assert matches_node(spec({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c0w1"]}]}), NODE)


def test_node_selector() -> None:
    assert matches_node({"nodeSelector": {"zone": "a"}}, NODE)
    rejection = NodeBook().admit("a", pod(nodeSelector={"zone": "b"}), NODE)
    assert rejection == (
        "NodeAffinity",
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    )


# --- what is not simulated


def test_an_ordinary_pod_asks_for_nothing_that_is_not() -> None:
    plain = container(securityContext={"runAsUser": 1, "procMount": "Default"}, volumeMounts=[{"name": "v"}])
    assert find_not_simulated(pod(plain, hostUsers=True, runtimeClassName="", shareProcessNamespace=False)) == []


@pytest.mark.parametrize("path", TABLE)
def test_every_row_is_found(path: str) -> None:
    *way, last = path.split(".")
    value: object = False if last == "hostUsers" else {"x": "y"}
    if last.endswith("[]"):
        value, last = [value], last.removesuffix("[]")
    whole = {last: value}
    for step in reversed(way):
        whole = {step.removesuffix("[]"): [whole] if step.endswith("[]") else whole}
    (found,) = find_not_simulated({"spec": {"containers": [], **whole}})
    assert found.field == "spec." + path.replace("[]", "[0]")
    assert str(found) == f"{found.field} is not simulated: {TABLE[path]}"


def test_limits_that_are_enforced() -> None:
    limits = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}
    found = find_not_simulated(pod({"name": "w", "resources": {"limits": limits}}), {"cpu", "memory"})
    assert [one.field for one in found] == ["spec.containers[0].resources.limits.ephemeral-storage"]


def test_huge_pages() -> None:
    found = find_not_simulated(pod({"name": "w", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}))[-1]
    assert found.field == "spec.containers[0].resources.limits.hugepages-2Mi"


# --- static pods


def test_a_mirror(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: nginx}]}\n")
    (mirror,) = read_static_pods(file, NODE, 0.0)
    assert mirror["metadata"]["name"] == "web-c0w1"
    assert mirror["spec"]["nodeName"] == "c0w1"
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert mirror["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert is_mirror(mirror)
    again = build_mirror({"metadata": {"name": "web"}, "spec": {"containers": []}}, NODE, 0.0)
    assert hash_of(again) != hash_of(mirror)


@pytest.mark.parametrize("text", ["kind: Service", "[1]", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}"])
def test_what_is_no_static_pod(tmp_path: Path, text: str) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="a static pod"):
        list(read_static_pods(file, NODE, 0.0))


# --- taints

EVICTING = {"key": "gpu", "value": "1", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "1", "effect": "NoExecute"}, True),
        ({"key": "gpu", "operator": "Gt", "value": "0"}, True),
        ({"key": "gpu", "operator": "Lt", "value": "0"}, False),
        ({"key": "gpu", "value": "2"}, False),
        ({"key": "gpu", "value": "1", "effect": "NoSchedule"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_taint_that_evicts_keeps_a_pod_out(toleration: dict[str, str], fits: bool) -> None:
    tainted = {**NODE, "spec": {"taints": [EVICTING, {"key": "full", "effect": "NoSchedule"}]}}
    rejection = NodeBook().admit("a", pod(tolerations=[toleration]), tainted)
    expected = ("TaintToleration", "Predicate TaintToleration failed: node(s) had untolerated taint(s)")
    assert rejection == (None if fits else expected)
