"""As whom the processes of pods run, and what they may."""

from __future__ import annotations

from typing import Any

from knetsim.api.objects import Object
from tests.kernel.node.conftest import Lab, shell, state_of

END = "; echo end"


def secured(script: str, **context: Any) -> Object:
    return shell("exec 2>&1; " + script + END, securityContext=context)


def test_root_has_what_containers_have(lab: Lab) -> None:
    lab.put_pod(
        secured("grep -E 'CapBnd|CapEff|NoNew' /proc/self/status; ip link add d0 type bridge; id -G; pwd; echo $HOME")
    )
    log = lab.wait_log("end\n")
    assert "CapEff:\t00000000a80425fb\n" in log, "as Docker's default, see capabilities(7)"
    assert "CapBnd:\t00000000a80425fb\n" in log
    assert "NoNewPrivs:\t0\n" in log
    assert "Operation not permitted" in log
    assert log.endswith("0\n/\n/root\nend\n")


def test_a_privileged_container(lab: Lab) -> None:
    script = "ip link add d0 type bridge && ip -br link show d0 | cut -c 1-2"
    lab.put_pod(secured(script, privileged=True) | {"image": "debian"})
    assert lab.wait_log("end\n") == "d0\nend\n"


def test_another_user(lab: Lab) -> None:
    script = "id -u; id -g; id -G; grep CapEff /proc/self/status; echo $HOME; echo again > /dev/stdout; cat < /dev/null"
    container = secured(script, runAsUser=65534, allowPrivilegeEscalation=False)
    shared = {"runAsGroup": 7, "fsGroup": 1234, "supplementalGroups": [99]}
    lab.put_pod(container, securityContext=shared)
    log = lab.wait_log("end\n")
    assert log == "65534\n7\n7 99 1234\nCapEff:\t0000000000000000\n/home\nagain\nend\n"


def test_capabilities_are_added_and_dropped(lab: Lab) -> None:
    script = "ip link add d0 type bridge && echo added; chown 5 /tmp || echo refused"
    lab.put_pod(secured(script, capabilities={"add": ["NET_ADMIN"], "drop": ["CHOWN"]}))
    log = lab.wait_log("end\n")
    assert "added\n" in log
    assert "refused\n" in log


def test_a_read_only_root(lab: Lab) -> None:
    script = (
        "for d in / /tmp /run /v /dev; do echo x 2>/dev/null > $d/x && echo $d; done; echo last > /dev/termination-log"
    )
    container = {
        **secured(script, readOnlyRootFilesystem=True),
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    lab.put_pod(container, volumes=[{"name": "v", "emptyDir": {}}])
    assert lab.wait_log("end\n").endswith("/v\n/dev\nend\n")
    status = lab.wait(lambda status: "terminated" in state_of(status))["status"]
    assert state_of(status)["terminated"]["message"] == "last\n"


def test_root_where_it_must_not_be(lab: Lab) -> None:
    lab.put_pod(secured("true", runAsNonRoot=True))
    waiting = state_of(lab.wait(lambda status: state_of(status).get("waiting", {}).get("message"))["status"])["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert waiting["message"].startswith("container has runAsNonRoot and image will run as root (pod: ")
