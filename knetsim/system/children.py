"""The processes that a process has started: found by the kernel's own lists, ended with all that they have started."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def read_children(pid: int, thread: int | None = None) -> list[int]:
    """The children of a process that one of its threads has started, its main thread unless said; none when it has
    ended."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{thread or pid}/children").read_text().split()]
    except OSError:
        return []


def kill_tree(pid: int) -> int:
    """Kill a process and all that it has started; how many there were. What has ended is fine.

    Each is stopped before its children are looked for: none can be added while they are.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        below = sum(kill_tree(child) for child in read_children(pid))
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    finally:
        os.close(pidfd)
    return below + 1
