"""A child process in namespaces of its own, in which things are tried; with its end the kernel takes all of it away.

The child forks once more: process 1 of a new pid namespace tries, so that nothing it starts outlives it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from knetsim.errors import KnetsimError, NotReady
from knetsim.system import linux
from knetsim.system.furniture import own_mounts
from knetsim.system.netns import KINDS

#: by name: whether it works (None: it could not be tried), and what was found or why not
Findings = dict[str, tuple[bool | None, str]]

_AFTER_PID = ("mnt", "uts", "ipc", "net")
_SCRATCH = "/run"


@dataclass(slots=True)
class Apart:
    """Where the child stands: `refused` says of a kind of namespace, or of `mounts`, why it could not have it."""

    refused: dict[str, str] = field(default_factory=dict)

    @property
    def network(self) -> bool:
        """Whether devices made here are the child's own."""
        return "net" not in self.refused

    @property
    def scratch(self) -> str | None:
        """A directory of the child's own; None when it shares its mounts with the host."""
        return None if self.refused.keys() & {"mnt", "mounts"} else _SCRATCH


def try_apart(body: Callable[[Apart], Findings], deadline: float) -> Findings:
    """What `body`, called in the child, found. NotReady when it takes longer than `deadline` seconds.

    The caller should have no other threads: a lock that one of them holds stays locked in the child.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _run_and_exit(partial(_fork_first, body, write_end))
    os.close(write_end)
    try:
        report = _read_until_closed(read_end, deadline)
    finally:
        os.close(read_end)
        os.kill(child, signal.SIGKILL)  # the pid is ours until waitpid, even when the child has ended
        os.waitpid(child, 0)
    if not report:
        raise KnetsimError("the machine's features could not be tried", why="the process that tries them has failed")
    return {name: (present, detail) for name, (present, detail) in json.loads(report).items()}


def _read_until_closed(fd: int, deadline: float) -> bytes:
    """All that comes until the child and the process it forked have ended."""
    chunks: list[bytes] = []
    while select.select([fd], [], [], deadline)[0]:
        chunk = os.read(fd, 65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
    raise NotReady("the machine's features could not be tried", why=f"no answer in {deadline:g} s")


def _run_and_exit(body: Callable[[], None]) -> None:
    """The life of a forked process: nothing of the program it was forked from runs after `body`."""
    code = 1
    try:
        linux.set_parent_death_signal(signal.SIGKILL)
        body()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _fork_first(body: Callable[[Apart], Findings], report: int) -> None:
    """The child. `report` stays open here until the process that tries has ended: its closing says that all is over."""
    apart = Apart()
    _try(apart, "pid", partial(linux.unshare, linux.CLONE_NEWPID))
    first = os.fork()
    if first == 0:
        _run_and_exit(partial(_try_and_report, apart, body, report))
    os.waitpid(first, 0)


def _try_and_report(apart: Apart, body: Callable[[Apart], Findings], report: int) -> None:
    for kind in _AFTER_PID:
        _try(apart, kind, partial(linux.unshare, KINDS[kind]))
    if "mnt" not in apart.refused:
        _try(apart, "mounts", _mount_all)
    os.write(report, json.dumps(body(apart)).encode())


def _mount_all() -> None:
    """/proc and /sys as the child's namespaces have them, and an empty directory."""
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    own_mounts()
    linux.mount("proc", "/proc", "proc", flags)
    linux.mount("sysfs", "/sys", "sysfs", flags)
    linux.mount("tmpfs", _SCRATCH, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV)


def _try(apart: Apart, kind: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        apart.refused[kind] = error.strerror or str(error)
