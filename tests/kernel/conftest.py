"""Fresh places for tests of what touches the kernel: network namespaces, workers, and a guard against leaks.

A test that needs root or a program that is not here is skipped, with the reason.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from knetsim.dataplane.overlay.subnet_file import SubnetFile, write_subnet_file
from knetsim.dataplane.pod import PodPlace, WorkerPlace
from knetsim.system import netns
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces, entered
from tests.machine import explain_difference, read_machine

#: where a worker's own is mounted; a machine on which nobody said `ip netns add` does not have it
_NETNS_DIRECTORY = Path("/run/netns")


@pytest.fixture(scope="session", autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root: sudo ./utils/test")


@pytest.fixture
def places() -> Iterator[Callable[[str], Namespaces]]:
    """Makes network namespaces of a given name; they end with the test."""
    with ExitStack() as stack:

        def create(name: str) -> Namespaces:
            place = netns.create_netns(name, name)
            stack.callback(place.close)
            return place

        yield create


@pytest.fixture
def sockets() -> Iterator[Callable[[Namespaces], Netlink]]:
    """Opens netlink sockets in places; they are closed with the test."""
    with ExitStack() as stack:
        yield lambda place: stack.enter_context(Netlink.in_namespace(place))


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """The machine and this process are afterwards as before: devices, namespaces, mounts, descriptors, threads."""
    with entered(Namespaces("nowhere")):
        pass  # the descriptors of this thread's own namespaces stay open, from here on
    before, descriptors, threads = _read_devices(), _read_descriptors(), threading.active_count()
    yield
    gc.collect()
    left = explain_difference(before, _read_devices())
    left += [f"descriptor: {target} is left" for target in _read_descriptors() if target not in descriptors]
    left += ["a thread is left"] * (threading.active_count() - threads)
    assert not left, "\n".join(left)


def _read_devices() -> dict[str, frozenset[str]]:
    """Of the machine what these tests could change; others may start processes meanwhile."""
    kinds = ("interfaces", "addresses", "routes", "rules", "nft tables", "namespaces", "mounts")
    return {kind: found for kind, found in read_machine().items() if kind in kinds}


def _read_descriptors() -> list[str]:
    """What the open descriptors of this process are."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # that of the listing itself
    return sorted(found)


# --- workers and pods


@pytest.fixture(scope="session")
def netns_directory() -> Iterator[None]:
    """The directory over which workers mount their own, made if need be and then taken away again."""
    made = not _NETNS_DIRECTORY.exists()
    _NETNS_DIRECTORY.mkdir(exist_ok=True)
    yield
    if made:
        _NETNS_DIRECTORY.rmdir()


@dataclass
class PodMaker:
    """Makes workers and the places of pods on them, as a kubelet does; all of it ends with the test."""

    directory: Path
    stack: ExitStack

    def worker(self, name: str = "C0w1", gateway: str = "11.15.64.1/20", mtu: int = 1450) -> WorkerPlace:
        """A worker with a lease of the pod network 11.0.0.0/8, and its subnet file."""
        directory = self.directory / name
        directory.mkdir()
        place = netns.create_host(name, {})
        self.stack.callback(place.close)
        netlink = self.stack.enter_context(Netlink.in_namespace(place))
        lease = SubnetFile(IPv4Network("11.0.0.0/8"), IPv4Interface(gateway), mtu)
        write_subnet_file(directory, lease)
        return WorkerPlace(name, place, str(directory), netlink, lease)

    def pod(self, worker: WorkerPlace, name: str, uid: str = "") -> PodPlace:
        """The namespace of a pod, not wired yet."""
        namespaces = netns.create_netns(name, name)
        pod = PodPlace(f"k0_{name}", "default", name, uid or f"uid-{name}", namespaces)
        netns.publish_netns(worker.namespaces, namespaces.net, pod.netns_name)
        self.stack.callback(self.end_pod, worker, pod)
        return pod

    @staticmethod
    def end_pod(worker: WorkerPlace, pod: PodPlace) -> None:
        """End the pod's namespace, as a kubelet does after it was unwired. Twice is once."""
        if pod.namespaces.fds:
            netns.unpublish_netns(worker.namespaces, pod.netns_name)
            pod.namespaces.close()


@pytest.fixture
def pod_maker(tmp_path: Path, netns_directory: None) -> Iterator[PodMaker]:
    """A maker of workers and pods."""
    with ExitStack() as stack:
        yield PodMaker(tmp_path, stack)
