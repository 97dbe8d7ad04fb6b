"""Fresh places for tests of what touches the kernel: network namespaces, workers, and a guard against leaks.

A test that needs root or a program that is not here is skipped, with the reason.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from knetsim.dataplane.pod import PodNetwork
from knetsim.system import linux, netns
from knetsim.system.layers import mount_layers
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces, entered
from tests.kernel.pods import PodMaker, make_wiring
from tests.machine import explain_difference, read_machine

#: where the fixture `machine` has a place for layers of images
LAYERS = "/run/images"


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
    here = Namespaces.of_thread("here", ("net",))
    with entered(here):
        here.close()  # the descriptors of this thread's own namespaces stay open, from here on
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
def machine() -> Iterator[Namespaces]:
    """A mount namespace with a /run of its own, as a simulation's: a machine without containers has no /run/netns."""
    here = Namespaces.of_thread("here", ("mnt",))
    with entered(here):
        linux.unshare(linux.CLONE_NEWNS)
        linux.make_mounts_private()
        linux.mount("tmpfs", "/run", "tmpfs")
        os.mkdir("/run/netns")
        mount_layers(LAYERS)
        machine = Namespaces.of_thread("machine", ("mnt",))
    here.close()
    yield machine
    machine.close()


@pytest.fixture
def pod_maker(machine: Namespaces, tmp_path: Path) -> Iterator[PodMaker]:
    """A maker of workers and pods."""
    with ExitStack() as stack:
        yield PodMaker(machine, tmp_path, stack)


@pytest.fixture(params=["native", "plugins"])
def wiring(request: pytest.FixtureRequest) -> PodNetwork:
    """Each way to wire pods."""
    return make_wiring(request.param)
