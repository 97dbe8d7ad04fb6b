"""`knetsim attach`: the prompt of a detached simulation. Lines go there whole; what they print comes back at their
end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import click

from knetsim.cli.execute import execute
from knetsim.cli.render import print_error
from knetsim.errors import EXIT_OK, KnetsimError, StoreUnavailable
from knetsim.names import cluster_id
from knetsim.system import rpc, state

_PROMPT = "mininet> "
_LEAVE = ("exit", "quit")


def attach(name: str | None, lines: Iterable[str]) -> int:
    """Run `lines`, or what is typed, at the prompt of the simulation `name`; the code of the last line, the first
    that fails
    ends `lines`."""
    simulation = state.find(name)
    code = EXIT_OK
    for line in lines or _typed():
        try:
            code = _run_line(simulation, line)
        except StoreUnavailable:
            raise
        except KnetsimError as error:
            print_error(error, verbose=False)
            code = error.exit_code
        if lines and code != EXIT_OK:
            break
    return code


def _run_line(simulation: state.StateDirectory, line: str) -> int:
    """One line; its code. A host's command runs on this terminal, which shows what it says as it says it and can
    interrupt it; all else is the simulation's to run.
    """
    host, _, command = line.strip().partition(" ")
    if host == "kubectl" and (place := _find_control_plane(simulation, command.split())):
        rest = command.split(maxsplit=2)[2:] if command.startswith("-c ") else [command]
        return execute(simulation.name, place, None, ["bash", "-c", " ".join(["kubectl", *rest])])
    if command.strip() and host in _read_hosts(simulation):
        return execute(simulation.name, host, None, ["bash", "-c", command])
    answer, _ = rpc.call(simulation.control_socket, "line", timeout=None, line=line)
    click.echo(answer["output"], nl=False)
    return int(answer["code"])


def _find_control_plane(simulation: state.StateDirectory, words: list[str]) -> str | None:
    """The host of the control plane that `kubectl [-c CLUSTER] …` is about; None leaves the answer to the prompt."""
    hosts = [name for name in _read_hosts(simulation) if name.endswith("cp")]
    if words[:1] != ["-c"]:
        return min(hosts, default=None)
    wanted = words[1].lower() if len(words) > 1 else ""
    return next((name for name in hosts if wanted in (name[:-2].lower(), cluster_id(name[:-2]))), None)


def _read_hosts(simulation: state.StateDirectory) -> list[str]:
    """The names of its hosts and switches."""
    answer, _ = rpc.call(simulation.control_socket, "hosts")
    return list(answer)


def _typed() -> Iterator[str]:
    """Lines from the terminal or a pipe, until its end or `exit`. The simulation goes on."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  gives input() its line editing

        click.echo("Attached; `exit` leaves the simulation running.")
    while True:
        try:
            line = input(_PROMPT if interactive else "")
        except EOFError:
            return
        if line.strip() in _LEAVE:
            return
        if line.strip():
            yield line
