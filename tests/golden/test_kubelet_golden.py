"""What the kubelet writes into the store: the status of pods in every situation, a Node, its Lease."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from socket import AF_NETLINK, NETLINK_ROUTE, SOCK_RAW, socket
from typing import Any

import pytest
import yaml

from knetsim.dataplane.overlay.subnet_file import SubnetFile
from knetsim.dataplane.pod import NativeWiring, WorkerPlace
from knetsim.node.kubelet.lifecycle import ContainerView, Running, State, Terminated, Waiting
from knetsim.node.kubelet.node import KubeletWorker, Machine, build_lease, build_node
from knetsim.node.kubelet.status import PodView, build_status
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces

HERE = Path(__file__).parent / "kubelet"
CASES = sorted(HERE.glob("*.yaml"))
NOW = 120.0


def read_terminated(given: dict[str, Any]) -> Terminated:
    return Terminated(
        given["exitCode"],
        given["reason"],
        given.get("message", ""),
        given["startedAt"],
        given["finishedAt"],
        given["id"],
    )


def read_state(given: dict[str, Any]) -> State:
    if "waiting" in given:
        return Waiting(given["waiting"]["reason"], given["waiting"].get("message", ""))
    if "running" in given:
        return Running(given["running"]["startedAt"], given["running"]["id"])
    return read_terminated(given["terminated"])


def read_view(given: dict[str, Any]) -> PodView:
    containers = {
        name: ContainerView(
            name,
            read_state(one),
            read_terminated(one["last"]) if "last" in one else None,
            one.get("restarts", 0),
            started=one.get("started", True),
            ready=one.get("ready", True),
        )
        for name, one in given["containers"].items()
    }
    return PodView(
        containers,
        given.get("ip", ""),
        "10.1.1.1",
        100.0,
        given.get("network", True),
        given.get("terminal", False),
        tuple(given["failure"]) if "failure" in given else None,
        given.get("users", {}),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_status(case: Path, golden: Callable[[Path, str], None]) -> None:
    given = yaml.safe_load(case.read_text())
    previous = given["previous"]
    if isinstance(previous, str):
        previous = json.loads((HERE / previous).read_text())
    before = json.dumps([given["pod"], previous])
    status = build_status(given["pod"], previous, read_view(given["view"]), given.get("now", NOW))
    golden(case.with_suffix(".json"), json.dumps(status, indent=2) + "\n")
    assert json.dumps([given["pod"], previous]) == before, "what was given is left alone"
    again = build_status(given["pod"], status, read_view(given["view"]), NOW + 1000)
    assert again == status, "nothing changes where nothing has changed"


def test_no_change_means_equal() -> None:
    assert json.loads((HERE / "unchanged.json").read_text()) == json.loads((HERE / "pause_running.json").read_text())


@pytest.fixture
def worker() -> Iterator[KubeletWorker]:
    """A worker of the default scenario; nothing is sent to its kernel."""
    place = Namespaces.of_thread("C0w1", ("net",))
    lease = SubnetFile(IPv4Network("11.0.0.0/8"), IPv4Interface("11.15.64.1/20"), 1450)
    with Netlink("C0w1", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)) as netlink:
        worker_place = WorkerPlace("C0w1", place, "/tmp/knetsim/C0w1", netlink, lease)
        yield KubeletWorker(worker_place, NativeWiring(), "10.1.1.1", {"zone": "a"})
    place.close()


def test_node_and_lease(worker: KubeletWorker, golden: Callable[[Path, str], None]) -> None:
    machine = Machine(2, 8 * 2**30, 50 * 2**30, "6.1.0", "Debian GNU/Linux 12", "m" * 32, "b-o-o-t", "amd64")
    node = build_node(worker, machine, NOW)
    golden(HERE / "node.json", json.dumps(node, indent=2) + "\n")
    registered = {**node, "metadata": {**node["metadata"], "uid": "0000-2"}}
    golden(HERE / "lease.json", json.dumps(build_lease(registered, NOW + 0.25), indent=2) + "\n")
