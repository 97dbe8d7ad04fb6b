"""Processes that stand in a network namespace which is to end, whoever started them: found and ended.

A shell that somebody opened in a pod, or a server that it left in the background, would keep the pod's network alive
after the pod. A process is named by descriptor before it is looked at, so none that merely got its number is hit.
"""

from __future__ import annotations

import os
import select
import signal
import time

from knetsim.errors import LeftoverError, NotReady


def end_processes(net_fd: int, timeout: float = 5.0) -> int:
    """Kill all processes in the network namespace `net_fd` and wait for their ends; how many there were.

    LeftoverError when one is still there after `timeout` seconds.
    """
    wanted = os.fstat(net_fd)
    ended = 0
    deadline = time.monotonic() + timeout
    while found := _find(wanted):
        try:
            for pidfd in found:
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has just ended
            _wait_ended(found, deadline)
        finally:
            for pidfd in found:
                os.close(pidfd)
        ended += len(found)
    return ended


def _find(wanted: os.stat_result) -> list[int]:
    """Descriptors of the live processes in the namespace. Ended ones show no namespace."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            pidfd = os.pidfd_open(int(entry))
        except OSError:
            continue
        try:
            here = os.path.samestat(os.stat(f"/proc/{entry}/ns/net"), wanted)
        except OSError:
            here = False  # it has ended, or belongs to somebody else
        if here:
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


def _wait_ended(pidfds: list[int], deadline: float) -> None:
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise LeftoverError([NotReady("a process in a pod did not end", why="it did not react to SIGKILL")])
