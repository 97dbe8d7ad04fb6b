"""`knetsim up` and `knetsim down` as a user starts them: processes of their own, watched from outside."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from knetsim.bench.apart import simulation_name
from knetsim.bench.reach import LINE, REACHED
from knetsim.errors import CommandError, KnetsimError
from knetsim.names import HOST_STATE
from knetsim.system import sandbox
from knetsim.system.state import StateDirectory
from knetsim.system.timed import TimedLine, TimedRun, run_timed

COMMAND = (sys.executable, "-m", "knetsim.cli.main")
_DEADLINE = 900.0
_STOP_DEADLINE = 60.0

#: a finished step as `knetsim up` tells it: `[  1.2s] C0: etcd: 3 of 3 members healthy`
_STEP = re.compile(r"^\[ *[\d.]+s\] (?:. )?(?P<who>\S+): (?P<what>.*)$")
#: what each step is called in a breakdown, by a word that only its line holds
PROMPT, CHECK, CONTROL_PLANE = "prompt", "check", "control plane"
_STEPS = (
    ("hosts on", "underlay"),
    ("etcd", "etcd"),
    ("pod network", "pod network"),
    (CONTROL_PLANE, CONTROL_PLANE),
    ("pods ready", "pods"),
)


@dataclass(frozen=True, slots=True)
class Start:
    """A start: seconds from the command to the last pod's answer, their parts, processor seconds from start to end."""

    seconds: float
    parts: dict[str, float]
    cpu_seconds: float
    moments: dict[str, float]


def time_start(scenario: Path) -> Start:
    """Run `knetsim up SCENARIO` until every pod has answered, and its end. CommandError when it fails."""
    argv = [*COMMAND, "up", str(scenario), "--name", simulation_name(), "--exec", LINE]
    with _swept():
        run = run_timed(argv, timeout=_DEADLINE)
    _require(argv, run)
    moments = read_moments(run.lines)
    if CHECK not in moments:
        raise KnetsimError("the start cannot be read", why=run.text("output")[-500:], hint="has the prompt changed?")
    return Start(moments[CHECK], read_parts(moments), run.cpu_seconds, moments)


def read_moments(lines: Sequence[TimedLine]) -> dict[str, float]:
    """When each step of a start was over for all clusters, in order; pure."""
    moments: dict[str, float] = {}
    for line in lines:
        if line.stream == "error":
            match = _STEP.match(line.text)
            step = next((name for word, name in _STEPS if match and word in match["what"]), None)
        else:
            step = PROMPT if line.text.startswith("mininet> ") else CHECK if line.text.startswith(REACHED) else None
        if step is not None:
            moments[step] = line.seconds
    return dict(sorted(moments.items(), key=lambda item: item[1]))


def read_parts(moments: dict[str, float]) -> dict[str, float]:
    """How long each step took, from the moments at which they were over; pure."""
    before = [0.0, *moments.values()]
    return {name: moment - start for (name, moment), start in zip(moments.items(), before, strict=False)}


@contextmanager
def running(scenario: Path) -> Iterator[StateDirectory]:
    """A detached simulation, ended at the end of the block unless it has ended."""
    argv = [*COMMAND, "up", str(scenario), "--name", simulation_name(), "--detach"]
    with _swept() as directory:
        _require(argv, run_timed(argv, timeout=_DEADLINE))
        yield directory


def time_down(directory: StateDirectory) -> float:
    """`knetsim down`; its seconds."""
    argv = [*COMMAND, "down", "--name", directory.name]
    run = run_timed(argv, timeout=_STOP_DEADLINE)
    _require(argv, run)
    return run.seconds


@contextmanager
def _swept() -> Iterator[StateDirectory]:
    directory = StateDirectory(Path(HOST_STATE) / simulation_name())
    try:
        yield directory
    finally:
        if directory.path.exists():
            sandbox.stop(directory, _STOP_DEADLINE)


def _require(argv: Sequence[str], run: TimedRun) -> None:
    if run.code != 0:
        raise CommandError(argv, run.code, run.text("error") + "\n" + run.text("output"))
