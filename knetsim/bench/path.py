"""`bench path`: what the packets' way from pod to pod across workers carries, and how soon an answer is there.

The simulation and the same path made by hand stand side by side in one sandbox and are measured in turn, A B B A, so
that whatever else the machine does hits both. Throughput is iperf3's (TCP, one and four streams), the answer time that
of requests of one byte over one TCP connection (`roundtrip.py`), each by programs of their own in the pods.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from knetsim.bench import roundtrip
from knetsim.bench.apart import run_simulation
from knetsim.bench.figures import Figure, Samples, Target, Unit
from knetsim.bench.floor import Floor
from knetsim.bench.layout import Layout
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.scenarios import build_scenario
from knetsim.errors import CommandError
from knetsim.names import DEFAULT_NAMESPACE
from knetsim.simulation import Simulation
from knetsim.system.listening import is_listening
from knetsim.system.netns import Namespaces
from knetsim.system.programs import require_program
from knetsim.system.run import run
from knetsim.system.wait import wait_until

PATH_RATIO = 0.97
IPERF_SECONDS = 2
ROUND_TRIPS = 5000
PORT = 5201
_DEADLINE = 60.0
_GBIT = 1e9
OURS, BY_HAND = "simulation", "by hand"


@dataclass(frozen=True, slots=True)
class Ends:
    """Two pods on different workers: their places, and the address and port by which the one asks that serves.

    It serves on PORT, whatever leads there.
    """

    client: Namespaces
    server: Namespaces
    address: str
    port: int = PORT


@dataclass(frozen=True, slots=True)
class EndsMeasure:
    """Something that is measured between two ends: `take` takes one sample; a target is of the ratio."""

    what: str
    unit: Unit
    target: Target | None
    take: Callable[[Ends], float]


#: what is measured: id, words, unit, streams (0: round trips)
_MEASURES: tuple[tuple[str, str, Unit, int], ...] = (
    ("path-tcp-1", "throughput pod → pod across workers, 1 TCP stream", "Gbit/s", 1),
    ("path-tcp-4", "throughput pod → pod across workers, 4 TCP streams", "Gbit/s", 4),
    ("path-roundtrip", "request and answer over TCP, pod → pod across workers", "µs", 0),
)


def measure_path(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """Throughput and answer time beside those of the path made by hand. MissingTool without iperf3."""
    require_program("iperf3")
    scenario = directory / "path.yaml"
    scenario.write_text(build_scenario(plan.workers, agent="embedded", cni="native"))
    tell(f"path between two of {plan.workers} workers: {plan.runs} runs, twice on each side")
    samples = run_simulation(scenario, lambda simulation: _take_turns(simulation, plan, directory))
    return [_build_figure(name, what, unit, samples[name]) for name, what, unit, _ in _MEASURES]


def _build_figure(name: str, what: str, unit: Unit, samples: dict[str, list[float]]) -> Figure:
    return Figure(
        name=name,
        what=what,
        unit=unit,
        measured=Samples.of(samples[OURS]),
        floor=Samples.of(samples[BY_HAND]),
        against="the same path made by hand with `ip`",
        target=Target("≥", PATH_RATIO, of="ratio") if unit == "Gbit/s" else None,
    )


def _take_turns(simulation: Simulation, plan: Plan, directory: Path) -> dict[str, dict[str, list[float]]]:
    """Inside the sandbox: every measure for both sides, run after run; the side that begins alternates too."""
    with ExitStack() as stack:
        floor = Floor([Layout(plan.workers, 2)], directory / "path-floor")
        stack.callback(floor.close)
        floor.build()
        sides = {OURS: create_pods(simulation, stack), BY_HAND: open_pods(floor, stack)}
        samples: dict[str, dict[str, list[float]]] = {name: {side: [] for side in sides} for name, *_ in _MEASURES}
        for _ in range(plan.runs):
            for name, _, _, streams in _MEASURES:
                for side in (OURS, BY_HAND, BY_HAND, OURS):
                    samples[name][side].append(_measure(sides[side], streams))
        return samples


def create_pods(simulation: Simulation, stack: ExitStack) -> Ends:
    """Two pods of the simulation, `client` and `server`."""
    cluster = simulation.clusters[0]
    cluster.create_pod("client", worker=cluster.workers[0])
    address = cluster.create_pod("server", worker=cluster.workers[1])
    places = [cluster.kubelet.exec_place(DEFAULT_NAMESPACE, name) for name in ("client", "server")]
    for place in places:
        stack.callback(place.close)
    return Ends(places[0], places[1], address)


def open_pods(floor: Floor, stack: ExitStack) -> Ends:
    """The same two, made by hand."""
    pods = list(floor.layouts[0].pod_hosts())
    places = [floor.open(pod.name) for pod in pods]
    for place in places:
        stack.callback(place.close)
    return Ends(places[0], places[1], str(pods[1].address))


def _measure(ends: Ends, streams: int) -> float:
    if streams:
        return measure_throughput(ends, streams)
    return ask_program(ends, "ask", ROUND_TRIPS)


def ask_program(ends: Ends, kind: str, count: int, size: int = 1) -> float:
    """Microseconds that a request took, the median of `count`; the kinds are those of `roundtrip.py`."""
    more = [str(size)] if size > 1 else []
    return run_program(ends, f"serve-{kind}", kind, str(count), *more)["median"] * 1e6


def run_program(ends: Ends, serving: str, asking: str, *more: str) -> dict[str, float]:
    """What `roundtrip.py` prints, asking one that serves."""
    program = [sys.executable, "-I", "-S", roundtrip.__file__]
    client = [*program, asking, ends.address, str(ends.port), *more]
    output = _serve_and_ask(ends, [*program, serving, str(PORT)], client)
    return {name: float(value) for name, value in json.loads(output).items()}


def measure_throughput(ends: Ends, streams: int, seconds: float = IPERF_SECONDS) -> float:
    """Gbit/s that the server received in so many seconds."""
    server = ["iperf3", "--server", "--one-off", "--port", str(PORT)]
    client = ["iperf3", "--client", ends.address, "--port", str(ends.port), "--json"]
    output = _serve_and_ask(ends, server, [*client, "--time", str(seconds), "--parallel", str(streams)])
    return float(json.loads(output)["end"]["sum_received"]["bits_per_second"]) / _GBIT


def _serve_and_ask(ends: Ends, server: list[str], client: list[str]) -> str:
    """Run a server that serves one client, and that client; what the client printed."""
    with ThreadPoolExecutor(1, "server") as pool:
        serving = pool.submit(run, server, place=ends.server, timeout=_DEADLINE, cwd="/")

        def missing() -> str:
            if serving.done():
                serving.result()  # raises what it failed with
                raise CommandError(server, 0, "it ended before anybody asked")
            return "" if is_listening(ends.server, PORT) else f"a listener on port {PORT}"

        wait_until(server[0], missing, _DEADLINE)
        output = run(client, place=ends.client, timeout=_DEADLINE, cwd="/").output
        serving.result(_DEADLINE)
        return output
