"""The box of a simulation: what it hides, and that nothing of it stays, however it ends."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knetsim.errors import AlreadyExists, UsageError
from knetsim.names import HOST_STATE, INSIDE_STATE
from knetsim.system import sandbox, state
from knetsim.system.state import Identity, StateDirectory
from tests.lab.sandbox_fixture import name

__all__ = ["name"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

PROGRAM = """
import json, os, sys, threading
from knetsim.system import signals
from knetsim.system.sandbox import Sandbox
from knetsim.errors import CommandError, KnetsimError

def engine():
    try:
        return live()
    except signals.Terminated as error:
        return error.number

def live():
    signals.raise_on_termination()
    os.system("sleep 1000 &")
    facts = {
        "pid": os.getpid(), "net": os.readlink("/proc/self/ns/net"), "pidns": os.readlink("/proc/self/ns/pid"),
        "state": os.listdir("/tmp/knetsim"), "netns": os.listdir("/run/netns"), "processes": [p for p in
        os.listdir("/proc") if p.isdigit()],
        "interfaces": os.listdir("/sys/class/net"),
    }
    print(json.dumps(facts), flush=True)
    if sys.argv[2] == "return":
        return 7
    if sys.argv[2] == "fail":
        raise CommandError(["false"], 1, "it failed")
    threading.Event().wait()

try:
    code = Sandbox(sys.argv[1], "test", "0", engine).run()
except KnetsimError as error:
    print(type(error).__name__, error, file=sys.stderr)
    code = error.exit_code
sys.exit(code)
"""


class Box:
    """A sandbox program as a child of the test."""

    def __init__(self, name: str, mode: str) -> None:
        self.directory = StateDirectory(Path(HOST_STATE) / name)
        self.child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name, mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        self.facts = json.loads(line) if line else {}

    def identity(self) -> state.Identity:
        identity = self.directory.identity()
        assert identity is not None
        return identity

    def end(self) -> int:
        """Wait for the program's end; its exit code."""
        return self.child.wait(20)

    def errors(self) -> str:
        assert self.child.stderr is not None
        return self.child.stderr.read()


def wait_end(pid: int) -> None:
    """Until the process has ended, which its pidfd tells."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 10)[0], f"process {pid} lives"
    finally:
        os.close(fd)


def assert_nothing_left(name: str, identity: state.Identity | None = None) -> None:
    for pid in (identity.outer, identity.guard, identity.init or 0) if identity else ():
        wait_end(pid)
    assert not (Path(HOST_STATE) / name).exists()
    if not Path(HOST_STATE).exists():
        assert not Path(INSIDE_STATE).exists()


def test_what_is_seen_inside(name: str) -> None:
    box = Box(name, "return")
    assert box.end() == 7
    assert box.facts["interfaces"] == ["lo"]
    assert box.facts["netns"] == []
    assert "disk" in box.facts["state"]
    assert box.facts["pid"] == 2
    assert len(box.facts["processes"]) <= 4
    assert box.facts["net"] != os.readlink("/proc/self/ns/net")
    assert_nothing_left(name)


@pytest.mark.parametrize("victim", ["outer", "guard", "init"])
def test_killing_any_process_leaves_nothing(name: str, victim: str) -> None:
    box = Box(name, "wait")
    identity = box.identity()
    os.kill(getattr(identity, victim), signal.SIGKILL)
    box.end()
    assert_nothing_left(name, identity)


def test_termination_reaches_the_engine(name: str) -> None:
    box = Box(name, "wait")
    identity = box.identity()
    box.child.send_signal(signal.SIGTERM)
    assert box.end() == signal.SIGTERM
    assert_nothing_left(name, identity)


def test_an_interrupt_for_the_outer_process_alone_ends_it_too(name: str) -> None:
    box = Box(name, "wait")
    box.child.send_signal(signal.SIGINT)
    assert box.end() == signal.SIGTERM
    assert_nothing_left(name)


def test_a_terminal_that_is_closed_ends_it(name: str) -> None:
    """The kernel tells the session's leader only, which is the outer process here."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, name, "wait"])
    directory = StateDirectory(Path(HOST_STATE) / name)
    assert b"pidns" in os.read(terminal, 4096)
    identity = directory.identity()
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == signal.SIGHUP
    assert_nothing_left(name, identity)


def test_a_quit_leaves_nothing(name: str) -> None:
    box = Box(name, "wait")
    identity = box.identity()
    assert identity.init is not None
    for pid in (identity.outer, identity.guard, identity.init):  # as the terminal does for Ctrl-\
        os.kill(pid, signal.SIGQUIT)
    assert box.directory.is_running(), "they are there to tidy up after the engine"
    sandbox.stop(box.directory, 10)
    box.end()
    assert_nothing_left(name, identity)


def test_an_error_of_the_engine_is_raised_outside(name: str) -> None:
    box = Box(name, "fail")
    assert box.end() == 1
    assert box.errors() == "KnetsimError `false` failed (exit 1): it failed\n"
    assert_nothing_left(name)


def test_one_that_has_taken_the_name_is_not_swept(name: str) -> None:
    box = Box(name, "wait")
    state.sweep_stale(box.directory)
    assert box.directory.is_running()
    assert box.directory.path.exists()


#: in mounts of its own: the machine's directories below $1, a directory of its own beside them, and a program in there
CHROOT = """
set -e
mount --make-rprivate /
[ "$2" = directory ] || mount -t tmpfs tmpfs "$1"
for name in $(ls -A /); do
    if [ -L "/$name" ]; then cp -P "/$name" "$1"; continue; fi
    [ ! -d "/$name" ] || { mkdir "$1/$name" && mount --rbind "/$name" "$1/$name"; }
done
mkdir "$1/only-here"
cd / && exec chroot "$1" "$3" -c "$4" "$5"
"""
IN_CHROOT = """
import json, os, sys
from knetsim.system.netns import Namespaces, entered
from knetsim.system.sandbox import Sandbox

def engine():
    seen = [os.path.exists("/only-here")]
    with entered(Namespaces.of_thread("here")):
        seen.append(os.path.exists("/only-here"))
    seen.append(os.path.exists("/only-here"))
    print(json.dumps({"seen": seen, "directory": os.getcwd(), "interfaces": os.listdir("/sys/class/net")}))
    return 7

os.chdir("/only-here")
sys.exit(Sandbox(sys.argv[1], "test", "0", engine).run())
"""


@pytest.mark.parametrize("kind", ["directory", "mount"])
def test_a_chroot_is_the_root_of_all_that_is_in_the_sandbox(name: str, kind: str, tmp_path: Path) -> None:
    """Threads that come home from elsewhere come home to it, whether or not it is a mount's own root directory."""
    argv = ["unshare", "--mount", "sh", "-c", CHROOT, "sh", str(tmp_path), kind, sys.executable, IN_CHROOT, name]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout) == {"seen": [True] * 3, "directory": "/only-here", "interfaces": ["lo"]}
    assert_nothing_left(name)


def test_looking_whether_it_runs_keeps_nobody_from_looking(tmp_path: Path) -> None:
    crashed = StateDirectory(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda _: crashed.is_running(), range(400)))


def test_stop_from_another_terminal(name: str) -> None:
    box = Box(name, "wait")
    sandbox.stop(state.find(name), 10)
    assert_nothing_left(name)
    assert box.end() == signal.SIGTERM


def test_a_name_is_taken_while_it_runs(name: str) -> None:
    box = Box(name, "wait")
    second = Box(name, "return")
    assert second.end() == AlreadyExists.exit_code
    assert f"a simulation named '{name}' is running" in second.errors()
    assert box.directory.is_running(), "the second attempt must not disturb the first"


def test_two_do_not_see_each_other(name: str) -> None:
    first = Box(name, "wait")
    second = Box(f"{name}-b", "wait")
    assert first.facts["net"] != second.facts["net"]
    assert first.facts["pidns"] != second.facts["pidns"]
    identity = second.identity()
    os.kill(identity.outer, signal.SIGKILL)
    second.end()
    wait_end(identity.guard)
    assert first.directory.is_running()
    assert Path(INSIDE_STATE).is_dir(), "the first one still needs the mount point"
    sandbox.stop(first.directory, 10)
    first.end()
    assert_nothing_left(name)


def test_what_a_crash_left_is_swept_by_the_next_start(name: str, tmp_path: Path) -> None:
    box = Box(name, "wait")
    identity = box.identity()
    kept = tmp_path / "kept"
    box.directory.ledger.record("file", str(kept))
    kept.write_text("left by a crash")
    os.kill(identity.guard, signal.SIGSTOP)  # so that neither of the two that sweep can
    os.kill(identity.outer, signal.SIGKILL)
    os.kill(identity.guard, signal.SIGKILL)
    box.end()
    wait_end(identity.init)
    assert box.directory.path.exists()
    assert not box.directory.is_running()
    again = Box(name, "return")
    assert again.end() == 7
    assert not kept.exists()
    assert_nothing_left(name)


def test_a_name_must_be_a_label() -> None:
    with pytest.raises(UsageError, match="cannot name a simulation"):
        state.claim(Identity("No/Such", "", 0.0, outer=0, guard=0, detached=False, version=""))
    assert not (Path(HOST_STATE) / "No").exists()
