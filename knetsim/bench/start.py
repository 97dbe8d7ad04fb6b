"""`bench start`: from the command to the last pod that answers, beside the same kernel objects made by hand.

The clock starts with the process `knetsim up`, and stops when every pod has answered a ping of a pod of another worker,
which is asked at the prompt as soon as it comes; so Python's own start, the reading of the scenario and of its
manifests, etcd, and the check itself are all in it. The floor has the same check at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knetsim.bench.apart import run_apart
from knetsim.bench.figures import Figure, Samples, Target, median_parts
from knetsim.bench.floor import Floor
from knetsim.bench.layout import Layout
from knetsim.bench.mininet_floor import time_host, time_plain_host
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.process import CHECK, Start, time_start
from knetsim.bench.scenarios import change_parts, write_scenario
from knetsim.bench.settle import wait_freed
from knetsim.control_choice import EMBEDDED, KUBERNETES
from knetsim.scenario import Scenario, read_all_manifests, read_scenario

BY_HAND = "the same kernel objects by `ip -batch`, `bridge -batch` and `nft -f`"
SIZED_LIMIT = 2.5
REAL_SECONDS, EMBEDDED_SECONDS = 10.0, 4.0


@dataclass(frozen=True, slots=True)
class _Case:
    """A scenario that is started, and what it amounts to."""

    name: str
    what: str
    scenario: Path
    layouts: Sequence[Layout]
    target: Target


def measure_start(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """The default scenario with its real parts and with embedded ones, a large one, a host. CommandError, NotReady."""
    figures = [_measure(case, plan.runs, directory, tell) for case in _build_cases(plan, directory)]
    return [*figures, _measure_hosts(plan.runs, tell)]


def _build_cases(plan: Plan, directory: Path) -> list[_Case]:
    text = plan.default_scenario.read_text()
    layouts = read_layouts(read_scenario(plan.default_scenario))
    size = f"{sum(one.workers for one in layouts)} workers, {sum(one.pods for one in layouts)} pods"
    cases = []
    for name, agent, cni, control, seconds in (
        ("start-real", "flanneld", "plugins", KUBERNETES, REAL_SECONDS),
        ("start-embedded", "embedded", "native", EMBEDDED, EMBEDDED_SECONDS),
    ):
        if name == "start-real" and not plan.has_real_parts:
            continue
        scenario = directory / f"{name}.yaml"
        folder = plan.default_scenario.parent.resolve()
        scenario.write_text(change_parts(text, folder, agent=agent, cni=cni, control_plane=control))
        what = f"default scenario ({size}), {name.removeprefix('start-')}"
        cases.append(_Case(name, what, scenario, layouts, Target("≤", seconds)))
    sized = write_scenario(directory / "sized", plan.workers, plan.pods)
    what = f"{plan.workers} workers, {plan.pods} pods, embedded"
    target = Target("≤", SIZED_LIMIT, of="ratio")
    return [*cases, _Case("start-sized", what, sized, [Layout(plan.workers, plan.pods)], target)]


def read_layouts(scenario: Scenario) -> list[Layout]:
    """What a scenario's clusters amount to: workers, pods of the manifests, other hosts."""
    manifests = read_all_manifests(scenario)
    return [
        Layout(
            workers=len(cluster.workers),
            pods=sum(manifest.object.get("kind") == "Pod" for manifest in manifests[cluster.name]),
            others=cluster.etcd.members + 1,
            cluster=cluster.name,
            index=cluster.index,
        )
        for cluster in scenario.clusters
    ]


def _measure(case: _Case, runs: int, directory: Path, tell: Tell) -> Figure:
    floors: list[dict[str, float]] = []
    starts: list[Start] = []
    for number in range(1, runs + 1):
        tell(f"{case.what}: run {number} of {runs}, by hand")
        floors.append(run_apart(_build_floor(case.layouts, directory / f"{case.name}-floor-{number}")))
        wait_freed()
        tell(f"{case.what}: run {number} of {runs}")
        starts.append(time_start(case.scenario))
        wait_freed()
    cpu = Samples.of([start.cpu_seconds for start in starts]).median
    return Figure(
        name=case.name,
        what=f"command → every pod reachable: {case.what}",
        unit="s",
        measured=Samples.of([start.seconds for start in starts]),
        floor=Samples.of([sum(floor.values()) for floor in floors]),
        against=BY_HAND,
        target=case.target,
        parts=median_parts([start.parts for start in starts]),
        floor_parts=median_parts(floors),
        notes=(f"processor time from start to end: {cpu:.1f} s",),
    )


def _measure_hosts(runs: int, tell: Tell) -> Figure:
    tell(f"a host of the underlay, and one of plain Mininet: {runs} runs")
    ours = [run_apart(time_host) for _ in range(runs)]
    plain = [run_apart(time_plain_host) for _ in range(runs)]
    return Figure(
        name="start-host",
        what="a host of the underlay with its link",
        unit="ms",
        measured=Samples.of([seconds * 1000 for seconds in ours]),
        floor=Samples.of([seconds * 1000 for seconds in plain]),
        against="a host of plain Mininet on a Linux bridge",
    )


def _build_floor(layouts: Sequence[Layout], directory: Path) -> Callable[[], Any]:
    def build() -> dict[str, float]:
        floor = Floor(layouts, directory)
        try:
            return {**floor.build(), CHECK: floor.check_reach()}
        finally:
            floor.close()

    return build
