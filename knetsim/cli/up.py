"""`knetsim up`: check first, then build the sandbox, and inside it the simulation and its prompt."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import knetsim
from knetsim.cli.check import check_scenario
from knetsim.control_choice import open_api_ports
from knetsim.names import DNS_LABEL, INSIDE_STATE
from knetsim.scenario import Scenario
from knetsim.system import features, sandbox, signals
from knetsim.system.invocation import as_typed
from knetsim.system.sandbox import Sandbox

if TYPE_CHECKING:
    from knetsim.simulation import Simulation

_LOG = "knetsim.log"
#: sockets of the host that lead to the clusters' API servers
_Ports = dict[str, socket.socket]


@dataclass(frozen=True, slots=True)
class Options:
    """What `knetsim up` was asked for. `lines` are run at the prompt, and then the simulation ends."""

    scenario: Path
    name: str | None = None
    detach: bool = False
    lines: tuple[str, ...] = ()
    repair: bool = True
    images: tuple[Path, ...] = ()
    api_address: str = "127.0.0.1"


def start(options: Options) -> int:
    """Start the simulation and stay with it until its end, or, detached, until it is ready; the exit code."""
    from knetsim.node.images import find_user_tables, read_tables

    scenario = check_scenario(options.scenario)
    read_tables(find_user_tables(options.images))  # their mistakes are told before anything is changed
    features.require(_needed_features(scenario))
    if not options.detach:
        return _box(options, scenario, lambda: None).run()

    def body(ready: int) -> int:
        def say_ready() -> None:
            os.write(ready, sandbox.READY)
            os.close(ready)

        return _box(options, scenario, say_ready).run()

    return sandbox.detach(body)


def _needed_features(scenario: Scenario) -> frozenset[str]:
    """Without an overlay of VXLAN anywhere, the kernel need not have it."""
    backends = {cluster.pod_network.backend.type for cluster in scenario.clusters}
    return features.REQUIRED if "vxlan" in backends else features.REQUIRED - {"VXLAN"}


def _box(options: Options, scenario: Scenario, ready: Callable[[], None]) -> Sandbox:
    name = options.name or _default_name(scenario)
    ports = open_api_ports(scenario, options.api_address)
    return Sandbox(
        name=name,
        scenario=str(options.scenario),
        version=knetsim.__version__,
        engine=lambda: _engine(options, scenario, name, ready, ports),
        detached=options.detach,
    )


def _default_name(scenario: Scenario) -> str:
    name = scenario.name.lower()
    return name if DNS_LABEL.match(name) else "default"


def _engine(options: Options, scenario: Scenario, name: str, ready: Callable[[], None], ports: _Ports) -> int:
    """The process inside the sandbox. It never returns an exception: what goes wrong is shown here."""
    from knetsim.cli.main import shown

    try:
        signals.raise_on_termination()
        return shown(lambda: _simulate(options, scenario, name, ready, ports))
    except signals.Terminated:
        return 0 if options.detach else 143
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _simulate(options: Options, scenario: Scenario, name: str, ready: Callable[[], None], ports: _Ports) -> int:
    from knetsim.cli.progress import Progress
    from knetsim.simulation import Simulation

    # what agents have to say belongs into a file, not between the lines of the prompt
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(filename=f"{INSIDE_STATE}/{_LOG}", level=logging.WARNING, format=form)
    with Progress() as progress:
        simulation = Simulation(
            scenario, name=name, progress=progress, repair=options.repair, listeners=ports, images=options.images
        )
        simulation.start()
    if options.detach:
        print(f"{name} is ready; end it with: {as_typed(f'down --name {name}')}", flush=True)
        _write_to_log()
        _answer_lines(simulation)
        ready()
        simulation.wait()
        return 0
    from knetsim.cli.shell import Shell
    from knetsim.cli.typist import answer_typist

    shell = Shell(simulation)
    answer_typist(simulation, shell.record)
    return shell.run_lines(options.lines) if options.lines else shell.run_prompt()


def _answer_lines(simulation: Simulation) -> None:
    """Let `knetsim attach` type at this simulation's prompt."""
    from knetsim.cli.shell import Shell
    from knetsim.system.rpc import Answer

    shell = Shell(simulation, stdin=open(os.devnull))  # noqa: SIM115 - open as long as the shell

    def run_line(line: str) -> Answer:
        code, output = shell.run_captured(line)
        return Answer({"code": code, "output": output})

    simulation.add_method("line", run_line)


def _write_to_log() -> None:
    """What the engine still says goes to a file: the terminal belongs to somebody else now."""
    log = os.open(f"{INSIDE_STATE}/{_LOG}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    sys.stdout.flush()
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(null)
