"""Which Service has which address of the pool, and which worker answers for it."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address
from typing import Any

from knetsim.node.load_balancer_pool import (
    CLASS,
    EXCLUDED,
    Pool,
    allot,
    choose_announcer,
    find_local_nodes,
    may_announce,
)

POOL = Pool(IPv4Address("10.1.255.1"), IPv4Address("10.1.255.3"))


def build_service(name: str, *, age: int = 0, has: str = "", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "creationTimestamp": f"2026-01-01T00:00:{59 - age:02}Z"}
    status = {"loadBalancer": {"ingress": [{"ip": has}]}} if has else {}
    return {"kind": "Service", "metadata": metadata, "spec": {"type": "LoadBalancer", **spec}, "status": status}


def addresses(*services: dict[str, Any], pool: Pool | None = POOL) -> dict[str, str]:
    """The last part of each Service's address, or the first words of why it has none."""
    found = allot(services, pool)
    given = {key.removeprefix("default/"): str(ip).rpartition(".")[2] for key, ip in found.addresses.items()}
    return given | {key.removeprefix("default/"): what for key, what in found.problems.items()}


def test_the_first_free_address_by_age() -> None:
    assert addresses(build_service("b", age=1), build_service("a", age=2)) == {"a": "1", "b": "2"}


def test_what_a_service_has_it_keeps() -> None:
    services = [build_service("old", age=9), build_service("new", has="10.1.255.1")]
    assert addresses(*services) == {"new": "1", "old": "2"}


def test_of_two_that_say_they_have_one_address_the_older_keeps_it() -> None:
    services = [build_service("b", has="10.1.255.1"), build_service("a", age=9, has="10.1.255.1")]
    assert addresses(*services) == {"a": "1", "b": "2"}


def test_an_address_that_is_asked_for_is_that_or_none() -> None:
    services = [
        build_service("any", age=9),
        build_service("first", age=3, loadBalancerIP="10.1.255.1"),
        build_service("second", loadBalancerIP="10.1.255.1"),
        build_service("outside", loadBalancerIP="10.1.254.1"),
    ]
    found = addresses(*services)
    assert found["first"] == "1"
    assert found["any"] == "2", "who asks by name comes before who takes any"
    assert found["second"] == "loadBalancerIP 10.1.255.1 is the address of Service default/first"
    assert found["outside"].startswith("loadBalancerIP 10.1.254.1 is not in 10.1.255.1-10.1.255.3")


def test_another_address_that_is_asked_for_takes_the_place_of_the_one_it_has() -> None:
    assert addresses(build_service("a", has="10.1.255.1", loadBalancerIP="10.1.255.3")) == {"a": "3"}


def test_the_pool_ends() -> None:
    found = addresses(*(build_service(name, age=9 - number) for number, name in enumerate("abcd")))
    assert {key: found[key] for key in "abc"} == {"a": "1", "b": "2", "c": "3"}
    assert found["d"].startswith("no address of 10.1.255.1-10.1.255.3 is left")


def test_an_address_outside_of_the_pool_is_not_kept() -> None:
    assert addresses(build_service("a", has="192.0.2.1")) == {"a": "1"}


def test_without_a_pool_everybody_is_told() -> None:
    assert addresses(build_service("a"), pool=None)["a"].startswith("the scenario has no addresses")


def test_other_types_and_classes_are_not_ours() -> None:
    ending = build_service("ending")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    services = [
        build_service("plain", type="ClusterIP"),
        build_service("theirs", loadBalancerClass="example.com/other"),
        build_service("ours", loadBalancerClass=CLASS),
        ending,
    ]
    assert addresses(*services) == {"ours": "1"}


def test_a_worker_that_fails_gives_away_only_its_own() -> None:
    pool = [IPv4Address("10.1.255.0") + number for number in range(200)]
    nodes = {"c0w1", "c0w2", "c0w3"}
    before = {address: choose_announcer(address, nodes) for address in pool}
    after = {address: choose_announcer(address, nodes - {"c0w2"}) for address in pool}
    assert all(after[address] == home for address, home in before.items() if home != "c0w2")
    assert min(Counter(before.values()).values()) > 30, "all have a part"
    assert choose_announcer(pool[0], ()) is None


def test_who_may_announce() -> None:
    def build_node(ready: str, **labels: str) -> dict[str, Any]:
        return {"metadata": {"labels": labels}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}

    assert may_announce(build_node("True"))
    assert not may_announce(build_node("Unknown"))
    assert not may_announce({"metadata": {}})
    assert not may_announce(build_node("True", **{EXCLUDED: ""}))


def test_local_nodes_have_a_ready_backend() -> None:
    endpoints = [
        {"addresses": ["11.0.0.1"], "nodeName": "c0w1", "conditions": {"ready": True}},
        {"addresses": ["11.0.0.2"], "nodeName": "c0w2", "conditions": {"ready": False}},
        {"addresses": ["11.0.0.3"], "nodeName": "c0w3"},
        {"addresses": ["11.0.0.4"]},
    ]
    assert find_local_nodes([{"endpoints": endpoints}, {"endpoints": None}]) == {"c0w1", "c0w3"}
