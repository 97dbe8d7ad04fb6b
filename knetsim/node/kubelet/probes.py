"""Startup, liveness and readiness probes: their numbers, what a row of results means, and carrying them out.

As in Kubernetes' pkg/kubelet/prober: a probe begins `initialDelaySeconds` after its container, is repeated every
`periodSeconds`, and counts as passed or failed after `successThreshold` or `failureThreshold` results of one kind in a
row. Before that readiness stays as it was (at first: not ready), liveness too (at first: alive). Liveness and readiness
begin when the startup probe has passed. A failed startup or liveness probe is asked no more: the container is ended.
What could not be carried out is tried three times, told, and counts for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from knetsim.api.events import WARNING
from knetsim.node.kubelet.actions import Actions, Outcome, Result, Target, act
from knetsim.node.kubelet.lifecycle import LIVENESS, READINESS, STARTUP

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe of a container's spec, with Kubernetes' defaults."""

    kind: str
    handler: Mapping[str, Any]
    delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success: int = 1
    failure: int = 3

    @classmethod
    def read(cls, container: Mapping[str, Any], kind: str) -> Self | None:
        """The container's probe of that kind, if it has one."""
        spec = container.get(f"{kind}Probe")
        if not spec:
            return None
        return cls(
            kind,
            spec,
            float(spec.get("initialDelaySeconds") or 0),
            float(spec.get("periodSeconds") or 10),
            float(spec.get("timeoutSeconds") or 1),
            int(spec.get("successThreshold") or 1),
            int(spec.get("failureThreshold") or 3),
        )


@dataclass(slots=True)
class Row:
    """How many results of one kind have come in a row."""

    probe: Probe
    passed: bool | None = None
    length: int = 0

    def add(self, passed: bool) -> bool | None:
        """Count a result; what the probe says by now, or None when it is too early to say."""
        self.length = self.length + 1 if self.passed == passed else 1
        self.passed = passed
        needed = self.probe.success if passed else self.probe.failure
        return passed if self.length >= needed else None


def explain(kind: str, outcome: Outcome) -> tuple[str, str] | None:
    """Reason and message of the Event about an outcome; None when there is nothing to tell."""
    word = kind.capitalize()
    if outcome.result is Result.FAILURE:
        return "Unhealthy", f"{word} probe failed: {outcome.text}"
    if outcome.result is Result.WARNING:
        return "ProbeWarning", f"{word} probe warning: {outcome.text}"
    if outcome.result is Result.UNKNOWN:
        return "Unhealthy", f"{word} probe errored and resulted in unknown state: {outcome.text}"
    return None


@dataclass(slots=True)
class Probing:
    """The probes of one run of a container, and what they have found. `tell` makes Events, `wake` is called when
    something has changed; both in the probes' thread."""

    target: Target
    tell: Callable[[str, str, str], None]
    wake: Callable[[], None]
    probes: dict[str, Probe]
    results: dict[str, bool] = field(default_factory=dict)
    _work: Future[Any] | None = None
    _ending: bool = False

    @classmethod
    def of(
        cls,
        container: Mapping[str, Any],
        target: Target,
        tell: Callable[[str, str, str], None],
        wake: Callable[[], None],
    ) -> Self | None:
        """The probes of a container; None when it has none."""
        found = (Probe.read(container, kind) for kind in (STARTUP, LIVENESS, READINESS))
        probes = {probe.kind: probe for probe in found if probe is not None}
        return cls(target, tell, wake, probes) if probes else None

    # --- what they say

    @property
    def started(self) -> bool:
        """Whether the container has started, as far as a startup probe says so."""
        return STARTUP not in self.probes or self.results.get(STARTUP) is True

    @property
    def ready(self) -> bool:
        """Whether requests may be sent to it."""
        return READINESS not in self.probes or self.results.get(READINESS) is True

    @property
    def ill(self) -> str:
        """The kind of probe that wants the container ended, if any."""
        return next((kind for kind in (LIVENESS, STARTUP) if self.results.get(kind) is False), "")

    # --- carrying them out

    def begin(self, actions: Actions, age: float = 0.0) -> None:
        """Begin with a container that was started `age` seconds ago."""
        self._work = actions.submit(self._run(age))

    def quiet(self) -> None:
        """The container is to end: only its readiness is asked from now on."""
        self._ending = True

    def stop(self) -> None:
        """Ask no more. Twice is once."""
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    async def _run(self, age: float) -> None:
        loop = asyncio.get_running_loop()
        born = loop.time() - age
        if startup := self.probes.get(STARTUP):
            await self._repeat(startup, born)
            if not self.started:
                return
        async with asyncio.TaskGroup() as group:
            for kind in (READINESS, LIVENESS):
                if probe := self.probes.get(kind):
                    group.create_task(self._repeat(probe, born))

    async def _repeat(self, probe: Probe, born: float) -> None:
        """Probe for as long as there is something to find out."""
        loop, row = asyncio.get_running_loop(), Row(probe)
        due = max(loop.time(), born + probe.delay)
        while True:
            await asyncio.sleep(due - loop.time())
            if self._ending and probe.kind != READINESS:
                return
            outcome = await self._ask(probe)
            if outcome.result is not Result.UNKNOWN:
                said = row.add(outcome.result is not Result.FAILURE)
                if said is not None and self.results.get(probe.kind) is not said:
                    self.results[probe.kind] = said
                    self.wake()
                if said is not None and (probe.kind == STARTUP or (probe.kind == LIVENESS and not said)):
                    return
            due = max(due + probe.period, loop.time())

    async def _ask(self, probe: Probe) -> Outcome:
        outcome = Outcome(Result.UNKNOWN)
        for _ in range(_ATTEMPTS):
            outcome = await act(probe.handler, self.target, probe.timeout, "probe")
            if outcome.result is not Result.UNKNOWN:
                break
        told = None if self._ending and outcome.result is Result.UNKNOWN else explain(probe.kind, outcome)
        if told:
            self.tell(*told, WARNING)
        return outcome
