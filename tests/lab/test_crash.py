"""`kill -9` at random moments between start and end: nothing of the simulation remains, and the next start works.

KNETSIM_CRASHES says how often (default 6); KNETSIM_SEED repeats a run's moments. Other simulations of this machine may
come and go meanwhile: they change nothing outside of their sandboxes, and what is looked for is the killed one's.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO

import pytest
import yaml

from knetsim.control_choice import has_kubernetes
from knetsim.names import HOST_STATE
from knetsim.system.state import StateDirectory
from knetsim.system.wait import wait_until
from tests.lab.lab import CHECKOUT, KNETSIM, START_SECONDS, knetsim, running
from tests.lab.sandbox_fixture import name
from tests.machine import explain_difference, find_control_groups, read_machine

__all__ = ["name"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

CRASHES = int(os.environ.get("KNETSIM_CRASHES", "6"))
SEED = int(os.environ.get("KNETSIM_SEED", str(random.randrange(1 << 30))))
#: seconds from the command to the end of the lines below, at least
LONGEST = 20.0 if has_kubernetes() else 6.0
#: seconds within which one that is up, and has just got 20 pods to start, is killed
LIVING = 4.0
#: what other simulations of this machine, and tests that run beside these, have outside of sandboxes
_OTHERS = ("state", "control groups", "processes")

SMALL = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: small}
spec:
  clusters:
    - {name: C0, workers: 1, controlPlane: kubernetes, etcd: {members: 1}}
"""
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: theirs, cluster: {server: "https://192.0.2.1"}}]
users: [{name: theirs, user: {token: secret}}]
contexts: [{name: theirs, context: {cluster: theirs, user: theirs}}]
current-context: theirs
"""


@pytest.mark.timeout(120 + 60 * CRASHES)
def test_killed_at_random_moments(name: str) -> None:
    before = read_shared()
    moments = random.Random(SEED)
    for attempt in range(CRASHES):
        is_up = attempt % 2 == 1
        outer = start(name, () if is_up else ("--exec", "pingall"))
        if is_up:
            load(name)
        moment = moments.uniform(0.0, LIVING if is_up else LONGEST)
        guard, inside = wait_moment_and_kill(outer, name, moment)
        wait_gone(guard, name)
        with inside or nullcontext():
            left = explain_difference(before, read_shared()) + find_own(name, inside)
        when = f"{moment:.2f} s after {'it was up' if is_up else 'the command'}"
        assert not left, f"attempt {attempt}, killed {when} (KNETSIM_SEED={SEED}): {left}"
    result = knetsim("up", "--name", name, "--exec", "pingall", timeout=180)
    assert "0% dropped" in result.stdout


def start(name: str, words: Sequence[str] = (), scenario: str = "default") -> subprocess.Popen[bytes]:
    """A simulation that is not waited for; without `--exec` at a prompt that nobody types at."""
    return subprocess.Popen(
        [*KNETSIM, "up", scenario, "--name", name, *words],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def load(name: str) -> None:
    """Wait until the simulation is up, and give it something to do."""
    wait_until("the simulation", lambda: explain_unready(name), START_SECONDS)
    if has_kubernetes():
        image = "--image=registry.k8s.io/pause:3.10"
        knetsim("kubectl", "--name", name, "create", "deployment", "load", image, "--replicas=20")


def read_shared() -> dict[str, frozenset[str]]:
    """What no simulation may leave on the machine."""
    return {kind: items for kind, items in read_machine().items() if kind not in _OTHERS}


def find_own(name: str, inside: IO[bytes] | None) -> list[str]:
    """What is left of the simulation `name`, whose processes were in the pid namespace `inside`."""
    groups = [f"control group {group} is left" for group in sorted(find_control_groups(name))]
    return groups + find_processes(name, inside)


def find_processes(name: str, inside: IO[bytes] | None) -> list[str]:
    """What runs in the pid namespace `inside`, or was started with the simulation's name."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            argv = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            same = inside is not None and os.path.samestat(os.fstat(inside.fileno()), (path / "ns/pid").stat())
        except OSError:
            continue  # it ended while we looked
        if same or name in argv:
            found.append(f"process {path.name} is left: {argv}")
    return found


def wait_moment_and_kill(
    outer: subprocess.Popen[bytes], name: str, moment: float
) -> tuple[int | None, IO[bytes] | None]:
    """Let the simulation live for `moment` seconds, or until it ends by itself, then kill its outer process; its
    guard's pid and its pid namespace, as far as it had come."""
    pidfd = os.pidfd_open(outer.pid)
    try:
        select.select([pidfd], [], [], moment)
        directory = StateDirectory(Path(HOST_STATE) / name)
        identity = directory.identity() if directory.path.exists() else None
        inside = read_pid_namespace(identity.init) if identity else None
        outer.send_signal(signal.SIGKILL)
        outer.communicate()
    finally:
        os.close(pidfd)
    return identity.guard if identity else None, inside


def read_pid_namespace(pid: int | None) -> IO[bytes] | None:
    """Which one a process is in, or None when it is not there. While it is open, no other one gets its number."""
    try:
        return open(f"/proc/{pid}/ns/pid", "rb") if pid else None
    except OSError:
        return None


def wait_gone(guard: int | None, name: str) -> None:
    """Until the guard has swept: it is the last to go. It may not have said yet who it is: then its directory tells."""
    if guard is not None:
        wait_until("the guard's end", lambda: "its end" if Path(f"/proc/{guard}").exists() else "", 60)
    path = Path(HOST_STATE) / name
    wait_until("the end of the sandbox", lambda: str(path) if path.exists() else "", 60)


def test_killing_the_engine_or_init_ends_all(name: str) -> None:
    with running(
        "default",
        Path("/tmp"),
    ) as lab:
        identity = lab.identity()
        os.kill(identity.init, signal.SIGKILL)
        wait_until("the guard's end", lambda: "its end" if Path(f"/proc/{identity.guard}").exists() else "", 60)
        assert not lab.directory.path.exists()


@pytest.mark.skipif(not has_kubernetes(), reason="Kubernetes' control plane is not installed")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("end", ["down", "interrupt", "kill"])
def test_merged_contexts_go_with_the_simulation(name: str, end: str, tmp_path: Path) -> None:
    """However it ends; what else is in the user's kubeconfig stays."""
    scenario, config = tmp_path / "scenario.yaml", tmp_path / "config"
    scenario.write_text(SMALL)
    config.write_text(KUBECONFIG)
    outer = start(name, scenario=str(scenario))
    try:
        wait_until("the simulation", lambda: explain_unready(name), START_SECONDS)
        knetsim("kubeconfig", "--merge", "--file", str(config), "--name", name)
        assert "knetsim-C0" in config.read_text()
        assert "theirs" in config.read_text()
        if end == "down":
            knetsim("down", "--name", name)
        else:
            outer.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGKILL)
        outer.wait(30)
        wait_gone(None, name)
    finally:
        outer.kill()
        outer.communicate()
    assert yaml.safe_load(config.read_text()) == yaml.safe_load(KUBECONFIG)


def explain_unready(name: str) -> str:
    """What keeps a simulation from being asked for its kubeconfig; empty when nothing does."""
    done = knetsim("status", "--name", name, "-o", "json", check=False)
    return "" if done.returncode == 0 and json.loads(done.stdout)["state"] == "ready" else done.stderr or "it starts"


def test_an_interrupt_during_the_start_leaves_nothing(name: str) -> None:
    before = read_shared()
    child = subprocess.Popen(
        [*KNETSIM, "up", "--name", name], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    child.stderr.readline()  # the first step is done: the start is under way
    child.send_signal(signal.SIGINT)
    assert child.wait(20) != 0
    child.stderr.close()
    wait_gone(None, name)
    assert not explain_difference(before, read_shared()) + find_own(name, None)


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
