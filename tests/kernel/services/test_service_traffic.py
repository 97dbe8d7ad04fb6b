"""Real packets to Services: who answers, from where, whom it sees, and what is refused."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from knetsim.dataplane.services.counters import read_counters
from knetsim.dataplane.services.ports import Backend
from knetsim.dataplane.services.rules import build_service
from knetsim.dataplane.services.table import BACKENDS, TABLE
from knetsim.system.netlink import add_route, delete_route
from knetsim.system.nft import Nft
from knetsim.system.sysctl import write_sysctl
from knetsim.system.wait import wait_until
from tests.kernel.pods import PodMaker
from tests.kernel.services.lab import LOST, REFUSED, VIP, Answer, ServicesLab, build_port

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("backend_on", ["same", "other"])
def test_a_pod_reaches_a_vip_and_is_seen_as_itself(lab: ServicesLab, protocol: str, backend_on: str) -> None:
    lab.install_all()
    client = lab.pod("c1", lab.w1)
    server = lab.serve("c2", lab.w1 if backend_on == "same" else lab.w2, protocol)
    lab.apply(build_port(server, protocol=protocol))
    for _ in range(3):
        assert lab.ask(client.place, VIP, protocol=protocol) == Answer("c2", client.ip)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_pod_reaches_itself_through_its_vip(lab: ServicesLab, protocol: str) -> None:
    lab.install_all()
    server = lab.serve("c1", lab.w1, protocol)
    lab.apply(build_port(server, protocol=protocol))
    for _ in range(3):
        assert lab.ask(server.place, VIP, protocol=protocol) == Answer("c1", "11.15.64.1")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_worker_and_the_control_plane_reach_a_vip(lab: ServicesLab, protocol: str) -> None:
    lab.install_all()
    here, there = lab.serve("c1", lab.w1, protocol), lab.serve("c2", lab.w2, protocol)
    for server in (here, there):
        lab.apply(build_port(server, protocol=protocol))
        for host in (lab.w1, lab.cp):
            answer = lab.ask(host.place, VIP, protocol=protocol)
            assert isinstance(answer, Answer), (host.name, server.name)
            assert answer.pod == server.name


def test_a_pod_reaches_a_service_whose_backend_is_a_host(lab: ServicesLab) -> None:
    """As `kubernetes.default`, whose backend is the API server on the control plane's host."""
    lab.install_all()
    client = lab.pod("c1", lab.w1)
    lab.listen(lab.cp.place, "C0cp", port=6443)
    lab.apply(build_port(backends=(Backend(IPv4Address(lab.cp.address), 6443),)))
    answer = lab.ask(client.place, VIP)
    assert isinstance(answer, Answer)
    assert answer.pod == "C0cp"
    assert isinstance(lab.ask(lab.cp.place, VIP), Answer), "the API server reaches itself by its VIP"


def test_connections_are_spread_and_counted(lab: ServicesLab) -> None:
    lab.install_all()
    client = lab.pod("c0", lab.w1)
    servers = [lab.serve("c1", lab.w1), lab.serve("c2", lab.w2), lab.serve("c3", lab.w2)]
    lab.apply(build_port(*servers))
    found = lab.spread(client.place, VIP, 300)
    assert found.keys() == {"c1", "c2", "c3"}
    assert min(found.values()) >= 60, f"100 each are expected, the deviation is 8: {found}"
    assert lab.w1.services is not None
    addresses, backends = read_counters(lab.w1.services.nft)
    assert [(each.path, each.address, each.connections) for each in addresses] == [
        ("default/web/tcp/80", f"{VIP} . tcp . 80", 300)
    ]
    by_address = {str(server.backend()): found[server.name] for server in servers}
    assert {each.backend: each.connections for each in backends} == by_address


def test_counts_go_on_when_backends_come_and_go(lab: ServicesLab) -> None:
    services = lab.install(lab.w1)
    client = lab.pod("c0", lab.w1)
    first, second, third = (lab.serve(f"c{number}", lab.w1) for number in (1, 2, 3))
    lab.apply(build_port(first, second, third))
    total = lab.spread(client.place, VIP, 30)
    for servers in ((second, third), (third,), (first, third)):
        gone = {"c1", "c2", "c3"} - {server.name for server in servers}
        lab.apply(build_port(*servers))
        total = total + lab.spread(client.place, VIP, 20)
        total = Counter({name: 0 if name in gone else number for name, number in total.items()})
        addresses, backends = read_counters(services.nft)
        assert {each.backend: each.connections for each in backends} == {
            str(server.backend()): total[server.name] for server in servers
        }
    assert [each.connections for each in addresses] == [90]
    assert services.find_drift() == ""


def test_no_connection_is_lost_while_the_number_of_backends_changes(lab: ServicesLab) -> None:
    services = lab.install(lab.w1)
    client = lab.pod("c0", lab.w1)
    servers = [lab.serve(f"c{number}", lab.w1) for number in (1, 2, 3)]
    stages = [(0,), (0, 1), (0, 1, 2), (1, 2), (2,), (0, 2)]
    ports = [build_port(*(servers[number] for number in stage)) for stage in stages]
    desired = [{"web": build_service([port], services.place)} for port in ports]
    services.apply(desired[0], ["web"])
    ended, changes, found = threading.Event(), [0], Counter[str]()

    def change() -> None:
        while not ended.is_set():
            changes[0] += 1
            services.apply(desired[changes[0] % len(desired)], ["web"])

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            while not changing.done() and (found.total() < 300 or changes[0] < 5 * len(desired)):
                found += lab.spread(client.place, VIP, 20)
        finally:
            ended.set()
        changing.result()
    assert found.keys() == {"c1", "c2", "c3"}
    assert services.find_drift() == ""


def test_a_lot_that_is_no_more_is_the_first_backends(lab: ServicesLab) -> None:
    """What happens to a packet that has drawn it while its element goes."""
    services = lab.install(lab.w1)
    client, servers = lab.pod("c0", lab.w1), [lab.serve(f"c{number}", lab.w1) for number in (1, 2)]
    lab.apply(build_port(*servers))
    first = min(servers, key=lambda each: IPv4Address(each.ip))
    services.nft.apply(f"delete element ip {TABLE} {BACKENDS} {{ {VIP} . tcp . 80 . 1 }}")
    assert lab.spread(client.place, VIP, 30) == {first.name: 30}


def test_a_pod_reaches_itself_through_each_of_its_services(lab: ServicesLab) -> None:
    services = lab.install(lab.w1)
    server = lab.serve("c1", lab.w1)
    vips = [VIP, VIP + 1]
    rules = {str(vip): build_service([build_port(server, cluster_ip=vip)], services.place) for vip in vips}
    services.apply(rules, rules)
    for vip in vips:
        assert lab.ask(server.place, vip) == Answer("c1", "11.15.64.1")
    services.apply({str(VIP): rules[str(VIP)]}, rules)
    assert lab.ask(server.place, VIP) == Answer("c1", "11.15.64.1"), "the other Service is gone"


def test_a_service_that_gets_chains_and_loses_them(lab: ServicesLab) -> None:
    services = lab.install(lab.w1)
    client, servers = lab.pod("c0", lab.w1), [lab.serve(f"c{number}", lab.w1) for number in (1, 2)]
    for options in ({}, {"node_port": 30080}, {"affinity_seconds": 60}, {}, {"internal_local": True}, {}):
        lab.apply(build_port(*servers, **options))
        assert lab.spread(client.place, VIP, 20).keys() <= {"c1", "c2"}, options
        assert isinstance(lab.ask(lab.w1.place, VIP), Answer)
        assert services.find_drift() == ""


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_nobody_answers_for_is_refused_at_once(lab: ServicesLab, protocol: str) -> None:
    lab.install_all()
    client, server = lab.pod("c1", lab.w1), lab.serve("c2", lab.w2, protocol)
    lab.apply(build_port(protocol=protocol))
    for place in (client.place, lab.w1.place):
        assert lab.ask(place, VIP, protocol=protocol) == REFUSED
    lab.apply(build_port(server, protocol=protocol))
    assert isinstance(lab.ask(client.place, VIP, protocol=protocol), Answer), "a backend came"
    assert lab.ask(client.place, VIP, 81, protocol) == REFUSED, "a port the Service does not have"
    lab.apply(build_port(protocol=protocol))
    assert lab.ask(client.place, VIP, protocol=protocol) == REFUSED, "the last backend went"
    assert lab.ask(client.place, "100.64.3.3", protocol=protocol) == LOST, "an address that no Service has"


def test_a_client_stays_with_its_backend(lab: ServicesLab) -> None:
    lab.install_all()
    clients = [lab.pod(f"c{number}", lab.w1) for number in range(6)]
    servers = [lab.serve("s1", lab.w1), lab.serve("s2", lab.w2)]
    lab.apply(build_port(*servers, affinity_seconds=10800))
    chosen = [lab.spread(client.place, VIP, 10) for client in clients]
    assert all(len(found) == 1 for found in chosen), chosen
    lab.apply(build_port(servers[0], affinity_seconds=10800))
    assert all(lab.spread(client.place, VIP, 3) == {"s1": 3} for client in clients), "its backend is gone"


def test_node_ports(lab: ServicesLab) -> None:
    lab.install_all()
    client, server = lab.pod("c1", lab.w1), lab.serve("c2", lab.w2)
    lab.apply(build_port(server, node_port=30080))
    for address in (lab.w1.address, lab.w2.address):
        for place in (lab.out.place, client.place, lab.w1.place):
            answer = lab.ask(place, address, 30080)
            assert isinstance(answer, Answer)
            assert answer.pod == "c2"
    assert lab.ask(lab.out.place, lab.w1.address, 30081) == REFUSED
    lab.apply(build_port(node_port=30080))
    assert lab.ask(lab.out.place, lab.w1.address, 30080) == REFUSED


def test_a_local_node_port_keeps_the_clients_address(lab: ServicesLab) -> None:
    lab.install_all()
    client, server = lab.pod("c1", lab.w1), lab.serve("c2", lab.w2)
    lab.apply(build_port(server, node_port=30080, external_local=True))
    assert lab.ask(lab.out.place, lab.w2.address, 30080) == Answer("c2", lab.out.address)
    assert lab.ask(lab.out.place, lab.w1.address, 30080) == LOST, "no backend there: a balancer would not send it"
    assert isinstance(lab.ask(client.place, lab.w1.address, 30080), Answer), "pods get through nevertheless"
    assert isinstance(lab.ask(lab.w1.place, lab.w1.address, 30080), Answer), "so does the worker itself"


def test_an_internal_local_service_stays_on_its_worker(lab: ServicesLab) -> None:
    lab.install_all()
    one, two = lab.pod("c1", lab.w1), lab.pod("c2", lab.w2)
    here, there = lab.serve("s1", lab.w1), lab.serve("s2", lab.w2)
    lab.apply(build_port(here, there, internal_local=True))
    assert lab.spread(one.place, VIP, 5) == {"s1": 5}
    assert lab.spread(two.place, VIP, 5) == {"s2": 5}
    lab.apply(build_port(there, internal_local=True))
    assert lab.ask(one.place, VIP) == LOST


BALANCER = "10.1.200.1"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("kind", ["external_ips", "balancer_ips"])
def test_external_and_load_balancer_addresses(lab: ServicesLab, kind: str, protocol: str) -> None:
    lab.install_all()
    for host in (lab.w1, lab.w2):  # a client that is redirected would ask for the address by ARP
        names = (f"net.ipv4.conf.{device}.send_redirects" for device in ("all", f"{host.name}-eth0"))
        write_sysctl(host.place, dict.fromkeys(names, "0"))
    lab.out.netlink.apply([add_route(f"{BALANCER}/32", via=lab.w1.address)])
    client, here, there = lab.pod("c1", lab.w1), lab.serve("s1", lab.w1, protocol), lab.serve("s2", lab.w2, protocol)
    address = (IPv4Address(BALANCER),)
    for server in (here, there):
        lab.apply(build_port(server, protocol=protocol, **{kind: address}))
        for place in (lab.out.place, client.place, lab.w1.place, lab.w2.place):
            answer = lab.ask(place, BALANCER, protocol=protocol)
            assert isinstance(answer, Answer), (place, server.name)
            assert answer.pod == server.name
    lab.apply(build_port(protocol=protocol, **{kind: address}))
    assert lab.ask(lab.out.place, BALANCER, protocol=protocol) == REFUSED


def test_a_local_load_balancer_address_keeps_the_clients_address(lab: ServicesLab) -> None:
    lab.install_all()
    address = (IPv4Address(BALANCER),)
    client, server = lab.pod("c1", lab.w1), lab.serve("s1", lab.w2)
    lab.apply(build_port(server, balancer_ips=address, external_local=True))
    lab.out.netlink.apply([add_route(f"{BALANCER}/32", via=lab.w2.address)])
    assert lab.ask(lab.out.place, BALANCER) == Answer("s1", lab.out.address)
    assert lab.ask(client.place, BALANCER) == Answer("s1", client.ip), "a pod goes to any worker"
    lab.out.netlink.apply([delete_route(f"{BALANCER}/32"), add_route(f"{BALANCER}/32", via=lab.w1.address)])
    assert lab.ask(lab.out.place, BALANCER) == LOST, "no backend there"


def test_a_load_balancer_lets_in_its_source_ranges_only(lab: ServicesLab) -> None:
    lab.install_all()
    lab.out.netlink.apply([add_route(f"{BALANCER}/32", via=lab.w1.address)])
    client, server = lab.pod("c1", lab.w1), lab.serve("s1", lab.w2)
    options = {"balancer_ips": (IPv4Address(BALANCER),), "node_port": 30080}
    for ranges, outside, inside, worker in (
        ((f"{lab.out.address}/32",), True, False, False),
        ((f"{client.ip}/32", "10.1.1.0/24"), False, True, True),
        ((), True, True, True),
    ):
        lab.apply(build_port(server, source_ranges=tuple(map(IPv4Network, ranges)), **options))
        for place, let_in in ((lab.out.place, outside), (client.place, inside), (lab.w1.place, worker)):
            assert isinstance(lab.ask(place, BALANCER), Answer) == let_in, (ranges, place)
        assert isinstance(lab.ask(lab.out.place, lab.w1.address, 30080), Answer), "NodePorts take everybody"
        assert isinstance(lab.ask(lab.out.place, lab.w2.address, 30080), Answer)


def test_a_loopback_address_has_no_node_ports(lab: ServicesLab) -> None:
    """As in kube-proxy's mode nftables: they are the worker's own address's."""
    lab.install_all()
    lab.apply(build_port(lab.serve("s1", lab.w1), node_port=30080))
    assert isinstance(lab.ask(lab.w1.place, lab.w1.address, 30080), Answer)
    assert lab.ask(lab.w1.place, "127.0.0.1", 30080) == REFUSED


def test_affinity_ends_with_its_time_and_another_time_keeps_who_is_known(lab: ServicesLab) -> None:
    lab.install_all()
    client = lab.pod("c1", lab.w1)
    servers = [lab.serve("s1", lab.w1), lab.serve("s2", lab.w2)]
    lab.apply(build_port(*servers, affinity_seconds=10800))
    (chosen,) = lab.spread(client.place, VIP, 3)
    assert lab.w1.services is not None
    before = lab.w1.services.transactions
    lab.apply(build_port(*servers, lab.serve("s3", lab.w1), affinity_seconds=10800))
    assert lab.spread(client.place, VIP, 3) == {chosen: 3}, "a backend came"
    lab.apply(build_port(*servers, affinity_seconds=1))
    assert lab.w1.services.transactions == before + 2, "changes, not whole tables"
    assert lab.spread(client.place, VIP, 3) == {chosen: 3}
    name = next(f"affinity/{build_port().path}/{each.ip}/8080" for each in servers if each.name == chosen)
    nft = lab.w1.services.nft
    wait_until("the end of the affinity", lambda: "known" if "elem" in _read_set(nft, name) else "", 60)
    assert lab.spread(client.place, VIP, 3).total() == 3


def _read_set(nft: Nft, name: str) -> dict[str, Any]:
    return next(entry["set"] for entry in nft.read_json(f"list set ip {TABLE} {name}") if "set" in entry)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_kernel_without_bridge_filter_serves_the_same(lab: ServicesLab, protocol: str) -> None:
    lab.install(lab.w1, routed=True)
    client, server = lab.pod("c1", lab.w1), lab.serve("c2", lab.w1, protocol)
    lab.apply(build_port(server, protocol=protocol))
    assert lab.ask(client.place, VIP, protocol=protocol) == Answer("c2", "11.15.64.1"), "seen as the bridge"
    assert lab.ask(server.place, VIP, protocol=protocol) == Answer("c2", "11.15.64.1"), "itself"


def test_bridged_frames_hidden_from_the_filter_lose_the_answer(lab: ServicesLab) -> None:
    """Why `host.py` sets what it sets: without it a backend on the client's own worker is not reached."""
    lab.install_all()
    client, server = lab.pod("c1", lab.w1), lab.serve("c2", lab.w1)
    lab.apply(build_port(server))
    write_sysctl(lab.w1.place, {"net.bridge.bridge-nf-call-iptables": "0"})
    assert lab.ask(client.place, VIP) == LOST


def test_pods_wired_by_the_plugins(pod_maker: PodMaker) -> None:
    with ExitStack() as stack:
        lab = ServicesLab(pod_maker, stack, "plugins")
        lab.install_all()
        client, server = lab.pod("c1", lab.w1), lab.serve("c2", lab.w1)
        lab.apply(build_port(server))
        assert lab.ask(client.place, VIP) == Answer("c2", client.ip)
        assert lab.ask(server.place, VIP) == Answer("c2", "11.15.64.1")
