"""The suite's run: its command line (pure), in a simulation of its own or in one that runs.

It is run by `knetsim exec C0cp`, as somebody at a terminal would: that host has the kubeconfig, and from its address
Nodes, pods and Services can be reached. Files are the machine's there too, so the report needs no way out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from knetsim import names
from knetsim.conformance.results import Results, read_specs
from knetsim.errors import CommandError, KnetsimError, MissingTool
from knetsim.system import rpc, sandbox
from knetsim.system.programs import find_program
from knetsim.system.run import run
from knetsim.system.state import StateDirectory, find
from knetsim.system.timed import TimedLine, run_timed

COMMAND = (sys.executable, "-m", "knetsim.cli.main")
_START_DEADLINE = 300.0
_STOP_DEADLINE = 60.0
#: more than any selection takes
_RUN_HOURS = 6
#: a busy machine makes specs miss their moments; the table tells which of them passed at the second attempt only
ATTEMPTS = 2
#: how Ginkgo tells the end of a spec: `• [1.234 seconds]`, `• [FAILED] [302.145 seconds]`, `S [SKIPPED] [0.1 seconds]`
_END = re.compile(r"^\S+ (?:\[(?P<state>[A-Z ]+)\] )?\[(?P<seconds>[\d.]+) seconds\]")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to run: specs whose names match any of `focus` and none of `skip`, several side by side."""

    focus: tuple[str, ...]
    skip: tuple[str, ...] = ()
    processes: int = 1


@dataclass(frozen=True, slots=True)
class SuitePrograms:
    """Where Ginkgo's command, the compiled suite and kubectl are."""

    ginkgo: Path
    suite: Path
    kubectl: Path


def find_suite_programs() -> SuitePrograms:
    """MissingTool when they are not here."""
    found = {name: find_program(name) for name in ("ginkgo", "e2e.test", "kubectl")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        why = "they are Kubernetes' own tests, and are built when they are wanted"
        raise MissingTool(f"not on this machine: {', '.join(missing)}", why=why, hint="./utils/setup --conformance")
    return SuitePrograms(*(path for path in found.values() if path is not None))


def build_suite_argv(
    programs: SuitePrograms, selection: Selection, kubeconfig: str, output: Path, nodes: int
) -> list[str]:
    """Ginkgo's command line, and after `--` the suite's own, for a cluster of so many Nodes."""
    return [
        str(programs.ginkgo),
        f"--procs={selection.processes}",
        "-v",
        "--no-color",
        "--silence-skips",
        "--keep-going",
        f"--flake-attempts={ATTEMPTS}",
        f"--timeout={_RUN_HOURS}h",
        f"--output-dir={output}",
        "--json-report=report.json",
        *(f"--focus={one}" for one in selection.focus),
        *(f"--skip={one}" for one in selection.skip),
        str(programs.suite),
        "--",
        "--provider=skeleton",
        f"--num-nodes={nodes}",  # only the first of its processes would count them
        f"--kubeconfig={kubeconfig}",
        f"--kubectl-path={programs.kubectl}",
        "--disable-log-dump",  # of machines, by ssh
        "--dump-logs-on-failure=false",
    ]


def run_suite(
    selection: Selection, cluster: str, simulation: str, output: Path, tell: Callable[[str], None]
) -> Results:
    """Run the suite in a running simulation; `tell` gets a line for each spec. Files are written to `output`.

    KnetsimError when no spec was run at all.
    """
    programs = find_suite_programs()
    host = f"{cluster}cp"
    kubeconfig = f"{names.host_directory(host)}/admin.conf"
    output.mkdir(parents=True, exist_ok=True)
    report = output / "report.json"
    report.unlink(missing_ok=True)
    argv = [*COMMAND, "exec", "--name", simulation, host, "--"]
    workers, proxy = read_cluster(simulation, cluster)
    argv += build_suite_argv(programs, selection, kubeconfig, output.absolute(), workers)
    started = datetime.now(UTC)
    with (output / "suite.log").open("w") as log:
        listener = _Listener(log.write, tell)
        done = run_timed(argv, timeout=_RUN_HOURS * 3600 + 60, on_line=listener.hear)
    if not report.exists():
        raise CommandError(argv, done.code, (done.text("error") or done.text("output"))[-1000:])
    specs = read_specs(report.read_text())
    if not specs:
        why, hint = f"none matches {' or '.join(selection.focus)}", "is it left out? --left-out runs such specs, too"
        raise KnetsimError("no spec was run", why=why, hint=hint)
    return Results(
        kubernetes=run([str(programs.suite), "--version"]).output.strip(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(done.seconds, 1),
        processes=selection.processes,
        focus=selection.focus,
        skip=selection.skip,
        specs=tuple(specs),
        workers=workers,
        proxy=proxy,
    )


def read_cluster(simulation: str, cluster: str) -> tuple[int, str]:
    """How many workers a cluster of a running simulation has, and their proxies. NotFound, StoreUnavailable."""
    status, _ = rpc.call(find(simulation).control_socket, "status")
    workers = [worker for one in status["clusters"] if one["name"] == cluster for worker in one["workers"]]
    return len(workers), " and ".join(sorted({worker["proxy"] for worker in workers}))


class _Listener:
    """Writes down what Ginkgo says, and tells of each spec that ended: `  12.3 s  passed  [sig-apps] …`."""

    def __init__(self, write: Callable[[str], object], tell: Callable[[str], None]) -> None:
        self._write, self._tell = write, tell
        self._ended: re.Match[str] | None = None

    def hear(self, line: TimedLine) -> None:
        """A line came."""
        self._write(line.text + "\n")
        if not line.text.strip():
            return
        if self._ended is not None:
            state = (self._ended["state"] or "passed").lower()
            self._tell(f"{float(self._ended['seconds']):7.1f} s  {state:8}  {line.text.strip()}")
            self._ended = None
            return
        self._ended = _END.match(line.text)


@contextmanager
def started(scenario: Path) -> Iterator[str]:
    """A simulation of `scenario` for as long as the block; its name."""
    name = f"conformance-{os.getpid()}"
    directory = StateDirectory(Path(names.HOST_STATE) / name)
    argv = [*COMMAND, "up", str(scenario), "--name", name, "--detach"]
    try:
        start = run_timed(argv, timeout=_START_DEADLINE)
        if start.code != 0:
            raise CommandError(argv, start.code, start.text("error") + "\n" + start.text("output"))
        yield name
    finally:
        if directory.path.exists():
            sandbox.stop(directory, _STOP_DEADLINE)
