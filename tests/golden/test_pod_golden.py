"""What wiring a pod asks of the kernel and of the CNI plugins, as a learner would read it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from knetsim.dataplane.overlay.subnet_file import SubnetFile
from knetsim.dataplane.pod import PodPlace, WorkerPlace
from knetsim.dataplane.pod.bridge import build_bridge_repairs, build_port_repairs
from knetsim.dataplane.pod.cni import build_environment, build_request, parse_conflist
from knetsim.dataplane.pod.native import build_link, build_network, build_port
from knetsim.dataplane.pod.plugins import build_attachment, build_conflist
from knetsim.system.netlink import BridgePort, Link, Netlink, Request
from knetsim.system.netns import Namespaces

HERE = Path(__file__).parent / "pod"
ADDRESS = IPv4Address("11.15.64.2")
DIRECTORY = "/tmp/knetsim/C0w1"


@pytest.fixture
def worker() -> Iterator[WorkerPlace]:
    """A worker of the default scenario; nothing is sent to its kernel, so any descriptor will do."""
    place = Namespaces.of_thread("C0w1", ("net",))
    lease = SubnetFile(IPv4Network("11.0.0.0/8"), IPv4Interface("11.15.64.1/20"), 1450)
    with Netlink("C0w1", socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)) as netlink:
        yield WorkerPlace("C0w1", place, DIRECTORY, netlink, lease)
    place.close()


@pytest.fixture
def pod(worker: WorkerPlace) -> PodPlace:
    return PodPlace("k0_c1", "default", "c1", "11111111-2222-3333-4444-555555555555", worker.namespaces)


def shown(requests: list[Request]) -> str:
    """One command a line; the descriptor of a namespace is another in each run."""
    return "".join(re.sub(r"/proc/\d+/fd/\d+", "/proc/PID/fd/N", f"{request}\n") for request in requests)


def test_native_wiring_as_commands(worker: WorkerPlace, pod: PodPlace, golden: Callable[[Path, str], None]) -> None:
    text = (
        "# in the pod\n"
        + shown(build_link(worker, pod, ADDRESS))
        + shown(build_network(worker, 2, ADDRESS))
        + "# on the worker\n"
        + shown(build_port(pod, 3, ADDRESS))
    )
    golden(HERE / "native.txt", text)


def test_repairs_of_the_bridge_as_commands(worker: WorkerPlace, golden: Callable[[Path, str], None]) -> None:
    def link(index: int, name: str, kind: str, master: int, up: bool, port: BridgePort | None = None) -> Link:
        return Link(index, name, kind, "02:00:00:00:00:01", 1500, up, up, "up", master, 0, None, 0, 0, port)

    def port(hairpin: bool) -> BridgePort:
        return BridgePort(forwarding=True, hairpin=hairpin, learning=True, flood=True, isolated=False)

    bridge = link(3, "cni0", "bridge", 0, up=False)
    ports = [
        link(5, "veth1", "veth", 3, up=True, port=port(True)),
        link(6, "veth2", "veth", 3, up=True, port=port(False)),
        link(7, "veth3", "veth", 3, up=False, port=port(True)),
        link(8, "veth4", "veth", 0, up=True),
    ]
    repairs = build_bridge_repairs(worker, bridge, ["10.9.9.9/24"], "0a:58:0b:0f:40:01")
    repairs += build_port_repairs(bridge, ports)
    golden(HERE / "repairs.txt", "".join(f"# {repair.what}\n{shown(list(repair.requests))}" for repair in repairs))


def test_the_conflist_and_what_a_plugin_is_given(pod: PodPlace, golden: Callable[[Path, str], None]) -> None:
    text = build_conflist(DIRECTORY)
    golden(HERE / "10-flannel.conflist", text)
    conflist = parse_conflist(text, "10-flannel.conflist")
    environment = build_environment("ADD", build_attachment(pod), ["/usr/lib/cni", "/opt/cni/bin"])
    request = json.dumps(build_request(conflist, conflist.plugins[0], None), indent=2)
    golden(HERE / "plugin-add.txt", "".join(f"{key}={value}\n" for key, value in environment.items()) + request + "\n")
