"""`knetsim attach`: the prompt of a detached simulation. Lines go there whole; what they print comes back at their
end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import click

from knetsim.cli.render import print_error
from knetsim.errors import EXIT_OK, KnetsimError, StoreUnavailable
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
            answer, _ = rpc.call(simulation.control_socket, "line", timeout=None, line=line)
        except StoreUnavailable:
            raise
        except KnetsimError as error:
            print_error(error, verbose=False)
            code = error.exit_code
        else:
            code = answer["code"]
            click.echo(answer["output"], nl=False)
        if lines and code != EXIT_OK:
            break
    return code


def _typed() -> Iterator[str]:
    """Lines from the terminal or a pipe, until its end or `exit`. The simulation goes on."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  gives input() its line editing

        click.echo("Attached; `exit` leaves the simulation running. A command's output comes when it has ended.")
    while True:
        try:
            line = input(_PROMPT if interactive else "")
        except EOFError:
            return
        if line.strip() in _LEAVE:
            return
        if line.strip():
            yield line
