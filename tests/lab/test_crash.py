"""`kill -9` at random moments between start and end: nothing of the simulation remains, and the next start works.

KNETSIM_CRASHES says how often (default 6); KNETSIM_SEED repeats a run's moments.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.names import HOST_STATE
from knetsim.system import sandbox
from knetsim.system.state import StateDirectory
from knetsim.system.wait import wait_until
from tests.lab.lab import CHECKOUT, KNETSIM, knetsim, running
from tests.machine import explain_difference, read_machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

CRASHES = int(os.environ.get("KNETSIM_CRASHES", "6"))
SEED = int(os.environ.get("KNETSIM_SEED", str(random.randrange(1 << 30))))
LONGEST = 6.0  # seconds from the command to the end of the lines below, at least


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    directory = StateDirectory(Path(HOST_STATE) / name)
    if directory.path.exists():
        sandbox.stop(directory, 10)


def test_killed_at_random_moments(name: str) -> None:
    before = read_machine()
    moments = random.Random(SEED)
    for attempt in range(CRASHES):
        moment = moments.uniform(0.0, LONGEST)
        outer = subprocess.Popen(
            [*KNETSIM, "up", "--name", name, "--exec", "pingall"],
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        guard = wait_moment_and_kill(outer, name, moment)
        wait_gone(guard, name)
        left = explain_difference(before, read_machine())
        assert not left, f"attempt {attempt}, killed after {moment:.2f} s (KNETSIM_SEED={SEED}): {left}"
    result = knetsim("up", "--name", name, "--exec", "pingall", timeout=180)
    assert "0% dropped" in result.stdout


def wait_moment_and_kill(outer: subprocess.Popen[bytes], name: str, moment: float) -> int | None:
    """Let the simulation live for `moment` seconds, or until it ends by itself, then kill its outer process; its
    guard's pid."""
    pidfd = os.pidfd_open(outer.pid)
    try:
        select.select([pidfd], [], [], moment)
        directory = StateDirectory(Path(HOST_STATE) / name)
        identity = directory.identity() if directory.path.exists() else None
        outer.send_signal(signal.SIGKILL)
        outer.wait()
    finally:
        os.close(pidfd)
    return identity.guard if identity else None


def wait_gone(guard: int | None, name: str) -> None:
    """Until the guard has swept: it is the last to go. It may not have said yet who it is: then its directory tells."""
    if guard is not None:
        wait_until("the guard's end", lambda: "its end" if Path(f"/proc/{guard}").exists() else "", 20)
    path = Path(HOST_STATE) / name
    wait_until("the end of the sandbox", lambda: str(path) if path.exists() else "", 20)


def test_killing_the_engine_or_init_ends_all(name: str) -> None:
    with running(
        "default",
        Path("/tmp"),
    ) as lab:
        identity = lab.identity()
        os.kill(identity.init, signal.SIGKILL)
        wait_until("the guard's end", lambda: "its end" if Path(f"/proc/{identity.guard}").exists() else "", 20)
        assert not lab.directory.path.exists()


def test_an_interrupt_during_the_start_leaves_nothing(name: str) -> None:
    before = read_machine()
    child = subprocess.Popen(
        [*KNETSIM, "up", "--name", name], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    child.stderr.readline()  # the first step is done: the start is under way
    child.send_signal(signal.SIGINT)
    assert child.wait(20) != 0
    child.stderr.close()
    wait_gone(None, name)
    assert not explain_difference(before, read_machine())


def test_two_simulations_do_not_see_each_other(tmp_path: Path) -> None:
    with running("default", tmp_path) as one, running("default", tmp_path) as other:
        one.py('C0w1.create_container("only-here")')
        names = [pod["name"] for pod in other.status()["clusters"][0]["pods"]]
        assert "only-here" not in names
        here = one.exec("C0w1", "ip", "-br", "addr").stdout
        there = other.exec("C0w1", "ip", "-br", "addr").stdout
        assert here.splitlines()[0] == there.splitlines()[0]
        assert (
            one.exec("C0w1", "readlink", "/proc/self/ns/net").stdout
            != other.exec("C0w1", "readlink", "/proc/self/ns/net").stdout
        )
        assert other.line("pingall").count("0% dropped") == 3
    assert not one.directory.path.exists()
