"""Processes that would outlive what they belong to, whoever started them: found and ended.

A shell that somebody opened in a pod, or a server that it left in the background, would keep the pod's network alive
after the pod; a program that takes no notice of a hang-up would stay after its terminal. A process is named by
descriptor before it is looked at, so none that merely got its number is hit.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from knetsim.errors import LeftoverError, NotReady


def end_processes(net_fd: int, timeout: float = 5.0) -> int:
    """Kill all processes in the network namespace `net_fd` and wait for their ends; how many there were.

    LeftoverError when one is still there after `timeout` seconds.
    """
    wanted = os.fstat(net_fd)

    def is_there(pid: str) -> bool:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), wanted)  # ended ones show no namespace

    return _end(is_there, time.monotonic() + timeout, "in a pod")


def end_session(session: int, grace: float, timeout: float = 5.0) -> int:
    """Let the processes of a session end within `grace` seconds, kill those that are left, and wait for their ends; how
    many were killed. The number must not be free for others: who led the session has not been waited for.

    LeftoverError when one is still there after `timeout` seconds more.
    """

    def is_there(pid: str) -> bool:
        # after the name, which may hold anything, come fields 3 and 6 of proc(5): state and session
        state, _, _, number, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return int(number) == session and state not in "XZ"

    deadline = time.monotonic() + grace
    while found := _find(is_there):
        try:
            if not _have_ended(found, deadline):
                break
        finally:
            _close_all(found)
    return _end(is_there, time.monotonic() + timeout, "of a terminal")


def _end(is_there: Callable[[str], bool], deadline: float, where: str) -> int:
    """Kill the processes for which `is_there` holds until there are none; how many there were."""
    ended = 0
    while found := _find(is_there):
        try:
            for pidfd in found:
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has just ended
                except PermissionError as error:
                    raise LeftoverError([NotReady(f"a process {where} goes on", why="it is another user's")]) from error
            if not _have_ended(found, deadline):
                raise LeftoverError([NotReady(f"a process {where} did not end", why="it did not react to SIGKILL")])
        finally:
            _close_all(found)
        ended += len(found)
    return ended


def _find(is_there: Callable[[str], bool]) -> list[int]:
    """Descriptors of the live processes for whose number `is_there` holds; it may raise OSError for others."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            pidfd = os.pidfd_open(int(entry))
        except OSError:
            continue
        try:
            here = is_there(entry)
        except OSError:
            here = False  # it has ended, or belongs to somebody else
        if here:
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


def _have_ended(pidfds: list[int], deadline: float) -> bool:
    """Wait for the ends of all; False when the time is over."""
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return False
    return True


def _close_all(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        os.close(pidfd)
