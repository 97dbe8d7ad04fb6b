"""Probing the machine: true, and without a trace."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from knetsim.cli.doctor import doctor
from knetsim.cli.version import version
from knetsim.errors import EXIT_OK, KnetsimError, NotReady
from knetsim.system import features
from knetsim.system.features import REQUIRED, kernel, software
from knetsim.system.features.apart import Apart, Findings, try_apart
from knetsim.system.features.kernel import Trial
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces, entered

pytestmark = pytest.mark.usefixtures("no_leaks")

FEATURE_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "group", "need", "present", "detail", "cost", "remedy"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "group": {"enum": ["machine", "kernel", "program", "python"]},
        "need": {"enum": ["required", "optional", "later"]},
        "present": {"type": ["boolean", "null"]},
        "detail": {"type": "string"},
        "cost": {"type": "string", "minLength": 1},
        "remedy": {"type": "string", "minLength": 1},
    },
}
DOCTOR_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["knetsim", "usable", "features"],
    "properties": {
        "knetsim": {"type": "string", "pattern": r"^\d+\.\d+"},
        "usable": {"type": "boolean"},
        "features": {"type": "array", "minItems": 50, "items": FEATURE_SCHEMA},
    },
}


def tried_by_hand(command: str, places: Callable[[str], Namespaces]) -> bool:
    """Whether the command works in a namespace that has a veth pair k0, k1."""
    with entered(places("by-hand")):
        subprocess.run(["ip", "link", "add", "k0", "type", "veth", "peer", "name", "k1"], check=True)
        return subprocess.run(command.split(), capture_output=True, check=False).returncode == 0


def test_the_answers_are_true(places: Callable[[str], Namespaces]) -> None:
    """Each command is typed by hand too, but for those that could load a module into the host."""
    present = {feature.name: feature.present for feature in kernel.read_kernel()}
    trials = [trial for trial in (*kernel.DEVICES[1:], *kernel.QUEUES) if not trial.leaves]
    assert {trial.name: present[trial.name] for trial in trials} == {
        trial.name: tried_by_hand(trial.command, places) for trial in trials
    }


def test_doctor_answers_by_its_schema() -> None:
    file = io.StringIO()
    code = doctor("json", file)
    answer: Any = json.loads(file.getvalue())
    jsonschema.validate(answer, DOCTOR_SCHEMA)
    assert answer["usable"] == (code == EXIT_OK)
    names = [feature["name"] for feature in answer["features"]]
    assert len(names) == len(set(names))
    assert set(names) >= REQUIRED


def test_version_answers_as_json() -> None:
    file = io.StringIO()
    version("json", file)
    answer = json.loads(file.getvalue())
    assert answer["kernel"] == os.uname().release
    assert all(isinstance(found, str) and found for found in answer["programs"].values())


def test_no_process_stays_behind() -> None:
    """`no_leaks` compares the rest: devices, rules, mounts, descriptors."""
    before = _children()
    kernel.read_kernel()
    assert _children() <= before


def _children() -> set[str]:
    """Our processes, those included that have ended and nobody has asked for."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for file in lists for pid in file.read_text().split()}


def test_require_is_content_here() -> None:
    features.require(REQUIRED)


def test_require_tries_only_what_it_is_asked() -> None:
    assert [feature.name for feature in kernel.read_kernel(["nft nat", "veth"])] == ["nft nat", "veth"]
    assert software.find_software(["no such"]) == []


def test_what_the_kernel_lacks_is_said_in_its_own_words() -> None:
    unknown = Trial("x", "later", "ip link add k99 type nonsense", "CONFIG_X", "nothing")
    found = try_apart(lambda apart: {"x": kernel.try_command(unknown)}, 10)
    present, why = found["x"]
    assert present is False
    assert "nknown" in why or "not supported" in why


def test_a_kind_whose_module_would_change_the_host_is_not_tried() -> None:
    """A kind that nobody knows stands for one that is not loaded: no module is looked for by the kernel."""
    careful = Trial("x", "later", "false", "CONFIG_X", "nothing", kind="nonsense", module="nonsense", leaves="x0")
    found = try_apart(lambda apart: {"x": kernel.try_command(careful)}, 10)
    assert found["x"] == (False, "unknown to the running kernel")
    known = Trial("x", "later", "true", "CONFIG_X", "nothing", kind="veth", module="nonsense", leaves="x0")
    assert try_apart(lambda apart: {"x": kernel.try_command(known)}, 10)["x"] == (True, "")


# --- the child


def test_the_child_is_somewhere_else(tmp_path: Path) -> None:
    def look(apart: Apart) -> Findings:
        links = {kind: (True, os.readlink(f"/proc/self/ns/{kind}")) for kind in ("net", "mnt", "uts", "ipc")}
        assert apart.scratch
        Path(apart.scratch, "file").write_text("x")
        return {**links, "pid": (os.getpid() == 1, ""), "processes": (True, str(len(os.listdir("/proc"))))}

    found = try_apart(look, 10)
    for kind in ("net", "mnt", "uts", "ipc"):
        assert found[kind][1] != os.readlink(f"/proc/self/ns/{kind}")
    assert found["pid"][0]
    assert not Path("/run/file").exists()


def test_the_child_stays_there_wherever_its_parent_has_been(places: Callable[[str], Namespaces]) -> None:
    """To enter a namespace is to come back afterwards: the child must come back to its own, not to its parent's."""
    with entered(places("elsewhere")):
        pass

    def look(apart: Apart) -> Findings:
        before = os.readlink("/proc/self/ns/net")
        Netlink.in_namespace(Namespaces.of_thread("here", ("net",))).close()
        return {"same": (os.readlink("/proc/self/ns/net") == before, "")}

    assert try_apart(look, 10)["same"][0]


def test_who_takes_too_long_is_ended() -> None:
    def sleep(apart: Apart) -> Findings:
        time.sleep(3600)
        return {}

    with pytest.raises(NotReady):
        try_apart(sleep, 0.2)


def test_a_failure_in_the_child_is_an_error_here(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(apart: Apart) -> Findings:
        raise RuntimeError("broken")

    with pytest.raises(KnetsimError, match="could not be tried"):
        try_apart(fail, 10)
    assert "broken" in capfd.readouterr().err


def test_without_a_network_namespace_no_device_is_tried() -> None:
    """Devices would be made on the host: the trials must see that they stand there."""

    def refused(apart: Apart) -> Findings:
        apart.refused["net"] = "Operation not permitted"
        return kernel.try_all(apart, kernel.NAMES)

    found = try_apart(refused, 10)
    untried = {name for name, finding in found.items() if finding == (None, "no network namespace")}
    assert untried == {"sysctl", *(trial.name for trial in (*kernel.DEVICES, *kernel.QUEUES, *kernel.RULES))}
    assert found["net namespace"] == (False, "Operation not permitted")


def test_a_process_without_the_privilege_learns_so() -> None:
    """In a child that has given up CAP_SYS_ADMIN every namespace is refused, and nothing is made on the host."""
    script = (
        "from knetsim.system.features import kernel, machine\n"
        "import json\n"
        "lacking = [f.name for f in (*machine.read_privileges(), *kernel.read_kernel()) if f.present is False]\n"
        "print(json.dumps(lacking))\n"
    )
    argv = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", script]
    answer = subprocess.run(argv, capture_output=True, text=True, check=True)
    lacking = json.loads(answer.stdout)
    assert {"CAP_SYS_ADMIN", "net namespace", "pid namespace", "mounts"} <= set(lacking)
    assert "veth" not in lacking  # it was not tried
