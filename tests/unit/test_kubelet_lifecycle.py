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
    field_path,
    order_of_end,
    plan_containers,
    plan_ephemeral,
)
from knetsim.node.kubelet.status import build_phase, own_share, says_the_same

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


def spec_of(policy: str, containers, init=(), **more) -> dict:
    """The spec of a pod with these containers; `more` are fields of those that are named."""
    groups = {"initContainers": init, "containers": containers}
    named = {field: [{"name": one.name, **more.get(one.name, {})} for one in group] for field, group in groups.items()}
    return {"restartPolicy": policy, **named}


def plan(
    policy: str, *containers: ContainerView, init: tuple[ContainerView, ...] = (), now: float = 100.0, **more
) -> Plan:
    views = {one.name: one for one in (*init, *containers)}
    return plan_containers(spec_of(policy, containers, init, **more), views, now)


def phase_of(policy: str, init, containers, *, terminal: bool = False, **more) -> str:
    views = {one.name: one for one in (*init, *containers)}
    return build_phase(spec_of(policy, containers, init, **more), views, terminal=terminal)


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


def test_what_cannot_be_started_is_tried_again_when_it_is_time() -> None:
    waiting = view("a", Waiting("ErrImagePull"), retry_at=110.0)
    assert plan(NEVER, waiting, view("b", OK)) == Plan((), {"a": 10.0}, False)
    assert plan(NEVER, waiting, view("b", OK), now=110).start == ("a",)


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
    assert phase_of(policy, [], [view(str(number), state) for number, state in enumerate(states)]) == phase


def test_phase_of_a_container_between_two_runs() -> None:
    held = view("a", Waiting("CrashLoopBackOff"), last=BAD, restart_count=3)
    assert phase_of(ALWAYS, [], [held]) == "Running"


def test_phase_while_initializing() -> None:
    main = [view("main", NEW)]
    assert phase_of(ALWAYS, [view("i", UP)], main) == "Pending"
    assert phase_of(ALWAYS, [view("i", BAD)], main) == "Pending"
    assert phase_of(NEVER, [view("i", BAD)], main) == "Failed"
    assert phase_of(NEVER, [view("i", OK)], main) == "Pending"


@pytest.mark.parametrize(
    ("states", "phase"), [([OK, OK], "Succeeded"), ([OK, BAD], "Failed"), ([NEW], "Failed"), ([OK, NEW], "Failed")]
)
def test_phase_at_the_end(states: list, phase: str) -> None:
    assert (
        phase_of(ALWAYS, [], [view(str(number), state) for number, state in enumerate(states)], terminal=True) == phase
    )


# --- sidecars, probes, rules, ephemeral containers

SIDECAR = {"restartPolicy": "Always"}


def test_a_sidecar_has_to_start_before_what_follows() -> None:
    side, main = view("side", NEW), view("main", NEW)
    assert plan(ALWAYS, main, init=(side,), side=SIDECAR).start == ("side",)
    side = replace(side, state=UP, started=False)
    assert plan(ALWAYS, main, init=(side,), side=SIDECAR).start == ()
    side = replace(side, started=True)
    assert plan(ALWAYS, main, init=(side,), side=SIDECAR).start == ("main",)


def test_a_sidecar_is_kept_running() -> None:
    side, init, main = view("side", OK), view("i", UP), view("main", NEW)
    assert plan(NEVER, main, init=(side, init), side=SIDECAR).start == ("side",)
    assert plan(NEVER, view("main", UP), init=(side, replace(init, state=OK)), side=SIDECAR).start == ("side",)


def test_a_sidecar_does_not_keep_the_pod_alive() -> None:
    result = plan(NEVER, view("main", OK), init=(view("side", UP),), side=SIDECAR)
    assert result.finished
    assert order_of_end(spec_of(NEVER, [view("main", OK)], [view("a", UP), view("b", UP)], a=SIDECAR, b=SIDECAR)) == [
        ["main"],
        ["b"],
        ["a"],
    ]


@pytest.mark.parametrize(
    ("ill", "policy", "message"),
    [
        ("liveness", ALWAYS, "Container a failed liveness probe, will be restarted"),
        ("startup", ON_FAILURE, "Container a failed startup probe, will be restarted"),
        ("liveness", NEVER, "Container a failed liveness probe"),
    ],
)
def test_what_a_probe_finds_ill_is_ended(ill: str, policy: str, message: str) -> None:
    result = plan(policy, view("a", UP, ill=ill), view("b", UP))
    assert result.stop == {"a": (message, ill)}
    assert not result.finished
    assert plan(policy, view("a", UP, ill=ill, busy=True), view("b", UP)).stop == {}


def test_a_changed_image_is_a_new_start_whatever_the_policy() -> None:
    assert plan(NEVER, view("a", UP, changed=True)).stop == {
        "a": ("Container a definition changed, will be restarted", "")
    }


def test_what_follows_waits_for_a_post_start_hook() -> None:
    starting = view("a", NEW, starting=True, busy=True)
    assert plan(ALWAYS, starting, view("b", NEW)).start == ()


def test_a_containers_own_policy_and_rules() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}
    rules = {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    assert plan(ALWAYS, view("a", BAD), a={"restartPolicy": "Never"}).finished
    assert plan(NEVER, view("a", BAD), a={"restartPolicy": "OnFailure"}).start == ("a",)
    assert plan(NEVER, view("a", BAD), a=rules).start == ("a",)
    assert plan(NEVER, view("a", replace(BAD, exit_code=2)), a=rules).finished


def test_ephemeral_containers_start_once() -> None:
    spec = {"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "d"}, {"name": "e"}]}
    assert plan_ephemeral(spec, {"a": view("a", UP), "d": view("d", OK), "e": view("e", NEW)}) == ["e"]
    assert field_path(spec, "e") == "spec.ephemeralContainers{e}"


def test_phase_with_sidecars() -> None:
    up, waiting = view("side", UP), view("side", UP, started=False)
    assert phase_of(NEVER, [waiting], [view("main", NEW)], side=SIDECAR) == "Pending"
    assert phase_of(NEVER, [up], [view("main", UP)], side=SIDECAR) == "Running"
    assert phase_of(NEVER, [up], [view("main", OK)], side=SIDECAR) == "Running"
    assert phase_of(NEVER, [view("side", OK)], [view("main", OK)], side=SIDECAR) == "Succeeded"


# --- what of a status is the kubelet's


def test_what_others_have_written_is_not_written_again() -> None:
    mine = {"type": "Ready", "status": "True"}
    theirs = [{"type": "DisruptionTarget", "status": "True"}, {"type": "PodScheduled", "status": "True"}]
    status = {"phase": "Running", "nominatedNodeName": "w", "qosClass": "Burstable", "conditions": [mine, *theirs]}
    assert own_share(status, {"conditions": theirs}) == {"phase": "Running", "conditions": [mine]}
    assert own_share(status, {})["conditions"] == [mine, theirs[1]]  # nobody has scheduled it


def test_the_order_of_conditions_says_nothing() -> None:
    one, other = {"type": "Ready", "status": "True"}, {"type": "x", "status": "True"}
    assert says_the_same({"conditions": [one, other]}, {"conditions": [other, one]})
    assert not says_the_same({"conditions": [one]}, {"conditions": [one, other]})
    assert not says_the_same({"conditions": [one], "phase": "Running"}, {"conditions": [one], "phase": "Failed"})
