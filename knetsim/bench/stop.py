"""`bench stop`: the end of a simulation, until nothing of it is left.

The clock starts with the process `knetsim down`, and stops when that has returned and no process of the simulation is
left, no file, and no process that stands in a namespace of it. Then nothing can see or reach any of it any more; the
kernel gives the memory of its devices back in the background, and how long that takes is told as a second figure. The
floor is the end of a sandbox that holds the same kernel objects made by hand, to the same points.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from knetsim.bench.apart import run_apart
from knetsim.bench.figures import Figure, Samples, Target, median_parts
from knetsim.bench.floor import Floor
from knetsim.bench.layout import Layout
from knetsim.bench.machine import read_descendants, read_namespaces
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.process import running, time_down
from knetsim.bench.scenarios import write_scenario
from knetsim.bench.settle import wait_freed
from knetsim.errors import LeftoverError, NotReady
from knetsim.system.state import StateDirectory

STOP_SECONDS = 3.0
_END_SECONDS = 10.0
DOWN, FREED = "down", "kernel frees the rest"


def measure_stop(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """Seconds from `knetsim down` until nothing is left. LeftoverError names what is."""
    scenario = write_scenario(directory / "stop", plan.workers, plan.pods)
    layout = Layout(plan.workers, plan.pods)
    floors, ends = [], []
    for number in range(1, plan.runs + 1):
        tell(f"end of {plan.workers} workers, {plan.pods} pods: run {number} of {plan.runs}")
        ended = float(run_apart(_build_floor(layout, directory / f"stop-floor-{number}")))
        returned = time.monotonic()
        floors.append({DOWN: returned - ended, FREED: wait_freed()})
        with running(scenario) as state:
            ends.append(_time_end(state))
    return build_figures(plan, ends, floors)


def build_figures(plan: Plan, ends: Sequence[dict[str, float]], floors: Sequence[dict[str, float]]) -> list[Figure]:
    """A row for the end that can be seen, and one for the kernel's; from the seconds of each run."""
    what = f"end of {plan.workers} workers, {plan.pods} pods"
    against = "the end of a sandbox with the same kernel objects made by hand"
    seen = Figure(
        name="stop",
        what=f"{what}: no process, file or namespace to be seen",
        unit="s",
        measured=Samples.of([end[DOWN] for end in ends]),
        floor=Samples.of([floor[DOWN] for floor in floors]),
        against=against,
        target=Target("≤", STOP_SECONDS),
    )
    freed = Figure(
        name="stop-freed",
        what=f"{what}: freed by the kernel, too",
        unit="s",
        measured=Samples.of([sum(end.values()) for end in ends]),
        floor=Samples.of([sum(floor.values()) for floor in floors]),
        against=against,
        parts=median_parts(ends),
        floor_parts=median_parts(floors),
    )
    return [seen, freed]


def _time_end(state: StateDirectory) -> dict[str, float]:
    identity = state.identity()
    assert identity is not None, "it runs"
    pids = read_descendants(identity.outer)
    namespaces = read_namespaces(pids) - read_namespaces([os.getpid()])
    processes = open_processes(pids)
    try:
        seconds = time_down(state)
        began = time.monotonic()
        _wait_gone(state, processes)
        seconds += time.monotonic() - began
    finally:
        for fd in processes.values():
            os.close(fd)
    _require_left(namespaces)
    return {DOWN: seconds, FREED: wait_freed()}


def open_processes(pids: Iterable[int]) -> dict[int, int]:
    """A descriptor for each process that still runs."""
    found = {}
    for pid in pids:
        try:
            found[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            continue  # it ended while we looked
    return found


def _wait_gone(state: StateDirectory, processes: dict[int, int]) -> None:
    """Wait for the end of every process; LeftoverError when one stays, or the simulation's state."""
    left: list[BaseException] = []
    for pid, fd in processes.items():
        end = select.poll()
        end.register(fd, select.POLLIN)
        if not end.poll(_END_SECONDS * 1000):
            left.append(NotReady(f"process {pid} has not ended"))
    if state.path.exists():
        left.append(NotReady(f"{state.path} is there"))
    if left:
        raise LeftoverError(left)


def _require_left(namespaces: set[str]) -> None:
    """LeftoverError when a process stands in one of the namespaces."""
    everyone = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    if left := namespaces & read_namespaces(everyone):
        raise LeftoverError([NotReady(f"a process is in {name}") for name in sorted(left)])


def _build_floor(layout: Layout, directory: Path) -> Callable[[], Any]:
    def build() -> float:
        Floor([layout], directory).build()
        return time.monotonic()  # from here on it ends; the clock is the same for all processes

    return build
