"""`bench stop`: the end of a simulation, until nothing of it is left.

The clock starts with the process `knetsim down`, and stops when that has returned, no process and no file of the
simulation is left, and the kernel has freed every network namespace of it, which it does in the background. The floor
is the end of a sandbox that holds the same kernel objects made by hand, to the same point.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from knetsim.bench.apart import run_apart
from knetsim.bench.figures import Figure, Samples, Target, median_parts
from knetsim.bench.floor import Floor
from knetsim.bench.layout import Layout
from knetsim.bench.machine import read_descendants
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.process import running, time_down
from knetsim.bench.scenarios import write_scenario
from knetsim.bench.settle import wait_freed
from knetsim.errors import LeftoverError, NotReady
from knetsim.system.state import StateDirectory

STOP_SECONDS = 3.0
_END_DEADLINE = 10.0
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
    return [
        Figure(
            name="stop",
            what=f"end of {plan.workers} workers, {plan.pods} pods, until nothing is left",
            unit="s",
            measured=Samples.of([sum(end.values()) for end in ends]),
            floor=Samples.of([sum(floor.values()) for floor in floors]),
            against="the end of a sandbox with the same kernel objects made by hand",
            target=Target("≤", STOP_SECONDS),
            parts=median_parts(ends),
            floor_parts=median_parts(floors),
        )
    ]


def _time_end(state: StateDirectory) -> dict[str, float]:
    identity = state.identity()
    assert identity is not None, "it runs"
    processes = {pid: os.pidfd_open(pid) for pid in read_descendants(identity.outer)}
    try:
        seconds = time_down(state)
        began = time.monotonic()
        _wait_gone(state, processes)
        return {DOWN: seconds + time.monotonic() - began, FREED: wait_freed()}
    finally:
        for fd in processes.values():
            os.close(fd)


def _wait_gone(state: StateDirectory, processes: dict[int, int]) -> None:
    """Wait for the end of every process of the simulation (its pidfd); LeftoverError when one, or its state, stays."""
    left: list[BaseException] = [
        NotReady(f"process {pid} has not ended")
        for pid, fd in processes.items()
        if not select.select([fd], [], [], _END_DEADLINE)[0]
    ]
    if state.path.exists():
        left.append(NotReady(f"{state.path} is there"))
    if left:
        raise LeftoverError(left)


def _build_floor(layout: Layout, directory: Path) -> Callable[[], Any]:
    def build() -> float:
        Floor([layout], directory).build()
        return time.monotonic()  # from here on it ends; the clock is the same for all processes

    return build
