"""Signals as the engine meets them: asked to end, it unwinds like an exception, so that `finally` holds."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_REAL_TIME = re.compile(r"^(SIGRTMIN|SIGRTMAX)([+-]\d+)$")


def find_signal(name: str) -> int:
    """A signal's number by its name, real-time ones included (SIGUSR1, SIGRTMIN+3, SIGRTMAX-1). KeyError."""
    match = _REAL_TIME.match(name)
    if match is None:
        return int(signal.Signals[name])
    return int(signal.Signals[match[1]]) + int(match[2])


class Terminated(BaseException):
    """Somebody asked this process to end (SIGTERM, SIGHUP); `number` is the signal's."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def _terminate(number: int, frame: FrameType | None) -> None:
    ignore_termination()
    raise Terminated(number)


def raise_on_termination() -> None:
    """From now on SIGTERM and SIGHUP raise Terminated in the main thread, once. `nohup` is honoured."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)


def ignore_termination() -> None:
    """The end has begun: further requests change nothing.

    Not by SIG_IGN: of two signals that come at once, Python would meet the second without a handler, complain of that,
    and forget what the first has raised.
    """
    signal.signal(signal.SIGTERM, _take_no_notice)
    signal.signal(signal.SIGHUP, _take_no_notice)


def _take_no_notice(number: int, frame: FrameType | None) -> None:
    """The reaction to a signal that asks for what is being done."""


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Within the block, which ends by itself, Ctrl-C changes nothing: it undoes what must be undone."""
    before = signal.signal(signal.SIGINT, _take_no_notice)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ignore_interrupts() -> None:
    """Ctrl-C is for the program in the foreground, which this one waits for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
