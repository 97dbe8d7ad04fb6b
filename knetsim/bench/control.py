"""`bench control`: Kubernetes' own control plane: how soon it serves, what it holds, how fast a Deployment's pods come.

The start is that of the default scenario with all its real parts, up to the moment at which the last cluster's
`/readyz` answers 200. Memory is that of its programs while the scenario runs, of shared pages each its part (PSS): all
three are one file, so most of the program text is counted once. A Deployment is scaled from 0 to all pods at once, on
workers with embedded agents; Running is what the objects say, reachable is a ping from a pod elsewhere. The delay of a
watch is from before a write to the informer's knowing, beside etcd's own writes, one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from knetsim.api.informer import Informer
from knetsim.api.objects import Object
from knetsim.bench.apart import run_simulation
from knetsim.bench.figures import Figure, Samples, Target, median_parts
from knetsim.bench.machine import read_descendants, read_pss
from knetsim.bench.memory import measure_workers
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.process import CONTROL_PLANE, running, time_start
from knetsim.bench.scenarios import PAUSE_IMAGE, build_scenario, change_parts
from knetsim.bench.settle import wait_freed
from knetsim.cluster import Cluster
from knetsim.control.kubernetes.flags import PROGRAMS
from knetsim.control_choice import KUBERNETES
from knetsim.errors import MissingTool, NotReady
from knetsim.node.kubelet.readiness import is_ready
from knetsim.scenario import read_scenario
from knetsim.simulation import Simulation

START_SECONDS, CONTROL_MB, DEPLOYMENT_SECONDS = 10.0, 450.0, 20.0
DEPLOYMENT = "bench"
_WRITES = 50
#: memory a worker is measured with so many times the workers, each with so many pods
_LARGER, _PODS_A_WORKER = 10, 10
_DEADLINE = 300.0
_MB = 1_000_000
_MS = 1000.0
#: what the kernel calls a program: fifteen characters of its name
_COMMS = {program[:15]: program for program in PROGRAMS}


def measure_control(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """Start, memory, pods a second, delay of a watch, memory a worker. MissingTool without the real parts."""
    if not plan.has_real_parts:
        raise MissingTool("bench control needs Kubernetes' programs", hint="run ./utils/setup")
    scenario = directory / "control.yaml"
    text, folder = plan.default_scenario.read_text(), plan.default_scenario.parent.resolve()
    scenario.write_text(change_parts(text, folder, agent="flanneld", cni="plugins", control_plane=KUBERNETES))
    figures = [*_measure_start(scenario, plan.runs, tell), _measure_memory(scenario, plan.runs, tell)]
    deployment = directory / "deployment.yaml"
    deployment.write_text(build_scenario(plan.workers, agent="embedded", cni="native", control_plane=KUBERNETES))
    tell(f"a Deployment of {plan.pods} pods on {plan.workers} workers: {plan.runs} runs")
    taken = run_simulation(deployment, lambda simulation: _take(simulation, plan))
    figures += build_figures(taken, plan)
    workers = plan.workers * _LARGER
    large = replace(plan, workers=workers, pods=workers * _PODS_A_WORKER, runs=1)
    return [*figures, *measure_workers(large, directory, tell, control_plane=KUBERNETES)]


def _measure_start(scenario: Path, runs: int, tell: Tell) -> list[Figure]:
    starts = []
    for number in range(1, runs + 1):
        tell(f"start with Kubernetes' control plane: run {number} of {runs}")
        starts.append(time_start(scenario))
        wait_freed()
    clusters = len(read_scenario(scenario).clusters)
    parts = median_parts([start.parts for start in starts])
    ready = [start.moments[CONTROL_PLANE] for start in starts]
    what = f"command → /readyz of {clusters} clusters"
    whole = "command → every pod of the default scenario reachable, every part real"
    return [
        Figure("control-ready", what, "s", Samples.of(ready)),
        Figure(
            "control-start",
            whole,
            "s",
            Samples.of([start.seconds for start in starts]),
            target=Target("≤", START_SECONDS),
            parts=parts,
        ),
    ]


def _measure_memory(scenario: Path, runs: int, tell: Tell) -> Figure:
    clusters = len(read_scenario(scenario).clusters)
    held: list[dict[str, float]] = []
    for number in range(1, runs + 1):
        tell(f"memory of the control plane: run {number} of {runs}")
        with running(scenario) as state:
            identity = state.identity()
            assert identity is not None, "it runs"
            held.append(split_memory(read_pss(read_descendants(identity.outer)), clusters))
        wait_freed()
    return Figure(
        "control-memory",
        "memory of API server, controllers and scheduler of one cluster",
        "MB",
        Samples.of([sum(parts.values()) for parts in held]),
        target=Target("≤", CONTROL_MB),
        parts=median_parts(held),
    )


def split_memory(programs: Mapping[str, int], clusters: int) -> dict[str, float]:
    """Megabytes of each program of the control plane, a cluster; pure."""
    return {program: programs.get(comm, 0) / clusters / _MB for comm, program in _COMMS.items()}


# --- inside a simulation


def _take(simulation: Simulation, plan: Plan) -> dict[str, list[float]]:
    cluster = simulation.clusters[0]
    cluster.apply([build_deployment(0)])
    taken: dict[str, list[float]] = {"running": [], "reachable": [], "watch": [], "put": []}
    for _ in range(plan.runs):
        began = time.monotonic()
        _scale(cluster, plan.pods)
        taken["running"].append(time.monotonic() - began)
        _require_answers(cluster)
        taken["reachable"].append(time.monotonic() - began)
        _scale(cluster, 0)
    taken["watch"] = _time_watch(cluster)
    taken["put"] = _time_puts(cluster)
    return taken


def build_deployment(replicas: int) -> Object:
    """So many pods that only hold their network."""
    labels = {"app": DEPLOYMENT}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "pause", "image": PAUSE_IMAGE}], "terminationGracePeriodSeconds": 0},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": DEPLOYMENT, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def _scale(cluster: Cluster, replicas: int) -> None:
    """Scale the Deployment and wait until so many of its pods are Running and ready, and there are no others."""
    failed = cluster.apply([build_deployment(replicas)])["failed"]
    if failed:
        raise NotReady("the Deployment was not taken", why=failed[0])
    pods = cluster.pods
    assert pods is not None, "it runs"

    def is_done(informer: Informer) -> bool:
        ours = [pod for pod in informer.items() if pod["metadata"].get("labels", {}).get("app") == DEPLOYMENT]
        return len(ours) == replicas and all(is_ready(pod) for pod in ours)

    pods.wait_for(is_done, _DEADLINE, f"{replicas} pods")


def _require_answers(cluster: Cluster) -> None:
    """Every pod answers a ping of the first; NotReady with those that do not."""
    addresses = cluster.pod_addresses()
    _, answers = next(iter(cluster.ping_pods(addresses)))
    silent = [name for name, answered in answers if not answered]
    if silent:
        raise NotReady("pods do not answer", why=", ".join(silent[:5]))


def _time_watch(cluster: Cluster) -> list[float]:
    """Seconds from before a write through the API server until an informer knows of it."""
    informer, seen = Informer(cluster.store, "ConfigMap", "default"), threading.Event()
    informer.start()
    informer.wait_synced(_DEADLINE)
    informer.on_change(lambda key, before, after: seen.set() if key == f"default/{DEPLOYMENT}" else None)
    metadata = {"name": DEPLOYMENT, "namespace": "default"}
    cluster.store.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})
    try:
        return [_time_one(cluster, metadata, seen, number) for number in range(_WRITES)]
    finally:
        informer.stop()


def _time_one(cluster: Cluster, metadata: dict[str, Any], seen: threading.Event, number: int) -> float:
    seen.clear()
    began = time.monotonic()
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"number": str(number)}}
    cluster.store.update(obj)
    if not seen.wait(_DEADLINE):
        raise NotReady("a change of a ConfigMap", why="no watch told of it")
    return time.monotonic() - began


def _time_puts(cluster: Cluster) -> list[float]:
    etcd = cluster.etcd
    assert etcd is not None, "it runs"
    return [_time(lambda: etcd.put("/bench/put", b"x" * 300)) for _ in range(_WRITES)]


def _time(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


# --- what it comes to; pure


def build_figures(taken: Mapping[str, Sequence[float]], plan: Plan) -> list[Figure]:
    """A row for each question, from the seconds that were taken."""
    what = f"Deployment scaled from 0 to {plan.pods} pods on {plan.workers} workers"
    rate = plan.pods / Samples.of(taken["running"]).median
    limit = Target("≤", DEPLOYMENT_SECONDS)
    watch, put = (Samples.of([value * _MS for value in taken[name]]) for name in ("watch", "put"))
    return [
        Figure(
            "control-deployment",
            f"{what} → all Running",
            "s",
            Samples.of(taken["running"]),
            target=limit,
            notes=(f"{rate:.0f} pods a second",),
        ),
        Figure("control-reachable", f"{what} → all reachable", "s", Samples.of(taken["reachable"])),
        Figure("control-watch", "write → known to an agent", "ms", watch, put, "one write to etcd itself"),
    ]
