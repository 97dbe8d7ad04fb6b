"""Waiting for a fact, with a deadline and an error that says what is still missing; never for seconds to pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from knetsim.errors import NotReady

_FIRST_PAUSE = 0.005
_LAST_PAUSE = 0.1


def wait_until(
    what: str,
    missing: Callable[[], str],
    deadline: float,
    *,
    where: str = "",
    hint: str = "",
    stop: threading.Event | None = None,
) -> None:
    """Look until `missing()` is empty: it says in words what is not there yet. For facts that send no event.

    NotReady with the last words after `deadline` seconds, or when `stop` is set.
    """
    end = time.monotonic() + deadline
    pause = _FIRST_PAUSE
    stop = stop or threading.Event()
    while words := missing():
        left = end - time.monotonic()
        if left <= 0 or stop.wait(min(pause, left)):
            raise NotReady(f"{what} is not ready after {deadline:g} s", where, f"missing: {words}", hint)
        pause = min(pause * 1.5, _LAST_PAUSE)
