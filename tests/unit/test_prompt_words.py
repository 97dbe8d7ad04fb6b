"""The prompt's help, what Tab offers, the words of `status`, iperf's report, and how knetsim is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from knetsim.cli.completion import complete_kubectl, complete_python
from knetsim.cli.prompt_help import CALLS, Names, build_help, explain_call
from knetsim.cli.shell import Shell
from knetsim.cli.throughput import explain_rate, explain_report
from knetsim.cli.views import STATUS_PARTS, View, read_view
from knetsim.errors import KnetsimError, UsageError
from knetsim.system.invocation import as_typed, enter_as_typed, start_as_typed

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = Names("Eastw1", "Westw1", "web", "East", "Easts0")


def read_commands() -> list[str]:
    """The words with which the lines of commands begin."""
    commands = build_help(NAMES).split("\n\n")[0].splitlines()[1:]
    return [line.split()[0] for line in commands]


def test_help_fits_a_small_terminal() -> None:
    lines = build_help(NAMES).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_help_names_only_hosts_that_are_there() -> None:
    named = set(re.findall(r"\b(?:[A-Z][a-z]*\d*)(?:[wes]\d+|cp)\b|\b[hs]\d+\b", build_help(NAMES)))
    assert named == {NAMES.worker, NAMES.other, NAMES.switch}
    assert "C0" not in build_help(NAMES)


def test_every_command_in_help_is_there() -> None:
    host, *commands = read_commands()
    assert host == "HOST"
    assert {"py", "px", "kubectl", "status", "pingall", "link", "exit"} <= set(commands)
    assert [command for command in commands if not hasattr(Shell, f"do_{command}")] == []
    assert [word for word in ("iperfudp", "net", "time") if not hasattr(Shell, f"do_{word}")] == []


@pytest.mark.parametrize("name", CALLS)
def test_every_call_in_help_is_there_and_explained(name: str) -> None:
    called, text = explain_call(name).split("\n", 1)
    assert re.fullmatch(rf"py ((WORKER|CLUSTER)\.)?{name}\(.*\)", called)
    assert text


@pytest.mark.parametrize("word", ["", "_pod", "nonsense", "name", "IP"])
def test_what_is_no_call_of_ours_is_not_explained(word: str) -> None:
    assert explain_call(word) == ""


def test_an_argument_that_may_be_left_out_is_seen() -> None:
    assert explain_call("exec_container").startswith('py WORKER.exec_container(name, cmd, namespace="default")\n')


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", View("", "table")),
        ("services", View("services", "table")),
        ("-o json", View("", "json")),
        ("policies --output=wide", View("policies", "wide")),
        ("-o wide services", View("services", "wide")),
    ],
)
def test_status_obeys_its_words(words: str, expected: View) -> None:
    assert read_view("status", words.split(), STATUS_PARTS) == expected


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("servics", "did you mean 'services'?"),
        ("pods", "status [services|policies] [-o table|wide|json]"),
        ("services policies", "status [services|policies] [-o table|wide|json]"),
        ("-o", "status [services|policies] [-o table|wide|json]"),
        ("-o xml", "status [services|policies] [-o table|wide|json]"),
    ],
)
def test_status_ignores_no_word(words: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_view("status", words.split(), STATUS_PARTS)
    assert caught.value.hint == hint


def test_tab_completes_names_and_attributes() -> None:
    names = {"C0w1": SimpleNamespace(exec_one=len, exec_two=1, _own=2), "C0w2": 1, "_hidden": 3}
    assert complete_python("C0w", names) == ["C0w1", "C0w2"]
    assert [name.rstrip("()") for name in complete_python("C0w1.ex", names)] == ["C0w1.exec_one", "C0w1.exec_two"]
    assert "C0w1._own" not in complete_python("C0w1.", names)
    assert "_hidden" not in complete_python("", names)
    assert complete_python("nobody.", names) == []
    assert complete_python(".x", names) == []


@pytest.mark.parametrize(
    ("line", "text", "asked", "said", "offered"),
    [
        ("get po", "po", ["get", "po"], "pods\nport\tx\n:4\n", ["pods", "port"]),
        ("get pods ", "", ["get", "pods", ""], "c1\tRunning\nc2\n_activeHelp_ read\n:4\n", ["c1", "c2"]),
        ("get -l app=w", "w", ["get", "-l", "app=w"], "app=web\n:4\n", ["web"]),
        ("get po", "po", ["get", "po"], "pods\n:1\n", []),
        ("get po", "po", ["get", "po"], "", []),
        ("", "", [""], "get\n:4\n", ["get"]),
    ],
)
def test_tab_offers_what_kubectl_does(line: str, text: str, asked: list[str], said: str, offered: list[str]) -> None:
    heard: list[Sequence[str]] = []

    def ask(words: Sequence[str]) -> str:
        heard.append(words)
        return said

    assert complete_kubectl(line, text, ask) == offered
    assert heard == [["__complete", *asked]]


def test_tab_is_silent_when_kubectl_is() -> None:
    def fail(words: Sequence[str]) -> str:
        raise KnetsimError("no answer")

    assert complete_kubectl("get ", "", fail) == []


def test_a_measurement_in_words() -> None:
    sums = {"sum_sent": {"bits_per_second": 41.23e9}, "sum_received": {"bits_per_second": 999e6}}
    assert explain_report({"end": sums}, by_udp=False) == "TCP, 5 s: 41.2 Gbit/s sent, 999 Mbit/s received"
    udp = {"sum": {"bits_per_second": 1e7, "lost_packets": 3, "packets": 4316}}
    assert explain_report({"end": udp}, by_udp=True) == "UDP, 5 s: 10 Mbit/s sent, 3 of 4316 datagrams lost"
    assert explain_rate(12) == "12 bit/s"


def test_what_is_printed_can_be_typed() -> None:
    for line in (as_typed("down --name x"), start_as_typed(), enter_as_typed("0", "w1", "c1")):
        sudo, program, *_ = line.split()
        assert sudo == "sudo"
        assert (CHECKOUT / program).is_file()
    assert enter_as_typed("0", "w1", "c1", "lab") == "sudo ./utils/exec --name lab 0 w1 c1"


def test_what_pip_has_installed_is_called_by_its_name() -> None:
    assert as_typed("down", in_checkout=False) == "sudo knetsim down"
    assert start_as_typed(in_checkout=False) == "sudo knetsim up"
    entered = enter_as_typed("0", "w1", "c1", in_checkout=False)
    assert entered == "sudo knetsim exec --cluster 0 --worker w1 --pod c1"


def test_nothing_else_prints_how_knetsim_is_called() -> None:
    """A line such as `knetsim down` in a message would not be found: it is on no PATH in a checkout."""
    call = re.compile(
        r"""(?:hint=|echo\(|print\().*["' :(`]knetsim (?:down|up|status|exec|doctor|link|ls|attach|apply)\b"""
    )
    found = [
        f"{path.relative_to(CHECKOUT)}: {line.strip()}"
        for path in sorted((CHECKOUT / "knetsim").rglob("*.py"))
        for line in path.read_text().splitlines()
        if call.search(line)
    ]
    assert found == []
