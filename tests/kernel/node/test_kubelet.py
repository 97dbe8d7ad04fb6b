"""Pods made true on workers: their lives from creation to deletion, with real namespaces, wiring and processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.objects import Object, encode, parse_time, storage_key
from knetsim.dataplane.pod import NativeWiring, PodPlace, Wired, WorkerPlace
from knetsim.errors import CommandError, KnetsimError, NotFound, NotReady
from knetsim.node.kubelet import KubeletWorker
from knetsim.node.kubelet.registration import Nodes
from knetsim.system.container_watch import read_log
from knetsim.system.netns import entered
from knetsim.system.ping import ping
from knetsim.system.run import run
from knetsim.system.wait import wait_until
from tests.kernel.conftest import make_wiring
from tests.kernel.node.conftest import DEADLINE, Lab, shell, state_of

FOREVER = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"


def published(lab: Lab, worker: int = 1) -> list[str]:
    with entered(lab.worker_of(worker).namespaces):
        return sorted(os.listdir("/run/netns"))


def veths(lab: Lab, worker: int = 1) -> list[str]:
    return [link.name for link in lab.worker_of(worker).netlink.links() if link.name.startswith("veth") and link.up]


def in_pod(lab: Lab, script: str, name: str = "c1", container: str | None = None) -> str:
    place = lab.kubelet.exec_place("default", name, container)
    try:
        return run(["sh", "-c", script], place=place, cwd="/").output
    finally:
        place.close()


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status.get("conditions") or ()}


# --- a pod that holds its network


def test_a_pause_pod(lab: Lab) -> None:
    pod = lab.run()
    status = pod["status"]
    assert status["phase"] == "Running"
    assert set(conditions(status).values()) == {"True"}
    assert (status["podIP"], status["hostIP"]) == ("11.16.0.2", "10.1.1.1")
    assert status["observedGeneration"] == 1
    assert published(lab) == ["k0_c1"]
    assert len(veths(lab)) == 1
    assert in_pod(lab, "hostname; cat /etc/hostname; grep 11.16 /etc/hosts; ls /sys/class/net") == (
        "c1\nc1\n11.16.0.2\tc1\neth0\nlo\n"
    )
    assert lab.events() == [], "nothing is said where nothing is to be said"


def test_it_costs_one_write_and_no_process(lab: Lab) -> None:
    before, processes = lab.etcd.writes, len(os.listdir("/proc/self/task"))
    lab.run()
    assert lab.etcd.writes - before == 2, "its creation and its status"
    assert len(os.listdir("/proc/self/task")) == processes


def test_pods_reach_each_other(lab: Lab) -> None:
    for name in ("c1", "c2", "c3"):
        lab.create(name)
    lab.kubelet.wait_pods_ready(DEADLINE)
    addresses = [lab.get(name)["status"]["podIP"] for name in ("c1", "c2", "c3")]
    place = lab.kubelet.exec_place("default", "c1")
    try:
        assert all(time is not None for time in ping(place, addresses).values())
    finally:
        place.close()


def test_many_at_once(lab: Lab) -> None:
    names = [f"p{number}" for number in range(40)]
    for number, name in enumerate(names):
        lab.create(name, worker=number % 2 + 1)
    lab.kubelet.wait_pods_ready(DEADLINE)
    addresses = {lab.get(name)["status"]["podIP"] for name in names}
    assert len(addresses) == 40
    assert len(published(lab, 1)) == len(published(lab, 2)) == 20
    for name in names:
        lab.store.delete("Pod", name)
    for name in names:
        lab.pods.wait_for(lambda pods, name=name: pods.get("default", name) is None, DEADLINE, name)
    assert published(lab, 1) == published(lab, 2) == []


def test_with_the_real_plugins(lab: Lab) -> None:
    lab.replace_kubelet(make_wiring("plugins"))
    addresses = [lab.run(name)["status"]["podIP"] for name in ("c1", "c2")]
    assert reaches(lab, addresses[0])
    in_pod(lab, "ip link del eth0")
    lab.pass_time(60)
    lab.wait_event("NetworkRepaired")
    wait_until("c1", lambda: "" if reaches(lab, lab.get()["status"]["podIP"]) else "an answer", DEADLINE)
    lab.delete("c1")
    assert published(lab) == ["k0_c2"]


def test_a_view_of_one_pod_keeps_no_other_alive(lab: Lab) -> None:
    lab.run("c1")
    inode = os.stat(f"/proc/self/fd/{lab.kubelet._runs['default/c1'].sandbox._own.net}").st_ino
    lab.run("c2")
    assert in_pod(lab, "ls /run/netns | wc -l", "c2") == "0\n"
    lab.delete("c1")
    place = lab.kubelet.exec_place("default", "c2")
    try:
        mounts = run(["cat", "/proc/self/mountinfo"], place=place).output
    finally:
        place.close()
    assert f"net:[{inode}]" not in mounts


# --- containers


def test_a_command_runs(lab: Lab) -> None:
    env = [{"name": "WHO", "value": "world"}]
    lab.run("c1", shell("echo hello $WHO from $(hostname); echo $0 $1; " + FOREVER, args=["$(WHO)", "$$(x)"], env=env))
    status = lab.get()["status"]["containerStatuses"][0]
    assert status["ready"]
    assert status["started"]
    assert status["restartCount"] == 0
    assert status["containerID"].startswith("knetsim://")
    assert lab.wait_log("up") == "hello world from c1\nworld $(x)\nup\n"
    assert "echo hello" in in_pod(lab, "tr '\\0' ' ' < /proc/1/cmdline")
    assert lab.wait_event("Started") == "Container started"


def test_containers_of_a_pod_share_network_and_volumes_not_files(lab: Lab) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    first = shell("echo one > /data/one; echo mine > /tmp/mine; " + FOREVER, "first", volumeMounts=mount)
    second = shell(FOREVER, "second", volumeMounts=[{"name": "data", "mountPath": "/srv/x", "subPath": "sub"}, *mount])
    lab.run("c1", first, second, {"name": "pause", "image": "pause"}, volumes=[{"name": "data"}])
    wait_file(lab, "/data/one", "second")
    assert (
        in_pod(lab, "cat /data/one; ls /tmp /srv/x; ls /data", container="second")
        == "one\n/srv/x:\n\n/tmp:\none\nsub\n"
    )
    addresses = {in_pod(lab, "ip -4 -o addr show eth0", container=name) for name in ("first", "second")}
    assert len(addresses) == 1
    assert in_pod(lab, "cat /tmp/mine") == "mine\n", "the first that runs, unless said"
    assert in_pod(lab, "test -e /data || echo none", container="pause") == "none\n"


def wait_file(lab: Lab, path: str, container: str) -> None:
    script = f"n=0; until test -e {path} || test $n = 500; do n=$((n+1)); sleep 0.01; done; test -e {path}"
    in_pod(lab, script, container=container)


def test_a_volume_with_a_limit(lab: Lab) -> None:
    mount = [{"name": "small", "mountPath": "/small"}]
    volumes = [{"name": "small", "emptyDir": {"sizeLimit": "1Mi"}}]
    script = "head -c 2000000 /dev/zero > /small/x || echo full; stat -c %s /small/x; " + FOREVER
    lab.run("c1", shell(script, volumeMounts=mount), volumes=volumes)
    assert "full\n1048576\n" in lab.wait_log("up")
    directory = lab.kubelet._runs["default/c1"].sandbox.directory
    lab.delete()
    assert not os.path.exists(directory)


def test_a_link_in_a_volume_leads_nowhere_else(lab: Lab) -> None:
    whole, part = {"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/part", "subPath": "out"}
    first = shell("ln -s ../../../../../../../../etc /v/out; echo up; sleep 1000", "first", volumeMounts=[whole])
    lab.run("c1", first, volumes=[{"name": "v"}])
    lab.wait_log("up")
    pod = lab.get()
    pod["spec"]["containers"].append(shell("ls /part", "second", volumeMounts=[part]))
    sandbox = lab.kubelet._runs["default/c1"].sandbox
    with pytest.raises(KnetsimError, match='failed to prepare subPath for volumeMount "v" of container "second"'):
        sandbox.volumes.mounts(pod["spec"]["containers"][1], {})


@pytest.mark.parametrize(("policy", "code"), [("OnFailure", 0), ("Never", 0), ("Never", 3)])
def test_a_pod_that_ends(lab: Lab, policy: str, code: int) -> None:
    message = {"terminationMessagePath": "/dev/termination-log"}
    lab.create("c1", shell(f"echo bye; echo done > /dev/termination-log; exit {code}", **message), restartPolicy=policy)
    status = lab.wait(lambda status: status.get("phase") in ("Succeeded", "Failed"))["status"]
    assert status["phase"] == ("Failed" if code else "Succeeded")
    ended = state_of(status)["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (code, "Error" if code else "Completed", "done\n")
    assert status["podIP"] == "11.16.0.2", "it is still said which address it had"
    assert conditions(status)["PodReadyToStartContainers"] == "False"
    assert published(lab) == []
    assert veths(lab) == []
    assert read_log(lab.kubelet.log_path("default", "c1")) == "bye\n"
    with pytest.raises(NotFound, match=r"no container of Pod default/c1 is running: main: (Completed|Error)"):
        lab.kubelet.exec_place("default", "c1")
    directory = lab.kubelet._runs["default/c1"].sandbox.directory
    lab.delete()
    assert not os.path.exists(directory)


def test_waiting_for_a_pod_that_fails_ends_with_its_words(lab: Lab) -> None:
    lab.create("c1", {"name": "main", "image": "busybox", "command": ["no-such-program"]}, restartPolicy="Never")
    with pytest.raises(NotReady, match="executable file not found"):
        lab.kubelet.wait_pods_ready(DEADLINE)


def test_the_last_words_of_a_container_are_its_message(lab: Lab) -> None:
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    lab.create("c1", shell("echo starting; echo no such database >&2; exit 9", **policy), restartPolicy="Never")
    status = lab.wait(lambda status: status.get("phase") == "Failed")["status"]
    assert state_of(status)["terminated"]["message"] == "starting\nno such database\n"


def test_crash_loop(lab: Lab) -> None:
    lab.create("c1", shell("echo run; exit 1"))
    status = lab.wait(lambda status: state_of(status).get("waiting", {}).get("reason") == "CrashLoopBackOff")["status"]
    one = status["containerStatuses"][0]
    uid = lab.get()["metadata"]["uid"]
    message = f"back-off 10s restarting failed container=main pod=c1_default({uid})"
    assert one["state"]["waiting"]["message"] == message
    assert one["lastState"]["terminated"]["exitCode"] == 1
    assert one["restartCount"] == 1, "the first restart is at once"
    assert status["phase"] == "Running"
    assert conditions(status)["Ready"] == "False"
    lab.pass_time(10)
    status = lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 2)["status"]
    status = lab.wait(lambda status: "back-off 20s" in str(state_of(status)))["status"]
    log = lab.kubelet.log_path("default", "c1")
    assert os.path.basename(log) == "2.log"
    assert read_log(log) == read_log(lab.kubelet.log_path("default", "c1", previous=True)) == "run\n"
    assert not os.path.exists(log.replace("2.log", "0.log"))
    with pytest.raises(NotReady, match="CrashLoopBackOff back-off 20s"):
        lab.kubelet.wait_pods_ready(0.01)


@pytest.mark.parametrize("step", [86400.0, -86400.0], ids=["tomorrow", "yesterday"])
def test_a_wall_clock_that_is_set(lab: Lab, step: float) -> None:
    """No time passes by it: what is held back stays so, what runs goes on, and what is written says the new time."""
    lab.create("loops", shell("exit 1"))
    lab.create("runs", shell("sleep 1000"))
    lab.wait(lambda status: state_of(status).get("waiting", {}).get("reason") == "CrashLoopBackOff", "loops")
    before = lab.wait(lambda status: conditions(status).get("Ready") == "True", "runs")["status"]
    lab.set_clock(step)
    lab.pass_time(1)
    late = lab.create("late", shell("sleep 1000"))["metadata"]["creationTimestamp"]
    started = lab.wait(lambda status: conditions(status).get("Ready") == "True", "late")["status"]["startTime"]
    assert abs(parse_time(started) - parse_time(late)) < DEADLINE
    assert lab.get("loops")["status"]["containerStatuses"][0]["restartCount"] == 1
    assert lab.get("runs")["status"] == before
    lab.pass_time(10)
    lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 2, "loops")


def test_what_cannot_be_started(lab: Lab) -> None:
    lab.create("c1", {"name": "main", "image": "busybox", "command": ["no-such-program"]}, restartPolicy="Never")
    status = lab.wait(lambda status: status.get("phase") == "Failed")["status"]
    ended = state_of(status)["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "executable file not found in $PATH" in ended["message"]
    assert 'failed to start container "main"' in lab.wait_event("Failed")


def test_an_image_that_is_not_to_be_had(lab: Lab) -> None:
    lab.create("c1", {"name": "web", "image": "unheard-of:1"}, shell(FOREVER))
    status = lab.wait(lambda status: state_of(status, 0).get("running"))["status"]
    assert state_of(status, 1)["waiting"]["reason"] == "ErrImagePull"
    assert status["phase"] == "Pending"
    lab.pass_time(5)
    lab.wait(lambda status: state_of(status, 1).get("waiting", {}).get("reason") == "ImagePullBackOff")
    lab.pass_time(5)
    lab.wait(lambda status: state_of(status, 1).get("waiting", {}).get("reason") == "ErrImagePull")
    words = [message for _, message in lab.events() if "unheard-of" in message or "Error" in message]
    assert words[0] == 'Pulling image "unheard-of:1"'
    assert "docs/images.md" in words[1]
    assert words[2] == "Error: ErrImagePull"
    pod = lab.get()
    pod["spec"]["containers"][0]["image"] = "pause"
    lab.store.update(pod)
    lab.wait(lambda status: status["phase"] == "Running")


def test_a_changed_image_is_a_restart(lab: Lab) -> None:
    lab.run("c1", shell(FOREVER), restartPolicy="Never")
    pod = lab.get()
    pod["spec"]["containers"][0]["image"] = "busybox:2"
    lab.store.update(pod)
    status = lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 1)["status"]
    assert status["phase"] == "Running"
    assert "definition changed" in lab.wait_event("Killing")


def test_init_containers_come_first_and_in_order(lab: Lab) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    pod = lab.create(
        "c1", shell("cat /data/log; " + FOREVER, volumeMounts=mount), volumes=[{"name": "data"}], nodeName=""
    )
    pod["spec"]["nodeName"] = "c0w1"
    pod["spec"]["initContainers"] = [
        shell(f"sleep 0.1; echo {name} >> /data/log", name, volumeMounts=mount) for name in ("one", "two")
    ]
    write_unchecked(lab, pod)
    lab.kubelet.wait_pods_ready(DEADLINE)
    assert lab.get()["status"]["initContainerStatuses"][1]["ready"]
    assert lab.wait_log("up").startswith("one\ntwo\n")


def write_unchecked(lab: Lab, pod: dict[str, Any]) -> None:
    """Store what the store without an API server refuses, as an API server would."""
    from knetsim.api.objects import KINDS

    key = storage_key(KINDS["Pod"], pod["metadata"]["name"], "default")
    assert lab.etcd.swap(key, encode(pod), int(pod["metadata"]["resourceVersion"])).done


# --- deletion


def test_graceful_deletion(lab: Lab) -> None:
    lab.run("c1", shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"))
    lab.wait_log("up")
    phases = []
    lab.pods.on_change(lambda key, before, after: phases.append((after or {}).get("status", {}).get("phase")))
    directory = lab.kubelet._runs["default/c1"].sandbox.directory
    lab.delete()
    assert phases[-2:] == ["Succeeded", None], "its end is told before it goes"
    assert published(lab) == []
    assert veths(lab) == []
    assert not os.path.exists(directory)
    assert lab.wait_event("Killing") == "Stopping container main"
    with pytest.raises(NotFound):
        lab.kubelet.exec_place("default", "c1")


def test_who_does_not_listen_is_killed_after_the_grace_period(lab: Lab) -> None:
    lab.run("c1", {"name": "main", "image": "busybox", "command": ["sleep", "1000"]}, terminationGracePeriodSeconds=30)
    uid = lab.store.delete("Pod", "c1")["metadata"]["uid"]
    lab.wait_event("Killing")
    assert published(lab) == ["k0_c1"]
    with pytest.raises(NotReady):
        lab.kubelet.wait_pod_gone("default", "c1", uid, 0.05)
    lab.pass_time(30)
    lab.kubelet.wait_pod_gone("default", "c1", uid, DEADLINE)
    assert published(lab) == []


def test_a_deletion_can_be_hurried(lab: Lab) -> None:
    lab.run("c1", {"name": "main", "image": "busybox", "command": ["sleep", "1000"]}, terminationGracePeriodSeconds=300)
    lab.store.delete("Pod", "c1")
    lab.wait_event("Killing")
    lab.delete(grace_seconds=0)
    assert published(lab) == []


def test_strays_end_with_the_pod(lab: Lab) -> None:
    lab.run()
    pid = lab.kubelet.start_in_pod("default", "c1", ["sh", "-c", "echo hi; trap '' TERM; sleep 1000"])
    background = in_pod(lab, "setsid sleep 1000 > /dev/null 2>&1 & echo $!").strip()
    log = Path(lab.kubelet._runs["default/c1"].sandbox.directory, "exec-1.log")
    wait_until("its output", lambda: "" if log.read_text() == "hi\n" else "hi", DEADLINE)
    lab.delete()
    for stray in (pid, int(background)):
        assert not is_running(stray)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_name_that_is_used_again(lab: Lab) -> None:
    old = lab.run("c1", shell(FOREVER))
    pid = next(iter(lab.kubelet._runs["default/c1"]._containers)).process.pid
    lab.store.delete("Pod", "c1", grace_seconds=0)
    new = lab.run("c1", shell("echo new; " + FOREVER), worker=2)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert not is_running(pid)
    assert published(lab, 1) == []
    assert published(lab, 2) == ["k0_c1"]


def test_finalizers_hold_the_object_not_the_pod(lab: Lab) -> None:
    pod = lab.run()
    lab.store.update({**pod, "metadata": {**pod["metadata"], "finalizers": ["example.com/hold"]}})
    lab.store.delete("Pod", "c1")
    lab.wait(lambda status: status["phase"] == "Succeeded")
    lab.pods.wait_for(
        lambda pods: pods.get("default", "c1")["metadata"].get("deletionGracePeriodSeconds") == 0, DEADLINE, "the end"
    )
    assert published(lab) == []


def test_who_is_killed_has_not_succeeded(lab: Lab) -> None:
    """A Job counts what the last status of its pod says, which its finalizer keeps."""
    pod = lab.run("c1", shell("sleep 1000"), restartPolicy="Never")
    lab.store.update({**pod, "metadata": {**pod["metadata"], "finalizers": ["batch.kubernetes.io/job-tracking"]}})
    lab.store.delete("Pod", "c1", grace_seconds=0)
    status = lab.wait(lambda status: status["phase"] in ("Succeeded", "Failed"))["status"]
    ended = state_of(status)["terminated"]
    assert (status["phase"], ended["exitCode"], ended["reason"]) == ("Failed", 137, "Error")


# --- when things go wrong


class FailingWiring(NativeWiring):
    """Fails as a plugin does, so often."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def add(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        if self.failures:
            self.failures -= 1
            raise CommandError(["bridge"], 1, '{"code": 11, "msg": "no addresses available"}', worker.name)
        return super().add(worker, pod)


def test_wiring_that_fails_is_told_and_tried_again(lab: Lab) -> None:
    lab.replace_kubelet(FailingWiring(2))
    lab.create()
    status = lab.wait(lambda status: state_of(status).get("waiting"))["status"]
    waiting = state_of(status)["waiting"]
    assert waiting["reason"] == "CreatePodSandboxError"
    assert "no addresses available" in waiting["message"]
    assert conditions(status)["PodReadyToStartContainers"] == "False"
    assert "no addresses available" in lab.wait_event("FailedCreatePodSandBox")
    assert published(lab) == []
    lab.pass_time(60)
    wait_until("two failures", lambda: str(lab.network.failures or ""), DEADLINE)
    lab.pass_time(60)
    lab.kubelet.wait_pods_ready(DEADLINE)


def test_a_pod_whose_network_fails_can_be_deleted(lab: Lab) -> None:
    lab.replace_kubelet(FailingWiring(1000))
    lab.create()
    lab.wait_event("FailedCreatePodSandBox")
    lab.delete()
    assert published(lab) == []


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("pod", "ip link del eth0"),
        ("pod", "ip route del default"),
        ("worker", "ip link del cni0"),
        ("worker", "ip link del {veth}"),
        ("worker", "ip link set {veth} nomaster"),
        ("worker", "ip addr flush dev cni0"),
        ("worker", "umount /run/netns/k0_c1 && rm /run/netns/k0_c1"),
    ],
)
def test_what_somebody_changes_by_hand_is_repaired(lab: Lab, where: str, change: str) -> None:
    lab.run("c1", shell(FOREVER))
    lab.run("c2")
    pid = in_pod(lab, "cut -d' ' -f22 /proc/1/stat")
    if where == "pod":
        in_pod(lab, change)
    else:
        wired = lab.kubelet._runs["default/c1"].sandbox.wired
        run(["sh", "-c", change.format(veth=wired.host_interface)], place=lab.worker_of().namespaces)
    lab.pass_time(60)
    lab.wait_event("NetworkRepaired", "c1", "c0w1")  # whoever saw it first
    assert "k0_c1" in published(lab)
    wait_until("c1", lambda: "" if reaches(lab, lab.get()["status"]["podIP"]) else "an answer", DEADLINE)
    assert lab.get()["status"]["podIP"] in in_pod(lab, "cat /etc/hosts")
    assert in_pod(lab, "cut -d' ' -f22 /proc/1/stat") == pid, "the same process"


def reaches(lab: Lab, address: str) -> bool:
    place = lab.kubelet.exec_place("default", "c2")
    try:
        return ping(place, [address], timeout=0.2)[address] is not None
    finally:
        place.close()


def test_without_repair_things_stay_broken(lab: Lab) -> None:
    lab.replace_kubelet(repair=False)
    lab.run()
    in_pod(lab, "ip link set eth0 down")
    lab.pass_time(600)
    lab.run("c2")
    assert "NetworkRepaired" not in dict(lab.events())
    assert "state DOWN" in in_pod(lab, "ip link show eth0")


def test_a_store_that_is_away_for_a_while(lab: Lab) -> None:
    lab.run("c1", shell(FOREVER))
    lab.create("c2")
    lab.kubelet.wait_pods_ready(DEADLINE)
    lab.wait_log("up")
    lab.etcd.broken = True
    in_pod(lab, "kill -9 -1; kill 1")
    lab.etcd.broken = False
    lab.pass_time(60)
    lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 1)


def test_a_status_that_somebody_else_writes_is_put_right(lab: Lab) -> None:
    pod = lab.run()
    for condition in pod["status"]["conditions"]:
        if condition["type"] == "Ready":
            condition["status"] = "False"
    lab.store.update_status(pod)
    lab.wait(
        lambda status: conditions(status)["Ready"] == "True" and status["conditions"] != pod["status"]["conditions"]
    )


# --- the next kubelet


def test_a_new_kubelet_takes_over_addresses_and_counts_restarts(lab: Lab) -> None:
    pause, main = lab.run("c1"), lab.run("c2", shell(FOREVER))
    lab.create("once", shell(FOREVER), restartPolicy="Never")
    lab.kubelet.wait_pods_ready(DEADLINE)
    inode = in_pod(lab, "readlink /proc/self/ns/net")
    lab.replace_kubelet(NativeWiring())
    lab.wait(lambda status: status["phase"] == "Failed", "once")
    lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 1, "c2")
    lab.kubelet.wait_pods_ready(DEADLINE, [("default", "c1"), ("default", "c2")])
    assert in_pod(lab, "readlink /proc/self/ns/net") == inode
    assert lab.get("c1")["status"] == pause["status"], "nothing has happened to it"
    assert lab.get("c2")["status"]["podIP"] == main["status"]["podIP"]
    last = lab.get("c2")["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "ContainerStatusUnknown")
    new = lab.run("c3")
    assert new["status"]["podIP"] not in (pause["status"]["podIP"], main["status"]["podIP"])


def test_a_new_kubelet_knows_what_had_ended_and_what_had_not_begun(lab: Lab) -> None:
    lab.create("done", shell("echo bye"), restartPolicy="Never")
    lab.create("mixed", {"name": "web", "image": "unheard-of"}, {"name": "pause", "image": "pause"})
    lab.wait(lambda status: status["phase"] == "Succeeded", "done")
    lab.wait(lambda status: state_of(status, 0).get("running"), "mixed")
    before = lab.get("done")["status"], lab.get("mixed")["status"]
    lab.replace_kubelet(NativeWiring())
    assert lab.log("done") == "bye\n"
    directory = lab.kubelet._runs["default/done"].sandbox.directory
    lab.run("after")
    assert (lab.get("done")["status"], lab.get("mixed")["status"]) == before
    lab.delete("done")
    assert not os.path.exists(directory)


def test_a_new_kubelet_keeps_what_is_in_memory(lab: Lab) -> None:
    mount = [{"name": "m", "mountPath": "/m"}]
    volumes = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
    lab.run("c1", shell("date +%s%N >> /m/runs; " + FOREVER, volumeMounts=mount), volumes=volumes)
    lab.wait_log("up")
    lab.replace_kubelet(NativeWiring())
    lab.wait(lambda status: status["containerStatuses"][0]["restartCount"] == 1)
    lab.kubelet.wait_pods_ready(DEADLINE)
    lab.wait_log("up")
    assert in_pod(lab, "wc -l < /m/runs") == "2\n"
    directory = lab.kubelet._runs["default/c1"].sandbox.directory
    lab.delete()
    assert not os.path.exists(directory)


def test_a_new_kubelet_makes_anew_what_is_gone(lab: Lab) -> None:
    lab.run()
    lab.kubelet.stop()
    run(["sh", "-c", "umount /run/netns/k0_c1; rm /run/netns/k0_c1"], place=lab.worker_of().namespaces)
    lab.kubelet = lab.build_kubelet(NativeWiring())
    lab.wait_event("SandboxChanged")
    wait_until("c1", lambda: "" if published(lab) == ["k0_c1"] else "its namespace", DEADLINE)


def test_a_new_kubelet_ends_what_was_being_deleted(lab: Lab) -> None:
    lab.run("c1", {"name": "main", "image": "busybox", "command": ["sleep", "1000"]}, terminationGracePeriodSeconds=300)
    uid = lab.store.delete("Pod", "c1")["metadata"]["uid"]
    lab.wait_event("Killing")
    lab.replace_kubelet(NativeWiring())
    lab.kubelet.wait_pod_gone("default", "c1", uid, DEADLINE)
    assert published(lab) == []


# --- questions


def test_what_is_not_there(lab: Lab) -> None:
    lab.run("c1", shell(FOREVER))
    for call in (lab.kubelet.exec_place, lab.kubelet.log_path):
        with pytest.raises(NotFound, match="no pod 'c9'"):
            call("default", "c9")
    with pytest.raises(NotFound, match="no container 'mian'") as caught:
        lab.kubelet.exec_place("default", "c1", "mian")
    assert caught.value.hint == "did you mean 'main'?"
    with pytest.raises(CommandError):
        lab.kubelet.start_in_pod("default", "c1", ["no-such-program"])


def test_who_owns_what(lab: Lab) -> None:
    lab.run()
    owned = lab.kubelet.owned_names("c0w1")
    assert owned.namespaces == {"k0_c1"}
    assert owned.interfaces == set(veths(lab))
    assert lab.kubelet.owned_names("c0w2") == type(owned)(frozenset(), frozenset())


def test_nodes_and_heartbeats(lab: Lab) -> None:
    node = lab.store.get("Node", "C0w1")
    assert node["metadata"]["labels"]["zone"] == "a"
    assert {"type": "InternalIP", "address": "10.1.1.1"} in node["status"]["addresses"]
    lease = lab.store.get("Lease", "c0w1", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == "c0w1"
    assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
    lab.store.delete("Lease", "c0w1", "kube-node-lease")
    lab.kubelet._nodes.renew("c0w1")
    assert lab.store.get("Lease", "c0w1", "kube-node-lease")
    lab.store.delete("Node", "c0w1")
    lab.kubelet._nodes.write_status("c0w1")
    assert lab.store.get("Node", "c0w1")["metadata"]["uid"] != node["metadata"]["uid"]
    assert [(one.worker, one.pods, one.reachable) for one in lab.kubelet.status()] == [
        ("C0w1", 0, True),
        ("C0w2", 0, True),
    ]


def test_registering_again_keeps_what_others_wrote(lab: Lab) -> None:
    node = lab.store.get("Node", "c0w1")
    node["metadata"]["labels"]["mine"] = "yes"
    node["spec"]["unschedulable"] = True
    lab.store.update(node)
    lab.replace_kubelet()
    again = lab.store.get("Node", "c0w1")
    assert again["metadata"]["uid"] == node["metadata"]["uid"]
    assert again["metadata"]["labels"]["mine"] == "yes"
    assert again["spec"]["unschedulable"]


class Meddling(EtcdStore):
    """Somebody taints a Node just after it has been read for the first time."""

    tainted = False

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        found = super().get(kind, name, namespace)
        if kind == "Node" and not self.tainted:
            self.tainted = True
            taints = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
            super().update({**found, "spec": {**found["spec"], "taints": taints}})
        return found


def test_what_is_written_while_a_node_registers_again_is_kept(lab: Lab) -> None:
    store = Meddling(lab.etcd, clock=lab.clock.wall)
    nodes = Nodes(store, (), 10.0, lab.clock.wall, lab.clock.steady)
    nodes.register(KubeletWorker(lab.worker_of(), lab.network, "10.1.1.1", {"zone": "b"}))
    node = lab.store.get("Node", "c0w1")
    assert node["metadata"]["labels"]["zone"] == "b"
    assert [taint["key"] for taint in node["spec"].get("taints", ())] == ["node.kubernetes.io/unreachable"]
