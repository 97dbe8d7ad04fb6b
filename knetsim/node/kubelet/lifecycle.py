"""What a pod's containers have been through, and what is to be done with them next; pure.

As Kubernetes' kubelet decides (pkg/kubelet/kuberuntime, computePodActions; client-go's flowcontrol.Backoff): init
containers one after the other, each to its success; one with `restartPolicy: Always`, a sidecar, only has to have
started, and is kept running beside all that follows; then all others at once. What has ended is started again as its
policy says, the first time at once, then after 10 s, 20 s … 300 s since its end, and anew at once when ten minutes have
passed without an end. What a startup or liveness probe found ill is ended first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ALWAYS, ON_FAILURE, NEVER = "Always", "OnFailure", "Never"
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0
#: the end of what has not ended yet
NO_END = -math.inf
#: how the three kinds of probes are called, in messages and here
STARTUP, LIVENESS, READINESS = "startup", "liveness", "readiness"


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
        """The back-off after the start that follows the end at `ended`; of none that counts (NO_END) it stays."""
        if ended == NO_END:
            return self
        return CrashBackoff(min(self.pause * 2, LONGEST_PAUSE) if self._counts(ended) else FIRST_PAUSE, now)

    def _counts(self, ended: float) -> bool:
        return self.pause > 0 and ended - self.since <= 2 * LONGEST_PAUSE


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container as it is: its state, how it ended the time before, and how often it was started again.

    `started` and `ready` are what its hook and its probes say of one that runs; `ill` is the kind of probe that wants
    it ended. While it is `busy`, with its postStart hook or with its end, nothing new is done with it.
    """

    name: str
    state: State
    last: Terminated | None = None
    restart_count: int = 0
    backoff: CrashBackoff = CrashBackoff()
    ended: float = 0.0  # of the steady clock
    retry_at: float | None = None  # of the steady clock: it could not be started, and is not tried before
    image: str = ""  # as it was found, with what identifies it
    image_id: str = ""
    started: bool = True
    ready: bool = True
    ill: str = ""
    starting: bool = False  # its postStart hook is not through
    busy: bool = False
    changed: bool = False  # its object names another image now
    resources: Mapping[str, Any] | None = None  # that hold for it; None: those of its object

    @property
    def begun(self) -> bool:
        """Whether it has ever been started."""
        return not isinstance(self.state, Waiting) or self.last is not None or self.starting


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: containers to start now, those to be ended (with the reason in words and the probe that asks for
    it), those held back (with the seconds left), and whether the pod has nothing more to run."""

    start: tuple[str, ...] = ()
    held: Mapping[str, float] = field(default_factory=dict)
    finished: bool = False
    stop: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def look_after(self) -> float | None:
        """Seconds until the first of those held back may start."""
        return min(self.held.values(), default=None)


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is to run as long as the pod."""
    return bool(container.get("restartPolicy") == ALWAYS)


def restarts(policy: str, container: Mapping[str, Any], exit_code: int) -> bool:
    """Whether a container that ended so is started again; its own policy and rules go before its pod's `policy`."""
    own = container.get("restartPolicy")
    if own is not None:
        for rule in container.get("restartPolicyRules") or ():
            codes = rule.get("exitCodes") or {}
            inside = exit_code in (codes.get("values") or ())
            if rule.get("action") == "Restart" and inside == (codes.get("operator") == "In"):
                return True
        policy = own
    return policy == ALWAYS or (policy == ON_FAILURE and exit_code != 0)


@dataclass(slots=True)
class _Planner:
    """Goes through a pod's containers and writes down what each needs."""

    policy: str
    views: Mapping[str, ContainerView]
    now: float
    start: list[str] = field(default_factory=list)
    held: dict[str, float] = field(default_factory=dict)
    stop: dict[str, tuple[str, str]] = field(default_factory=dict)

    def try_start(self, view: ContainerView) -> None:
        """Start it, unless it is not its time."""
        if isinstance(view.state, Terminated):
            left = view.backoff.remaining(view.ended, self.now)
        else:
            left = 0.0 if view.retry_at is None else view.retry_at - self.now
        if left > 0:
            self.held[view.name] = left
        else:
            self.start.append(view.name)

    def check(self, view: ContainerView, *, again: bool, word: str = "Container") -> None:
        """Have one that runs ended, if there is a reason; `again` says that it is started anew then."""
        if view.changed:
            message, again = f"{word} {view.name} definition changed", again or word == "Container"
        elif view.ill:
            message = f"{word} {view.name} failed {view.ill} probe"
        else:
            return
        self.stop[view.name] = (f"{message}, will be restarted" if again else message, view.ill)

    def keep_sidecar(self, view: ContainerView) -> None:
        """One that has been started is kept running."""
        if view.busy:
            return
        if isinstance(view.state, Running):
            self.check(view, again=False, word="Init container")
        elif view.begun or view.retry_at is not None:
            self.try_start(view)

    def initialize(self, init: Sequence[Mapping[str, Any]]) -> bool | None:
        """Take the next step with the init containers: True when they are through, None when one has failed for
        good."""
        begun = [index for index, one in enumerate(init) if self.views[one["name"]].begun]
        current = begun[-1] if begun else -1
        for one in init[:current] if current > 0 else ():
            if is_sidecar(one):
                self.keep_sidecar(self.views[one["name"]])
        if current >= 0:
            done = self._advance(init[current], self.views[init[current]["name"]])
            if done is not True:
                return done
        if current + 1 == len(init):
            return True
        self.try_start(self.views[init[current + 1]["name"]])
        return False

    def _advance(self, container: Mapping[str, Any], view: ContainerView) -> bool | None:
        """Whether the init container that was started last has done its part; None when it never will."""
        if is_sidecar(container):
            self.keep_sidecar(view)
            return isinstance(view.state, Running) and view.started and not view.starting
        if view.busy or not isinstance(view.state, Terminated):
            if isinstance(view.state, Waiting) and not view.busy:
                self.try_start(view)
            return False
        if view.state.exit_code == 0:
            return True
        # an init container is tried until it succeeds, unless the policy is Never
        if not restarts(NEVER if self.policy == NEVER else ON_FAILURE, container, view.state.exit_code):
            return None
        self.try_start(view)
        return False

    def run(self, containers: Sequence[Mapping[str, Any]]) -> bool:
        """All others: whether any of them is there or to come."""
        kept = False
        for one in containers:
            view = self.views[one["name"]]
            if view.busy:
                kept = True
                if view.starting:
                    break  # as a kubelet: what follows waits for its postStart hook
            elif isinstance(view.state, Running):
                kept = True
                self.check(view, again=one.get("restartPolicy", self.policy) != NEVER)
            elif isinstance(view.state, Waiting) or restarts(self.policy, one, view.state.exit_code):
                kept = True
                self.try_start(view)
        return kept


def plan_containers(spec: Mapping[str, Any], views: Mapping[str, ContainerView], now: float) -> Plan:
    """What is to be done with the containers of a pod that is to live, whose network is ready."""
    init, containers = read_containers(spec)
    planner = _Planner(spec.get("restartPolicy", ALWAYS), views, now)
    if any(views[one["name"]].begun for one in containers):
        for one in init:
            if is_sidecar(one):
                planner.keep_sidecar(views[one["name"]])
        through: bool | None = True
    else:
        through = planner.initialize(init)
    if through is None or (through and not planner.run(containers)):
        return Plan(finished=True, stop=planner.stop)
    return Plan(tuple(planner.start), planner.held, False, planner.stop)


def plan_ephemeral(spec: Mapping[str, Any], views: Mapping[str, ContainerView]) -> list[str]:
    """The ephemeral containers to start: each once, and never again."""
    return [one["name"] for one in spec.get("ephemeralContainers") or () if not views[one["name"]].begun]


def order_of_end(spec: Mapping[str, Any]) -> list[list[str]]:
    """The containers in groups that end one after the other: first all but sidecars, then these, the last one first."""
    sidecars = [one["name"] for one in spec.get("initContainers") or () if is_sidecar(one)]
    others = [one["name"] for one in all_containers(spec) if one["name"] not in sidecars]
    return [others, *([name] for name in reversed(sidecars))]


def read_containers(spec: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The init containers and the containers of a pod's spec."""
    return list(spec.get("initContainers") or ()), list(spec["containers"])


def all_containers(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every container of a pod's spec, ephemeral ones too."""
    for name in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(name) or ()


def field_path(spec: Mapping[str, Any], name: str) -> str:
    """How Events name a container of a pod: `spec.containers{web}`."""
    for group in ("initContainers", "containers", "ephemeralContainers"):
        if any(one["name"] == name for one in spec.get(group) or ()):
            return f"spec.{group}{{{name}}}"
    return ""
