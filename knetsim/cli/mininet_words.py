"""What Mininet's own commands at the prompt take, so that wrong words are an error as everywhere.

Mininet itself prints a line and goes on as if all were well, or ends in a traceback. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from knetsim.errors import KnetsimError, UsageError
from knetsim.names import nearest_word
from knetsim.system.invocation import as_typed

#: more words than anybody types
_MANY = 1000


class _Form(NamedTuple):
    """The words of a command: how many there may be, which of them name nodes, what the last may be."""

    usage: str
    least: int
    most: int
    nodes: slice = slice(0, 0)
    may_be_bare: bool = False
    last: tuple[str, ...] = ()


_WINDOWS = ("gterm", "x", "xterm")
_OTHER_TERMINAL = f"in another terminal of this machine: {as_typed('exec HOST')}"

_FORMS = {
    "gterm": _Form("gterm HOST…", 1, _MANY, slice(None)),
    "iperf": _Form("iperf [HOST HOST]", 2, 2, slice(None), may_be_bare=True),
    "iperfudp": _Form("iperfudp [BANDWIDTH HOST HOST]", 3, 3, slice(1, None), may_be_bare=True),
    "link": _Form("link NODE NODE up|down, or: link status", 3, 3, slice(0, 2), last=("up", "down")),
    "noecho": _Form("noecho HOST COMMAND", 2, _MANY, slice(0, 1)),
    "switch": _Form("switch SWITCH start|stop", 2, 2, slice(0, 1), last=("start", "stop")),
    "x": _Form("x HOST [COMMAND]", 1, _MANY, slice(0, 1)),
    "xterm": _Form("xterm HOST…", 1, _MANY, slice(None)),
}

#: commands after which Tab offers hosts and switches
TAKE_HOSTS = frozenset(_FORMS)


def find_mistake(
    command: str, words: Sequence[str], nodes: Collection[str], switches: Collection[str], has_display: bool
) -> KnetsimError | None:
    """What is wrong with the words of one of Mininet's commands; None for others, which know it themselves.

    `link status` is no command of Mininet's. `has_display`: whether windows can be opened.
    """
    if command == "dpctl":
        switch = next(iter(switches), "C0s0")
        return KnetsimError(
            "dpctl is Open vSwitch's; the switches are Linux bridges: no OpenFlow", hint=f"{switch} bridge fdb show"
        )
    form = _FORMS.get(command)
    if form is None or (command == "link" and words[:1] == ["status"]) or (form.may_be_bare and not words):
        return None
    if not form.least <= len(words) <= form.most:
        return UsageError(f"{command} wants other words", hint=form.usage)
    known, kind = (switches, "switch") if command == "switch" else (nodes, "node")
    lost = next((word for word in words[form.nodes] if word not in known), None)
    if lost is not None:
        near = nearest_word(lost, known)
        return UsageError(
            f"{command}: there is no {kind} '{lost}'", hint=f"did you mean '{near}'?" if near else "nodes"
        )
    if form.last and words[-1] not in form.last:
        return UsageError(f"{command}: '{words[-1]}' is neither {' nor '.join(form.last)}", hint=form.usage)
    if command in _WINDOWS and not has_display:
        return KnetsimError(
            f"{command}: there is no display to open a window on", why="DISPLAY is not set", hint=_OTHER_TERMINAL
        )
    return None
