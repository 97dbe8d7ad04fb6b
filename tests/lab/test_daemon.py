"""Daemons are started apart from the terminal, watched, restarted, and ended by descriptor."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.errors import CommandError, KnetsimError, MissingTool, NotReady
from knetsim.system.daemon import BACKOFF_FIRST, Daemon, DaemonSpec, Supervisor, explain_exit
from knetsim.system.run import run
from knetsim.system.wait import wait_until


class Watched:
    """A supervisor whose reports of ended daemons can be awaited."""

    def __init__(self) -> None:
        self.ends: queue.Queue[str] = queue.Queue()
        self.supervisor = Supervisor(lambda daemon: self.ends.put(daemon.last_exit))

    def wait_restart(self, name: str, restarts: int) -> Daemon:
        daemon = self.supervisor.get(name)
        assert daemon is not None
        wait_until(name, lambda: "" if daemon.restarts >= restarts and daemon.process else "a restart", 60)
        return daemon


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    for status in watched.supervisor.status():
        watched.supervisor.stop(status.name)
    watched.supervisor.close()


def spec(tmp_path: Path, script: str) -> DaemonSpec:
    return DaemonSpec("host/daemon", ["sh", "-c", script], tmp_path / "logs" / "daemon.log")


def test_a_killed_daemon_is_restarted_and_told(watched: Watched, tmp_path: Path) -> None:
    daemon = watched.supervisor.start(spec(tmp_path, "echo started; exec sleep 1000"))
    assert daemon.process is not None
    log = tmp_path / "logs/daemon.log"
    wait_until("log", lambda: "" if "started" in log.read_text() else "the first start", 60)
    os.kill(daemon.process.pid, signal.SIGKILL)
    assert watched.ends.get(timeout=10) == "signal 9 (SIGKILL)"
    watched.wait_restart("host/daemon", 1)
    (status,) = watched.supervisor.status()
    assert status.running
    assert status.restarts == 1
    wait_until("log", lambda: "" if log.read_text().count("started") == 2 else "two starts", 60)


def test_the_backoff_grows(watched: Watched, tmp_path: Path) -> None:
    daemon = watched.supervisor.start(spec(tmp_path, "exit 3"))
    assert watched.ends.get(timeout=10) == "exit 3"
    watched.ends.get(timeout=10)
    assert daemon.backoff == pytest.approx(BACKOFF_FIRST * 4)


def test_a_daemon_is_out_of_reach_of_the_terminals_signals(watched: Watched, tmp_path: Path) -> None:
    daemon = watched.supervisor.start(spec(tmp_path, "exec sleep 1000"))
    assert daemon.process is not None
    assert os.getsid(daemon.process.pid) == daemon.process.pid != os.getsid(0)


def test_stop_waits_for_the_end_and_is_no_restart(watched: Watched, tmp_path: Path) -> None:
    daemon = watched.supervisor.start(spec(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 1000; done"))
    assert daemon.process is not None
    pid = daemon.process.pid
    wait_until("trap", lambda: "" if "deaf" in (tmp_path / "logs/daemon.log").read_text() else "the trap", 60)
    watched.supervisor.stop("host/daemon", grace=0.1)
    assert not Path(f"/proc/{pid}").exists()
    assert watched.ends.empty()
    watched.supervisor.stop("host/daemon")  # twice is once


def test_a_restart_is_at_once_and_keeps_its_files_away(watched: Watched, tmp_path: Path) -> None:
    stale = tmp_path / "socket"
    script = f"test ! -e {stale} || exit 9; touch {stale}; echo started; exec sleep 1000"
    wanted = DaemonSpec("host/daemon", ["sh", "-c", script], tmp_path / "log", stale=[stale])
    watched.supervisor.start(wanted)
    wait_until("log", lambda: "" if "started" in (tmp_path / "log").read_text() else "the first start", 60)
    watched.supervisor.restart("host/daemon")
    assert watched.ends.get(timeout=10) == "signal 15 (SIGTERM)"
    watched.wait_restart("host/daemon", 1)
    wait_until("log", lambda: "" if (tmp_path / "log").read_text().count("started") == 2 else "two starts", 60)


def test_a_program_that_is_not_there(watched: Watched, tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match="no program `/no/such/program`"):
        watched.supervisor.start(DaemonSpec("host/daemon", ["/no/such/program"], tmp_path / "log"))
    assert watched.supervisor.status() == []


def test_exits_in_words() -> None:
    assert explain_exit(1) == "exit 1"
    assert explain_exit(-15) == "signal 15 (SIGTERM)"


def test_a_failed_command_can_be_pasted() -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "echo out; echo 'bad thing' >&2; exit 4"])
    assert caught.value.code == 4
    assert caught.value.what == "`sh -c 'echo out; echo '\"'\"'bad thing'\"'\"' >&2; exit 4'` failed (exit 4)"
    assert caught.value.why == "bad thing"


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    with pytest.raises(NotReady, match="did not end"):
        run(["sh", "-c", f"sleep 1000 & echo $! > {pidfile}; wait"], timeout=0.5)
    wait_until("child", lambda: "its end" if Path(f"/proc/{pidfile.read_text().strip()}").exists() else "", 60)


def test_a_missing_program_and_a_missing_directory_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match="no program"):
        run(["/no/such/program"])
    with pytest.raises(KnetsimError) as caught:
        run(["true"], cwd=str(tmp_path / "missing"))
    assert caught.value.why == f"No such file or directory: {tmp_path / 'missing'}"


def test_supervisors_threads_end(watched: Watched) -> None:
    other = Supervisor()
    other.close()
    assert not any(thread.name == "supervisor" and thread is other._thread for thread in threading.enumerate())


def test_what_a_daemon_leaves_ends_with_it(watched: Watched, tmp_path: Path) -> None:
    """Else a worker process would hold the port that the next one wants."""
    pidfile = tmp_path / "child"
    daemon = watched.supervisor.start(spec(tmp_path, f"sleep 1000 & echo $! > {pidfile}; wait"))
    wait_until("the child", lambda: "" if pidfile.exists() and pidfile.read_text() else "its pid", 60)
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGKILL)
    assert watched.ends.get(timeout=10) == "signal 9 (SIGKILL)"
    child = Path(f"/proc/{pidfile.read_text().split()[0]}/stat")
    wait_until("the child's end", lambda: "its end" if child.exists() and " Z " not in child.read_text() else "", 60)


def test_a_log_that_cannot_be_written(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the directory is to be")
    with pytest.raises(KnetsimError, match="cannot run `sh`") as caught:
        watched.supervisor.start(spec(tmp_path, "true"))
    assert str(tmp_path / "logs") in caught.value.why
    assert watched.supervisor.status() == []


def test_a_program_that_disappears_is_tried_again(watched: Watched, tmp_path: Path) -> None:
    program, away = tmp_path / "program", tmp_path / "away"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    daemon = watched.supervisor.start(DaemonSpec("host/daemon", [str(program)], tmp_path / "log"))
    assert daemon.process is not None
    program.rename(away)
    os.kill(daemon.process.pid, signal.SIGKILL)
    wait_until("the report", lambda: "" if "no program" in daemon.last_exit else daemon.last_exit or "an end", 60)
    away.rename(program)
    wait_until("the daemon", lambda: "" if daemon.status().running else daemon.last_exit, 60)
