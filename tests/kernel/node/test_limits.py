"""Limits on memory and CPU: held to by the kernel, where it gives control groups; said where it does not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from knetsim.api.objects import Object
from knetsim.system.cgroup import CPU, MEMORY, NO_CGROUPS, Cgroup, Limits
from knetsim.system.wait import wait_until
from tests.kernel.node.conftest import DEADLINE, Lab, shell, state_of

HUNGRY = """python3 -c 'print(len(b"x" * (100 << 20)))'; exit $?"""
#: works until it is told to end
BUSY = "trap 'exit 0' TERM; echo up; while :; do :; done"


def limited(script: str, **limits: str) -> Object:
    return shell(script, image="debian", resources={"limits": limits, "requests": limits})


@pytest.fixture
def limiting(lab: Lab) -> Lab:
    """A kubelet that can enforce limits."""
    missing = {CPU, MEMORY} - lab.cgroups.resources()
    if missing:
        pytest.skip(f"no control groups for {', '.join(missing)} can be made here: {lab.cgroups.why_not}")
    return lab


def restarts_of(status: Object) -> int:
    statuses = status.get("containerStatuses") or [{}]
    return int(statuses[0].get("restartCount", 0))


def group_of(lab: Lab) -> Cgroup:
    process = lab.kubelet.find("default", "c1")[0].access(lab.get(), "main").main_process
    assert process is not None
    assert process.spec.cgroup is not None
    return process.spec.cgroup


def test_too_much_memory_is_told_and_restarted(limiting: Lab) -> None:
    limiting.put_pod(limited(HUNGRY, memory="32Mi"), restartPolicy="OnFailure")
    pod = limiting.wait(lambda status: restarts_of(status) == 1)
    status = pod["status"]["containerStatuses"][0]
    ended = status["lastState"].get("terminated") or status["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert status["resources"]["limits"] == {"memory": "32Mi"}
    assert not limiting.kubelet.not_simulated()


def test_enough_memory(limiting: Lab) -> None:
    limiting.put_pod(limited(HUNGRY, memory="300Mi"))
    pod = limiting.wait(lambda status: status.get("phase") == "Succeeded")
    assert state_of(pod["status"])["terminated"]["reason"] == "Completed"


def test_cpu_is_measured_out(limiting: Lab) -> None:
    limiting.run("c1", limited(BUSY, cpu="100m"))
    group = group_of(limiting)
    wait_until("throttling", lambda: "" if group.count_throttled() > 2 else "a span that was used up", DEADLINE)


def test_a_container_without_limits_has_no_group(limiting: Lab) -> None:
    limiting.run("c1", shell(BUSY, resources={"requests": {"memory": "32Mi"}}))
    process = limiting.kubelet.find("default", "c1")[0].access(limiting.get(), "main").main_process
    assert process is not None
    assert process.spec.cgroup is None
    assert not [name for path in limiting.made for name in os.listdir(path) if os.path.isdir(f"{path}/{name}")]


def test_the_pod_as_a_whole(limiting: Lab) -> None:
    limiting.put_pod(shell(HUNGRY, image="debian"), resources={"limits": {"memory": "32Mi"}})
    pod = limiting.wait(lambda status: status.get("phase") == "Failed")
    ended = state_of(pod["status"])["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_the_program_itself_is_in_its_group(limiting: Lab) -> None:
    limiting.run("c1", limited(BUSY, memory="64Mi", cpu="1"))
    ((_, pid),) = limiting.kubelet.find("default", "c1")[0].processes().items()
    uid = limiting.get()["metadata"]["uid"]
    assert Path(f"/proc/{pid}/cgroup").read_text().count(f"/{uid}/main-0") == len(limiting.made)


def test_limits_that_the_kernel_refuses_are_refused_the_same_again(limiting: Lab) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            limiting.cgroups.create("uid", "main-0", Limits(cpu=1e12), Limits())
    limiting.cgroups.remove_pod("uid")


def test_without_groups_it_is_said(lab: Lab) -> None:
    lab.replace_kubelet(cgroups=NO_CGROUPS)
    lab.run("c1", limited(BUSY, memory="64Mi", cpu="1"))
    fields = [found.field for _, found in lab.kubelet.not_simulated()]
    assert fields == [f"spec.containers[0].resources.limits.{name}" for name in ("cpu", "memory")]


def test_limits_that_change_while_it_runs(limiting: Lab) -> None:
    limiting.put_pod(limited(BUSY, cpu="100m"))
    pod = limiting.wait(lambda status: "running" in state_of(status))
    throttled = group_of(limiting).count_throttled()
    wait_until(
        "a span in which it waits", lambda: "" if group_of(limiting).count_throttled() > throttled else "none", DEADLINE
    )
    pod["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "4", "memory": "64Mi"}}
    limiting.put(pod)
    limiting.wait(
        lambda status: status["containerStatuses"][0].get("resources", {}).get("limits", {}).get("cpu") == "4"
    )
    assert restarts_of(limiting.get()["status"]) == 0
    assert not [reason for reason, _ in limiting.events() if reason == "ResizeError"]


def test_limits_that_come_too_late_are_told(limiting: Lab) -> None:
    pod = limiting.run("c1", shell(BUSY, image="debian"))
    pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    limiting.put(pod)
    assert "no control group" in limiting.wait_event("ResizeError")
    assert "resources" not in limiting.get()["status"]["containerStatuses"][0]
