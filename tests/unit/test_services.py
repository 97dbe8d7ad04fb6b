"""Services as data: what is read from objects, which backends are chosen, who has an address, what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from knetsim.dataplane.services.choose import choose_backends
from knetsim.dataplane.services.counters import AddressCounter, BackendCounter, parse_counters
from knetsim.dataplane.services.drift import compare_table
from knetsim.dataplane.services.ports import Backend, ServicePlace, ServicePort
from knetsim.dataplane.services.rules import build_service
from knetsim.dataplane.services.stale import find_losers, find_stale, may_be_stale
from knetsim.dataplane.services.table import Rules, build_changes, build_difference
from knetsim.errors import ObjectError
from knetsim.node.service_objects import read_service, service_of
from knetsim.node.service_table import ServiceTable
from knetsim.system.conntrack import End, Flow
from knetsim.system.nfnetlink import TableContent

W1 = ServicePlace("c0w1", IPv4Address("10.1.1.1"), IPv4Network("11.0.0.0/8"), IPv4Network("100.64.0.0/16"), zone="a")
W2 = ServicePlace("c0w2", IPv4Address("10.1.1.2"), IPv4Network("11.0.0.0/8"), IPv4Network("100.64.0.0/16"), zone="b")


def build_service_object(name: str = "web", ip: str = "100.64.0.9", created: str = "", **spec: Any) -> Any:
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "creationTimestamp": created}
    ports = [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]
    return {"kind": "Service", "metadata": metadata, "spec": {"clusterIP": ip, "ports": ports, **spec}}


def build_slice(endpoints: Sequence[Any], name: str = "web-1", service: str = "web", **fields: Any) -> Any:
    labels = {"kubernetes.io/service-name": service}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"addressType": "IPv4", "metadata": metadata, "ports": ports, "endpoints": list(endpoints), **fields}


def endpoint(address: str, node: str = "c0w1", **fields: Any) -> Any:
    return {"addresses": [address], "nodeName": node, **fields}


def backend(address: str, node: str = "c0w1", **state: Any) -> Backend:
    return Backend(IPv4Address(address), 8080, node, **state)


def build_port(*backends: Backend, **options: Any) -> ServicePort:
    values: dict[str, Any] = {"cluster_ip": IPv4Address("100.64.0.9"), "port": 80, "protocol": "tcp"}
    values |= {"namespace": "default", "service": "web"}
    return ServicePort(backends=backends, **{**values, **options})


# --- objects ----------------------------------------------------------------------------------------------------------


def test_a_service_and_its_slices_are_ports_with_backends() -> None:
    service = build_service_object(
        ports=[
            {"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"},
            {"name": "http-udp", "port": 80, "protocol": "UDP"},
        ],
        externalIPs=["10.1.9.1"],
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        externalTrafficPolicy="Local",
    )
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "10.1.9.2"}, {"hostname": "x"}, {"ip": "fd00::1"}]}}
    udp = [{"name": "http-udp", "port": 9090, "protocol": "UDP"}]
    tcp, other = read_service(
        service, [build_slice([endpoint("11.1.0.2")]), build_slice([endpoint("11.1.0.3", "c0w2")], ports=udp)]
    )
    assert (tcp.path, tcp.node_port, tcp.affinity_seconds) == ("default/web/tcp/80", 30080, 60)
    assert (tcp.external_ips, tcp.balancer_ips) == ((IPv4Address("10.1.9.1"),), (IPv4Address("10.1.9.2"),))
    assert tcp.outside_ips == (IPv4Address("10.1.9.1"), IPv4Address("10.1.9.2"))
    assert (tcp.external_local, tcp.internal_local) == (True, False)
    assert tcp.backends == (backend("11.1.0.2"),)
    assert (other.path, [str(each) for each in other.backends]) == ("default/web/udp/80", ["11.1.0.3:9090"])


@pytest.mark.parametrize(
    "service",
    [
        build_service_object(ip="None"),
        build_service_object(ip=""),
        build_service_object(ip="fd00::9"),
        build_service_object(type="ExternalName", ip=""),
    ],
)
def test_a_service_without_a_vip_has_no_rules(service: Any) -> None:
    assert read_service(service, [build_slice([endpoint("11.1.0.2")])]) == ()


def test_what_another_proxy_serves_is_left_alone() -> None:
    service = build_service_object()
    service["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "mine"}
    assert read_service(service, []) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"clusterIP": "x"}, "'x'"),
        ({"ports": [{"port": 70000}]}, "70000"),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "ICMP"),
        ({"externalIPs": ["1.2.3"]}, "1.2.3"),
        ({"ports": [{}]}, "port"),
    ],
)
def test_what_no_server_lets_in_is_an_error_that_names_it(change: Any, word: str) -> None:
    with pytest.raises(ObjectError, match=word):
        read_service(build_service_object(**change), [])


def test_a_load_balancer_lets_in_whom_its_ranges_name() -> None:
    def ranges(*given: str) -> list[str]:
        (port,) = read_service(build_service_object(loadBalancerSourceRanges=list(given)), [])
        return [str(network) for network in port.source_ranges]

    assert ranges() == []
    assert ranges(" 10.1.9.0/24 ", "fd00::/8") == ["10.1.9.0/24"]
    assert ranges("10.1.0.0/16", "10.1.9.7/24", "10.2.0.0/16") == ["10.1.0.0/16", "10.2.0.0/16"], (
        "nft takes no overlaps"
    )
    assert ranges("10.1.9.0/24", "0.0.0.0/0") == [], "everybody"


def test_a_balancer_that_makes_connections_of_its_own_is_no_address() -> None:
    service = build_service_object()
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "10.1.9.2", "ipMode": "Proxy"}, {"ip": "10.1.9.3"}]}}
    assert [str(each) for each in read_service(service, [])[0].balancer_ips] == ["10.1.9.3"]


@pytest.mark.parametrize(
    ("spec", "port"),
    [
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001}, 30001),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "healthCheckNodePort": 30001}, 0),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, 0),
    ],
)
def test_a_load_balancer_asks_where_backends_are_only_when_it_matters(spec: Any, port: int) -> None:
    assert read_service(build_service_object(**spec), [])[0].health_port == port


def test_a_name_never_becomes_a_command() -> None:
    with pytest.raises(ObjectError):
        read_service(build_service_object(name="web; drop"), [])


def test_conditions_mean_what_the_api_says() -> None:
    ends = {"ready": False, "serving": True, "terminating": True}
    (port,) = read_service(
        build_service_object(),
        [
            build_slice(
                [
                    endpoint("11.1.0.2", conditions={}),
                    endpoint("11.1.0.3", conditions={"ready": None, "serving": None, "terminating": None}),
                    endpoint("11.1.0.4", conditions={"ready": False, "serving": False}),
                    endpoint("11.1.0.5", conditions=ends),
                ]
            )
        ],
    )
    assert [(each.ready, each.serving, each.terminating) for each in port.backends] == [
        (True, True, False),
        (True, True, False),
        (False, False, False),
        (False, True, True),
    ]


@pytest.mark.parametrize("living_first", [True, False])
def test_an_address_that_was_given_out_again_is_that_of_the_living_pod(living_first: bool) -> None:
    ends = {"ready": False, "serving": True, "terminating": True}
    slices = [build_slice([endpoint("11.1.0.2")]), build_slice([endpoint("11.1.0.2", conditions=ends)], "web-2")]
    (port,) = read_service(build_service_object(), slices if living_first else slices[::-1])
    assert port.backends == (backend("11.1.0.2"),)


def test_a_slice_belongs_to_the_service_its_label_names() -> None:
    assert service_of(build_slice([])) == "default/web"
    assert service_of(build_slice([], addressType="IPv6")) == ""
    assert service_of({"metadata": {"name": "x", "namespace": "default"}}) == ""


# --- the choice of backends -------------------------------------------------------------------------------------------


def test_ready_backends_are_used_and_ending_ones_only_when_there_is_none() -> None:
    ready, ending = backend("11.1.0.2"), backend("11.1.0.3", ready=False, terminating=True)
    gone = backend("11.1.0.4", ready=False, serving=False, terminating=True)
    starting = backend("11.1.0.5", ready=False)
    assert choose_backends(build_port(ready, ending, gone, starting), W1).cluster == (ready,)
    assert choose_backends(build_port(ending, gone, starting), W1).cluster == (ending,)
    none = choose_backends(build_port(gone, starting), W1)
    assert (none.cluster, none.anywhere) == ((), False)


def test_local_policies_choose_for_themselves() -> None:
    here, there = backend("11.1.0.2", ready=False, terminating=True), backend("11.2.0.2", "c0w2")
    port = build_port(here, there, external_local=True, node_port=30080)
    choice = choose_backends(port, W1)
    assert (choice.cluster, choice.local, choice.anywhere) == ((there,), (here,), True)
    assert choice.all == (here, there)
    internal = choose_backends(build_port(there, internal_local=True), W1)
    assert (internal.cluster, internal.local, internal.anywhere) == ((), (), True)


def test_hints_narrow_down_unless_one_is_missing_or_nobody_is_meant() -> None:
    one = backend("11.1.0.2", zones=frozenset("a"))
    two = backend("11.2.0.2", "c0w2", zones=frozenset("b"))
    bare = backend("11.2.0.3", "c0w2")
    assert choose_backends(build_port(one, two), W1).cluster == (one,)
    assert choose_backends(build_port(one, two), W2).cluster == (two,)
    assert choose_backends(build_port(one, two, bare), W1).cluster == (one, two, bare)
    assert choose_backends(build_port(two), W1).cluster == (two,)
    own = backend("11.1.0.4", nodes=frozenset({"c0w1"}), zones=frozenset("a"))
    assert choose_backends(build_port(own, backend("11.1.0.5", nodes=frozenset({"c0w3"}))), W1).cluster == (own,)


# --- changes ----------------------------------------------------------------------------------------------------------


def test_what_is_the_same_is_not_said_again() -> None:
    before, after = (build_service([build_port(backend("11.1.0.2"))], W1) for _ in range(2))
    assert build_changes([build_difference(before, after)]) == ""
    assert build_changes([]) == ""


def test_an_address_passes_from_one_service_to_another_in_one_transaction() -> None:
    old = build_service([build_port(backend("11.1.0.2"))], W1)
    new = build_service([build_port(backend("11.1.0.2"), service="heir")], W1)
    text = build_changes([build_difference(None, new), build_difference(old, None)])
    assert text.index("delete element ip knetsim-services service-ips") < text.index("add map ip knetsim-services")


@pytest.mark.parametrize(
    ("options", "has_chains"),
    [
        ({}, False),
        ({"protocol": "udp"}, False),
        ({"internal_local": True}, False),
        ({"affinity_seconds": 60}, True),
        ({"node_port": 30080}, True),
        ({"external_ips": (IPv4Address("10.1.9.1"),)}, True),
        ({"balancer_ips": (IPv4Address("10.1.9.1"),)}, True),
    ],
)
def test_only_what_is_more_than_a_cluster_ip_has_chains_of_its_own(options: Any, has_chains: bool) -> None:
    two = build_service([build_port(backend("11.1.0.2"), backend("11.1.0.3"), **options)], W1)
    assert bool(two.chains) == has_chains
    assert two.picks == (frozenset() if has_chains else {2})


def test_a_name_that_is_too_long_for_a_comment_is_that_of_a_chain() -> None:
    names = {"namespace": "n" * 63, "service": "s" * 63}
    rules = build_service([build_port(backend("11.1.0.2"), **names)], W1)
    assert len(rules.chains) == 2
    without = build_service([build_port(**names)], W1)
    assert max(len(comment) for _, comment in without.elements.values()) == 128, "nft takes no more"


def test_a_backend_that_gets_another_lot_keeps_its_count() -> None:
    addresses = [f"11.1.0.{number}" for number in range(2, 6)]

    def build(*numbers: int) -> Rules:
        return build_service([build_port(*(backend(addresses[number]) for number in numbers))], W1)

    def carried(before: Rules, after: Rules) -> dict[str, str]:
        moves = build_difference(before, after).carried
        return {new.key[-1]: old.key[-1] for new, old in moves.items() if new.set == "backends"}

    assert carried(build(0, 1, 2), build(1, 2)) == {"0": "1", "1": "2"}
    assert carried(build(1, 2), build(0, 1, 2)) == {"1": "0", "2": "1"}
    assert carried(build(0, 1), build(0, 1, 2)) == {}
    assert carried(build(0, 1), build(0, 3)) == {}, "another backend begins at 0"


def test_affinity_of_another_length_keeps_who_is_known() -> None:
    short, long = (build_service([build_port(backend("11.1.0.2"), affinity_seconds=each)], W1) for each in (10, 20))
    text = build_changes([build_difference(short, long)])
    assert "timeout 20s" in text
    assert "delete set" not in text, "a set that rules look into cannot be made anew"


def test_udp_flows_to_backends_that_are_gone_are_stale() -> None:
    def flow(destination: str, port: int, answering: str) -> Flow:
        return Flow(17, End(IPv4Address(destination), port), End(IPv4Address(answering), 8080), answering.encode())

    gone, here = flow("100.64.0.9", 80, "11.1.0.9"), flow("100.64.0.9", 80, "11.1.0.2")
    by_node, other = flow("10.1.1.1", 30080, "11.1.0.9"), flow("8.8.8.8", 53, "8.8.8.8")
    ending = backend("11.1.0.2", ready=False, terminating=True)
    flows = [gone, here, by_node, other]
    assert find_stale(flows, [build_port(ending, protocol="udp", node_port=30080)]) == [gone, by_node]
    assert find_stale(flows, [build_port(ending, node_port=30080)]) == [], "TCP"
    dead = backend("11.1.0.2", ready=False, serving=False)
    assert find_stale(flows, [build_port(dead, protocol="udp")]) == [], "nobody could take them over"


def test_tcp_flows_that_nobody_answered_are_stale() -> None:
    def flow(answering: str, *, answered: bool) -> Flow:
        ends = End(IPv4Address("100.64.0.9"), 80), End(IPv4Address(answering), 8080)
        return Flow(6, *ends, answering.encode(), answered)

    draining, asking, begun = (
        flow("11.1.0.9", answered=True), flow("11.1.0.9", answered=False), flow("11.1.0.2", answered=False)
    )  # fmt: skip
    flows = [draining, asking, begun]
    assert find_stale(flows, [build_port(backend("11.1.0.2"))]) == [asking]
    assert find_stale(flows, [build_port(backend("11.1.0.2"), protocol="udp")]) == []
    dead = backend("11.1.0.2", ready=False, serving=False)
    assert find_stale(flows, [build_port(dead)]) == [asking, begun], "who asks again is refused"


def test_connections_are_looked_at_where_a_backend_has_gone() -> None:
    one, two = backend("11.1.0.2"), backend("11.1.0.9")
    fewer, more = build_port(one), build_port(one, two)
    assert find_losers([fewer], [more]) == set()
    assert find_losers([more], [fewer]) == {fewer.path}
    assert find_losers([], [fewer]) == set()
    assert find_losers([fewer], []) == set()
    assert may_be_stale([more], set()) == []
    assert may_be_stale([fewer], {fewer.path}) == [fewer]
    udp = build_port(one, protocol="udp")
    assert may_be_stale([udp], set()) == [udp], "its clients may have been heard by nobody"


# --- the table of a cluster -------------------------------------------------------------------------------------------


def test_workers_share_the_rules_of_a_service_unless_its_policy_says_otherwise() -> None:
    table, slices = ServiceTable(), [build_slice([endpoint("11.1.0.2"), endpoint("11.2.0.2", "c0w2")])]
    assert table.update("default/web", build_service_object(), slices) == {"default/web"}
    assert table.rules("default/web", W1) is table.rules("default/web", W2) is not None
    assert table.update("default/web", build_service_object(), slices) == set(), "nothing changed"
    local = build_service_object(internalTrafficPolicy="Local")
    assert table.update("default/web", local, slices) == {"default/web"}
    one, two = table.rules("default/web", W1), table.rules("default/web", W2)
    assert isinstance(one, Rules)
    assert isinstance(two, Rules)
    assert one.elements != two.elements
    assert table.update("default/web", None, []) == {"default/web"}
    assert table.rules("default/web", W1) is None
    assert len(table) == 0


def test_an_address_belongs_to_the_older_service() -> None:
    table = ServiceTable()
    young, old = build_service_object("a", created="2026-01-02"), build_service_object("b", created="2026-01-01")
    table.update("default/a", young, [])
    assert table.rules("default/a", W1) is not None
    assert table.update("default/b", old, []) == {"default/a", "default/b"}
    assert table.rules("default/a", W1) is None
    assert table.rules("default/b", W1) is not None
    assert table.problems == {"default/a": "100.64.0.9 belongs to Service default/b"}
    assert table.update("default/b", None, []) == {"default/a", "default/b"}
    assert table.rules("default/a", W1) is not None
    assert table.problems == {}


def test_without_a_contested_external_address_the_rest_is_served() -> None:
    table = ServiceTable()
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    outside = {"externalIPs": ["10.1.9.1", "10.1.9.2"], "ports": ports}
    old = build_service_object("old", "100.64.0.8", "2026-01-01", externalIPs=["10.1.9.1"], ports=ports)
    young = build_service_object("young", "100.64.0.9", "2026-01-02", **outside)
    table.update("default/young", young, [])
    assert table.update("default/old", old, []) == {"default/old", "default/young"}
    assert _addresses(table, "default/young") == {"100.64.0.9", "10.1.9.2"}
    assert _addresses(table, "default/old") == {"100.64.0.8", "10.1.9.1"}
    assert table.problems == {"default/young": "10.1.9.1 . tcp . 80 belongs to Service default/old"}
    table.update("default/old", None, [])
    assert _addresses(table, "default/young") == {"100.64.0.9", "10.1.9.1", "10.1.9.2"}
    assert table.problems == {}


def test_a_service_has_its_own_cluster_ip_whatever_others_ask_for() -> None:
    table = ServiceTable()
    thief = build_service_object("thief", "100.64.0.8", "2026-01-01", externalIPs=["100.64.0.9"])
    table.update("default/thief", thief, [])
    table.update("default/web", build_service_object("web", "100.64.0.9", "2026-01-02"), [])
    assert _addresses(table, "default/web") == {"100.64.0.9"}
    assert _addresses(table, "default/thief") == {"100.64.0.8"}
    assert table.problems == {"default/thief": "100.64.0.9 . tcp . 80 belongs to Service default/web"}


def test_a_contested_node_port_is_the_older_ones() -> None:
    table = ServiceTable()
    ports = [{"port": 80, "nodePort": 30080}]
    table.update("default/a", build_service_object("a", "100.64.0.8", "2026-01-02", ports=ports), [])
    table.update("default/b", build_service_object("b", "100.64.0.9", "2026-01-01", ports=ports), [])
    assert [table.served(f"default/{name}")[0].node_port for name in "ab"] == [0, 30080]


def _addresses(table: ServiceTable, key: str) -> set[str]:
    """The addresses that the worker's table has of a Service."""
    rules = table.rules(key, W1)
    assert rules is not None
    return {element.key.partition(" ")[0] for element in rules.elements if " . " in element.key}


def test_a_kernel_without_sctp_is_told_of_and_served_nevertheless() -> None:
    service = build_service_object(ports=[{"port": 9999, "protocol": "SCTP"}])
    without, able = ServiceTable(sctp=False), ServiceTable(sctp=True)
    for table in (without, able):
        table.update("default/web", service, [])
        assert table.rules("default/web", W1) is not None
    assert "no SCTP" in without.problems["default/web"]
    assert able.problems == {}


def test_a_service_that_cannot_be_read_has_no_rules_and_a_problem() -> None:
    table = ServiceTable()
    table.update("default/web", build_service_object(), [])
    assert table.update("default/web", build_service_object(ip="nonsense"), []) == {"default/web"}
    assert table.rules("default/web", W1) is None
    assert "nonsense" in table.problems["default/web"]
    table.update("default/web", build_service_object(), [])
    assert table.problems == {}


# --- what nft shows ---------------------------------------------------------------------------------------------------


def test_lots_are_counted_by_backend() -> None:
    lot = {"val": {"concat": ["100.64.0.9", "tcp", 80, 0]}, "comment": "default/web/tcp/80", "counter": {"packets": 4}}
    found: Any = [{"map": {"name": "backends", "elem": [[{"elem": lot}, {"concat": ["11.1.0.2", 8080]}]]}}]
    assert parse_counters(found) == ([], [BackendCounter("default/web/tcp/80", "11.1.0.2:8080", 4)])


def test_counters_are_read_by_service_and_backend() -> None:
    key = {"elem": {"val": {"concat": ["100.64.0.9", "tcp", 80]}, "counter": {"packets": 3, "bytes": 180}}}
    refused = {"elem": {"val": {"concat": ["tcp", 30080]}, "comment": "default/web/tcp/80", "counter": {"packets": 1}}}
    found: Any = [
        {"map": {"name": "service-ips", "elem": [[key, {"goto": {"target": "service/default/web/tcp/80"}}]]}},
        {"map": {"name": "no-endpoint-nodeports", "elem": [[refused, {"goto": {"target": "reject-chain"}}]]}},
        {
            "rule": {
                "chain": "endpoint/default/web/tcp/80/11.1.0.2/8080",
                "expr": [{"match": {}}, {"counter": {"packets": 2, "bytes": 120}}, {"dnat": {}}],
            }
        },
    ]
    addresses, backends = parse_counters(found)
    assert addresses == [
        AddressCounter("service-ips", "100.64.0.9 . tcp . 80", "default/web/tcp/80", 3),
        AddressCounter("no-endpoint-nodeports", "tcp . 30080", "default/web/tcp/80", 1),
    ]
    assert backends == [BackendCounter("default/web/tcp/80", "11.1.0.2:8080", 2)]


def test_a_table_that_is_not_there_has_drifted() -> None:
    assert (
        compare_table(TableContent({}, set(), set()), W1, [], {1, 2}, ())
        == "chain cluster-ips-check is gone, and 16 more"
    )
