"""Namespaces of Mininet hosts and pods: made, held open and entered by threads, without forking.

A namespace lives as long as something refers to it: a process in it, a mount of its /proc file, or an open descriptor.
Pods are held by a descriptor (and, for `ip netns`, by a mount in their worker's private /run/netns); hosts by their
holder process. setns(2) works per thread, so one process can stand in many namespaces at once; a thread that enters a
mount namespace must have a root directory of its own first (CLONE_FS), which `entered` sees to.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from knetsim.errors import NotFound
from knetsim.system import linux

KINDS = {
    "net": linux.CLONE_NEWNET,
    "uts": linux.CLONE_NEWUTS,
    "ipc": linux.CLONE_NEWIPC,
    "pid": linux.CLONE_NEWPID,
    "mnt": linux.CLONE_NEWNS,
}
_ENTER_KINDS = ("net", "uts", "ipc", "mnt")


class Namespaces:
    """Open descriptors of the namespaces that make a place (a host, a pod); absent kinds are shared with whoever
    enters.

    `name` is for messages. The descriptors belong to this object until `close`.
    """

    def __init__(self, name: str, **fds: int) -> None:
        unknown = fds.keys() - KINDS.keys()
        if unknown:
            raise ValueError(f"unknown namespace kinds {sorted(unknown)}")
        self.name = name
        self.fds = dict(fds)

    def __repr__(self) -> str:
        return f"Namespaces({self.name!r}, {self.fds})"

    @property
    def net(self) -> int:
        """The network namespace's descriptor."""
        return self.fds["net"]

    @classmethod
    def of_process(cls, name: str, pid: int, kinds: tuple[str, ...] = _ENTER_KINDS) -> Self:
        """The namespaces of a running process; ProcessLookupError or FileNotFoundError when it is gone."""
        return cls._opened(name, f"/proc/{pid}/ns", kinds)

    @classmethod
    def of_thread(cls, name: str, kinds: tuple[str, ...] = _ENTER_KINDS) -> Self:
        """The namespaces in which the calling thread stands."""
        return cls._opened(name, "/proc/thread-self/ns", kinds)

    @classmethod
    def _opened(cls, name: str, directory: str, kinds: tuple[str, ...]) -> Self:
        fds: dict[str, int] = {}
        try:
            for kind in kinds:
                fds[kind] = os.open(f"{directory}/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            for fd in fds.values():
                os.close(fd)
            raise
        return cls(name, **fds)

    def with_fds(self, name: str, **fds: int) -> Namespaces:
        """The same place with some kinds replaced; every descriptor is duplicated, so each object is closed on its
        own."""
        merged = {**self.fds, **fds}
        return Namespaces(name, **{kind: os.dup(fd) for kind, fd in merged.items()})

    def close(self) -> None:
        """Let go; the kernel frees what nothing else refers to. Twice is once."""
        fds, self.fds = self.fds, {}
        for fd in fds.values():
            os.close(fd)


class _HomeNamespaces(Namespaces):
    """Let go of by themselves, when the thread ends whose home they are."""

    def __del__(self) -> None:
        self.close()


class _Home(threading.local):
    """Where a thread stood before it first entered elsewhere."""

    namespaces: _HomeNamespaces | None = None


_home = _Home()


def _forget_home() -> None:
    """In a forked process: it may take other namespaces before it enters any, and its parent's are not its home."""
    _home.namespaces = None


os.register_at_fork(after_in_child=_forget_home)


def _thread_home() -> Namespaces:
    if _home.namespaces is None:
        _home.namespaces = _HomeNamespaces.of_thread("home", ("pid", *_ENTER_KINDS))
    return _home.namespaces


def _go(target: Namespaces, kinds: tuple[str, ...]) -> None:
    if "mnt" in kinds:
        # a thread started by this one shares its root directory again; else this costs nothing
        linux.unshare(linux.CLONE_FS)
    for kind in kinds:
        linux.setns(target.fds[kind], KINDS[kind])


@contextmanager
def _home_afterwards(kinds: tuple[str, ...]) -> Iterator[None]:
    """After the block the calling thread stands in its own namespaces of `kinds` again, and in its own directory.

    When the way back fails the process ends: a thread lost in a foreign namespace would configure the wrong machine.
    """
    home = _thread_home()
    directory = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            _go(home, kinds)
            if "mnt" in kinds:
                os.fchdir(directory)  # setns(2) went to the root directory
        except OSError:
            os.abort()
        os.close(directory)


@contextmanager
def entered(place: Namespaces) -> Iterator[None]:
    """The calling thread stands in `place` inside the block, and at home after it. Children started inside stay there.

    Not for nesting. A pid namespace holds for children only; inside such a block no thread can be started. NotFound
    when `place` was closed.
    """
    # the pid namespace first: its descriptor is resolved before /proc may change with the mount namespace
    kinds = tuple(kind for kind in ("pid", *_ENTER_KINDS) if kind in place.fds)
    if not kinds:
        raise NotFound(f"{place.name} is gone", why="its namespaces were let go of")
    with _home_afterwards(kinds):
        _go(place, kinds)
        yield


def enter_for_good(place: Namespaces) -> None:
    """Move the calling thread into `place`; it is to end there. NotFound when `place` was closed."""
    kinds = tuple(kind for kind in ("pid", *_ENTER_KINDS) if kind in place.fds)
    if not kinds:
        raise NotFound(f"{place.name} is gone", why="its namespaces were let go of")
    _go(place, kinds)


@contextmanager
def new_pid_namespace() -> Iterator[None]:
    """Children started by the calling thread inside the block live in a pid namespace of their own; the first is its
    pid 1.

    Inside, no thread can be started.
    """
    with _home_afterwards(("pid",)):
        linux.unshare(linux.CLONE_NEWPID)
        yield


def create_netns(name: str, hostname: str) -> Namespaces:
    """A new network and UTS namespace, the latter with `hostname`; the calling thread is back home on return."""
    with _home_afterwards(("net", "uts")):
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWUTS)
        socket.sethostname(hostname)
        return Namespaces.of_thread(name, ("net", "uts"))


def create_uts(hostname: str) -> int:
    """A new UTS namespace, in which a machine is called `hostname`, held by the descriptor that is returned."""
    with _home_afterwards(("uts",)):
        linux.unshare(linux.CLONE_NEWUTS)
        socket.sethostname(hostname)
        return os.open("/proc/thread-self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)


def create_ipc() -> int:
    """A new IPC namespace (System V's shared memory, queues of messages), held by the descriptor that is returned."""
    with _home_afterwards(("ipc",)):
        linux.unshare(linux.CLONE_NEWIPC)
        return os.open("/proc/thread-self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)


def create_host(name: str, mounts: dict[str, str]) -> Namespaces:
    """Network, mount, UTS and IPC namespaces of a machine called `name`, held by descriptors alone: no process is
    needed.

    Its /sys shows its own devices, its /run/netns is empty and its own; each file of `mounts` is shown at its value.
    """
    with _home_afterwards(_ENTER_KINDS):
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
        socket.sethostname(name)
        linux.make_mounts_private()
        linux.mount("sysfs", "/sys", "sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        linux.mount("tmpfs", "/run/netns", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
        for source, target in mounts.items():
            linux.bind_mount(source, target)
        return Namespaces.of_thread(name)


def create_mount_namespace(place: Namespaces, mounts: dict[str, str]) -> int:
    """A mount namespace cloned from `place`'s, in which each key of `mounts` is shown at its value; its descriptor.

    Held by the descriptor alone: no process is needed. Mounts made in it stay in it.
    """
    with entered(place):
        linux.unshare(linux.CLONE_NEWNS)
        linux.make_mounts_private()
        for source, target in mounts.items():
            linux.bind_mount(source, target)
        return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def publish_netns(worker: Namespaces, net_fd: int, name: str) -> None:
    """Show the namespace `net_fd` as `name` in the worker's /run/netns, where `ip netns` finds it."""
    path = f"/run/netns/{name}"
    source = f"/proc/{os.getpid()}/fd/{net_fd}"
    with entered(worker):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        linux.bind_mount(source, path)


def is_published(worker: Namespaces, net_fd: int, name: str) -> bool:
    """Whether `name` in the worker's /run/netns is the namespace `net_fd`."""
    with entered(worker):
        try:
            return os.path.samestat(os.stat(f"/run/netns/{name}"), os.fstat(net_fd))
        except FileNotFoundError:
            return False


def open_published(worker: Namespaces, name: str, hostname: str) -> Namespaces | None:
    """The network namespace shown as `name` in the worker's /run/netns, with a new UTS namespace; None without one."""
    with entered(worker):
        try:
            net = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
    try:
        with entered(Namespaces(name, net=net)):
            uts = _create_uts(hostname)
    except OSError:
        os.close(net)  # EINVAL: a file that is no namespace, as after an interrupted publish
        return None
    return Namespaces(name, net=net, uts=uts)


def _create_uts(hostname: str) -> int:
    with _home_afterwards(("uts",)):
        linux.unshare(linux.CLONE_NEWUTS)
        socket.sethostname(hostname)
        return os.open("/proc/thread-self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)


def unpublish_netns(worker: Namespaces, name: str) -> None:
    """Take `name` out of the worker's /run/netns; nothing there is fine."""
    path = f"/run/netns/{name}"
    with entered(worker):
        try:
            linux.unmount(path)
        except OSError:
            pass  # EINVAL: not mounted, as after an interrupted publish; the file goes below
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def netns_socket(place: Namespaces, family: int, kind: int, proto: int = 0) -> socket.socket:
    """A socket that lives in `place`'s network namespace for good, usable from any thread."""
    with entered(place):
        return socket.socket(family, kind | socket.SOCK_CLOEXEC, proto)
