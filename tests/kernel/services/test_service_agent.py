"""One worker's table kept as wanted, and the agent that follows Services and EndpointSlices."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from knetsim.api.informer import Informer
from knetsim.dataplane.services.ports import ServicePlace
from knetsim.dataplane.services.rules import build_service
from knetsim.dataplane.services.table import BACKENDS, TABLE
from knetsim.dataplane.services.worker import RETIRED_SECONDS, WorkerServices
from knetsim.errors import KernelError
from knetsim.system.netlink import delete_route
from knetsim.system.netns import netns_socket
from knetsim.system.nft import Nft
from knetsim.system.sysctl import write_sysctl
from knetsim.system.wait import wait_until
from tests.kernel.services.agent import SECONDS, Objects, agent, endpoints, service, settle, settle_callbacks
from tests.kernel.services.lab import POD_NETWORK, REFUSED, SERVICE_NETWORK, VIP, Answer, ServicesLab, build_port

pytestmark = pytest.mark.usefixtures("no_leaks")


# --- one worker


@pytest.fixture
def kernel(lab: ServicesLab) -> Iterator[WorkerServices]:
    """C0w1's table, with a clock that stands still."""
    place = ServicePlace("c0w1", IPv4Address(lab.w1.address), POD_NETWORK, SERVICE_NETWORK)
    services = WorkerServices(lab.w1.place, place, clock=Clock())
    yield services
    services.close()


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("options", [{}, {"node_port": 30080}], ids=["ClusterIP", "NodePort"])
def test_a_transaction_carries_only_what_changed(lab: ServicesLab, kernel: WorkerServices, options: Any) -> None:
    pods = [lab.pod("c1", lab.w1), lab.pod("c2", lab.w1)]
    other = build_port(pods[0], service="other", cluster_ip=IPv4Address("100.64.0.10"))
    desired = {"default/web": build_service([build_port(pods[0], **options)], kernel.place)}
    desired["default/other"] = build_service([other], kernel.place)
    kernel.apply(desired, ())
    before = _handles(kernel.nft)
    desired["default/web"] = build_service([build_port(*pods, **options)], kernel.place)
    kernel.apply(desired, ["default/web", "default/other"])
    after = _handles(kernel.nft)
    changed = {name for name in after if after[name] != before.get(name)}
    path = "default/web/tcp/80"
    assert changed == ({f"service/{path}", f"endpoint/{path}/{pods[1].ip}/8080"} if options else {"pick-2"})
    assert kernel.transactions == (2 if options else 3), "the first Service with two backends: a chain, then what leads"
    done = kernel.transactions
    kernel.apply(desired, ["default/web"])
    assert kernel.transactions == done, "twice is once"
    for number, backends in enumerate((1, 2, 1), 1):
        desired["default/web"] = build_service([build_port(*pods[:backends], **options)], kernel.place)
        kernel.apply(desired, ["default/web"])
        assert kernel.transactions == done + number
    assert "pick-2" in _handles(kernel.nft) or options, "it stays for the next one"
    assert kernel.find_drift() == ""


def test_chains_that_nothing_leads_to_go_later(lab: ServicesLab, kernel: WorkerServices) -> None:
    desired = {"default/web": build_service([build_port(lab.pod("c1", lab.w1), affinity_seconds=60)], kernel.place)}
    kernel.apply(desired, ())
    empty = len(_handles(kernel.nft)) - 2
    assert kernel.apply({}, ["default/web"]) == RETIRED_SECONDS
    assert len(_handles(kernel.nft)) == empty + 2
    kernel.apply(desired, ["default/web"])
    kernel.apply({}, ["default/web"])
    clock = kernel._clock
    assert isinstance(clock, Clock)
    clock.now += RETIRED_SECONDS
    assert kernel.apply({}, ()) is None
    assert len(_handles(kernel.nft)) == empty
    assert kernel.find_drift() == ""


@pytest.mark.parametrize(
    "damage",
    [
        "delete table ip knetsim-services",
        "flush chain ip knetsim-services services",
        "delete element ip knetsim-services service-ips { 100.64.0.9 . tcp . 80 }",
        "add element ip knetsim-services cluster-ips { 1.2.3.4 }",
        "delete element ip knetsim-services backends { 100.64.0.9 . tcp . 80 . 1 }",
        "flush set ip knetsim-services hairpin-connections",
        "flush chain ip knetsim-services pick-2",
        "add chain ip knetsim-services mine",
    ],
)
def test_what_was_changed_by_hand_is_found_and_mended(lab: ServicesLab, kernel: WorkerServices, damage: str) -> None:
    pods = [lab.pod("c1", lab.w1), lab.pod("c2", lab.w1)]
    desired = {"default/web": build_service([build_port(*pods)], kernel.place)}
    kernel.apply(desired, ())
    whole = kernel.nft.read("list table ip knetsim-services")
    with Nft(lab.w1.place) as hand:
        hand.apply("table ip mine { chain c { accept; }; }")
        assert kernel.find_drift() == "", "a table that is not ours"
        hand.apply(damage)
    assert kernel.find_drift() != ""
    kernel.apply(desired, ())
    assert kernel.nft.read("list table ip knetsim-services") == whole
    assert kernel.find_drift() == ""


def test_a_quick_look_sees_another_table_and_a_thorough_one_the_rest(lab: ServicesLab, kernel: WorkerServices) -> None:
    desired = {"default/web": build_service([build_port(lab.pod("c1", lab.w1))], kernel.place)}
    kernel.apply(desired, ())
    with Nft(lab.w1.place) as hand:
        hand.apply("delete element ip knetsim-services cluster-ips { 100.64.0.9 }")
        assert kernel.find_drift(thorough=False) == ""
        more = build_port(service="more", cluster_ip=SERVICE_NETWORK[8])
        desired["default/more"] = build_service([more], kernel.place)
        kernel.apply(desired, ["default/more"])
        assert kernel.find_drift(thorough=False) == "", "a change of ours does not make it unseen"
        assert kernel.find_drift() == "element cluster-ips 100.64.0.9 is gone"
        kernel.apply(desired, ())
        assert kernel.find_drift() == ""
        hand.apply("delete table ip knetsim-services; add table ip knetsim-services")
        assert kernel.find_drift(thorough=False) == "the table is gone"
    kernel.apply(desired, ())
    assert kernel.find_drift() == ""


def test_what_only_libnftables_can_say_is_one_transaction_with_the_rest(
    lab: ServicesLab, kernel: WorkerServices
) -> None:
    """A set of networks in a rule, beside a Service whose number of backends changes."""
    pods = [lab.pod(f"c{number}", lab.w1) for number in range(3)]
    walled = {"service": "walled", "cluster_ip": SERVICE_NETWORK[8], "balancer_ips": (IPv4Address("10.1.200.1"),)}
    desired = {}
    for done, (count, ranges) in enumerate([(1, "10.1.9.0/24"), (2, "10.1.8.0/24"), (3, "10.1.7.0/24")]):
        desired["default/web"] = build_service([build_port(*pods[:count])], kernel.place)
        port = build_port(*pods[:count], source_ranges=(IPv4Network(ranges),), **walled)
        desired["default/walled"] = build_service([port], kernel.place)
        kernel.apply(desired, desired)
        assert kernel.transactions == 1 + 2 * done, "a chain for so many backends, then the change"
        assert kernel.find_drift() == ""
        listed = kernel.nft.read(f"list table ip {TABLE}")
        assert ranges in listed
        assert f"goto pick-{count}" in listed


def test_a_failed_transaction_is_followed_by_a_whole_table(lab: ServicesLab, kernel: WorkerServices) -> None:
    pods = [lab.pod("c1", lab.w1), lab.pod("c2", lab.w1)]
    desired = {"default/web": build_service([build_port(pods[0])], kernel.place)}
    kernel.apply(desired, ())
    kernel.nft.apply("delete table ip knetsim-services")
    desired["default/web"] = build_service([build_port(*pods)], kernel.place)
    with pytest.raises(KernelError, match="No such file"):
        kernel.apply(desired, ["default/web"])
    kernel.apply(desired, ())
    assert kernel.find_drift() == ""
    assert f'comment "default/web/tcp/80" : {pods[1].ip} . 8080' in kernel.nft.read(
        f"list map ip {TABLE} {BACKENDS}", stateless=True
    )


def _handles(nft: Nft) -> dict[str, list[int]]:
    """The handles of each chain's rules: one that was not written again keeps them."""
    found: dict[str, list[int]] = {}
    for entry in nft.read_json("list table ip knetsim-services"):
        if "chain" in entry:
            found.setdefault(entry["chain"]["name"], [])
        elif "rule" in entry:
            found.setdefault(entry["rule"]["chain"], []).append(entry["rule"]["handle"])
    return found


# --- the agent


def test_objects_become_packets_on_every_host(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    client, first, second = lab.pod("c0", lab.w1), lab.serve("c1", lab.w1), lab.serve("c2", lab.w2)
    objects.put(service())
    objects.put(endpoints(first))
    with agent(lab, objects, told) as rules:
        rules.wait_synced(SECONDS)
        for place in (client.place, first.place, second.place, lab.w1.place, lab.w2.place, lab.cp.place):
            answer = lab.ask(place, VIP)
            assert isinstance(answer, Answer)
            assert answer.pod == "c1"
        objects.put(both := endpoints(first, second))
        settle(rules, both)
        assert lab.spread(client.place, VIP, 40).keys() == {"c1", "c2"}
        objects.put(none := endpoints())
        settle(rules, none)
        assert lab.ask(client.place, VIP) == REFUSED
        objects.delete(service())
        settle(rules, gone=service())
        assert {row.worker: row.services for row in rules.status()} == {"C0w1": 0, "C0w2": 0, "C0cp": 0}
        assert rules.problems() == {}
    assert told == []


def test_a_udp_client_that_never_falls_silent_leaves_a_backend_that_is_gone(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    client, first, second = lab.pod("c0", lab.w1), lab.serve("c1", lab.w1, "udp"), lab.serve("c2", lab.w2, "udp")
    udp = service()
    udp["spec"]["ports"][0]["protocol"] = "UDP"
    objects.put(udp)
    objects.put(_udp(endpoints(first)))
    with agent(lab, objects, told) as rules, netns_socket(client.place, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        rules.wait_synced(SECONDS)
        sock.settimeout(SECONDS)
        sock.connect((str(VIP), 80))
        for pods, answering in (([first], "c1"), ([first, second], "c1"), ([second], "c2")):
            objects.put(now := _udp(endpoints(*pods)))
            settle(rules, now)
            sock.send(b"who?\n")
            assert sock.recv(200).decode().split()[0] == answering
    assert told == []


def _udp(endpoint_slice: Any) -> Any:
    endpoint_slice["ports"][0]["protocol"] = "UDP"
    return endpoint_slice


def test_many_changes_are_few_transactions(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    pod = lab.pod("c1", lab.w1)
    with agent(lab, objects, told) as rules:
        rules.wait_synced(SECONDS)
        before = {row.worker: row.transactions for row in rules.status()}
        with rules._progress:  # nothing is taken up until all of them were heard of
            for number in range(100):
                objects.put(service(f"s{number}", SERVICE_NETWORK[number + 20]))
                objects.put(endpoints(pod, name=f"s{number}"))
        settle(rules, service("s99", SERVICE_NETWORK[119]), endpoints(pod, name="s99"))
        rows = rules.status()
        assert all(row.services == 100 for row in rows), rows
        most = max(row.transactions - before[row.worker] for row in rows)
        assert most <= 40, f"{most} transactions for 200 changes"
    assert told == []


def test_what_was_changed_by_hand_is_back_within_the_resync(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    client, server = lab.pod("c0", lab.w1), lab.serve("c1", lab.w2)
    objects.put(service())
    objects.put(endpoints(server))
    with agent(lab, objects, told, resync_seconds=0.1) as rules, Nft(lab.w1.place) as hand:
        rules.wait_synced(SECONDS)
        for number, damage in enumerate(
            (
                lambda: hand.apply("delete table ip knetsim-services"),
                lambda: write_sysctl(lab.w1.place, {"net.bridge.bridge-nf-call-iptables": "0"}),
                lambda: lab.w1.netlink.apply([delete_route(str(SERVICE_NETWORK))]),
            ),
            1,
        ):
            damage()
            wait_until("repair", lambda number=number: "" if rules.status()[0].repairs == number else "no", SECONDS)
        assert lab.ask(client.place, VIP) == Answer("c1", client.ip)
        assert isinstance(lab.ask(lab.w1.place, VIP), Answer)
    assert told == [
        ("C0w1", "ServicesRepaired", "the table is gone"),
        ("C0w1", "ServicesRepaired", "bridged frames were hidden from the packet filter"),
        ("C0w1", "ServicesRepaired", "there was no route to 100.64.0.0/16"),
    ]


def test_a_table_that_somebody_else_made_in_its_place_is_replaced(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    pod = lab.pod("c0", lab.w1)
    with Nft(lab.w1.place) as hand, agent(lab, objects, told) as rules:
        rules.wait_synced(SECONDS)
        # a table of ours in name only, which no change could be applied to
        hand.apply("delete table ip knetsim-services")
        hand.apply("table ip knetsim-services { chain nat-output { type filter hook output priority 0; }; }")
        objects.put(service())
        objects.put(endpoints(pod))
        settle(rules, service(), endpoints(pod))
        assert rules.status()[0].error == ""
        assert f": {pod.ip} . 8080" in hand.read(f"list map ip {TABLE} {BACKENDS}")
    assert told[0] == ("C0w1", "ServicesRepaired", told[0][2])


def test_a_worker_that_moves_to_another_zone_sends_to_what_is_near(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    client, near, far = lab.pod("c0", lab.w1), lab.serve("c1", lab.w1), lab.serve("c2", lab.w2)
    hinted = endpoints(near, far)
    for each, zone in zip(hinted["endpoints"], ("a", "b"), strict=True):
        each["hints"] = {"forZones": [{"name": zone}]}
    objects.put(service())
    objects.put(hinted)
    nodes = Informer(objects.store, "Node")
    nodes.start()
    try:
        with agent(lab, objects, told, nodes=nodes) as rules:
            rules.wait_synced(SECONDS)
            assert lab.spread(client.place, VIP, 30).keys() == {"c1", "c2"}, "it is in no zone"
            for zone, wanted in (("a", {"c1"}), ("b", {"c2"}), ("c", {"c1", "c2"})):
                labels = {"topology.kubernetes.io/zone": zone}
                node = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "c0w1", "uid": "n", "labels": labels}}
                objects.put(node)
                nodes.wait_for(lambda each, labels=labels: _labels(each, "c0w1") == labels, SECONDS, "the Node")
                settle_callbacks(nodes)
                rules.wait_synced(SECONDS)
                assert lab.spread(client.place, VIP, 30).keys() == wanted
    finally:
        nodes.stop()
    assert told == []


def _labels(nodes: Informer, name: str) -> Any:
    node = nodes.get(None, name)
    return node and node["metadata"]["labels"]
