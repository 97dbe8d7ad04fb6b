"""What a pod's containers have been through, and what is to be done with them next; pure.

As Kubernetes' kubelet decides (pkg/kubelet/kuberuntime, computePodActions; client-go's flowcontrol.Backoff): init
containers one after the other, each to its success; then all others at once. What has ended is started again as
`restartPolicy` says, the first time at once, then after 10 s, 20 s … 300 s since its end, and anew at once when ten
minutes have passed without an end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALWAYS, ON_FAILURE, NEVER = "Always", "OnFailure", "Never"
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not running yet, or not now; `reason` is one CamelCase word."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """Running since `started_at` (seconds since 1970)."""

    started_at: float
    container_id: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """Ended; times in seconds since 1970."""

    exit_code: int
    reason: str
    message: str
    started_at: float
    finished_at: float
    container_id: str


State = Waiting | Running | Terminated


@dataclass(frozen=True, slots=True)
class CrashBackoff:
    """How long a container that ends over and over again waits after its end; times as of a steady clock."""

    pause: float = 0.0
    since: float = 0.0

    def remaining(self, ended: float, now: float) -> float:
        """Seconds that a container that ended at `ended` still has to wait; 0 when it may start."""
        return max(0.0, ended + self.pause - now) if self._counts(ended) else 0.0

    def next(self, ended: float, now: float) -> CrashBackoff:
        """The back-off after the start that follows the end at `ended`."""
        return CrashBackoff(min(self.pause * 2, LONGEST_PAUSE) if self._counts(ended) else FIRST_PAUSE, now)

    def _counts(self, ended: float) -> bool:
        return self.pause > 0 and ended - self.since <= 2 * LONGEST_PAUSE


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container as it is: its state, how it ended the time before, and how often it was started again."""

    name: str
    state: State
    last: Terminated | None = None
    restart_count: int = 0
    backoff: CrashBackoff = CrashBackoff()
    ended: float = 0.0  # of the steady clock
    blocked: bool = False  # it cannot be started whatever is tried, until its object changes


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: containers to start now, those held back by their back-off (with the seconds left), and whether the
    pod has nothing more to run."""

    start: tuple[str, ...] = ()
    held: Mapping[str, float] | None = None
    finished: bool = False

    @property
    def look_after(self) -> float | None:
        """Seconds until the first back-off ends."""
        return min(self.held.values()) if self.held else None


def restarts(policy: str, ended: Terminated) -> bool:
    """Whether a container that ended so is started again."""
    return policy == ALWAYS or (policy == ON_FAILURE and ended.exit_code != 0)


def plan_containers(
    policy: str, init: Sequence[ContainerView], containers: Sequence[ContainerView], now: float
) -> Plan:
    """What is to be done with the containers of a pod that is to live, whose network is ready."""
    for view in init:
        state = view.state
        if isinstance(state, Terminated) and state.exit_code == 0:
            continue
        if isinstance(state, Terminated) and policy == NEVER:
            return Plan(finished=True)
        # whatever its policy, an init container is tried until it succeeds
        return _plan_each([view], ALWAYS, now)
    return _plan_each(containers, policy, now)


def _plan_each(views: Sequence[ContainerView], policy: str, now: float) -> Plan:
    start, held, over = [], {}, True
    for view in views:
        state = view.state
        if isinstance(state, Running) or view.blocked:
            over = False
        elif isinstance(state, Waiting):
            start.append(view.name)
        elif restarts(policy, state):
            over = False
            left = view.backoff.remaining(view.ended, now)
            if left > 0:
                held[view.name] = left
            else:
                start.append(view.name)
    return Plan(tuple(start), held, over and not start)


def read_containers(spec: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The init containers and the containers of a pod's spec."""
    return list(spec.get("initContainers") or ()), list(spec["containers"])
