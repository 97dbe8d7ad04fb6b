"""What stands in EndpointSlices, and which of them a change touches; who has which ClusterIP."""

from __future__ import annotations

import copy
import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knetsim.api.objects import Object
from knetsim.control.embedded.allotment import Allotment
from knetsim.control.embedded.slices import MOST, Plan, build_endpoint, build_ports, plan_slices
from knetsim.errors import ObjectError

READY = [{"type": "Ready", "status": "True"}]


def build_service(**spec: Any) -> Object:
    metadata = {"name": "web", "namespace": "default", "uid": "s1", "labels": {"team": "a"}}
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}]
    return {"kind": "Service", "metadata": metadata, "spec": {"selector": {"app": "web"}, "ports": ports, **spec}}


def build_pod(number: int, port: int = 8080, *, ready: bool = True, **spec: Any) -> Object:
    containers = [{"name": "main", "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}]}]
    return {
        "metadata": {"name": f"p{number}", "namespace": "default", "uid": f"u{number}"},
        "spec": {"nodeName": "c0w1", "containers": containers, **spec},
        "status": {
            "phase": "Running",
            "podIP": str(ipaddress.ip_address("11.0.0.0") + number),
            "conditions": READY if ready else [],
        },
    }


NODES = {"c0w1": {"metadata": {"name": "c0w1", "labels": {"topology.kubernetes.io/zone": "za"}}}}


def apply(plan: Plan, slices: list[Object]) -> list[Object]:
    """The slices after a plan was carried out."""
    gone = [one["metadata"]["name"] for one in plan.delete]
    changed = {one["metadata"]["name"]: one for one in plan.update}
    kept = [changed.get(one["metadata"]["name"], one) for one in slices if one["metadata"]["name"] not in gone]
    made = []
    for number, one in enumerate(plan.create):
        name = f"web-{len(slices)}-{number}"
        made.append({**one, "metadata": {**one["metadata"], "name": name}})
    return copy.deepcopy(kept + made)


def test_an_endpoint_as_kubernetes_writes_it() -> None:
    pod = build_pod(1, hostname="hh", subdomain="web")
    assert build_endpoint(build_service(), pod, NODES["c0w1"]) == {
        "addresses": ["11.0.0.1"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "hostname": "hh",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "p1", "uid": "u1"},
        "nodeName": "c0w1",
        "zone": "za",
    }
    assert "hostname" not in build_endpoint(build_service(), build_pod(1, hostname="hh"), None)


@pytest.mark.parametrize(
    ("ready", "ending", "published", "conditions"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, True, (True, False, True)),
    ],
)
def test_conditions(ready: bool, ending: bool, published: bool, conditions: tuple[bool, bool, bool]) -> None:
    pod = build_pod(1, ready=ready)
    if ending:
        pod["metadata"]["deletionTimestamp"] = "2025-01-31T10:00:00Z"
    found = build_endpoint(build_service(publishNotReadyAddresses=published), pod, None)["conditions"]
    assert (found["ready"], found["serving"], found["terminating"]) == conditions


@pytest.mark.parametrize(
    ("wish", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "za"}]}),
        ("PreferSameZone", {"forZones": [{"name": "za"}]}),
        ("PreferSameNode", {"forZones": [{"name": "za"}], "forNodes": [{"name": "c0w1"}]}),
    ],
)
def test_hints_as_traffic_distribution_asks_for(wish: str | None, hints: Any) -> None:
    service = build_service(**({"trafficDistribution": wish} if wish else {}))
    assert build_endpoint(service, build_pod(1), NODES["c0w1"]).get("hints") == hints
    assert "hints" not in build_endpoint(service, build_pod(1, ready=False), NODES["c0w1"])
    if wish == "PreferClose":
        assert "hints" not in build_endpoint(service, build_pod(1), None), "a node without a zone"


def test_ports_are_those_of_the_pod() -> None:
    ports = [
        {"name": "a", "port": 80, "targetPort": "http"},
        {"name": "b", "port": 81, "targetPort": "nothing"},
        {"name": "c", "port": 82, "targetPort": 9000, "protocol": "UDP"},
        {"name": "d", "port": 83},
    ]
    found = build_ports(build_service(ports=ports), build_pod(1))
    assert [(port["name"], port["port"], port["protocol"]) for port in found] == [
        ("a", 8080, "TCP"),
        ("c", 9000, "UDP"),
        ("d", 83, "TCP"),
    ]
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [{"name": "nothing", "containerPort": 7000}]}
    pod = build_pod(1, initContainers=[sidecar])
    assert build_ports(build_service(ports=ports[1:2]), pod) == [{"name": "b", "port": 7000, "protocol": "TCP"}]


def test_pods_with_other_ports_are_in_other_slices() -> None:
    plan = plan_slices(build_service(), [build_pod(1), build_pod(2, 9090), build_pod(3)], NODES, [])
    found = {one["ports"][0]["port"]: len(one["endpoints"]) for one in plan.create}
    assert found == {8080: 2, 9090: 1}
    (one, _) = plan.create
    assert one["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    headless = plan_slices(build_service(clusterIP="None"), [build_pod(1)], NODES, []).create[0]
    assert headless["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_one_that_empties_stays_and_is_filled_again() -> None:
    service, pods = build_service(), [build_pod(1)]
    slices = apply(plan_slices(service, pods, NODES, []), [])
    plan = plan_slices(service, [], NODES, slices)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    empty = apply(plan, slices)
    assert (empty[0]["endpoints"], empty[0]["ports"]) == ([], [])
    assert plan_slices(service, [], NODES, empty) == Plan()
    again = plan_slices(service, pods, NODES, empty)
    assert (len(again.create), len(again.update), len(again.delete)) == (0, 1, 0)
    assert apply(again, empty)[0]["ports"][0]["port"] == 8080


def test_pods_that_ended_or_have_no_address_are_no_endpoints() -> None:
    pods = [build_pod(number) for number in (1, 2, 3)]
    pods[1]["status"]["phase"] = "Succeeded"
    del pods[2]["status"]["podIP"]
    assert len(plan_slices(build_service(), pods, NODES, []).create[0]["endpoints"]) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(1, 450), max_size=350), min_size=1, max_size=4))
def test_slices_hold_exactly_the_pods_and_settle(steps: list[set[int]]) -> None:
    slices: list[Object] = []
    for numbers in steps:
        pods = [build_pod(number) for number in sorted(numbers)]
        slices = apply(plan_slices(build_service(), pods, NODES, slices), slices)
        held = [endpoint["targetRef"]["name"] for one in slices for endpoint in one["endpoints"]]
        assert sorted(held) == sorted(f"p{number}" for number in numbers)
        assert all(len(one["endpoints"]) <= MOST for one in slices)
        assert plan_slices(build_service(), pods, NODES, slices) == Plan(), "twice is once"
        if numbers:
            touched = [build_pod(number, ready=number != min(numbers)) for number in sorted(numbers)]
            plan = plan_slices(build_service(), touched, NODES, slices)
            assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)


# --- allotment --------------------------------------------------------------------------------------------------------


def claim(uid: str, **spec: Any) -> Object:
    return {
        "kind": "Service",
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"ports": [], **spec},
    }


def test_a_small_network_is_used_up_and_freed() -> None:
    allotment = Allotment(ipaddress.IPv4Network("10.0.0.0/29"))
    admitted = [allotment.admit(claim(f"u{number}"), None) for number in range(5)]
    assert {one["spec"]["clusterIP"] for one in admitted} == {f"10.0.0.{number}" for number in range(2, 7)}
    with pytest.raises(ObjectError, match=r"no address of 10\.0\.0\.0/29 is left"):
        allotment.admit(claim("u9"), None)
    allotment.observe(admitted[2], None)
    assert allotment.admit(claim("u9"), None)["spec"]["clusterIP"] == admitted[2]["spec"]["clusterIP"]


def test_twice_is_once_and_what_never_appeared_is_given_away() -> None:
    now = [0.0]
    allotment = Allotment(ipaddress.IPv4Network("10.0.0.0/24"), clock=lambda: now[0])
    first = allotment.admit(claim("u1", clusterIP="10.0.0.9"), None)
    assert allotment.admit(first, None)["spec"] == first["spec"]
    with pytest.raises(ObjectError, match="another Service's"):
        allotment.admit(claim("u2", clusterIP="10.0.0.9"), None)
    now[0] = 60.0
    allotment.admit(claim("u2", clusterIP="10.0.0.9"), None)
    allotment.observe(None, claim("u2", clusterIP="10.0.0.9"))
    now[0] = 600.0
    with pytest.raises(ObjectError, match="another Service's"):
        allotment.admit(claim("u3", clusterIP="10.0.0.9"), None)


def test_a_load_balancer_gets_a_port_where_it_asks_for_backends() -> None:
    allotment = Allotment(ipaddress.IPv4Network("10.0.0.0/24"))
    options = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}
    given = allotment.admit(claim("u1", **options), None)["spec"]["healthCheckNodePort"]
    assert given in range(30000, 32768)
    assert given != 30080
    again = allotment.admit(claim("u1", **options, healthCheckNodePort=given), None)
    assert again["spec"]["healthCheckNodePort"] == given
    taken = claim("u2", **{**options, "ports": [{"port": 80}]}, healthCheckNodePort=given)
    own = claim("u1", **options, healthCheckNodePort=30080)
    for asked, port in ((taken, given), (own, 30080)):
        with pytest.raises(ObjectError, match=f"{port} is taken"):
            allotment.admit(asked, None)
    allotment.observe(again, None)
    assert allotment.admit(taken, None)["spec"]["healthCheckNodePort"] == given, "it was given back"
    assert (
        "healthCheckNodePort" not in allotment.admit(claim("u4", type="NodePort", ports=[{"port": 80}]), None)["spec"]
    )


def test_one_service_may_have_one_port_for_two_protocols() -> None:
    allotment = Allotment(ipaddress.IPv4Network("10.0.0.0/24"))
    ports = [{"port": 53, "protocol": word, "nodePort": 30053} for word in ("TCP", "UDP")]
    assert allotment.admit(claim("u1", type="NodePort", ports=ports), None)["spec"]["ports"] == ports
    with pytest.raises(ObjectError, match="30053 is another Service's"):
        allotment.admit(claim("u2", type="NodePort", ports=ports[:1]), None)
