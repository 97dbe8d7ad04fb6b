"""Pods wired by netlink and by the CNI plugins: the same tests for both, and a comparison of what they make."""

from __future__ import annotations

import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from knetsim.dataplane.pod import BRIDGE, NativeWiring, PluginWiring, PodNetwork, PodPlace, Wired, WorkerPlace
from knetsim.errors import AlreadyExists, KernelError, KnetsimError
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
from knetsim.system.netns import Namespaces
from knetsim.system.programs import find_plugin
from knetsim.system.run import run
from knetsim.system.sysctl import read_sysctl, write_sysctl
from tests.kernel.conftest import PodMaker

pytestmark = pytest.mark.usefixtures("no_leaks")


def make_wiring(name: str) -> PodNetwork:
    if name == "native":
        return NativeWiring()
    missing = [plugin for plugin in ("flannel", "bridge", "host-local") if find_plugin(plugin) is None]
    if missing:
        pytest.skip(f"no CNI plugin {', '.join(missing)} on this machine")
    return PluginWiring()


@pytest.fixture(params=["native", "plugins"])
def wiring(request: pytest.FixtureRequest) -> PodNetwork:
    return make_wiring(request.param)


def reaches(source: PodPlace | WorkerPlace, ip: str) -> bool:
    """One ping, answered within a second: whoever wired promised that packets pass."""
    return run(["ping", "-c", "1", "-W", "1", ip], place=source.namespaces, check=False).code == 0


# --- wired and unwired


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


# --- taken over, checked, repaired


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


# --- both make the same

#: random, counted, timed, or named after the pod by one and at random by the other
_MAY_DIFFER = {
    "address", "ifname", "link", "ifid", "id", "bridge_id", "root_id", "valid_life_time", "preferred_life_time",
    "gc_timer", "hello_timer", "tcn_timer", "topology_change_timer", "hold_timer", "message_age_timer",
    "forward_delay_timer", "link_index",
}  # fmt: skip
_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/{}/arp_notify",
    "net/ipv4/conf/{}/forwarding",
    "net/ipv4/conf/{}/rp_filter",
    "net/ipv4/conf/{}/proxy_arp",
    "net/ipv6/conf/{}/accept_dad",
    "net/ipv6/conf/{}/accept_ra",
    "net/ipv6/conf/{}/disable_ipv6",
    "net/ipv6/conf/{}/forwarding",
)


def stripped(value: Any) -> Any:
    """Without what may differ."""
    if isinstance(value, dict):
        return {key: stripped(inner) for key, inner in value.items() if key not in _MAY_DIFFER}
    return [stripped(inner) for inner in value] if isinstance(value, list) else value


def ip_json(place: Namespaces, *words: str) -> Any:
    return stripped(json.loads(run(words, place=place).output))


def read_settings(place: Namespaces, devices: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, device in enumerate(devices):
        names = [name.format(device) for name in _SETTINGS if os.path.isdir("/proc/sys/net/ipv6") or "ipv6" not in name]
        values = read_sysctl(place, *names).values()
        found |= {f"device {number}: {name}": value for name, value in zip(_SETTINGS, values, strict=False)}
    return found


def read_all(worker: WorkerPlace, pod: PodPlace, wired: Wired) -> dict[str, Any]:
    """What a user can see of a pod's network, on the worker and in the pod."""
    result: dict[str, Any] = {"returned": (wired.ip, wired.gateway, wired.mtu, wired.host_interface[:4])}
    for name, place, devices in (
        ("worker", worker.namespaces, (BRIDGE, wired.host_interface)),
        ("pod", pod.namespaces, ("eth0", "lo")),
    ):
        result |= {
            f"{name}: links": ip_json(place, "ip", "-j", "-d", "link"),
            f"{name}: addresses": [
                [address for address in link["addr_info"] if address["family"] == "inet"]
                for link in ip_json(place, "ip", "-j", "addr")
            ],
            f"{name}: routes": ip_json(place, "ip", "-j", "route"),
            f"{name}: local routes": ip_json(place, "ip", "-j", "route", "show", "table", "local"),
            f"{name}: ports": ip_json(place, "bridge", "-j", "-d", "link"),
            f"{name}: settings": read_settings(place, devices),
        }
    result["pod: routes"].sort(key=lambda route: str(route["dst"]))
    return result


def test_netlink_and_the_plugins_make_the_same(pod_maker: PodMaker) -> None:
    seen = {}
    for name in ("native", "plugins"):
        wiring = make_wiring(name)
        worker = pod_maker.worker(f"{name[:3]}w1")
        worker.netlink.apply([set_link("lo", up=True)])
        pod = pod_maker.pod(worker, f"{name}-c1")
        wired = wiring.add(worker, pod)
        assert reaches(pod, wired.gateway)
        worker.netlink.settle_carrier(BRIDGE)
        seen[name] = read_all(worker, pod, wired)
    for part, native in seen["native"].items():
        assert native == seen["plugins"][part], part


# --- the plugins' own surface


def test_a_plugin_error_is_kept_with_its_words(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("plugins"), pod_maker.worker()
    Path(worker.directory, "flannel-subnet.env").unlink()
    pod = pod_maker.pod(worker, "c1")
    with pytest.raises(KnetsimError) as caught:
        wiring.add(worker, pod)
    assert caught.value.what == "the CNI plugin `flannel` failed on ADD"
    assert "flannel-subnet.env: no such file or directory" in caught.value.why
    kept = json.loads(Path(worker.directory, "cni/results/cbr0-uid-c1-eth0.error").read_text())
    assert kept["stdin"]["type"] == "flannel"
    assert "no such file or directory" in kept["output"]
    assert worker.netlink.links(kind="veth") == []
    pod_maker.end_pod(worker, pod)


def test_the_files_are_where_learners_look(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("plugins"), pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    wiring.add(worker, pod)

    def files() -> set[str]:
        return {str(path.relative_to(worker.directory)) for path in Path(worker.directory).rglob("*")}

    of_pod = {"cni/networks/cbr0/11.15.64.2", "cni/flannel/uid-c1", "cni/results/cbr0-uid-c1-eth0"}
    assert files() >= of_pod | {"10-flannel.conflist", "flannel-subnet.env"}
    wiring.remove(worker, pod)
    assert not files() & of_pod


def test_clusters_may_use_the_same_addresses(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    workers = [pod_maker.worker("C0w1"), pod_maker.worker("C1w1")]
    pods = [(worker, pod_maker.pod(worker, "c1")) for worker in workers]
    assert [wiring.add(*pair).ip for pair in pods] == ["11.15.64.2"] * 2
    wiring.remove(*pods[0])
    assert reaches(pods[1][1], "11.15.64.1")
    assert wiring.check(*pods[1]) == []


def test_an_edited_conflist_holds_for_the_next_pod(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("plugins"), pod_maker.worker()
    first, second = pod_maker.pod(worker, "c1"), pod_maker.pod(worker, "c2")
    wiring.add(worker, first)
    path = Path(worker.directory, "10-flannel.conflist")
    path.write_text(path.read_text().replace('"hairpinMode": true', '"hairpinMode": true, "mtu": 1300'))
    assert wiring.add(worker, second).mtu == 1300
    path.write_text("{")
    with pytest.raises(KnetsimError, match="not JSON"):
        wiring.add(worker, pod_maker.pod(worker, "c3"))
    for pod in (first, second):
        wiring.remove(worker, pod)
    assert worker.netlink.links(kind="veth") == []
