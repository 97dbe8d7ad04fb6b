"""What the processes of pods find in their environment and in their volumes, and how it changes."""

from __future__ import annotations

import base64
from typing import Any

from knetsim.api.objects import Object
from knetsim.system.netns import entered
from knetsim.system.wait import wait_until
from tests.kernel.node.conftest import DEADLINE, Lab, shell, state_of
from tests.kernel.node.test_kubelet import in_pod

FOREVER = "; echo up; sleep 1000"


def config_map(name: str = "settings", **data: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str = "keys", **data: str) -> Object:
    held = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"kind": "Secret", "metadata": {"name": name}, "data": held}


def mounted(script: str, path: str = "/v", **options: Any) -> Object:
    return shell(script, volumeMounts=[{"name": "v", "mountPath": path, **options}])


# --- environment


def test_environment(lab: Lab) -> None:
    lab.put(config_map(colour="blue", size="7"))
    lab.put(secret(word="hush"))
    lab.put(
        {
            "kind": "Service",
            "metadata": {"name": "kubernetes"},
            "spec": {"clusterIP": "100.64.0.1", "ports": [{"port": 443, "name": "https"}]},
        }
    )
    env = [
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "word"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "nothing", "key": "x", "optional": True}}},
        {"name": "BOTH", "value": "$(COLOUR)-$(WORD) $$(WORD) $(KUBERNETES_SERVICE_PORT)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
    ]
    whole = [{"prefix": "all_", "configMapRef": {"name": "settings"}}]
    lab.put_pod(
        shell(
            "env | sort; echo arg=$1",
            args=["sh", "$(COLOUR)"],
            env=env,
            envFrom=whole,
            resources={"limits": {"cpu": "250m"}},
        )
    )
    log = lab.wait_log("arg=")
    for line in (
        "COLOUR=blue",
        "WORD=hush",
        "BOTH=blue-hush $(WORD) 443",
        "IP=11.16.0.2",
        "CPU=250",
        "all_size=7",
        "KUBERNETES_SERVICE_HOST=100.64.0.1",
        "HOSTNAME=c1",
        "arg=blue",
    ):
        assert f"{line}\n" in log
    assert "NONE=" not in log


def test_a_container_whose_configuration_is_not_there(lab: Lab) -> None:
    env = [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}]
    lab.put_pod(shell("echo got $COLOUR", env=env))
    pod = lab.wait(lambda status: state_of(status).get("waiting", {}).get("reason") == "CreateContainerConfigError")
    assert state_of(pod["status"])["waiting"]["message"] == 'configmap "settings" not found'
    assert pod["status"]["phase"] == "Pending"
    lab.put(config_map(size="7"))
    wanted = "couldn't find key colour in ConfigMap default/settings"
    lab.wait(lambda status: state_of(status).get("waiting", {}).get("message") == wanted)
    lab.put(config_map(colour="red"))
    lab.wait_log("got red\n")
    assert ("Failed", 'Error: configmap "settings" not found') in lab.events()


# --- volumes


def test_a_config_map_is_seen_and_its_changes_are(lab: Lab) -> None:
    lab.put(config_map(colour="blue", size="7"))
    volume = {"name": "v", "configMap": {"name": "settings", "defaultMode": 0o440}}
    lab.put_pod(
        mounted("cat /v/colour; stat -Lc %a /v/colour; touch /v/x || echo read-only" + FOREVER), volumes=[volume]
    )
    log = lab.wait_log("up\n")
    assert log.startswith("blue440\n")
    assert "read-only\n" in log
    lab.put(config_map(colour="green", new="1"))

    def stale() -> str:
        return "" if in_pod(lab, "cat /v/colour") == "green" else "blue"

    wait_until("the new colour", stale, DEADLINE)
    assert in_pod(lab, "ls /v; readlink /v/colour; ls -A /v | grep -c '^\\.\\.2'") == "colour\nnew\n..data/colour\n1\n"


def test_a_file_by_sub_path_stays_as_it_was(lab: Lab) -> None:
    lab.put(config_map(colour="blue"))
    volume = {"name": "v", "configMap": {"name": "settings"}}
    whole, part = {"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/etc/colour", "subPath": "colour"}
    lab.put_pod(shell("cat /etc/colour" + FOREVER, volumeMounts=[whole, part]), volumes=[volume])
    lab.wait_log("blueup\n")
    lab.put(config_map(colour="green"))
    wait_until("the change", lambda: "" if in_pod(lab, "cat /v/colour") == "green" else "not yet", DEADLINE)
    assert in_pod(lab, "cat /etc/colour") == "blue"


def test_a_pod_waits_for_its_volumes(lab: Lab) -> None:
    lab.put_pod(mounted("cat /v/word"), volumes=[{"name": "v", "secret": {"secretName": "keys"}}])
    why = 'MountVolume.SetUp failed for volume "v" : secret "keys" not found'
    assert lab.wait_event("FailedMount") == why
    pod = lab.wait(state_of)
    assert state_of(pod["status"]) == {"waiting": {"reason": "ContainerCreating"}}
    assert "podIP" not in pod["status"], "volumes come before the network"
    lab.put(secret(word="hush"))
    lab.wait_log("hush")


def test_a_projection_of_labels_and_others(lab: Lab) -> None:
    lab.put(config_map(colour="blue"))
    lab.put(secret(word="hush"))
    downward = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {
            "path": "sub/memory",
            "resourceFieldRef": {"containerName": "main", "resource": "requests.memory"},
            "mode": 0o400,
        },
    ]
    sources = [
        {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "a/b"}]}},
        {"secret": {"name": "keys"}},
        {"downwardAPI": {"items": downward}},
    ]
    volume = {"name": "v", "projected": {"sources": sources, "defaultMode": 0o644}}
    script = "cat /v/a/b /v/word /v/labels; echo; cat /v/sub/memory; stat -Lc ' %a' /v/sub/memory" + FOREVER
    container = {**mounted(script), "resources": {"requests": {"memory": "32Mi"}}}
    pod = lab.put_pod(container, metadata={"labels": {"app": 'x"y'}}, volumes=[volume])
    lab.wait_log('bluehushapp="x\\"y"\n33554432 400\nup\n')
    lab.wait(lambda status: status.get("phase") == "Running")
    pod = lab.get()
    lab.put({**pod, "metadata": {**pod["metadata"], "labels": {"app": "z"}}})
    wait_until("the new label", lambda: "" if in_pod(lab, "cat /v/labels") == 'app="z"' else "not yet", DEADLINE)


def test_the_group_of_a_volume(lab: Lab) -> None:
    lab.put(secret(word="hush"))
    volumes = [
        {"name": "v", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {"name": "e", "emptyDir": {}},
        {"name": "m", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in "vem"]
    script = "stat -Lc '%g %a' /v/word /e /m" + FOREVER
    lab.put_pod(shell(script, volumeMounts=mounts), volumes=volumes, securityContext={"fsGroup": 1234})
    lab.wait_log("1234 440\n1234 2777\n1234 3777\nup\n")


def test_sub_path_with_variables(lab: Lab) -> None:
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/own", "subPathExpr": "logs/$(POD)"}]
    lab.put_pod(shell("echo x > /own/f; find /v -type f", env=env, volumeMounts=mounts), volumes=[{"name": "v"}])
    lab.wait_log("/v/logs/c1/f\n")


def test_a_sub_path_that_leads_out(lab: Lab) -> None:
    env = [{"name": "UP", "value": "../x"}]
    container = shell("true", env=env, volumeMounts=[{"name": "v", "mountPath": "/v", "subPathExpr": "$(UP)"}])
    lab.put_pod(container, volumes=[{"name": "v", "emptyDir": {}}])
    pod = lab.wait(lambda status: state_of(status).get("waiting", {}).get("reason") == "CreateContainerConfigError")
    assert state_of(pod["status"])["waiting"]["message"] == "unable to provision SubPath `../x`: must not contain '..'"


# --- hostPath


def test_a_host_path_is_the_workers_own(lab: Lab) -> None:
    volume = [{"name": "v", "hostPath": {"path": "/data", "type": "DirectoryOrCreate"}}]
    lab.put_pod(mounted("echo one > /v/f; ln -s /etc /v/out" + FOREVER), volumes=volume)
    lab.wait_log("up\n")
    lab.put_pod(mounted("cat /v/f" + FOREVER), name="c2", volumes=volume)
    lab.wait_log("one\nup\n", "c2")
    lab.put_pod(mounted("ls /v | head -1; echo x > /v/written; echo end"), name="c3", volumes=[
        {"name": "v", "hostPath": {"path": "/data/out", "type": "Directory"}}
    ])  # fmt: skip
    log = lab.wait_log("end\n", "c3")
    assert "passwd" not in log, "a link in the tree leads into the tree"
    with open(f"{lab.worker_of().directory}/host/etc/written") as file:
        assert file.read() == "x\n"


def test_a_host_path_of_another_type(lab: Lab) -> None:
    lab.put_pod(mounted("true"), volumes=[{"name": "v", "hostPath": {"path": "/no/such", "type": "Directory"}}])
    why = 'MountVolume.SetUp failed for volume "v" : hostPath type check failed: /no/such is not a directory'
    assert lab.wait_event("FailedMount") == why


def test_the_machines_own_files_are_read_only(lab: Lab) -> None:
    volume = {"name": "v", "hostPath": {"path": "/etc/os-release"}}
    lab.put_pod(mounted("grep -c ^NAME= /v; echo x > /v || echo refused", "/v"), volumes=[volume])
    assert lab.wait_log("refused").startswith("1\n")


def test_what_is_not_simulated_is_said(lab: Lab) -> None:
    lab.put_pod(mounted("true"), volumes=[{"name": "v", "nfs": {"server": "x", "path": "/"}}])
    assert lab.wait_event("FailedMount").endswith("knetsim's kubelet does not simulate volumes of type nfs")


def test_secrets_are_never_on_a_disk(lab: Lab) -> None:
    lab.put(secret(word="hush"))
    volumes = [{"name": "v", "secret": {"secretName": "keys"}}]
    lab.put_pod(mounted("grep ' /v ' /proc/mounts | cut -d ' ' -f 3; cat /v/word" + FOREVER), volumes=volumes)
    assert lab.wait_log("up\n") == "tmpfs\nhushup\n"
    lab.delete(grace_seconds=0)
    with entered(lab.worker_of().namespaces), open("/proc/thread-self/mounts") as file:
        assert "volumes/v" not in file.read()


def test_variables_of_any_name_in_the_shell_of_kubernetes_tests(lab: Lab) -> None:
    lab.put(config_map(**{"data-1": "x", "a.b": "y"}))
    container = shell("env | sort; echo end", envFrom=[{"prefix": "p-", "configMapRef": {"name": "settings"}}])
    lab.put_pod({**container, "image": "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"})
    log = lab.wait_log("end\n")
    assert "p-data-1=x\n" in log
    assert "p-a.b=y\n" in log
