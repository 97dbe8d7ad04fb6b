"""What the kubelet decides: which container to start, when again, and when a pod has ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from knetsim.node.kubelet.lifecycle import (
    ALWAYS,
    NEVER,
    ON_FAILURE,
    ContainerView,
    CrashBackoff,
    Plan,
    Running,
    Terminated,
    Waiting,
    plan_containers,
)
from knetsim.node.kubelet.status import build_phase

NEW = Waiting("ContainerCreating")
UP = Running(1.0, "knetsim://1")
OK = Terminated(0, "Completed", "", 1.0, 2.0, "knetsim://1")
BAD = Terminated(1, "Error", "", 1.0, 2.0, "knetsim://1")


def view(name: str, state, **options) -> ContainerView:
    return ContainerView(name, state, **options)


# --- back-off


def test_the_first_restart_is_at_once_then_it_doubles() -> None:
    backoff, now, pauses = CrashBackoff(), 0.0, []
    for _ in range(8):
        ended = now + 1
        pauses.append(backoff.remaining(ended, ended))
        now = ended + pauses[-1]
        backoff = backoff.next(ended, now)
    assert pauses == [0, 10, 20, 40, 80, 160, 300, 300]


def test_it_runs_from_the_end_not_from_now() -> None:
    backoff = CrashBackoff().next(ended=0, now=0)
    assert backoff.remaining(ended=5, now=5) == 10
    assert backoff.remaining(ended=5, now=12) == 3
    assert backoff.remaining(ended=5, now=20) == 0


def test_ten_good_minutes_are_a_new_beginning() -> None:
    backoff = CrashBackoff(pause=160, since=1000)
    assert backoff.remaining(ended=1599, now=1599) == 160
    assert backoff.remaining(ended=1601, now=1601) == 0
    assert backoff.next(ended=1601, now=1601) == CrashBackoff(10, 1601)


# --- what to start


def plan(policy: str, *containers: ContainerView, init: tuple[ContainerView, ...] = (), now: float = 100.0) -> Plan:
    return plan_containers(policy, init, containers, now)


def test_new_containers_start_together() -> None:
    assert plan(ALWAYS, view("a", NEW), view("b", NEW)) == Plan(("a", "b"), {}, False)
    assert plan(ALWAYS, view("a", UP), view("b", NEW)).start == ("b",)
    assert plan(ALWAYS, view("a", UP)) == Plan((), {}, False)


@pytest.mark.parametrize(
    ("policy", "end", "again"),
    [
        (ALWAYS, OK, True),
        (ALWAYS, BAD, True),
        (ON_FAILURE, OK, False),
        (ON_FAILURE, BAD, True),
        (NEVER, OK, False),
        (NEVER, BAD, False),
    ],
)
def test_restart_policy(policy: str, end: Terminated, again: bool) -> None:
    result = plan(policy, view("a", end))
    assert result.start == (("a",) if again else ())
    assert result.finished is not again


def test_a_container_is_held_back_beside_others() -> None:
    held = view("a", BAD, backoff=CrashBackoff(20, 90), ended=95.0)
    result = plan(ALWAYS, held, view("b", NEW))
    assert result == Plan(("b",), {"a": 15.0}, False)
    assert result.look_after == 15
    assert plan(ALWAYS, held, now=115).start == ("a",)


def test_a_pod_has_ended_when_all_have() -> None:
    assert not plan(NEVER, view("a", OK), view("b", UP)).finished
    assert plan(NEVER, view("a", OK), view("b", BAD)).finished
    assert plan(ON_FAILURE, view("a", OK), view("b", OK)).finished


def test_what_is_blocked_is_neither_tried_nor_over() -> None:
    assert plan(NEVER, view("a", Waiting("ErrImagePull"), blocked=True), view("b", OK)) == Plan((), {}, False)


def test_init_containers_one_after_the_other() -> None:
    main = view("main", NEW)
    first, second = view("i1", NEW), view("i2", NEW)
    assert plan(ALWAYS, main, init=(first, second)).start == ("i1",)
    first = replace(first, state=UP)
    assert plan(ALWAYS, main, init=(first, second)).start == ()
    first = replace(first, state=OK)
    assert plan(ALWAYS, main, init=(first, second)).start == ("i2",)
    second = replace(second, state=OK)
    assert plan(ALWAYS, main, init=(first, second)).start == ("main",)


def test_an_init_container_that_fails() -> None:
    failed = view("i1", BAD, backoff=CrashBackoff(10, 95), ended=99.0)
    assert plan(ON_FAILURE, view("main", NEW), init=(failed,)) == Plan((), {"i1": 9.0}, False)
    assert plan(NEVER, view("main", NEW), init=(failed,)).finished


# --- phase


@pytest.mark.parametrize(
    ("policy", "states", "phase"),
    [
        (ALWAYS, [NEW], "Pending"),
        (ALWAYS, [UP, NEW], "Pending"),
        (ALWAYS, [UP], "Running"),
        (ALWAYS, [OK], "Running"),
        (ON_FAILURE, [OK, UP], "Running"),
        (ON_FAILURE, [BAD], "Running"),
        (ON_FAILURE, [OK, OK], "Succeeded"),
        (NEVER, [OK, OK], "Succeeded"),
        (NEVER, [OK, BAD], "Failed"),
        (NEVER, [BAD, UP], "Running"),
    ],
)
def test_phase(policy: str, states: list, phase: str) -> None:
    assert build_phase(policy, [], [view("c", state) for state in states]) == phase


def test_phase_of_a_container_between_two_runs() -> None:
    held = view("a", Waiting("CrashLoopBackOff"), last=BAD, restart_count=3)
    assert build_phase(ALWAYS, [], [held]) == "Running"


def test_phase_while_initializing() -> None:
    main = [view("main", NEW)]
    assert build_phase(ALWAYS, [view("i", UP)], main) == "Pending"
    assert build_phase(ALWAYS, [view("i", BAD)], main) == "Pending"
    assert build_phase(NEVER, [view("i", BAD)], main) == "Failed"
    assert build_phase(NEVER, [view("i", OK)], main) == "Pending"


@pytest.mark.parametrize(
    ("states", "phase"), [([OK, OK], "Succeeded"), ([OK, BAD], "Failed"), ([NEW], "Failed"), ([OK, NEW], "Failed")]
)
def test_phase_at_the_end(states: list, phase: str) -> None:
    assert build_phase(ALWAYS, [], [view("c", state) for state in states], terminal=True) == phase
