"""Pods and their bridge taken over, checked and repaired, whichever way they were wired."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from knetsim.dataplane.pod import BRIDGE, PodNetwork, PodPlace, Wired
from knetsim.errors import KernelError
from knetsim.names import pod_veth
from knetsim.system.netlink import (
    Netlink,
    add_address,
    add_veth,
    delete_address,
    delete_link,
    delete_route,
    set_bridge_port,
    set_link,
)
from knetsim.system.run import run
from knetsim.system.sysctl import write_sysctl
from tests.kernel.pods import PodMaker, make_wiring, reaches

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_wired_pod_is_taken_over(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    pods = [pod_maker.pod(worker, f"c{number}") for number in range(3)]
    wired = {pod.uid: wiring.add(worker, pod) for pod in pods}
    fresh = make_wiring(wiring.name)
    assert {pod.uid: fresh.adopt(worker, pod) for pod in pods} == wired
    assert fresh.adopt(worker, pod_maker.pod(worker, "other")) is None
    assert fresh.check(worker, pods[0]) == []
    another = pod_maker.pod(worker, "c9")
    assert fresh.add(worker, another).ip == "11.15.64.5"
    assert reaches(another, wired[pods[0].uid].ip)
    fresh.remove(worker, pods[0])
    assert not reaches(another, wired[pods[0].uid].ip)


def test_a_check_says_what_is_wrong(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    assert wiring.check(worker, pod) == ["it is not wired"]
    wired = wiring.add(worker, pod)
    with Netlink.in_namespace(pod.namespaces) as inside:
        inside.apply([delete_route("default")])
        assert len(wiring.check(worker, pod)) == 1
        inside.apply([delete_link("eth0")])
    assert wiring.check(worker, pod) != []
    assert wired.ip


def test_a_native_check_names_every_difference(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("native"), pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    host = wiring.add(worker, pod).host_interface
    with Netlink.in_namespace(pod.namespaces) as inside:
        eth0 = inside.link("eth0")
        assert eth0 is not None
        inside.apply([delete_route("default"), set_link(eth0.index, mtu=1400), add_address(eth0.index, "10.0.0.1/8")])
        worker.netlink.apply([set_link(host, master=0)])
        assert wiring.check(worker, pod) == [
            f"{host} is not a port of cni0",
            "the MTU of eth0 is 1400 instead of 1450",
            "the route `default via 11.15.64.1` is missing",
        ]
        inside.apply([delete_address(eth0.index, "11.15.64.2/20"), set_link("eth0", up=False)])
        assert "eth0 does not have 11.15.64.2/20" in wiring.check(worker, pod)
        assert "eth0 is down" in wiring.check(worker, pod)
    worker.netlink.apply([delete_link(host)])
    assert wiring.check(worker, pod) == [f"{host} is missing on C0w1", "eth0 is missing in the pod"]


@pytest.mark.parametrize("damage", ["route", "address", "down", "detached", "pair"])
def test_a_repaired_pod_keeps_its_address(wiring: PodNetwork, pod_maker: PodMaker, damage: str) -> None:
    worker = pod_maker.worker()
    pod, other = pod_maker.pod(worker, "c1"), pod_maker.pod(worker, "c2")
    before = wiring.repair(worker, pod)
    assert wiring.add(worker, other).ip == "11.15.64.3"
    with Netlink.in_namespace(pod.namespaces) as inside:
        eth0 = inside.link("eth0")
        assert eth0 is not None
        if damage == "route":
            inside.apply([delete_route("default")])
        elif damage == "address":
            inside.apply([delete_address(eth0.index, f"{before.ip}/20"), set_link("eth0", mtu=1300)])
        elif damage == "down":
            inside.apply([set_link("eth0", up=False), set_link("lo", up=False)])
        elif damage == "detached":
            worker.netlink.apply([set_link(before.host_interface, master=0)])
        else:
            inside.apply([delete_link("eth0")])
    assert wiring.check(worker, pod) != []
    after = wiring.repair(worker, pod)
    assert (after.ip, after.gateway, after.mtu) == (before.ip, before.gateway, before.mtu)
    assert wiring.check(worker, pod) == []
    if wiring.name == "plugins":  # its MAC has changed
        run(["ip", "neigh", "flush", "all"], place=other.namespaces)
    assert reaches(pod, "11.15.64.3")
    assert reaches(other, before.ip)
    assert reaches(pod, "127.0.0.1")
    assert wiring.add(worker, pod_maker.pod(worker, "c3")).ip == "11.15.64.4"


def test_a_deleted_bridge_comes_back_with_its_ports(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    c1, c2 = pod_maker.pod(worker, "c1"), pod_maker.pod(worker, "c2")
    wired = [wiring.add(worker, c1), wiring.add(worker, c2)]
    assert reaches(c1, "11.15.64.1"), "c1 has the bridge's MAC in its ARP table"
    assert wiring.ensure_bridge(worker) == []
    before = worker.netlink.link(BRIDGE)
    worker.netlink.apply([delete_link(BRIDGE)])
    assert not reaches(c2, wired[0].ip)
    repairs = wiring.ensure_bridge(worker)
    assert repairs[0] == "cni0: it was missing"
    assert {f"cni0: {one.host_interface} was not attached" for one in wired} <= set(repairs)
    assert wiring.ensure_bridge(worker) == []
    after = worker.netlink.link(BRIDGE)
    assert before is not None
    assert after is not None
    assert after.mac == before.mac
    for ip in ("11.15.64.1", wired[1].ip, wired[0].ip):
        assert reaches(c1, ip), ip
    assert wiring.check(worker, c1) == []


def test_pods_come_and_go_while_the_bridge_is_torn_down(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("native"), pod_maker.worker()
    pods = [pod_maker.pod(worker, f"c{number}") for number in range(40)]
    over = threading.Event()

    def tear_down() -> None:
        while not over.wait(0.005):
            worker.netlink.apply([delete_link(BRIDGE)])
            try:
                wiring.ensure_bridge(worker)
            except KernelError as error:  # a pod that is being added made the bridge at the same moment
                if error.errno not in (errno.EEXIST, errno.ENODEV):
                    raise

    def come_and_go(pod: PodPlace) -> Wired:
        while True:
            try:
                wiring.add(worker, pod)
                wiring.remove(worker, pod)
                return wiring.add(worker, pod)
            except KernelError:  # the bridge went away in the middle; a kubelet tries again
                wiring.remove(worker, pod)

    vandal = threading.Thread(target=tear_down)
    vandal.start()
    try:
        with ThreadPoolExecutor(3) as threads:
            wired = list(threads.map(come_and_go, pods))
    finally:
        over.set()
        vandal.join()
    wiring.ensure_bridge(worker)
    assert wiring.ensure_bridge(worker) == []
    assert len({one.ip for one in wired}) == len(pods)
    assert [wiring.check(worker, pod) for pod in pods] == [[]] * len(pods)
    assert reaches(pods[0], wired[-1].ip)


def test_the_next_pod_brings_a_deleted_bridge_back(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    wiring.add(worker, pod_maker.pod(worker, "c1"))
    worker.netlink.apply([delete_link(BRIDGE)])
    pod = pod_maker.pod(worker, "c2")
    wiring.add(worker, pod)
    assert reaches(pod, "11.15.64.1")


def test_every_drift_of_the_bridge_is_named_and_mended(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    worker = pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    host = wiring.add(worker, pod).host_interface
    bridge = worker.netlink.link(BRIDGE)
    assert bridge is not None
    worker.netlink.apply(
        [
            set_link(BRIDGE, mtu=1400, mac="02:00:00:00:00:01"),
            delete_address(bridge.index, "11.15.64.1/20"),
            add_address(bridge.index, "10.9.9.9/24"),
            set_bridge_port(host, hairpin=False),
            set_link(host, up=False),
            set_link(BRIDGE, up=False),
        ]
    )
    write_sysctl(worker.namespaces, {"net.ipv4.ip_forward": "0"})
    assert wiring.ensure_bridge(worker) == [
        "cni0: its MTU was 1400",
        "cni0: its MAC was 02:00:00:00:00:01",
        "cni0: it had the address 10.9.9.9/24",
        "cni0: it had no 11.15.64.1/20",
        "cni0: it was down",
        f"cni0: {host} was down",
        f"cni0: {host} had hairpin off",
        "cni0: IPv4 forwarding was off",
    ]
    assert wiring.ensure_bridge(worker) == []
    assert reaches(pod, "11.15.64.1")
    assert wiring.check(worker, pod) == []


def test_something_else_called_cni0_gives_way(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("native"), pod_maker.worker()
    worker.netlink.apply([add_veth(BRIDGE, "other")])
    assert wiring.ensure_bridge(worker)[:2] == ["cni0: it was a veth", "cni0: IPv4 forwarding was off"]
    pod = pod_maker.pod(worker, "c1")
    wiring.add(worker, pod)
    assert reaches(pod, "11.15.64.1")


def test_what_an_earlier_wiring_left_gives_way(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("native"), pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    worker.netlink.apply([add_veth(pod_veth(pod.namespace, pod.pod, pod.uid), "left")])
    wiring.add(worker, pod)
    assert reaches(pod, "11.15.64.1")
