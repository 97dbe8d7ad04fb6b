"""Namespaces: made and entered by threads, published for `ip netns`, freed when nothing refers to them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from knetsim.system import netns
from knetsim.system.netlink import Netlink, add_bridge, add_veth
from knetsim.system.netns import Namespaces, entered
from knetsim.system.run import run
from knetsim.system.wait import wait_until
from tests.kernel.pods import PodMaker

pytestmark = pytest.mark.usefixtures("no_leaks")

Places = Callable[[str], Namespaces]


def stands_in(kind: str) -> int:
    """The inode of the calling thread's namespace."""
    return os.stat(f"/proc/thread-self/ns/{kind}").st_ino


def test_a_thread_is_home_again_after_a_block(places: Places) -> None:
    place = places("k0_c1")
    home = {kind: stands_in(kind) for kind in netns.KINDS}
    hostname = socket.gethostname()
    with entered(place):
        assert stands_in("net") == os.fstat(place.net).st_ino
        assert socket.gethostname() == "k0_c1"
    with pytest.raises(RuntimeError), entered(place):
        raise RuntimeError
    assert {kind: stands_in(kind) for kind in netns.KINDS} == home
    assert socket.gethostname() == hostname


def test_children_stay_in_the_place(places: Places) -> None:
    place = places("k0_c1")
    assert run(["hostname"], place=place).output == "k0_c1\n"
    assert run(["ip", "-br", "link"], place=place).output.split()[:2] == ["lo", "DOWN"]


def test_threads_stand_in_different_places_at_once(places: Places) -> None:
    pods = [places(f"pod{number}") for number in range(4)]
    together = threading.Barrier(len(pods))
    seen: dict[str, str] = {}

    def work(pod: Namespaces) -> None:
        with entered(pod):
            together.wait(10)
            seen[pod.name] = socket.gethostname()
            together.wait(10)

    threads = [threading.Thread(target=work, args=(pod,)) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {pod.name: pod.name for pod in pods}


def test_threads_that_end_leave_no_descriptor(places: Places) -> None:
    place = places("k0_c1")

    def work() -> None:
        with entered(place):
            pass

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_published_namespace_is_found_by_ip_netns(pod_maker: PodMaker) -> None:
    worker, other = pod_maker.worker("C0w1"), pod_maker.worker("C0w2", "11.15.80.1/20")
    pod = pod_maker.pod(worker, "c1")
    same_name = pod_maker.pod(other, "c1")
    assert run(["ip", "netns"], place=worker.namespaces).output.split()[:1] == ["k0_c1"]
    with Netlink.in_namespace(pod.namespaces) as inside:
        inside.apply([add_bridge("mark")])
    shown = run(["ip", "-n", "k0_c1", "-br", "link"], place=worker.namespaces).output
    assert "mark" in shown
    assert "mark" not in run(["ip", "-n", "k0_c1", "-br", "link"], place=other.namespaces).output
    with pytest.raises(FileExistsError):
        netns.publish_netns(worker.namespaces, pod.namespaces.net, pod.netns_name)
    netns.unpublish_netns(worker.namespaces, pod.netns_name)
    netns.unpublish_netns(worker.namespaces, pod.netns_name)
    assert run(["ip", "netns"], place=worker.namespaces).output == ""
    assert run(["ip", "netns"], place=other.namespaces).output.split()[:1] == [same_name.netns_name]
    assert not Path("/run/netns/k0_c1").exists()


def test_the_end_of_a_namespace_takes_its_devices_along(places: Places) -> None:
    worker, pod = places("worker"), netns.create_netns("k0_c1", "c1")
    with Netlink.in_namespace(worker) as outside:
        outside.apply([add_veth("veth1", "eth0", peer_netns_fd=pod.net)])
        pod.close()
        pod.close()
        wait_until("the end of the pod's veth pair", lambda: "veth1" if outside.link("veth1") else "", 60)


def test_a_host_has_its_own_places(pod_maker: PodMaker, tmp_path: Path) -> None:
    shown, target = tmp_path / "shown", tmp_path / "target"
    shown.mkdir()
    target.mkdir()
    (shown / "mark").touch()
    place = pod_maker.host("C0w1", {str(shown): str(target)})
    assert run(["ls", str(target)], place=place).output == "mark\n"
    assert list(target.iterdir()) == []
    assert run(["ls", "/run/netns"], place=place).output == ""
    assert run(["ls", "/sys/class/net"], place=place).output.split() == ["lo"]
    assert run(["hostname"], place=place).output == "C0w1\n"
