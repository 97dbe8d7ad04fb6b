"""The work queue of the agents: what is looked at, when, how often, and by how many at once. Time stands still here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.api.loop import Loop, WorkQueue
from knetsim.errors import KnetsimError

DEADLINE = 10.0


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- the queue


def take_all(queue: WorkQueue, now: float) -> list[str]:
    taken = []
    while (key := queue.take(now)) is not None:
        taken.append(key)
        queue.done(key, now)
    return taken


def test_a_key_is_looked_at_once_however_many_reasons() -> None:
    queue = WorkQueue()
    for key in "abaab":
        queue.add(key)
    assert take_all(queue, 0) == ["a", "b"]
    assert not queue.busy


def test_a_reason_during_a_look_is_one_more_look() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert queue.take(0) == "a"
    queue.add("a")
    queue.add("a")
    assert queue.take(0) is None, "not twice at the same time"
    queue.done("a", 0)
    assert take_all(queue, 0) == ["a"]


def test_later_means_later_and_a_reason_means_now() -> None:
    queue = WorkQueue()
    queue.add_at("a", 10)
    queue.add_at("b", 5)
    queue.add_at("a", 20)
    assert queue.next_due() == 5
    assert take_all(queue, 4.9) == []
    assert take_all(queue, 5) == ["b"]
    queue.add("a")
    assert take_all(queue, 6) == ["a"]
    assert queue.next_due() is None, "it was looked at: what was to come later is not needed"


def test_a_moment_can_be_brought_forward() -> None:
    queue = WorkQueue()
    queue.add_at("a", 10)
    queue.add_at("a", 3)
    assert queue.next_due() == 3
    assert take_all(queue, 3) == ["a"]
    assert take_all(queue, 100) == []


def test_requeue_after() -> None:
    queue = WorkQueue()
    queue.add("a")
    queue.take(0)
    queue.done("a", 100, requeue_after=7)
    assert queue.next_due() == 107


def fail(queue: WorkQueue, key: str, now: float) -> float:
    assert queue.take(now) == key
    pause = queue.next_pause(key)
    queue.done(key, now, failed=True)
    return pause


def test_failures_are_tried_again_after_a_back_off_that_doubles_and_ends() -> None:
    queue = WorkQueue(first_pause=1, longest_pause=5)
    queue.add("a")
    now, pauses = 0.0, []
    for _ in range(5):
        pauses.append(fail(queue, "a", now))
        assert queue.take(now + pauses[-1] - 0.01) is None
        now += pauses[-1]
    assert pauses == [1, 2, 4, 5, 5]
    assert take_all(queue, now) == ["a"]
    queue.add("a")
    assert fail(queue, "a", now) == 1, "a success forgets them"


def test_a_failure_does_not_hold_up_others_nor_a_reason() -> None:
    queue = WorkQueue(first_pause=1)
    queue.add("a")
    queue.add("b")
    fail(queue, "a", 0)
    assert take_all(queue, 0) == ["b"]
    queue.add("a")
    assert fail(queue, "a", 0) == 2, "it was looked at at once, and the back-off goes on"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "later", "take", "done", "fail"]))))
def test_whatever_happens_no_key_is_lost_or_doubled(steps: list[tuple[str, str]]) -> None:
    queue = WorkQueue(first_pause=1)
    wanted: set[str] = set()
    running: set[str] = set()
    for now, (key, step) in enumerate(steps):
        if step == "add":
            queue.add(key)
            wanted.add(key)
        elif step == "later":
            queue.add_at(key, now + 5)
            wanted.add(key)
        elif step == "take":
            taken = queue.take(now)
            if taken is not None:
                assert taken not in running
                running.add(taken)
                wanted.discard(taken)
        elif key in running:
            running.remove(key)
            queue.done(key, now, failed=step == "fail")
            if step == "fail":
                wanted.add(key)
    for key in running:
        queue.done(key, len(steps))
    assert wanted <= set(take_all(queue, len(steps) + 1000))
    assert not queue.busy
    assert queue.next_due() is None


# --- the threads


@pytest.fixture
def loops() -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(reconcile: Callable[[str], float | None], **options) -> Loop:
        failures = options.pop("on_failure", lambda key, error, pause: pytest.fail(f"{key}: {error}"))
        made.append(Loop("test", reconcile, failures, **options))
        return made[-1]

    yield make
    for loop in made:
        loop.stop()


def test_keys_are_reconciled(loops) -> None:
    seen: list[str] = []
    loop = loops(seen.append)
    loop.add("a")
    assert seen == [], "nothing runs before start"
    loop.start()
    loop.add("b")
    assert loop.wait_idle(DEADLINE)
    assert sorted(seen) == ["a", "b"]


def test_one_key_by_one_thread_at_a_time_and_others_beside_it(loops) -> None:
    both = threading.Barrier(2, timeout=DEADLINE)
    entered: list[str] = []

    def reconcile(key: str) -> None:
        assert key not in entered
        entered.append(key)
        both.wait()  # only passes when both keys are being looked at
        entered.remove(key)

    loop = loops(reconcile, threads=4)
    loop.start()
    for _ in range(20):
        for key in ("a", "b"):
            loop.add(key)
        assert loop.wait_idle(DEADLINE)


def test_what_fails_is_told_and_tried_again(loops) -> None:
    clock, told, seen = Clock(), [], []

    def reconcile(key: str) -> None:
        seen.append(key)
        if len(seen) < 3:
            raise KnetsimError("broken")

    loop = loops(reconcile, on_failure=lambda key, error, pause: told.append((key, str(error), pause)), clock=clock)
    loop.start()
    loop.add("a")
    for _ in range(3):
        assert loop.wait_idle(DEADLINE)
        clock.now += 10
        loop.look_at_clock()
    assert len(seen) == 3
    assert told == [("a", "broken", 0.2), ("a", "broken", 0.4)]


def test_a_mistake_of_ours_is_logged_with_its_trace_and_ends_no_thread(loops, caplog: pytest.LogCaptureFixture) -> None:
    def reconcile(key: str) -> None:
        if key == "bad":
            raise ZeroDivisionError

    def on_failure(key: str, error: Exception, pause: float) -> None:
        raise LookupError

    loop = loops(reconcile, on_failure=on_failure, threads=1)
    loop.start()
    with caplog.at_level(logging.ERROR):
        loop.add("bad")
        loop.add("good")
        assert loop.wait_idle(DEADLINE)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError, LookupError]


def test_requeue_and_delay_follow_the_clock(loops) -> None:
    clock, seen = Clock(), []

    def reconcile(key: str) -> float:
        seen.append((key, clock.now))
        return 30

    loop = loops(reconcile, clock=clock)
    loop.start()
    loop.add_after("a", 5)
    for moment in (1000, 1005, 1034, 1035):
        clock.now = moment
        loop.look_at_clock()
        assert loop.wait_idle(DEADLINE)
    assert seen == [("a", 1005), ("a", 1035)]


def test_all_keys_are_looked_at_again_in_turn(loops) -> None:
    clock, seen = Clock(), []
    loop = loops(lambda key: seen.append((key, clock.now)), clock=clock, keys=lambda: ["a", "b"], resync_seconds=10)
    loop.start()
    for moment in (1000, 1009, 1010, 1014, 1015, 1020):
        clock.now = moment
        loop.look_at_clock()
        assert loop.wait_idle(DEADLINE)
    assert seen == [("a", 1010), ("b", 1015), ("a", 1020)]


def test_stop_waits_for_the_look_that_goes_on_and_takes_no_more(loops) -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def reconcile(key: str) -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        seen.append(key)

    loop = loops(reconcile, threads=1)
    loop.start()
    loop.add("a")
    loop.add("b")
    assert begun.wait(DEADLINE)
    stopping = threading.Thread(target=loop.stop)
    stopping.start()
    go_on.set()
    stopping.join(DEADLINE)
    assert not stopping.is_alive()
    loop.add("c")
    assert seen == ["a"]


def test_stop_before_start_and_twice(loops) -> None:
    loop = loops(lambda key: None)
    loop.stop()
    loop.stop()
