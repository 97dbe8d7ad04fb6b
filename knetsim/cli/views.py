"""`status [PART]` and `link status` at the prompt: the same as `knetsim status` and `knetsim link status` outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from knetsim.cli.links import render_sites
from knetsim.cli.policies import render_policies
from knetsim.cli.render import render_orphans, render_status
from knetsim.cli.services import render_services
from knetsim.cli.terminal import OUTPUTS, Output
from knetsim.errors import UsageError
from knetsim.names import nearest_word
from knetsim.simulation import Simulation

STATUS_PARTS = ("services", "policies")
_ORPHANS = "--orphans"
#: for Tab
STATUS_WORDS = (*STATUS_PARTS, *OUTPUTS)


class View(NamedTuple):
    """What is shown: a part, or all when empty; and how."""

    part: str
    output: Output


def read_view(command: str, words: Sequence[str], parts: Sequence[str]) -> View:
    """The words after `command`: one of `parts` at most, `-o` with a form. UsageError."""
    usage = f"{command} [{'|'.join(parts)}]" if parts else command
    usage += f" [-o {'|'.join(OUTPUTS)}]"
    part, output, rest = "", OUTPUTS[0], list(words)
    while rest:
        word = rest.pop(0)
        option, equals, form = word.partition("=")
        if option in ("-o", "--output"):
            form = form if equals else rest.pop(0) if rest else ""
            if form not in OUTPUTS:
                raise UsageError(f"{command}: '{form}' is no form of output", hint=usage)
            output = OUTPUTS[OUTPUTS.index(form)]
        elif word in parts and not part:
            part = word
        else:
            near = nearest_word(word, [one for one in parts if not part])
            raise UsageError(f"{command}: what is '{word}'?", hint=f"did you mean '{near}'?" if near else usage)
    return View(part, output)


def show_status(simulation: Simulation, words: Sequence[str]) -> None:
    """The whole simulation, or a part of it. UsageError."""
    view = read_view("status", words, (*STATUS_PARTS, _ORPHANS))
    if view.part == "services":
        render_services(simulation.services(), view.output)
    elif view.part == "policies":
        render_policies(simulation.policies(), view.output)
    elif view.part == _ORPHANS:
        render_orphans(simulation.orphans(), view.output)
    else:
        render_status(simulation.status(), view.output)


def show_links(simulation: Simulation, words: Sequence[str]) -> None:
    """The clusters' Skupper network. UsageError."""
    render_sites(simulation.sites(), read_view("link status", words, ()).output)
