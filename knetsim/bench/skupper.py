"""`bench skupper`: what two routers between a client and its server cost, embedded ones, and skrouterd where installed.

Each pair of routers stands in namespaces of its own (routers.py), all with the same machines and the same link; without
routers the same is the direct path. Pairs run side by side and are measured in turn, in the other order every second
time, so that whatever else the machine does hits all. Client, server and both routers share the cores: that is what a
simulation on one machine is, and on more cores every figure is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from knetsim.bench.apart import run_apart
from knetsim.bench.figures import Figure, Samples, Target
from knetsim.bench.path import EndsMeasure, ask_program, measure_throughput, run_program
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.routers import EMBEDDED, REAL, Kind, RouterPair
from knetsim.system.programs import find_program, require_program

#: parts of skrouterd's throughput and latency; megabytes a router; and Gbit/s where there is no skrouterd to compare
#: with: half of what one stream through two of them reached on two cores
THROUGHPUT_RATIO, LATENCY_RATIO, MEMORY_MB, THROUGHPUT_GBIT = 0.5, 2.0, 60.0, 0.37
IPERF_SECONDS, REQUESTS, REQUEST_BYTES, VISITS = 1.0, 2000, 64, 500
_MB = 1_000_000
START, LOSS, RESTORED, IDLE, LOADED = "start", "loss", "restored", "idle", "loaded"

_DIRECT = Kind(None)
_OURS, _THEIRS = Kind((EMBEDDED, EMBEDDED)), Kind((REAL, REAL))
_MIXED = Kind((EMBEDDED, REAL))
_OURS_TLS, _THEIRS_TLS = Kind((EMBEDDED, EMBEDDED), tls=True), Kind((REAL, REAL), tls=True)

#: by measure and by kind of pair
Taken = Mapping[str, Mapping[str, list[float]]]


#: of one pair; a target is of what embedded routers reach of what skrouterd does
_MEASURES = {
    "tcp-1": EndsMeasure(
        "throughput through two routers, 1 TCP stream",
        "Gbit/s",
        Target("≥", THROUGHPUT_RATIO, of="ratio"),
        lambda ends: measure_throughput(ends, 1, IPERF_SECONDS),
    ),
    "tcp-4": EndsMeasure(
        "throughput through two routers, 4 TCP streams",
        "Gbit/s",
        Target("≥", THROUGHPUT_RATIO, of="ratio"),
        lambda ends: measure_throughput(ends, 4, IPERF_SECONDS),
    ),
    "request": EndsMeasure(
        f"request of {REQUEST_BYTES} bytes and answer over an open connection",
        "µs",
        Target("≤", LATENCY_RATIO, of="ratio"),
        lambda ends: ask_program(ends, "ask", REQUESTS, REQUEST_BYTES),
    ),
    "connections": EndsMeasure(
        "connections one after the other, each with a request, an answer and both ends",
        "connections/s",
        None,
        lambda ends: run_program(ends, "serve-connect", "visit", str(VISITS))["rate"],
    ),
}
#: what is measured of pairs that only show that something else works as well
_FEW = ("tcp-1", "request")
_CONVERGENCE = {
    START: "both routers started → a request is answered",
    LOSS: "the link between two routers is lost → the port that leads nowhere is closed",
    RESTORED: "the link is back → a request is answered",
}


def measure_skupper(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """Throughput, latency, connections, memory and convergence. MissingTool without iperf3."""
    require_program("iperf3")
    kinds = find_kinds()
    names = ", ".join(kind.name for kind in kinds)
    tell(f"two routers between client and server ({names}): {plan.runs} runs")
    return build_figures(run_apart(lambda: _take(kinds, plan.runs, directory)))


def find_kinds() -> list[Kind]:
    """The pairs that can be made on this machine, the direct path first."""
    return [_DIRECT, _OURS, _OURS_TLS, *([_THEIRS, _THEIRS_TLS, _MIXED] if find_program(REAL) else [])]


# --- what it comes to; pure


def build_figures(taken: Taken) -> list[Figure]:
    """Rows for what was measured; those beside skrouterd only where it was."""
    return [*_build_measures(taken), _build_memory(taken), *_build_convergence(taken)]


def _build_measures(taken: Taken) -> Iterator[Figure]:
    for name, measure in _MEASURES.items():
        samples = {kind: Samples.of(values) for kind, values in taken[name].items()}
        ours, direct, theirs = samples[_OURS.name], samples[_DIRECT.name], samples.get(_THEIRS.name)
        alone = Target("≥", THROUGHPUT_GBIT) if theirs is None and name == "tcp-1" else None
        added = f"the routers add {ours.median - direct.median:.0f} µs to the direct path"
        words, unit = measure.what, measure.unit
        yield Figure(
            f"skupper-{name}",
            words,
            unit,
            ours,
            direct,
            "the direct path between the same machines",
            alone,
            notes=(added,) if measure.unit == "µs" else (),
        )
        against = f"two {REAL} between the same machines"
        if theirs:
            yield Figure(f"skupper-{name}-{REAL}", f"{words}, embedded", unit, ours, theirs, against, measure.target)
        if theirs and (mixed := samples.get(_MIXED.name)):
            yield Figure(f"skupper-{name}-mixed", f"{words}, embedded and {REAL}", unit, mixed, theirs, against)
        if encrypted := samples.get(_OURS_TLS.name):
            theirs = samples.get(_THEIRS_TLS.name)
            yield Figure(
                f"skupper-{name}-tls",
                f"{words}, with TLS between the routers",
                unit,
                encrypted,
                theirs or ours,
                f"{against}, with TLS" if theirs else "the same without TLS",
                measure.target if theirs else None,
            )


def _build_memory(taken: Taken) -> Figure:
    idle, loaded = taken[IDLE], taken[LOADED]
    theirs = loaded.get(_THEIRS.name)
    return Figure(
        "skupper-memory",
        "memory of an embedded router after these loads",
        "MB",
        Samples.of(loaded[_OURS.name]),
        Samples.of(theirs) if theirs else None,
        f"{REAL}'s" if theirs else "",
        Target("≤", MEMORY_MB),
        parts={"before them": Samples.of(idle[_OURS.name]).median},
        floor_parts={"before them": Samples.of(idle[_THEIRS.name]).median} if theirs else {},
    )


def _build_convergence(taken: Taken) -> Iterator[Figure]:
    for name, words in _CONVERGENCE.items():
        theirs = taken[name].get(_THEIRS.name)
        yield Figure(
            f"skupper-{name}",
            words,
            "s",
            Samples.of(taken[name][_OURS.name]),
            Samples.of(theirs) if theirs else None,
            f"{REAL}'s" if theirs else "",
        )


# --- taking turns, inside the sandbox


class _Book:
    """Samples by measure and kind, as they come."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, list[float]]] = {}

    def add(self, name: str, kind: Kind, value: float) -> None:
        self.samples.setdefault(name, {}).setdefault(kind.name, []).append(value)


def _take(kinds: list[Kind], runs: int, directory: Path) -> Taken:
    book = _Book()
    for run in range(runs):
        order = kinds[:: -1 if run % 2 else 1]
        _take_run(order, directory / f"run{run}", book)
    return book.samples


def _take_run(kinds: list[Kind], directory: Path, book: _Book) -> None:
    with ExitStack() as stack:
        pairs = []
        for kind in kinds:
            pair = RouterPair(kind, directory / kind.name)
            stack.callback(pair.close)
            pairs.append(pair)
            if kind.programs:
                book.add(START, kind, pair.start())
        routed = [pair for pair in pairs if pair.kind in (_OURS, _THEIRS)]
        for pair in routed:
            book.add(IDLE, pair.kind, max(pair.read_memory()) / _MB)
        for name, measure in _MEASURES.items():
            for pair in pairs:
                if name in _FEW or pair in routed or pair.kind == _DIRECT:
                    book.add(name, pair.kind, measure.take(pair.ends))
        for pair in routed:
            book.add(LOADED, pair.kind, max(pair.read_memory()) / _MB)
            book.add(LOSS, pair.kind, pair.cut())
            book.add(RESTORED, pair.kind, pair.mend())
