"""An event loop in a thread: work is done there, and it ends whether or not it was started."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from knetsim.system.loop_thread import LoopThread


class Ends:
    """What is done last, and how often."""

    def __init__(self) -> None:
        self.count = 0

    async def last(self) -> None:
        self.count += 1


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
def thread(ends: Ends) -> Iterator[LoopThread]:
    made = LoopThread("named")
    made.start()
    yield made
    made.stop(ends.last)


async def find_thread() -> str:
    return threading.current_thread().name


async def fail() -> None:
    raise ValueError("it failed")


def test_work_is_done_in_the_thread(thread: LoopThread) -> None:
    assert thread.call(find_thread()) == "named"
    with pytest.raises(ValueError, match="it failed"):
        thread.call(fail())


def test_the_last_work_is_done_once(thread: LoopThread, ends: Ends) -> None:
    for _ in range(2):
        thread.stop(ends.last)
        assert (ends.count, thread.loop.is_closed()) == (1, True)


def test_one_that_was_never_started_ends_too(ends: Ends) -> None:
    never = LoopThread("never")
    never.stop(ends.last)
    assert (ends.count, never.loop.is_closed()) == (0, True)
