"""A real simulation as a fixture: started as a user starts it, asked as other terminals ask it, ended, nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from knetsim.names import HOST_STATE
from knetsim.system import rpc, sandbox
from knetsim.system.state import StateDirectory
from knetsim.system.wait import wait_until
from tests.machine import new_simulation_name

KNETSIM = [sys.executable, "-m", "knetsim.cli.main"]
CHECKOUT = Path(__file__).resolve().parents[2]
START_SECONDS = 180
#: how long a change may take until it is seen where it counts
SETTLE_SECONDS = 60.0
#: one of two takes none of so many tries with a probability of 2^-24, one of three with 2^-14
TRIES = 24
#: the control plane of scenarios that name none: `auto` unless said, so that all tests can be run with either
CONTROL_PLANE = os.environ.get("KNETSIM_TEST_CONTROL_PLANE", "")


def knetsim(
    *words: str, timeout: float = 60, check: bool = True, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    result = subprocess.run(
        [*KNETSIM, *words], capture_output=True, text=True, timeout=timeout, input=stdin, cwd=CHECKOUT, check=False
    )
    if check and result.returncode != 0:
        raise AssertionError(
            f"knetsim {' '.join(words)} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
        )
    return result


def wait_to_find(what: str, read: Callable[[], object], wanted: object) -> None:
    """Wait until `read` returns what is wanted."""

    def explain() -> str:
        found = read()
        return "" if found == wanted else f"{found} instead of {wanted}"

    wait_until(what, explain, SETTLE_SECONDS)


class Lab:
    """A running simulation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = StateDirectory(Path(HOST_STATE) / name)
        #: what the start printed
        self.started = ""

    def exec(
        self, target: str, *argv: str, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """`knetsim exec TARGET -- ARGV…`"""
        return knetsim("exec", "--name", self.name, target, "--", *argv, check=check, timeout=timeout)

    def apply(self, manifest: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`knetsim apply` of a manifest's text."""
        return knetsim("apply", "--name", self.name, "-f", "-", stdin=manifest, check=check)

    def curl(self, place: str, words: str, times: int = 1) -> Counter[str]:
        """Who answered how often; `exit 7` is curl's for refused, `exit 22` for an HTTP error, `exit 28` for lost."""
        script = f"for i in $(seq {times}); do curl -sf -m 3 {words} || echo exit $?; done"
        return Counter(self.exec(place, "sh", "-c", script, timeout=60 + 3 * times).stdout.splitlines())

    def settle(self, place: str, words: str, wanted: set[str]) -> None:
        """Wait until exactly these answer curl: kube-proxy takes a second for a change."""
        wait_to_find(f"{place} curl {words}", lambda: set(self.curl(place, words, TRIES)), wanted)

    def line(self, text: str, check: bool = True) -> str:
        """A line at the mininet> prompt; what it printed."""
        answer, _ = rpc.call(self.directory.control_socket, "line", timeout=180, line=text)
        assert not check or answer["code"] == 0, f"mininet> {text}\nended with {answer['code']}:\n{answer['output']}"
        return str(answer["output"])

    def py(self, expression: str, check: bool = True) -> str:
        """`py EXPRESSION` at the prompt."""
        return self.line(f"py {expression}", check).rstrip("\n")

    def status(self) -> dict[str, Any]:
        """`knetsim status -o json`, without a process."""
        answer, _ = rpc.call(self.directory.control_socket, "status")
        assert isinstance(answer, dict)
        return answer

    def daemon(self, name: str) -> dict[str, Any]:
        """A daemon's status by its name, `C0w1/flanneld`."""
        found = [daemon for daemon in _daemons(self.status()) if daemon["name"] == name]
        assert found, f"no daemon {name}"
        return found[0]

    def member(self, name: str) -> dict[str, Any]:
        """An etcd member's status."""
        members = [one for cluster in self.status()["clusters"] for one in cluster["etcd"]["members"]]
        return next(one for one in members if one["name"] == name)

    def host_pid(self, inner: int) -> int:
        """The pid by which the host knows a process of the simulation."""
        init = self.identity().init
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    status = (path / "status").read_text()
                    same = os.path.samefile(path / "ns/pid", f"/proc/{init}/ns/pid")
                except OSError:
                    continue  # it ended while we looked, or is none of ours
                pids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
                if same and int(pids[-1]) == inner:
                    return int(path.name)
        raise AssertionError(f"no process {inner} in {self.name}")

    def identity(self) -> Any:
        """Who the simulation is on the host."""
        identity = self.directory.identity()
        assert identity is not None
        return identity


def _chosen(scenario: str) -> str:
    """The scenario's text, with the control plane that this run of the tests is about where it names none."""
    bundled = CHECKOUT / "scenarios" / f"{scenario}.yaml" if "\n" not in scenario else None
    text = bundled.read_text() if bundled else textwrap.dedent(scenario)
    if not CONTROL_PLANE:
        return text
    document = yaml.safe_load(text)
    for cluster in document["spec"]["clusters"]:
        cluster.setdefault("controlPlane", CONTROL_PLANE)
    if bundled:
        entries = document["spec"].get("manifests", [])
        document["spec"]["manifests"] = [str(bundled.parent / entry) for entry in entries]
    return yaml.safe_dump(document, sort_keys=False)


def _daemons(status: Any) -> Iterator[dict[str, Any]]:
    """Every daemon anywhere in a status."""
    if isinstance(status, dict):
        if "lastExit" in status:
            yield status
        for value in status.values():
            yield from _daemons(value)
    elif isinstance(status, list):
        for value in status:
            yield from _daemons(value)


@contextmanager
def running(scenario: str, tmp_path: Path, *options: str) -> Iterator[Lab]:
    """A simulation of `scenario` (YAML text, or the name of one that comes along), ended at the end of the block."""
    name = new_simulation_name()
    if "\n" in scenario or CONTROL_PLANE:
        file = tmp_path / "scenario.yaml"
        file.write_text(_chosen(scenario))
        scenario = str(file)
    lab = Lab(name)
    try:
        up = knetsim("up", scenario, "--name", name, "--detach", *options, timeout=START_SECONDS)
        lab.started = up.stdout + up.stderr
        yield lab
    finally:
        if lab.directory.path.exists():
            sandbox.stop(lab.directory, 60)
    assert not lab.directory.path.exists()
