"""The processes that a process has started: found by the kernel's own lists, ended with all that they have started."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def read_children(pid: int, thread: int | None = None) -> list[int]:
    """The children of a process, or of one of its threads, the main one of which has the number of the process; none
    when it has ended."""
    try:
        threads = os.listdir(f"/proc/{pid}/task") if thread is None else [str(thread)]
    except FileNotFoundError:
        return []
    return [child for one in threads for child in _read_list(Path(f"/proc/{pid}/task/{one}/children"))]


def _read_list(file: Path) -> list[int]:
    try:
        return [int(word) for word in file.read_text().split()]
    except OSError:
        return []  # the thread has ended: its children are another one's


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
