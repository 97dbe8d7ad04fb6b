"""`bench memory`: what a worker with its pods costs, in the processes of the simulation and in the kernel.

Two simulations of the same kind are measured, one of a single worker without pods and one of the wanted size; what the
second has more is what the workers and pods cost, and what both have (etcd members, Python, Mininet, gRPC) is the fixed
part, which is told beside it. Growth of etcd and of the caches counts as the workers'. Of shared pages each process has
its part (PSS). The kernel's part is the change of what /proc/meminfo calls its own, machine-wide, so another program
that starts meanwhile is in it too. The floor is that of the same kernel objects made by hand: only the kernel's part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from knetsim.bench.apart import run_apart
from knetsim.bench.figures import Figure, Samples, Target, median_parts
from knetsim.bench.floor import Floor
from knetsim.bench.layout import Layout
from knetsim.bench.machine import kernel_bytes, read_descendants, read_pss
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.process import running
from knetsim.bench.scenarios import write_scenario
from knetsim.bench.settle import read_steady_memory, wait_freed
from knetsim.control_choice import EMBEDDED

WORKER_MB = 12.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that a simulation holds: its processes' by program, the kernel's, and those of files in memory."""

    programs: dict[str, int]
    kernel: int
    files: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.programs.values()) + self.kernel + self.files


def measure_memory(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """Megabytes a worker, and the fixed part. CommandError when a simulation does not start."""
    return measure_workers(plan, directory, tell, control_plane=EMBEDDED)


def measure_workers(plan: Plan, directory: Path, tell: Tell, *, control_plane: str) -> list[Figure]:
    """The same with either control plane, whose growth counts as the workers' too."""
    small = write_scenario(directory / f"memory-one-{control_plane}", 1, 0, control_plane=control_plane)
    large = write_scenario(
        directory / f"memory-all-{control_plane}", plan.workers, plan.pods, control_plane=control_plane
    )
    layout = Layout(plan.workers, plan.pods)
    fixed: list[Held] = []
    whole: list[Held] = []
    floors: list[int] = []
    for number in range(1, plan.runs + 1):
        tell(f"memory of {plan.workers} workers, {plan.pods} pods: run {number} of {plan.runs}")
        floors.append(run_apart(_build_floor(layout, directory / f"memory-floor-{number}")))
        wait_freed()
        fixed.append(_read_held(small))
        whole.append(_read_held(large))
    prefix = "" if control_plane == EMBEDDED else "control-"
    figures = [_worker_figure(plan, fixed, whole, floors), _fixed_figure(fixed)]
    return [replace(figure, name=f"{prefix}{figure.name}") for figure in figures]


def _read_held(scenario: Path) -> Held:
    """Start a simulation, look, and end it."""
    before = read_steady_memory()
    with running(scenario) as state:
        identity = state.identity()
        assert identity is not None, "it runs"
        after = read_steady_memory()
        programs = read_pss(read_descendants(identity.outer))
    wait_freed()
    return Held(programs, kernel_bytes(after) - kernel_bytes(before), after["Shmem"] - before["Shmem"])


def _build_floor(layout: Layout, directory: Path) -> Callable[[], Any]:
    def build() -> int:
        before = kernel_bytes(read_steady_memory())
        floor = Floor([layout], directory)
        try:
            floor.build()
            return kernel_bytes(read_steady_memory()) - before
        finally:
            floor.close()

    return build


def _worker_figure(plan: Plan, fixed: Sequence[Held], whole: Sequence[Held], floors: Sequence[int]) -> Figure:
    more = max(plan.workers - 1, 1)
    parts = [
        {
            "programs": _sum(all_.programs) / more / _MB - _sum(one.programs) / more / _MB,
            "kernel": (all_.kernel - one.kernel) / more / _MB,
            "files in memory": (all_.files - one.files) / more / _MB,
        }
        for one, all_ in zip(fixed, whole, strict=True)
    ]
    return Figure(
        name="memory-worker",
        what=f"memory a worker, of {plan.workers} workers with {plan.pods} pods",
        unit="MB",
        measured=Samples.of([sum(part.values()) for part in parts]),
        floor=Samples.of([floor / plan.workers / _MB for floor in floors]),
        against="the kernel's part of the same objects made by hand",
        target=Target("≤", WORKER_MB),
        parts=median_parts(parts),
        notes=(f"all of it: {_explain(whole)}",),
    )


def _fixed_figure(fixed: Sequence[Held]) -> Figure:
    return Figure(
        name="memory-fixed",
        what="memory of a simulation with one worker and no pods",
        unit="MB",
        measured=Samples.of([one.total / _MB for one in fixed]),
        parts=median_parts([{name: size / _MB for name, size in _largest(one).items()} for one in fixed]),
        notes=(_explain(fixed),),
    )


def _sum(programs: dict[str, int]) -> int:
    return sum(programs.values())


def _largest(held: Held) -> dict[str, int]:
    """What the parts of a simulation hold, the largest first."""
    parts = {**held.programs, "kernel": held.kernel, "files in memory": held.files}
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def _explain(runs: Sequence[Held]) -> str:
    """The last run in words."""
    return ", ".join(f"{name} {size / _MB:.0f} MB" for name, size in _largest(runs[-1]).items())
