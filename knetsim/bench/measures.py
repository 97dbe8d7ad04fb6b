"""All measurements by name, what size each has unless told, and a run of some of them: the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from knetsim.bench.apart import scratch_directory
from knetsim.bench.control import measure_control
from knetsim.bench.dataplane import measure_dataplane
from knetsim.bench.figures import Figure, Machine, explain_noise
from knetsim.bench.machine import Watch
from knetsim.bench.memory import measure_memory
from knetsim.bench.path import measure_path
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.pods import measure_pods
from knetsim.bench.services import measure_services
from knetsim.bench.skupper import measure_skupper
from knetsim.bench.start import measure_start
from knetsim.bench.stop import measure_stop
from knetsim.control_choice import has_kubernetes
from knetsim.node.pod_network import find_programs


@dataclass(frozen=True, slots=True)
class Measure:
    """A measurement: who takes it, and how many workers and pods it has unless told otherwise."""

    take: Callable[[Plan, Path, Tell], list[Figure]]
    workers: int
    pods: int


MEASURES = {
    "start": Measure(measure_start, 100, 1000),
    "pods": Measure(measure_pods, 10, 100),
    "memory": Measure(measure_memory, 100, 1000),
    "path": Measure(measure_path, 2, 2),
    "stop": Measure(measure_stop, 100, 1000),
    "control": Measure(measure_control, 10, 300),
    "services": Measure(measure_services, 2, 0),
    "dataplane": Measure(measure_dataplane, 2, 2),
    "skupper": Measure(measure_skupper, 2, 0),
}
#: a pod is asked by one on another worker
WORKERS_MIN = 2


@dataclass(frozen=True, slots=True)
class Report:
    """Figures, what they were taken on, and why they are to be taken with care."""

    machine: Machine
    runs: int
    figures: Sequence[Figure]
    noise: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Everything, with every sample."""
        return {
            "machine": self.machine.to_json(),
            "runs": self.runs,
            "noise": list(self.noise),
            "figures": [figure.to_json() for figure in self.figures],
        }


def run_measures(
    names: Sequence[str],
    *,
    workers: int | None,
    pods: int | None,
    services: Sequence[int] | None,
    runs: int,
    default_scenario: Path,
    tell: Tell,
) -> Report:
    """Take the measurements `names` in turn, of the size given or their own. Errors of the first that fails."""
    watch = Watch()
    programs = find_programs()
    has_real_parts = programs.flanneld is not None and bool(programs.plugin_path) and has_kubernetes()
    figures: list[Figure] = []
    with scratch_directory() as directory:
        for name in names:
            measure = MEASURES[name]
            plan = Plan(measure.workers, measure.pods, runs, default_scenario, has_real_parts)
            if workers is not None:
                plan = replace(plan, workers=workers)
            if pods is not None:
                plan = replace(plan, pods=pods)
            if services is not None:
                plan = replace(plan, services=services)
            own = directory / name
            own.mkdir()
            figures += measure.take(plan, own, tell)
    machine = watch.read()
    return Report(machine, runs, figures, explain_noise(machine, figures))
