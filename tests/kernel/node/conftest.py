"""A worker without an underlay: its namespaces, made below a /run of its own, so that the machine's is not needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from knetsim.system import linux, netns
from knetsim.system.netns import Namespaces

T = TypeVar("T")


@pytest.fixture(scope="session")
def in_sandbox() -> Callable[[Callable[[], T]], T]:
    """Calls a function in a thread that stands in a mount namespace of its own, with an empty /run/netns."""

    def enter() -> None:
        linux.unshare(linux.CLONE_FS | linux.CLONE_NEWNS)
        linux.make_mounts_private()
        linux.mount("tmpfs", "/run", "tmpfs", options="mode=755")
        os.mkdir("/run/netns")

    def call(function: Callable[[], T]) -> T:
        with ThreadPoolExecutor(1, initializer=enter) as pool:
            return pool.submit(function).result()

    return call


@pytest.fixture
def worker(in_sandbox) -> Iterator[Namespaces]:
    """The namespaces of a worker called C0w1."""
    place = in_sandbox(lambda: netns.create_host("C0w1", {}))
    yield place
    place.close()
