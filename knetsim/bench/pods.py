"""`bench pods`: from the call that creates a pod until it is Running and answers a pod on another worker.

One simulation holds two ways side by side, workers whose pods are wired by netlink (`native`) and workers whose pods
are wired by the real CNI plugins; beside it the same pods are made by hand. The three take turns, one pod after the
other (how long does one take?), then many at once (how many a second?). Besides, the wiring alone is timed, without
store, kubelet and ping: what netlink messages save of the plugins' forks.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from knetsim.bench.apart import run_simulation
from knetsim.bench.figures import Figure, Samples, Target
from knetsim.bench.floor import Floor, require_answers
from knetsim.bench.layout import Layout, PodHost
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.scenarios import build_pod, build_scenario
from knetsim.bench.settle import wait_freed
from knetsim.cluster import Cluster
from knetsim.control.embedded import write_pods
from knetsim.dataplane.pod import PodPlace
from knetsim.names import DEFAULT_NAMESPACE
from knetsim.node.pod_network import NATIVE, PLUGINS
from knetsim.node.worker import Worker
from knetsim.simulation import Simulation
from knetsim.system import netns

FLOOR_LIMIT, CHAIN_FACTOR = 2.5, 8.0
#: pods that are made one at a time, in each run and each way
ONE_AT_A_TIME = 10
BY_HAND = "by hand"
ONE, MANY, WIRING = "one", "many", "wiring"
_DEADLINE = 300.0
_MS = 1000.0

#: seconds a pod: for ONE, MANY and WIRING, of each way, in the order of the runs
Timings = dict[str, dict[str, list[float]]]


def measure_pods(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """Milliseconds a pod, each way. Where there are no CNI plugins their part is left out. CommandError, NotReady."""
    scenario = directory / "pods.yaml"
    workers = [{"name": f"w{number}", "cni": way} for number, way in enumerate(_assign_ways(plan), 1)]
    scenario.write_text(build_scenario(workers, agent="embedded", cni=NATIVE))
    tell(f"pods on {plan.workers} workers: {plan.runs} runs of {ONE_AT_A_TIME} one by one and {plan.pods} at once")
    return build_figures(run_simulation(scenario, lambda simulation: _take_turns(simulation, plan, directory)), plan)


def _assign_ways(plan: Plan) -> list[str]:
    """How each worker's pods are wired: the first half natively, the second half by plugins, where there are any."""
    half = plan.workers // 2
    return [NATIVE] * half + [PLUGINS if plan.has_real_parts else NATIVE] * (plan.workers - half)


# --- what it comes to; pure


def build_figures(timings: Timings, plan: Plan) -> list[Figure]:
    """A row for each question, from the seconds that were taken."""
    figures = []
    for kind, words in ((ONE, "one after the other"), (MANY, f"{plan.pods} at once")):
        what = f"pod, create → Running and reachable, {words}"
        pair = timings[kind][NATIVE], timings[kind][BY_HAND]
        limit = Target("≤", FLOOR_LIMIT, of="ratio")
        figures.append(_figure(f"pod-{kind}", f"{what}: by netlink", pair, "the same pod by `ip -batch`", limit))
        if PLUGINS in timings[kind]:
            # Not judged: made by hand, with nothing else in it, the same pods are only four times as fast as the chain.
            pair = timings[kind][PLUGINS], timings[kind][NATIVE]
            figures.append(_figure(f"pod-{kind}-chain", f"{what}: by the CNI plugins", pair, "by netlink", None))
    if PLUGINS in timings[WIRING]:
        pair = timings[WIRING][PLUGINS], timings[WIRING][NATIVE]
        what = "wiring of a pod alone: by the CNI plugins"
        factor = Target("≥", CHAIN_FACTOR, of="ratio")
        figures.append(_figure("pod-wiring-chain", what, pair, "by netlink", factor))
    return figures


def _figure(
    name: str, what: str, pair: tuple[Sequence[float], Sequence[float]], against: str, target: Target | None
) -> Figure:
    measured, floor = (Samples.of([value * _MS for value in values]) for values in pair)
    notes = (f"{_MS / measured.median:.0f} a second, against {_MS / floor.median:.0f}",)
    return Figure(name, what, "ms", measured, floor, against, target, notes=notes)


# --- taking turns, inside the sandbox


class _Way(Protocol):
    """One way to make pods."""

    def prepare(self, count: int) -> Callable[[], None]:
        """What makes `count` more pods and returns when they run and have answered; only that is timed."""

    def remove_all(self) -> None:
        """Take all pods away that were made so far."""


def _take_turns(simulation: Simulation, plan: Plan, directory: Path) -> Timings:
    cluster = simulation.clusters[0]
    with ExitStack() as stack:
        floor = Floor([Layout(plan.workers, plan.workers)], directory / "pods-floor")
        stack.callback(floor.close)
        floor.build()
        half, workers = plan.workers // 2, cluster.workers
        ways: dict[str, _Way] = {NATIVE: _Simulated(cluster, NATIVE, workers[:half], workers[-1], stack)}
        if plan.has_real_parts:
            ways[PLUGINS] = _Simulated(cluster, PLUGINS, workers[half:], workers[0], stack)
        ways[BY_HAND] = _ByHand(floor, half, stack)
        timings: Timings = {kind: {name: [] for name in ways} for kind in (ONE, MANY)}
        for _ in range(plan.runs):
            for _ in range(ONE_AT_A_TIME):
                for name, way in ways.items():
                    timings[ONE][name].append(_time(way.prepare(1)))
            for name, way in ways.items():
                timings[MANY][name].append(_time(way.prepare(plan.pods)) / plan.pods)
            for way in ways.values():
                way.remove_all()
            wait_freed()
        simulated = {name: way for name, way in ways.items() if isinstance(way, _Simulated)}
        timings[WIRING] = _time_wirings(simulated, plan.runs * ONE_AT_A_TIME)
        return timings


def _time(action: Callable[[], None]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


class _Simulated:
    """Pods of a simulation, on workers that have them wired one way; `asker` is a worker that is not among them."""

    def __init__(self, cluster: Cluster, way: str, workers: Sequence[Worker], asker: Worker, stack: ExitStack) -> None:
        self.cluster, self._way, self._workers = cluster, way, list(workers)
        self._made: list[str] = []
        self._numbers = itertools.count(1)
        cluster.create_pod(f"asker-{way}", worker=asker)
        self._asker = cluster.kubelet.exec_place(DEFAULT_NAMESPACE, f"asker-{way}")
        stack.callback(self._asker.close)

    def prepare(self, count: int) -> Callable[[], None]:
        """Objects first; then they are written, awaited and asked."""
        pods = []
        for worker in itertools.islice(itertools.cycle(self._workers), count):
            self._made.append(f"{self._way}-{next(self._numbers)}")
            pods.append(build_pod(self._made[-1], worker.node_name))
        keys = [(DEFAULT_NAMESPACE, pod["metadata"]["name"]) for pod in pods]

        def make() -> None:
            write_pods(self.cluster.store, pods)
            self.cluster.kubelet.wait_pods_ready(_DEADLINE, keys)
            require_answers(self._asker, [self.cluster.pod_ip(name) for _, name in keys])

        return make

    def remove_all(self) -> None:
        """Delete them all, and wait until nothing is left of any."""
        store, kubelet = self.cluster.store, self.cluster.kubelet
        uids = {name: store.delete("Pod", name, DEFAULT_NAMESPACE)["metadata"]["uid"] for name in self._made}
        for name, uid in uids.items():
            kubelet.wait_pod_gone(DEFAULT_NAMESPACE, name, uid, _DEADLINE)
        self._made.clear()

    def time_wiring(self) -> float:
        """Wire a namespace that is no pod's, and take it away again; the seconds that the wiring alone took."""
        worker = self._workers[0]
        network = self.cluster.network
        assert network is not None, "the simulation runs"
        choice = self.cluster.choices[worker.name]
        place, wiring = network.place(worker), network.wiring(choice)
        name = f"{self._way}-wiring"
        own = netns.create_netns(name, name)
        pod = PodPlace(name, DEFAULT_NAMESPACE, name, f"uid-{next(self._numbers)}", own)
        try:
            netns.publish_netns(worker.place, own.net, name)
            try:
                began = time.monotonic()
                wiring.add(place, pod)
                seconds = time.monotonic() - began
                wiring.remove(place, pod)
            finally:
                netns.unpublish_netns(worker.place, name)
        finally:
            own.close()
        return seconds


class _ByHand:
    """Pods made by hand, on the first `workers` workers of a floor; the pod of its last worker asks."""

    def __init__(self, floor: Floor, workers: int, stack: ExitStack) -> None:
        self._floor = floor
        layout = floor.layouts[0]
        self._free = (
            layout.pod(number) for number in itertools.count(layout.pods + 1) if (number - 1) % layout.workers < workers
        )
        self._made: list[PodHost] = []
        self._asker = floor.open(layout.pod(layout.workers).name)
        stack.callback(self._asker.close)

    def prepare(self, count: int) -> Callable[[], None]:
        """Files first; then they are run, and the pods asked."""
        pods = list(itertools.islice(self._free, count))
        self._made += pods
        stage = self._floor.prepare_pods(pods)
        addresses = [str(pod.address) for pod in pods]

        def make() -> None:
            self._floor.run(stage)
            require_answers(self._asker, addresses)

        return make

    def remove_all(self) -> None:
        """End their namespaces."""
        self._floor.remove_pods(self._made)
        self._made.clear()


def _time_wirings(ways: dict[str, _Simulated], count: int) -> dict[str, list[float]]:
    """The wiring alone, in turns."""
    timings: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count):
        for name, way in ways.items():
            timings[name].append(way.time_wiring())
    return timings
