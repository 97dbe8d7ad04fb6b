"""Measurements in sandboxes of their own: whatever they make is gone with them, also after Ctrl-C or `kill -9`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knetsim.errors import KnetsimError
from knetsim.scenario import read_scenario
from knetsim.simulation import Simulation
from knetsim.system import signals
from knetsim.system.sandbox import Sandbox

#: exit codes of an engine that was interrupted, or asked to end before it could listen
_INTERRUPTED, _TERMINATED = 130, 143


def simulation_name() -> str:
    """What simulations and sandboxes of this run are called; there is one at a time."""
    return f"bench-{os.getpid()}"


def run_apart(body: Callable[[], Any]) -> Any:
    """Run `body` in a sandbox of its own; what it returns, which JSON must be able to hold.

    Errors of knetsim's are raised here again; KnetsimError for others, which the sandbox has shown. No thread may run.
    """
    answer = os.memfd_create("bench", os.MFD_CLOEXEC)

    def engine() -> int:
        signals.raise_on_termination()
        try:
            text = json.dumps(body())
        except (KeyboardInterrupt, signals.Terminated):
            signals.ignore_interrupts()
            signals.ignore_termination()
            return _INTERRUPTED
        with os.fdopen(answer, "w") as file:
            file.write(text)
        return 0

    try:
        code = Sandbox(name=simulation_name(), scenario="", version="", engine=engine).run()
        if code in (_INTERRUPTED, _TERMINATED):
            raise KeyboardInterrupt
        if code != 0:
            raise KnetsimError("a measurement failed", why=f"its sandbox ended with {code}", hint="see above")
        os.lseek(answer, 0, os.SEEK_SET)
        with os.fdopen(os.dup(answer)) as file:
            return json.load(file)
    finally:
        os.close(answer)


def run_simulation(scenario: Path, body: Callable[[Simulation], Any]) -> Any:
    """Start a simulation in a sandbox, run `body` with it, and end it; what `body` returns, as in `run_apart`."""
    spec = read_scenario(scenario)

    def start_and_run() -> Any:
        simulation = Simulation(spec, name=simulation_name())
        simulation.start()
        return body(simulation)

    return run_apart(start_and_run)


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory for scenarios and batch files, gone at the end of the block."""
    with tempfile.TemporaryDirectory(prefix=f"knetsim-{simulation_name()}-") as directory:
        yield Path(directory)
