"""Programs at terminals of their own, their children, and signals that come together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.errors import KnetsimError
from knetsim.system import signals
from knetsim.system.children import kill_tree, read_children
from knetsim.system.terminal import Terminal
from knetsim.system.wait import wait_until

ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
SECONDS = 20.0


def open_terminal(*argv: str) -> Terminal:
    return Terminal(argv, env=ENV, cwd=Path("/"))


def test_what_is_typed_is_read_and_not_printed_again() -> None:
    terminal = open_terminal("cat")
    terminal.type("grüße")
    assert terminal.wait(lambda text: "grüße" in text, SECONDS)
    assert terminal.text == "grüße\r\n"
    assert not terminal.has_ended
    assert terminal.close() == 128 + signal.SIGHUP
    assert terminal.close() == 128 + signal.SIGHUP
    terminal.type("into nothing")


def test_it_is_a_terminal_with_a_size_that_controls_its_session() -> None:
    terminal = open_terminal("sh", "-c", "stty size; test -t 0 && test -t 1 && : </dev/tty && echo ours")
    assert terminal.wait(lambda text: "ours" in text, SECONDS)
    assert terminal.text == "50 160\r\nours\r\n"
    assert terminal.wait_for_exit(SECONDS) == 0
    terminal.close()


def test_ctrl_c_reaches_what_runs_in_the_foreground() -> None:
    terminal = open_terminal("sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.01; done")
    assert terminal.wait(lambda text: "ready" in text, SECONDS)
    terminal.interrupt()
    assert terminal.wait_for_exit(SECONDS) == 3
    assert terminal.wait(lambda text: "caught" in text, SECONDS)
    terminal.close()


def test_waiting_has_an_end() -> None:
    terminal = open_terminal("sleep", "1000")
    assert not terminal.wait(lambda text: False, 0.05)
    assert terminal.wait_for_exit(0.05) is None
    terminal.close()
    assert not terminal.wait(lambda text: False, SECONDS), "nothing more can come"


def test_the_foreground_can_be_killed_and_the_shell_spared() -> None:
    terminal = open_terminal("bash", "--norc", "--noprofile", "--noediting", "-i")
    idle = terminal.foreground()
    terminal.type("PS1=; bash -c 'trap \"\" INT; echo begun; while :; do sleep 1; done'; echo code $?")
    assert terminal.wait(lambda text: "begun" in text, SECONDS)
    terminal.interrupt()
    assert not terminal.wait(lambda text: "code" in text, 0.2)
    assert terminal.kill_foreground(idle)
    assert terminal.wait(lambda text: "code 137" in text, SECONDS)
    assert not terminal.kill_foreground(terminal.foreground())
    terminal.close()


def test_what_is_left_behind_does_not_hold_up_the_end() -> None:
    terminal = open_terminal("sh", "-c", "setsid sleep 1000 & echo $!")
    assert terminal.wait(lambda text: text.endswith("\n"), SECONDS)
    assert terminal.wait_for_exit(SECONDS) == 0
    assert terminal.close() == 0
    os.kill(int(terminal.text), signal.SIGKILL)


def test_who_takes_no_notice_of_the_hang_up_does_not_stay() -> None:
    """Neither in the foreground nor in the background of a shell that has gone; those who end by themselves may."""
    stubborn = "trap '' HUP INT TERM; echo stubborn; while :; do sleep 1; done"
    polite = "trap 'echo farewell >>ended; exit' HUP; echo polite; while :; do sleep 0.01; done"
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(["bash", "--norc", "-i"], env={**ENV, "PS1": ""}, cwd=Path(folder))
        terminal.type(f'bash -c "{stubborn}" & bash -c "{polite}" &')
        terminal.type(f'bash -c "{stubborn}"')
        said = terminal.wait(lambda text: text.count("stubborn\r\n") == 2 and "polite\r\n" in text, SECONDS)
        session = os.getsid(terminal.foreground())
        members = _members(session)
        terminal.close(2.0)
        assert said, terminal.text
        assert len(members) >= 4
        assert _members(session) == []
        assert (Path(folder) / "ended").read_text() == "farewell\n"


def _members(session: int) -> list[list[str]]:
    """The live processes of a session."""
    stats = [_read_stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [stat for stat in stats if stat and int(stat[3]) == session and stat[0] != "Z"]


def _read_stat(pid: int) -> list[str]:
    """The fields of proc(5) behind the name, from the state on; none when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def test_a_directory_that_is_not_there() -> None:
    with pytest.raises(KnetsimError):
        Terminal(["true"], env=ENV, cwd=Path("/no/such/directory"))


def test_a_tree_of_processes_is_killed() -> None:
    script = "sleep 1000 & sh -c 'sleep 1000 & wait' & wait"
    with subprocess.Popen(["sh", "-c", script]) as process:
        wait_until("children", lambda: "" if len(read_children(process.pid)) == 2 else "two", SECONDS)
        inner = read_children(process.pid)[1]
        wait_until("grandchild", lambda: "" if read_children(inner) else "one", SECONDS)
        grandchild = read_children(inner)[0]
        assert kill_tree(process.pid) == 4
        assert process.wait(SECONDS) == -signal.SIGKILL
    assert kill_tree(process.pid) == 0
    assert read_children(process.pid) == []
    wait_until("its end", lambda: _is_running(grandchild), SECONDS)


def test_what_another_thread_has_started_belongs_to_the_tree() -> None:
    """Programs in Go start theirs from whichever thread is free."""
    script = "import subprocess as s, threading as t; t.Thread(target=s.run, args=(['sleep', '1000'],)).start()"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        wait_until("its child", lambda: "" if read_children(process.pid) else "none", SECONDS)
        (child,) = read_children(process.pid)
        assert read_children(process.pid, thread=process.pid) == []
        assert kill_tree(process.pid) == 2
    wait_until("its end", lambda: _is_running(child), SECONDS)


def _is_running(pid: int) -> str:
    state, *_ = _read_stat(pid) or "Z"
    return "" if state == "Z" else f"{pid} is in state {state}"


@pytest.fixture
def reactions() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, reaction in before.items():
        signal.signal(number, reaction)


def _send_at_once(numbers: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@pytest.mark.usefixtures("reactions")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_two_signals_at_once_are_one_request_and_it_is_not_lost() -> None:
    signals.raise_on_termination()
    with pytest.raises(signals.Terminated):
        _send_at_once({signal.SIGTERM, signal.SIGHUP})
    _send_at_once({signal.SIGTERM, signal.SIGHUP})  # the end has begun: nobody minds


def test_ctrl_c_does_not_break_off_what_undoes() -> None:
    with signals.without_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
