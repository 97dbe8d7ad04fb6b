"""The status of an object of Skupper: its conditions, and what they come to in one word; pure.

Source: Skupper's pkg/apis/skupper/v2alpha1/types.go. A condition that is not True has the reason Pending or Error; the
first of those that are needed for Ready is the object's `status` and `message`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from knetsim.api.objects import Object, format_time
from knetsim.node.skupper.objects import ERROR, PENDING, READY, Fault

CONFIGURED, RESOLVED, RUNNING, MATCHED, OPERATIONAL = "Configured", "Resolved", "Running", "Matched", "Operational"
PROCESSED, REDEEMED = "Processed", "Redeemed"


class State(NamedTuple):
    """Whether a condition is true; why, in a word and in words."""

    true: bool
    reason: str
    message: str


GOOD = State(True, READY, "OK")


def pending(message: str) -> State:
    """What is not so yet."""
    return State(False, PENDING, message)


def failed(message: str) -> State:
    """What is not so until somebody changes something."""
    return State(False, ERROR, message)


def judge(fault: Fault | None) -> State:
    """The condition that a fault makes false."""
    return GOOD if fault is None else State(False, *fault)


class Conditions:
    """The conditions of one object, one by one."""

    def __init__(self, obj: Object, now: float) -> None:
        before = (obj.get("status") or {}).get("conditions") or ()
        self._before: Mapping[str, Mapping[str, Any]] = {each.get("type", ""): each for each in before}
        self._generation, self._now = obj["metadata"].get("generation"), now
        self._states: dict[str, State] = {}

    def set(self, kind: str, state: State) -> None:
        """One more."""
        self._states[kind] = state

    def build(self, needed: Sequence[str], note: str = "", *, but: State | None = None) -> Object:
        """The beginning of a status: Ready when what is `needed` is, and nothing speaks against it (`but`). `note` is
        what has no effect although all is well."""
        unmet = [self._states[kind] for kind in needed if not self._states[kind].true]
        ready = next(iter(unmet), but or GOOD)
        if ready.true and note:
            ready = ready._replace(message=f"{ready.message}, but {note}")
        conditions = [self._build(kind, state) for kind, state in self._states.items()]
        return {
            "status": ready.reason,
            "message": ready.message,
            "conditions": [*conditions, self._build(READY, ready)],
        }

    def _build(self, kind: str, state: State) -> Object:
        status = "True" if state.true else "False"
        before = self._before.get(kind, {})
        since = before.get("lastTransitionTime") if before.get("status") == status else None
        found: Object = {"type": kind, "status": status, "reason": state.reason, "message": state.message}
        found["lastTransitionTime"] = since or format_time(self._now)
        if self._generation is not None:
            found["observedGeneration"] = self._generation
        return found
