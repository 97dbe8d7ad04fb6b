"""A worker's heartbeat follows its link: cut off from the store, its Lease is not renewed any more."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from knetsim.node.kubelet import Kubelet, KubeletWorker
from knetsim.system.netlink import Netlink, add_address, add_veth, set_link
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.reach import find_reachable
from knetsim.system.wait import wait_until
from tests.kernel.node.conftest import DEADLINE, Lab

PORT = 2379


@pytest.fixture
def server(places: Callable[[str], Namespaces]) -> Namespaces:
    """Where the store is."""
    return places("server")


def join(client: Namespaces, server: Namespaces, number: int) -> None:
    """A cable between the two: 10.N.0.1 is the server's end, 10.N.0.2 the client's."""
    with Netlink.in_namespace(client) as inside, Netlink.in_namespace(server) as outside:
        inside.apply([add_veth(f"up{number}", f"down{number}", peer_netns_fd=server.net)])
        for end, name, host in ((inside, f"up{number}", 2), (outside, f"down{number}", 1)):
            link = end.link(name)
            assert link is not None
            end.apply([add_address(link.index, f"10.{number}.0.{host}/24"), set_link(link.index, up=True)])
            end.settle_carrier(name)


def listen(server: Namespaces) -> socket.socket:
    listener = netns_socket(server, socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(64)
    return listener


def test_who_reaches_a_port(places: Callable[[str], Namespaces], server: Namespaces) -> None:
    clients = {name: places(name) for name in ("near", "cut", "alone")}
    join(clients["near"], server, 1)
    join(clients["cut"], server, 2)
    targets = [("10.1.0.1", PORT), ("10.2.0.1", PORT)]
    assert find_reachable(clients, targets) == set(), "refused at once, or no route"
    with listen(server):
        assert find_reachable(clients, targets) == {"near", "cut"}
        with Netlink.in_namespace(server) as outside:
            link = outside.link("down2")
            assert link is not None
            outside.apply([set_link(link.index, up=False)])
        assert find_reachable(clients, targets, timeout=0.3) == {"near"}
        assert find_reachable({}, targets) == set()


def test_a_worker_that_is_cut_off_has_no_heartbeat(lab: Lab, server: Namespaces) -> None:
    for number, worker in enumerate(lab.workers, 1):
        join(worker.namespaces, server, number)
    lab.kubelet.stop()
    with listen(server), Netlink.in_namespace(server) as outside:
        kubelet = lab.new_kubelet(members=[("10.1.0.1", PORT), ("10.2.0.1", PORT)], beat_seconds=0.2)
        for number, worker in enumerate(lab.workers, 1):
            kubelet.add_worker(KubeletWorker(worker, lab.network, f"10.{number}.0.2"))
        kubelet.start()
        lab.kubelet = kubelet
        link = outside.link("down2")
        assert link is not None
        outside.apply([set_link(link.index, up=False)])
        wait_until("the cut", lambda: "" if reachable(kubelet) == [True, False] else "it", DEADLINE)
        beaten = {node: renewed(lab, node) for node in ("c0w1", "c0w2")}
        wait_until("C0w1's next beats", lambda: "" if renewed(lab, "c0w1") > beaten["c0w1"] else "it", DEADLINE)
        assert renewed(lab, "c0w2") == beaten["c0w2"]
        outside.apply([set_link(link.index, up=True)])
        wait_until("C0w2's return", lambda: "" if reachable(kubelet) == [True, True] else "it", DEADLINE)
        wait_until("C0w2's beats", lambda: "" if renewed(lab, "c0w2") > beaten["c0w2"] else "it", DEADLINE)


def reachable(kubelet: Kubelet) -> list[bool]:
    return [one.reachable for one in kubelet.status()]


def renewed(lab: Lab, node: str) -> str:
    return str(lab.store.get("Lease", node, "kube-node-lease")["spec"]["renewTime"])
