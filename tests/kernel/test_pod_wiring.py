"""Pods wired and unwired, by netlink and by the CNI plugins: the same tests for both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from knetsim.dataplane.pod import BRIDGE, PodNetwork
from knetsim.errors import AlreadyExists, KnetsimError
from knetsim.system.netlink import (
    Netlink,
    delete_link,
)
from knetsim.system.run import run
from knetsim.system.sysctl import read_sysctl
from tests.kernel.pods import PodMaker, make_wiring, reaches

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_wired_pod_reaches_its_gateway_its_neighbour_and_itself(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    c1, c2 = pod_maker.pod(worker, "c1"), pod_maker.pod(worker, "c2")
    first, second = wiring.add(worker, c1), wiring.add(worker, c2)
    assert (first.ip, second.ip) == ("11.15.64.2", "11.15.64.3")
    assert (first.gateway, first.mtu) == ("11.15.64.1", 1450)
    for ip in ("11.15.64.1", second.ip, first.ip, "127.0.0.1"):
        assert reaches(c1, ip), ip
    assert reaches(worker, first.ip)
    assert wiring.check(worker, c1) == wiring.check(worker, c2) == []
    assert read_sysctl(worker.namespaces, "net.ipv4.ip_forward") == {"net.ipv4.ip_forward": "1"}


def test_what_is_returned_is_what_the_kernel_has(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    wired = wiring.add(worker, pod)
    with Netlink.in_namespace(pod.namespaces) as inside:
        eth0 = inside.link("eth0")
        assert eth0 is not None
        assert (eth0.mac, eth0.mtu) == (wired.mac, wired.mtu)
        assert [entry.cidr for entry in inside.addresses(eth0.index)] == [f"{wired.ip}/20"]
        host = worker.netlink.link(eth0.link)
    assert host is not None
    assert host.name == wired.host_interface


def test_packets_pass_as_soon_as_a_pod_is_wired(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("native"), pod_maker.worker()
    first = pod_maker.pod(worker, "c0")
    ip = wiring.add(worker, first).ip
    for number in range(1, 15):
        pod = pod_maker.pod(worker, f"c{number}")
        wired = wiring.add(worker, pod)
        port = worker.netlink.link(wired.host_interface)
        assert port is not None
        assert port.port is not None
        assert port.port.forwarding
        assert reaches(pod, ip)
        assert reaches(first, wired.ip)


def test_an_unwired_pod_answers_no_more_and_its_address_is_free(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker(gateway="11.15.64.1/29")
    watcher = pod_maker.pod(worker, "c0")
    wiring.add(worker, watcher)
    pods = [pod_maker.pod(worker, f"c{number}") for number in range(1, 5)]
    ips = [wiring.add(worker, pod).ip for pod in pods]
    assert ips == [f"11.15.64.{last}" for last in (3, 4, 5, 6)]
    assert reaches(watcher, ips[0])
    wiring.remove(worker, pods[0])
    assert not reaches(watcher, ips[0])
    wiring.remove(worker, pods[0])
    again = pod_maker.pod(worker, "c9")
    assert wiring.add(worker, again).ip == ips[0]
    if wiring.name == "plugins":  # whose pods have random MACs: the watcher's ARP table still has the old pod's
        run(["ip", "neigh", "flush", "all"], place=watcher.namespaces)
    assert reaches(watcher, ips[0])
    pod_maker.end_pod(worker, pods[0])
    wiring.remove(worker, pods[0])
    assert reaches(watcher, ips[0]), "the end of the old pod does the new one no harm"


def test_a_pod_is_wired_again_under_its_uid(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    pod = pod_maker.pod(worker, "c1", uid="same")
    wiring.add(worker, pod)
    with pytest.raises(AlreadyExists, match="pod default/c1 is wired already"):
        wiring.add(worker, pod)
    assert reaches(pod, "11.15.64.1")
    wiring.remove(worker, pod)
    pod_maker.end_pod(worker, pod)
    again = pod_maker.pod(worker, "c1", uid="same")
    assert wiring.add(worker, again).ip == "11.15.64.3"
    assert reaches(again, "11.15.64.1")


def test_a_worker_without_a_free_address_says_so_and_keeps_nothing(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker(gateway="11.15.64.1/30")
    first, second = pod_maker.pod(worker, "c1"), pod_maker.pod(worker, "c2")
    assert wiring.add(worker, first).ip == "11.15.64.2"
    with pytest.raises(KnetsimError) as caught:
        wiring.add(worker, second)
    assert "11.15.64." in str(caught.value)
    assert len(worker.netlink.links(kind="veth")) == 1
    with Netlink.in_namespace(second.namespaces) as inside:
        assert inside.link("eth0") is None
    wiring.remove(worker, first)
    assert wiring.add(worker, second).ip == "11.15.64.2"


def test_pods_are_wired_in_parallel(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    workers = [pod_maker.worker("C0w1"), pod_maker.worker("C0w2", "11.15.80.1/20")]
    pods = [(worker, pod_maker.pod(worker, f"c{number}")) for number in range(8) for worker in workers]
    with ThreadPoolExecutor(4) as threads:
        wired = list(threads.map(lambda pair: wiring.add(*pair), pods))
    assert {one.ip for one in wired} == {f"11.15.{part}.{last}" for part in (64, 80) for last in range(2, 10)}
    assert all(reaches(pod, str(worker.lease.gateway.ip)) for worker, pod in pods)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda pair: wiring.remove(*pair), pods))
    assert not reaches(workers[0], wired[0].ip)


def test_native_pods_take_no_room_in_the_machines_arp_table(pod_maker: PodMaker) -> None:
    """What is learned counts against a limit that all network namespaces share; what is permanent does not."""
    wiring, worker = make_wiring("native"), pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    ip = wiring.add(worker, pod).ip
    assert reaches(pod, "11.15.64.1")
    assert reaches(worker, ip)

    def unicast(netlink: Netlink) -> list[tuple[str, str]]:
        return [(entry.address, entry.state) for entry in netlink.neighbours() if not entry.address.startswith("224.")]

    with Netlink.in_namespace(pod.namespaces) as inside:
        assert unicast(inside) == [("11.15.64.1", "permanent")]
    assert unicast(worker.netlink) == [(ip, "permanent")]
    worker.netlink.apply([delete_link(BRIDGE)])
    wiring.ensure_bridge(worker)
    assert unicast(worker.netlink) == [(ip, "permanent")]
    wiring.remove(worker, pod)
    assert unicast(worker.netlink) == []
