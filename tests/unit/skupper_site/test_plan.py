"""A site's plan while its objects change: what stays as it was, and what goes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from knetsim.api.objects import key_of
from knetsim.dataplane.skupper import ServedService, build_router_config
from knetsim.names import HEALTH_PORT, MANAGEMENT_PORT
from knetsim.node.skupper.objects import SitePlace, find_host, read_port
from knetsim.node.skupper.plan import Fault, SitePlan, plan_site
from tests.skupper_objects import PLACE, Object, build_objects, group

SITE = {"kind": "Site", "name": "c0"}


def make_plan(*written: dict[str, Any], stored: list[Object] | None = None, place: SitePlace = PLACE) -> SitePlan:
    """The plan of a site and these objects; `stored` are as they lie in the store."""
    return plan_site(group([*build_objects([deepcopy(SITE), *map(deepcopy, written)]), *(stored or [])]), place)


def listener(name: str, host: str = "web", port: int = 80, key: str = "web", **more: Any) -> dict[str, Any]:
    return {"kind": "Listener", "name": name, "spec": {"routingKey": key, "host": host, "port": port, **more}}


def connector(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"kind": "Connector", "name": name, "spec": {"routingKey": "web", "port": 8080, **spec}}


def pod(name: str, address: str, **more: Any) -> dict[str, Any]:
    return {"kind": "Pod", "name": name, "labels": {"app": "web"}, "ip": address, **more}


#: the one port that is free on a worker where all others are taken: the router's management is on loopback only
LAST_PORT = listener("last", PLACE.address, MANAGEMENT_PORT)


def targets(plan: SitePlan) -> dict[str, int]:
    """Names of tcpListeners → ports of the worker."""
    assert plan.router is not None
    return {each.name: each.port for each in plan.router.offered}


def served(plan: SitePlan) -> list[str]:
    assert plan.router is not None
    return [each.host for each in plan.router.served]


def faults(plan: SitePlan) -> dict[str, str]:
    return {" ".join(name): fault.message for name, fault in plan.faults.items()}


def store(plan: SitePlan) -> list[Object]:
    """The plan's Services and EndpointSlices as a store has them afterwards."""
    found = deepcopy(plan.objects)
    for obj in found:
        obj["metadata"]["uid"] = obj["metadata"]["name"]
        if obj["kind"] == "Service":
            obj["spec"]["clusterIP"] = "100.64.0.9"
    return [obj for obj in found if obj["kind"] == "Service"]


# --- ports of the worker


def test_a_service_keeps_its_port_of_the_worker_when_an_older_listener_goes() -> None:
    both = make_plan(listener("first", "a"), listener("second", "b"))
    assert targets(both) == {"first": 1025, "second": 1026}  # 1024 is taken on this worker
    left = make_plan(listener("second", "b"), stored=store(both))
    assert targets(left) == {"second": 1026}


def test_a_free_port_is_used_again() -> None:
    before = store(make_plan(listener("first", "a"), listener("second", "b")))
    assert targets(make_plan(listener("second", "b"), listener("third", "c"), stored=before[1:])) == {
        "second": 1026,
        "third": 1025,
    }


def test_a_port_of_the_worker_that_a_listener_names_is_its() -> None:
    before = store(make_plan(listener("named", "a")))
    plan = make_plan(listener("named", "a"), listener("fixed", "0.0.0.0", 1025), stored=before)
    assert targets(plan) == {"fixed": 1025, "named": 1026}
    assert not plan.faults


def test_a_port_that_became_reserved_is_left() -> None:
    before = store(make_plan(listener("named", "a")))
    taken = replace(PLACE, reserved=PLACE.reserved | {1025})
    assert targets(make_plan(listener("named", "a"), stored=before, place=taken)) == {"named": 1026}


def test_no_port_is_free() -> None:
    full = replace(PLACE, reserved=frozenset(range(1024, 65536)) - {MANAGEMENT_PORT, HEALTH_PORT})
    plan = make_plan(LAST_PORT, listener("web"), place=full)
    assert faults(plan) == {"Listener default/web": "no port of C0w1 is free"}
    assert plan.objects == []


@pytest.mark.parametrize(
    ("host", "port", "owner"),
    [
        ("0.0.0.0", 5672, "the router's management"),
        ("127.0.0.1", 5672, "the router's management"),
        ("10.0.0.11", 5672, ""),
        ("0.0.0.0", 10249, "kube-proxy"),
        ("10.0.0.11", 10250, "the kubelet"),
        ("0.0.0.0", 10256, "kube-proxy"),
        ("10.0.0.11", 30000, "the node ports of Services"),
        ("127.0.0.1", 32767, "the node ports of Services"),
        ("0.0.0.0", 32768, ""),
        ("0.0.0.0", 9090, "the router's health check"),
    ],
)
def test_ports_that_a_worker_needs_itself(host: str, port: int, owner: str) -> None:
    words = f"port {port} of {host} is taken by {owner}"
    assert faults(make_plan(listener("a", host, port))) == ({"Listener default/a": words} if owner else {})


@pytest.mark.parametrize(
    ("port", "what"), [(5672, "the router's management"), (9090, "the router's health check"), (8080, "")]
)
def test_no_router_runs_beside_an_ingress_that_has_its_port(port: int, what: str) -> None:
    plan = make_plan(listener("web"), place=replace(PLACE, reserved=frozenset({port})))
    words = f"no router can run on C0w1: another program has port {port} there, {what}"
    assert plan.faults.get(("Site", "default/c0")) == (Fault("Error", words) if what else None)
    assert (plan.router is None) == bool(what)


def test_a_service_leads_to_no_node_port() -> None:
    full = replace(PLACE, reserved=frozenset(range(1024, 30000)) - {MANAGEMENT_PORT, HEALTH_PORT})
    assert targets(make_plan(LAST_PORT, listener("web"), place=full)) == {"last": MANAGEMENT_PORT, "web": 32768}


@pytest.mark.parametrize("target", [80, "http", 9090, 5671, None])
def test_a_target_port_that_the_router_cannot_have_is_not_kept(target: Any) -> None:
    stored = store(make_plan(listener("web")))
    stored[0]["spec"]["ports"][0]["targetPort"] = target
    plan = make_plan(listener("web"), stored=stored)
    assert targets(plan) == {"web": 5671 if target == 5671 else 1025}  # management is on loopback only


# --- Services


def test_a_service_goes_with_its_last_listener() -> None:
    stored = store(make_plan(listener("a"), listener("b", port=81)))
    one = make_plan(listener("b", port=81), stored=stored)
    assert [key_of(obj) for obj in one.objects] == ["default/web", "default/web-skupper"]
    assert [port["port"] for port in one.objects[0]["spec"]["ports"]] == [81]
    assert make_plan(stored=stored).objects == []


def test_a_listener_that_is_renamed_has_the_same_service() -> None:
    stored = store(make_plan(listener("old")))
    plan = make_plan(listener("new"), stored=stored)
    assert targets(plan) == {"new": 1025}
    assert plan.objects[0]["metadata"]["name"] == "web"
    assert plan.routing == {("Listener", "default/new"): ("listener/new",)}


def test_another_routing_key_changes_the_router_and_not_the_service() -> None:
    before = make_plan(listener("web"))
    after = make_plan(listener("web", key="other"), stored=store(before))
    assert before.objects == after.objects
    assert before.router is not None
    assert after.router is not None
    assert [each.routing_key for each in (*before.router.offered, *after.router.offered)] == ["web", "other"]


def test_ports_of_a_service_have_names_that_differ() -> None:
    plan = make_plan(listener("port-80", port=81), listener("a.b", port=80))
    assert [port["name"] for port in plan.objects[0]["spec"]["ports"]] == ["port-80", "port-81"]
    assert [port["name"] for port in plan.objects[1]["ports"]] == ["port-80", "port-81"]


def test_a_users_service_is_not_touched_and_is_told_of() -> None:
    users = {"kind": "Service", "name": "web", "spec": {"clusterIP": "100.64.0.8", "ports": [{"port": 80}]}}
    plan = make_plan(listener("web"), users)
    assert plan.objects == []
    assert faults(plan) == {"Listener default/web": "there is a Service web already, which is not Skupper's"}


# --- pods


def test_pods_that_come_go_and_are_ready_or_not() -> None:
    wanted = connector(selector="app=web")
    assert served(make_plan(wanted, pod("a", "11.0.0.1"), pod("b", "11.0.0.2"))) == ["11.0.0.1", "11.0.0.2"]
    assert served(make_plan(wanted, pod("a", "11.0.0.1", ready=False), pod("b", "11.0.0.2"))) == ["11.0.0.2"]
    assert served(make_plan(wanted, pod("a", ""), pod("b", "11.0.0.2", phase="Succeeded"))) == []
    assert served(make_plan(wanted)) == []
    either = connector(selector="app=web", includeNotReadyPods=True)
    assert served(make_plan(either, pod("a", "11.0.0.1", ready=False), pod("b", ""))) == ["11.0.0.1"]


def test_pods_on_the_workers_network_are_one_backend() -> None:
    plan = make_plan(connector(selector="app=web"), pod("a", "10.0.0.12"), pod("b", "10.0.0.12"))
    assert served(plan) == ["10.0.0.12"]
    assert plan.pods["default/web"] == ({"name": "a", "ip": "10.0.0.12"}, {"name": "b", "ip": "10.0.0.12"})


def test_two_connectors_of_one_key_serve_it_together() -> None:
    plan = make_plan(connector("one", host="10.0.0.12"), connector("two", host="10.0.0.12", port=8081))
    assert plan.router is not None
    assert plan.router.served == (
        ServedService("one", "web", "10.0.0.12", 8080),
        ServedService("two", "web", "10.0.0.12", 8081),
    )


@pytest.mark.parametrize(
    "host",
    ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "web.default.svc.cluster.local.", "WEB"],
)
def test_a_service_by_its_names(host: str) -> None:
    service = {"kind": "Service", "name": "web", "spec": {"clusterIP": "100.64.0.8", "ports": [{"port": 8080}]}}
    assert served(make_plan(service, connector(host=host))) == ["100.64.0.8"]


@pytest.mark.parametrize("host", ["web.other", "web.default.svc.example", "web.default.pod", "api"])
def test_names_of_no_service(host: str) -> None:
    service = {"kind": "Service", "name": "web", "spec": {"clusterIP": "100.64.0.8", "ports": [{"port": 8080}]}}
    plan = make_plan(service, connector(host=host))
    expected = f"host '{host}' is neither an address nor a Service here nor a host of the simulation"
    assert faults(plan) == {"Connector default/web": expected}


# --- sites


def test_without_a_site_there_is_nothing() -> None:
    plan = plan_site(group(build_objects([listener("web"), connector(host="10.0.0.12")])), PLACE)
    assert (plan.site, plan.router, plan.objects, plan.files) == (None, None, [], {})
    assert set(faults(plan).values()) == {"there is no active Site in the namespace"}


def test_the_active_site_stays_so_when_one_comes_that_says_it_is_older() -> None:
    old, new = build_objects([{"kind": "Site", "name": "old"}, {"kind": "Site", "name": "new"}])
    plan = plan_site(group([old, new]), PLACE)
    assert plan.site is old
    new["status"] = {"conditions": [{"type": "Configured", "status": "True"}]}
    assert plan_site(group([old, new]), PLACE).site is new


def test_a_site_that_cannot_be_is_in_nobodys_way() -> None:
    edge, plain = build_objects(
        [{"kind": "Site", "name": "edge", "spec": {"edge": True}}, {"kind": "Site", "name": "x"}]
    )
    assert plan_site(group([edge, plain]), PLACE).site is plain


def test_a_ports_claim_is_had_by_the_older_listener_whatever_its_name() -> None:
    plan = make_plan(listener("z", "0.0.0.0", 1028), listener("a", "10.0.0.11", 1028))
    assert targets(plan) == {"z": 1028}
    assert faults(plan) == {"Listener default/a": "port 1028 of 10.0.0.11 is taken by Listener z"}


def test_addresses_that_do_not_meet_may_have_one_port() -> None:
    plan = make_plan(listener("a", "127.0.0.1", 1028), listener("b", "10.0.0.11", 1028))
    assert targets(plan) == {"a": 1028, "b": 1028}


@pytest.mark.parametrize("host", ["10.0.0.11", "0.0.0.0", "127.0.0.1", "127.8.8.8"])
def test_a_router_listens_where_its_worker_is(host: str) -> None:
    access = {"roles": [{"name": "inter-router"}], "bindHost": host}
    plan = make_plan(listener("a", host, 1028), {"kind": "RouterAccess", "name": "b", "spec": access})
    assert faults(plan) == {}
    assert plan.router is not None
    assert [each.host for each in (*plan.router.offered, *plan.router.ports)] == [host, host]


@pytest.mark.parametrize("host", ["10.0.0.12", "192.0.2.1", "255.255.255.255"])
def test_a_router_does_not_listen_elsewhere(host: str) -> None:
    access = {"roles": [{"name": "inter-router"}], "bindHost": host}
    plan = make_plan(listener("a", host, 1028), {"kind": "RouterAccess", "name": "b", "spec": access})
    words = f"C0w1, where the router of C0 runs, has no address {host}; 0.0.0.0 for all that it has, or 10.0.0.11"
    assert faults(plan) == {"Listener default/a": words, "RouterAccess default/b": f"bindHost: {words}"}


def test_a_link_may_be_called_as_what_lets_others_link() -> None:
    access = {"kind": "RouterAccess", "name": "x", "spec": {"roles": [{"name": "inter-router"}]}}
    to = {"endpoints": [{"name": "inter-router", "host": "C1w1", "port": "55671"}]}
    links = [{"kind": "Link", "name": name, "spec": to} for name in ("x", "x-inter-router")]
    plan = make_plan(access, *links)
    assert plan.router is not None
    called = [each.name for each in (*plan.router.ports, *plan.router.links)]
    assert len(set(called)) == 3
    build_router_config(plan.router)  # it reads what it has written, and refuses names that are there twice


# --- words


@pytest.mark.parametrize(
    ("value", "port"), [(1, 1), ("55671", 55671), (65535, 65535), (65536, 0), (0, 0), ("", 0), ("-1", 0), ("x", 0)]
)
def test_ports(value: Any, port: int) -> None:
    assert read_port(value) == port


def test_hosts_of_the_simulation() -> None:
    assert find_host("c1W1", PLACE) == "10.0.0.21"
    assert find_host("192.0.2.1", PLACE) == "192.0.2.1"
    assert find_host("nowhere", PLACE) == ""
