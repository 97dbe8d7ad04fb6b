"""The lives of containers, with real processes: probes, hooks, sidecars, ephemeral containers, deadlines, graceful
ends."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest

from knetsim.api.objects import KINDS, Object, encode, storage_key
from knetsim.system.wait import wait_until
from tests.kernel.node.conftest import DEADLINE, Lab, shell, state_of

FOREVER = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
#: a web server of a few lines: /ok 200, /bad 500, /go to /ok, /away to another host; /stop ends it
SERVER = """
import http.server, os, sys, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, self.headers["User-Agent"], self.headers["X-Who"], flush=True)
        code = {"/ok": 200, "/bad": 500, "/go": 302, "/away": 302}.get(self.path, 404)
        code = 200 if os.path.exists("/tmp/good") else code
        self.send_response(code)
        if code == 302:
            self.send_header("Location", {"/go": "/ok", "/away": "http://192.0.2.1/"}[self.path])
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(("", 8080), Handler)
print("up", flush=True)
server.serve_forever()
"""


def web(path: str, kind: str = "readiness", **probe: Any) -> Object:
    numbers = {"periodSeconds": 1, "failureThreshold": 1, **probe}
    get = {"path": path, "port": "http", "httpHeaders": [{"name": "X-Who", "value": "me"}]}
    return {
        "name": "main",
        "image": "debian",
        "command": ["python3", "-c", SERVER],
        "ports": [{"name": "http", "containerPort": 8080}],
        f"{kind}Probe": {"httpGet": get, **numbers},
    }


def ready(status: Object) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())


def in_container(lab: Lab, *argv: str, container: str | None = None) -> None:
    lab.kubelet.start_in_pod("default", "c1", argv, container)


# --- probes


def test_a_readiness_probe_by_http(lab: Lab) -> None:
    lab.create("c1", web("/bad"))
    lab.wait_log("up")
    message = lab.wait_event("Unhealthy")
    assert message.startswith("Readiness probe failed: ")
    lab.wait_log("/bad kube-probe/1.36 me")
    wait_until(
        "a 500",
        lambda: "" if "HTTP probe failed with statuscode: 500" in str(lab.events()) else "its Event",
        DEADLINE,
    )
    assert not ready(lab.get()["status"])
    assert lab.get()["status"]["containerStatuses"][0]["started"]
    in_container(lab, "touch", "/tmp/good")
    lab.wait(ready)
    in_container(lab, "rm", "/tmp/good")
    lab.wait(lambda status: not ready(status))


@pytest.mark.parametrize(("path", "event"), [("/go", ""), ("/away", "ProbeWarning")])
def test_redirects(lab: Lab, path: str, event: str) -> None:
    lab.run("c1", web(path, failureThreshold=3))
    if event:
        assert lab.wait_event(event).startswith("Readiness probe warning: Probe terminated redirects")
    else:
        lab.wait_log("/ok ")


def test_a_liveness_probe_ends_and_restarts(lab: Lab) -> None:
    container = web("/bad", "liveness", initialDelaySeconds=1)
    lab.run("c1", container)
    status = lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] >= 1)["status"]
    assert "Container main failed liveness probe, will be restarted" in str(lab.events())
    assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137, "it ignores SIGTERM"


def test_back_off_of_what_a_liveness_probe_ends(lab: Lab) -> None:
    """As a kubelet: it looks at the end before the one that the probe has just caused. Two restarts are at once."""
    ill = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    lab.create("c1", shell("exec sleep 1000", livenessProbe=ill), terminationGracePeriodSeconds=0)
    status = lab.wait(lambda status: state_of(status).get("waiting", {}).get("reason") == "CrashLoopBackOff")["status"]
    one = status["containerStatuses"][0]
    assert (one["restartCount"], one["lastState"]["terminated"]["exitCode"]) == (2, 137)
    assert one["state"]["waiting"]["message"].startswith("back-off 10s ")
    lab.pass_time(10)
    lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 3)
    lab.wait(lambda status: "back-off 20s" in str(state_of(status)))


def test_probes_by_command(lab: Lab) -> None:
    probe = {"exec": {"command": ["sh", "-c", "echo $(WHO); test -e /tmp/good"]}, "periodSeconds": 1}
    env = [{"name": "WHO", "value": "me"}]
    lab.create("c1", shell("HOME=x; " + FOREVER, readinessProbe={**probe, "failureThreshold": 1}, env=env))
    assert lab.wait_event("Unhealthy").startswith("Readiness probe failed: me\n")
    in_container(lab, "touch", "/tmp/good")
    lab.wait(ready)


def test_a_command_that_takes_too_long(lab: Lab) -> None:
    probe = {"exec": {"command": ["sleep", "1000"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    lab.create("c1", shell(FOREVER, livenessProbe=probe), restartPolicy="Never", terminationGracePeriodSeconds=1)
    lab.wait(lambda status: status["phase"] in ("Succeeded", "Failed"))
    assert 'Liveness probe failed: command timed out: "sleep 1000" timed out after 1s' in str(lab.events())
    assert "Container main failed liveness probe'" in str(lab.events())


def test_a_startup_probe_comes_first(lab: Lab) -> None:
    start = {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 100}
    live = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    lab.create("c1", shell(FOREVER, startupProbe=start, livenessProbe=live))
    assert "Startup probe failed" in lab.wait_event("Unhealthy")
    status = lab.get()["status"]["containerStatuses"][0]
    assert (status["started"], status["ready"], status["restartCount"]) == (False, False, 0)
    in_container(lab, "touch", "/tmp/alive", "/tmp/started")
    lab.wait(ready)
    in_container(lab, "rm", "/tmp/alive")
    lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 1)


def test_probes_by_tcp_and_grpc(lab: Lab) -> None:
    listen = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    lab.create("c1", {**web("/ok"), "readinessProbe": listen})
    lab.wait(ready)
    call = {"grpc": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    lab.create("c2", {**web("/ok"), "readinessProbe": call})
    wait_until(
        "a failure",
        lambda: "" if "Readiness probe failed: " in str(lab.events("c2")) else "an Event",
        DEADLINE,
    )


# --- hooks


def test_a_post_start_hook_comes_before_running(lab: Lab) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "until test -e /tmp/go; do sleep 0.05; done"]}}}
    lab.create("c1", shell(FOREVER, lifecycle=hook), shell(FOREVER, "next"))
    lab.wait_log("up")
    status = lab.get()["status"]
    assert [state_of(status, number)["waiting"]["reason"] for number in (0, 1)] == ["ContainerCreating"] * 2
    in_container(lab, "touch", "/tmp/go", container="main")
    lab.wait(lambda status: status["phase"] == "Running")
    lab.wait_log("up", container="next")


def test_a_post_start_hook_that_fails(lab: Lab) -> None:
    hook = {"postStart": {"exec": {"command": ["false"]}}}
    lab.create("c1", shell(FOREVER, lifecycle=hook), restartPolicy="Never")
    lab.wait(lambda status: status["phase"] in ("Succeeded", "Failed"))
    assert lab.wait_event("FailedPostStartHook") == "PostStartHook failed"
    assert lab.wait_event("Killing") == "FailedPostStartHook"


def test_a_pre_stop_hook_comes_before_term(lab: Lab) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}
    script = "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    lab.run("c1", shell(script, lifecycle=hook))
    lab.wait_log("up")
    log = lab.kubelet.log_path("default", "c1")
    with open(log) as file:  # it can be read on when its directory is gone
        lab.delete()
        assert [line.split()[-1] for line in file.read().splitlines()] == ["up", "hook", "term"]
    assert lab.wait_event("Killing") == "Stopping container main"


def test_a_pre_stop_hook_by_http_and_one_that_fails(lab: Lab) -> None:
    one = {"preStop": {"httpGet": {"port": 8080, "path": "/bad"}}}
    server = {**web("/ok"), "lifecycle": one}
    lab.run("c1", server, terminationGracePeriodSeconds=5)
    with open(lab.kubelet.log_path("default", "c1")) as file:
        lab.delete()
        assert "/bad kube-lifecycle/1.36" in file.read()
    lab.run("c2", shell(FOREVER, lifecycle={"preStop": {"exec": {"command": ["no-such-program"]}}}))
    lab.delete("c2")
    assert lab.wait_event("FailedPreStopHook", "c2") == "PreStopHook failed"


def test_sleeping_hooks(lab: Lab) -> None:
    hooks = {"postStart": {"sleep": {"seconds": 1}}, "preStop": {"sleep": {"seconds": 3600}}}
    lab.run("c1", shell(FOREVER, lifecycle=hooks), terminationGracePeriodSeconds=3600)
    lab.store.delete("Pod", "c1")
    lab.wait_event("Killing")
    assert lab.get()["status"]["containerStatuses"][0]["state"].get("running")
    lab.delete("c1", grace_seconds=1)  # a second deletion shortens the first


# --- sidecars, ephemeral containers, deadlines


def test_a_sidecar_lives_as_long_as_the_pod(lab: Lab) -> None:
    always = {"restartPolicy": "Always"}
    side = shell("trap 'echo term >> /data/log; exit 0' TERM; " + FOREVER.partition("; ")[2], "side", **always)
    mount = [{"name": "data", "mountPath": "/data"}]
    side["volumeMounts"] = mount
    main = shell("until test -e /data/go; do sleep 0.05; done; echo main >> /data/log", volumeMounts=mount)
    lab.create("c1", main, initContainers=[side], restartPolicy="Never", volumes=[{"name": "data"}])
    status = lab.wait(lambda status: status["phase"] == "Running")["status"]
    assert status["initContainerStatuses"][0]["ready"]
    assert status["initContainerStatuses"][0]["started"]
    directory = lab.kubelet._runs["default/c1"].sandbox.directory
    in_container(lab, "touch", "/data/go", container="side")
    status = lab.wait(lambda status: status["phase"] == "Succeeded")["status"]
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    with open(f"{directory}/volumes/data/log") as file:
        assert file.read() == "main\nterm\n"


def test_an_ephemeral_container_is_started_once(lab: Lab) -> None:
    pod = lab.run("c1", shell(FOREVER))
    debug = shell("echo here; exit 3", "debug")
    edited = {**pod, "spec": {**pod["spec"], "ephemeralContainers": [debug]}}
    key = storage_key(KINDS["Pod"], "c1", "default")
    # as by the subresource of an API server
    assert lab.etcd.swap(key, encode(edited), int(pod["metadata"]["resourceVersion"])).done
    status = lab.wait(lambda status: "terminated" in str(status.get("ephemeralContainerStatuses")))["status"]
    assert status["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert status["phase"] == "Running"
    lab.pass_time(60)
    lab.run("c2")
    assert lab.get()["status"]["ephemeralContainerStatuses"][0]["restartCount"] == 0


def test_a_deadline(lab: Lab) -> None:
    lab.run("c1", shell(FOREVER), activeDeadlineSeconds=1000, restartPolicy="Never")
    lab.pass_time(1001)
    status = lab.wait(lambda status: "terminated" in state_of(status))["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert status["message"] == "Pod was active on the node longer than the specified deadline"


def test_a_containers_own_restart_policy(lab: Lab) -> None:
    lab.create("c1", shell("exit 3", restartPolicy="Never"), shell(FOREVER, "other"))
    status = lab.wait(lambda status: state_of(status, 0).get("terminated"))["status"]
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["restartCount"] == 0


def test_back_off_is_told(lab: Lab) -> None:
    lab.create("c1", shell("exit 1"))
    uid = lab.get()["metadata"]["uid"]
    assert lab.wait_event("BackOff") == f"Back-off restarting failed container main in pod c1_default({uid})"


# --- what a worker takes


def test_a_pod_that_does_not_fit_is_rejected(lab: Lab) -> None:
    greedy = {**shell(FOREVER), "resources": {"requests": {"cpu": "1000"}}}
    lab.create("c1", greedy)
    status = lab.wait(lambda status: status.get("phase") == "Failed")["status"]
    assert status["reason"] == "OutOfcpu"
    assert status["message"].startswith("Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000")
    assert lab.wait_event("OutOfcpu")
    lab.delete("c1")
    lab.create("c2", nodeSelector={"zone": "nowhere"})
    assert lab.wait(lambda status: status.get("phase") == "Failed", "c2")["status"]["reason"] == "NodeAffinity"


def test_room_is_free_again_when_a_pod_has_ended(lab: Lab) -> None:
    half = {"resources": {"requests": {"memory": "600Gi"}}}
    lab.kubelet._nodes._registered["c0w1"].node["status"]["allocatable"]["memory"] = "1000Gi"
    lab.kubelet._nodes._nodes.by_key("c0w1")["status"]["allocatable"]["memory"] = "1000Gi"
    lab.create("c1", shell("exit 0", **half), restartPolicy="Never")
    lab.wait(lambda status: status.get("phase") == "Succeeded")
    lab.run("c2", shell(FOREVER, **half))
    lab.create("c3", shell(FOREVER, **half))
    assert lab.wait(lambda status: status.get("phase") == "Failed", "c3")["status"]["reason"] == "OutOfmemory"


def test_what_is_not_simulated_is_said(lab: Lab) -> None:
    lab.run("c1", shell(FOREVER), hostPID=True)
    message = lab.wait_event("NotSimulated")
    assert message == "spec.hostPID is not simulated: containers see their own processes only"
    assert [(key, one.field) for key, one in lab.kubelet.not_simulated()] == [("default/c1", "spec.hostPID")]
    lab.delete()
    assert lab.kubelet.not_simulated() == []


# --- workers


def test_a_node_that_somebody_deletes_or_marks_comes_back(lab: Lab) -> None:
    uid = lab.store.delete("Node", "c0w1")["metadata"]["uid"]

    def node() -> Object:
        return next((one for one in lab.store.list("Node").items if one["metadata"]["name"] == "c0w1"), {})

    wait_until("the Node", lambda: "" if node().get("metadata", {}).get("uid") not in (None, uid) else "it", DEADLINE)
    marked = node()
    for condition in marked["status"]["conditions"]:
        condition["status"], condition["reason"] = "Unknown", "NodeStatusUnknown"
    lab.store.update_status(marked)
    wait_until(
        "Ready",
        lambda: "" if {one["status"] for one in node()["status"]["conditions"]} >= {"True"} else "True",
        DEADLINE,
    )


def test_a_static_pod(lab: Lab) -> None:
    folder = f"{lab.worker_of(1).directory}/manifests"
    os.makedirs(folder)
    path = f"{folder}/web.yaml"
    with open(path, "w") as file:
        json.dump(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [shell(FOREVER)]}},
            file,
        )
    name = "web-c0w1"
    lab.pods.wait_for(lambda pods: pods.get("default", name) is not None, DEADLINE, "the mirror")
    lab.kubelet.wait_pods_ready(DEADLINE, [("default", name)])
    started = lab.get(name)["status"]["containerStatuses"][0]["containerID"]
    uid = lab.store.delete("Pod", name)["metadata"]["uid"]
    lab.pods.wait_for(
        lambda pods: (pods.get("default", name) or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid,
        DEADLINE,
        "another",
    )
    lab.wait(ready, name)
    assert lab.get(name)["status"]["containerStatuses"][0]["containerID"] == started, "the container did not notice"
    os.unlink(path)
    lab.pods.wait_for(lambda pods: pods.get("default", name) is None, DEADLINE, "its end")


def test_a_static_pod_that_is_none_holds_up_no_other(lab: Lab) -> None:
    folder = f"{lab.worker_of(1).directory}/manifests"
    os.makedirs(folder)
    spec = {"containers": [{"name": "pause", "image": "pause"}]}
    broken = [{"spec": "none"}, {"metadata": []}, {"spec": {"containers": 7}}, {"metadata": {"name": "No_Name"}}]
    for number, change in enumerate([*broken, {}]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec, **change}
        with open(f"{folder}/{number}.yaml", "w") as file:
            json.dump(pod, file)
    lab.pods.wait_for(lambda pods: pods.get("default", "web-c0w1") is not None, DEADLINE, "the mirror")
    for words in ("0.yaml: spec must", "1.yaml: a static pod needs", "2.yaml: spec.containers must", "No_Name"):
        wait_until("an Event", lambda words=words: "" if words in str(lab.events("c0w1")) else words, DEADLINE)
    shutil.rmtree(folder)
    lab.pods.wait_for(lambda pods: pods.get("default", "web-c0w1") is None, DEADLINE, "its end")


def test_a_probe_runs_as_the_container_does(lab: Lab) -> None:
    """As its user and with its root directory, and what it starts in the background goes on."""
    script = "test $(id -u) = 1234 && test $WHO = me && (sleep 60 & echo $! >/tmp/pid); ls -n /tmp/pid >&2"
    probe = {"exec": {"command": ["sh", "-c", f"({script}) >/proc/1/fd/1 2>&1"]}, "periodSeconds": 60}
    lab.put_pod(
        shell(
            FOREVER,
            readinessProbe=probe,
            env=[{"name": "WHO", "value": "me"}],
            securityContext={"runAsUser": 1234, "runAsGroup": 1234},
        )
    )
    lab.wait(ready)
    lab.wait_log("1234")
    in_container(lab, "sh", "-c", "kill -0 $(cat /tmp/pid) && echo alive >/proc/1/fd/1")
    lab.wait_log("alive")


def test_another_signal_to_end_it(lab: Lab) -> None:
    script = "trap 'exit 3' USR1; touch /tmp/up; while :; do sleep 0.05; done"
    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    container = shell(script, lifecycle={"stopSignal": "SIGUSR1"}, livenessProbe=probe)
    lab.put_pod(container, restartPolicy="Always")
    pod = lab.wait(lambda status: (status.get("containerStatuses") or [{}])[0].get("restartCount"))
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
