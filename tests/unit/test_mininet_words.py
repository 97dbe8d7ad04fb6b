"""Wrong words of Mininet's own commands, in words of knetsim."""

from __future__ import annotations

import pytest

from knetsim.cli.mininet_words import find_mistake
from knetsim.errors import EXIT_FAILED, EXIT_USAGE

SWITCHES = ["C0s0", "t0"]
NODES = ["C0w1", "C0w2", *SWITCHES]


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("x 1", "x: there is no node '1'", "nodes"),
        ("x", "x wants other words", "x HOST [COMMAND]"),
        ("x c0w1 xclock", "x: there is no node 'c0w1'", "did you mean 'C0w1'?"),
        ("xterm C0w1 C0w9", "xterm: there is no node 'C0w9'", "did you mean 'C0w2'?"),
        ("gterm", "gterm wants other words", "gterm HOST…"),
        ("noecho foo 1", "noecho: there is no node 'foo'", "nodes"),
        ("iperf C0w1", "iperf wants other words", "iperf [HOST HOST]"),
        ("iperf C0w1 pod", "iperf: there is no node 'pod'", "nodes"),
        ("iperfudp 10M C0w1 else", "iperfudp: there is no node 'else'", "nodes"),
        ("link C0w1 C0s0", "link wants other words", "link NODE NODE up|down, or: link status"),
        ("link C0w1 t1 up", "link: there is no node 't1'", "nodes"),
        ("link C0w1 C0s0 off", "link: 'off' is neither up nor down", "link NODE NODE up|down, or: link status"),
        ("switch C0w1 stop", "switch: there is no switch 'C0w1'", "nodes"),
        ("switch t0 halt", "switch: 'halt' is neither start nor stop", "switch SWITCH start|stop"),
    ],
)
def test_wrong_words(line: str, what: str, hint: str) -> None:
    command, *words = line.split()
    mistake = find_mistake(command, words, NODES, SWITCHES, True)
    assert mistake is not None
    assert (mistake.what, mistake.hint, mistake.exit_code) == (what, hint, EXIT_USAGE)


def test_a_command_for_switches_that_are_not_here() -> None:
    mistake = find_mistake("dpctl", ["show"], NODES, SWITCHES, True)
    assert mistake is not None
    assert (mistake.hint, mistake.exit_code) == ("C0s0 bridge fdb show", EXIT_FAILED)


@pytest.mark.parametrize(
    "line",
    [
        "x C0w1",
        "x C0w1 xclock -update 1",
        "xterm C0w1 C0w2",
        "noecho C0w1 vi",
        "iperf",
        "iperf C0w1 C0w2",
        "iperfudp",
        "iperfudp 10M C0w1 C0w2",
        "link C0w1 C0s0 down",
        "link status",
        "link status -o json",
        "switch t0 stop",
        "nodes anything",
        "foo 1",
        "C0w1 x 1",
    ],
)
def test_what_is_right_or_is_no_business_of_mininets(line: str) -> None:
    command, *words = line.split()
    assert find_mistake(command, words, NODES, SWITCHES, True) is None


@pytest.mark.parametrize("line", ["x C0w1", "xterm C0w1", "gterm C0w1 C0w2"])
def test_a_window_needs_a_display(line: str) -> None:
    command, *words = line.split()
    mistake = find_mistake(command, words, NODES, SWITCHES, False)
    assert mistake is not None
    assert (mistake.why, mistake.exit_code) == ("DISPLAY is not set", EXIT_FAILED)
    wrong = find_mistake(command, ["C0w9"], NODES, SWITCHES, False)
    assert wrong is not None
    assert wrong.what == f"{command}: there is no node 'C0w9'"
