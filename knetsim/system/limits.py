"""Limits of this process that a simulation outgrows."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Allow this process as many open files as it may allow itself; how many that is.

    A shell gives 1024, for the sake of programs that use select(2); a worker holds about six, a pod two or more.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
