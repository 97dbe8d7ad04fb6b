"""What a hundred workers cost: messages are counted and asserted, times are printed (`pytest -s`) and not."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterable

import pytest

from knetsim.dataplane.overlay.agent import OverlayAgent
from knetsim.dataplane.overlay.lease import VXLAN, Backend, lease_key
from knetsim.dataplane.overlay.lease_store import list_leases
from knetsim.dataplane.overlay.snapshot import merge, without
from knetsim.dataplane.overlay.state import Entries, Observed, Underlay, diff_address, diff_device, diff_entries
from knetsim.dataplane.overlay.vxlan import Vxlan
from knetsim.system.netlink import Netlink, Request, delete_link, set_link
from knetsim.system.netns import entered
from knetsim.system.wait import wait_until
from tests.kernel.overlay.lab import Host, Lab

WORKERS = 100


class CountingNetlink(Netlink):
    """Remembers how many messages each batch had."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        super().__init__(name, sock)
        self.sizes: list[int] = []

    def apply(self, requests: Iterable[Request]) -> None:
        todo = list(requests)
        if todo:
            self.sizes.append(len(todo))
        super().apply(todo)


def batches(host: Host) -> list[int]:
    """The sizes of the batches since the last call."""
    assert isinstance(host.netlink, CountingNetlink)
    found, host.netlink.sizes = host.netlink.sizes, []
    return found


def measure_floor(lab: Lab, workers: list[Host]) -> float:
    """Seconds that `ip -batch` and `bridge -batch` take for the same devices, addresses and entries, made anew."""
    backend = Vxlan(Backend(VXLAN, vni=100))
    leases = list_leases(lab.etcd).leases
    scripts = []
    for worker in workers:
        (own,) = [lease for lease in leases if str(lease.public_ip) == worker.address]
        link = worker.netlink.link(worker.interface)
        assert link is not None
        entries = without(merge(map(backend.build_entries, leases)), backend.build_entries(own))
        desired = backend.build_desired(own, entries, Underlay(link.name, link.index, link.mtu))
        requests = [
            *diff_device(Observed(), desired),
            set_link("flannel.100", up=True),
            *diff_address(Observed(9), desired),
        ]
        requests += diff_entries(Entries(), entries, 9, onlink=True)
        text = "\n".join(map(str, requests)).replace(f"dev if{link.index}", f"dev {link.name}")
        text = text.replace("dev if9", "dev flannel.100")
        for program in ("ip", "bridge"):
            lines = [line.removeprefix(f"{program} ") for line in text.splitlines() if line.startswith(f"{program} ")]
            script = worker.directory / f"floor.{program}"
            script.write_text("\n".join(lines) + "\n")
            scripts.append((worker, [program, "-batch", str(script)]))
        worker.netlink.apply([delete_link("flannel.100")])
    start = time.perf_counter()
    for worker, argv in scripts:
        with entered(worker.place):
            subprocess.run(argv, check=True)
    return time.perf_counter() - start


def test_messages_follow_the_change(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.netlink_class = CountingNetlink
    lab.configure()
    workers = lab.add_workers(WORKERS)
    for worker in workers:
        batches(worker)
    agent = OverlayAgent("C0", lab.etcd, [worker.worker for worker in workers], resync_seconds=3600)
    lab.stack.callback(agent.stop)

    start = time.perf_counter()
    agent.start()
    agent.wait_ready(60)
    mesh = time.perf_counter() - start
    for worker in workers:
        assert batches(worker) == [1, 1 + 3 * (WORKERS - 1)], "the device; then all the rest at once"

    start = time.perf_counter()
    (newcomer,) = lab.add_workers(1)
    batches(newcomer)
    lab.start_agent([newcomer])
    revision = list_leases(lab.etcd).revision
    wait_until("all", lambda: "" if all(s.revision >= revision for s in agent.status()) else "a worker", 60)
    join = time.perf_counter() - start
    assert batches(newcomer) == [1, 1 + 3 * WORKERS]
    for worker in workers:
        assert batches(worker) == [3]

    (lease,) = [lease for lease in list_leases(lab.etcd).leases if str(lease.public_ip) == newcomer.address]
    stored = lab.etcd.get(lease_key(lease.subnet))
    assert stored is not None
    revision = lab.etcd.put(lease_key(lease.subnet), stored.value, lease=stored.lease)
    wait_until("all", lambda: "" if all(s.revision >= revision for s in agent.status()) else "a worker", 60)
    for worker in workers:
        assert batches(worker) == [], "a lease that is renewed by writing it again, as flanneld does, costs nothing"
    agent.stop()
    floor = measure_floor(lab, workers)
    with capsys.disabled():
        print(f"\n{WORKERS} workers: all in {mesh:.2f} s (by ip -batch {floor:.2f} s), one more in {join:.3f} s")
