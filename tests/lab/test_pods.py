"""The life of pods in a real simulation: every way to run the pod network, the same tests.

Both control planes and all four wirings come in four runs; KNETSIM_TEST_ALL=1 tries all eight.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.control_choice import has_kubernetes
from knetsim.system.programs import find_plugin, find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import Lab, running

WAYS = [
    ("kubernetes", "flanneld", "plugins"),
    ("kubernetes", "embedded", "native"),
    ("embedded", "flanneld", "native"),
    ("embedded", "embedded", "plugins"),
]
if os.environ.get("KNETSIM_TEST_ALL"):
    WAYS = list(itertools.product(("kubernetes", "embedded"), ("flanneld", "embedded"), ("plugins", "native")))


def build_scenario(control_plane: str, agent: str, cni: str) -> str:
    return f"""
    apiVersion: knetsim.io/v1
    kind: Scenario
    metadata: {{name: pods}}
    spec:
      clusters:
        - name: C0
          workers: 3
          controlPlane: {control_plane}
          etcd: {{members: 1}}
          podNetwork: {{agent: {agent}, cni: {cni}}}
    """


def require_parts(control_plane: str, agent: str, cni: str) -> None:
    if control_plane == "kubernetes" and not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    if agent == "flanneld" and find_program("flanneld") is None:
        pytest.skip("flanneld is not installed")
    if cni == "plugins" and find_plugin("flannel") is None:
        pytest.skip("the CNI plugins are not installed")


@pytest.fixture(scope="module", params=WAYS, ids=["-".join(way) for way in WAYS])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    require_parts(*request.param)
    with running(build_scenario(*request.param), tmp_path_factory.mktemp("lab")) as lab:
        for worker, pod in (("w1", "c1"), ("w1", "c2"), ("w2", "c3"), ("w3", "c4")):
            lab.py(f'C0.get("{worker}").create_container("{pod}")')
        yield lab


def test_every_pod_reaches_every_other(lab: Lab) -> None:
    output = lab.line("pingall")
    assert "*** Ping: pods of C0" in output
    assert output.count("0% dropped") == 2


def test_what_a_pod_sees_of_itself(lab: Lab) -> None:
    address = lab.py('C0w1.pod_ip("c1")')
    (link,) = [link for link in json.loads(lab.exec("C0/c1", "ip", "-j", "addr").stdout) if link["ifname"] == "eth0"]
    assert link["mtu"] == 1450
    assert [info["local"] for info in link["addr_info"] if info["family"] == "inet"] == [address]
    routes = json.loads(lab.exec("C0/c1", "ip", "-j", "route").stdout)
    assert "default" in [route["dst"] for route in routes]
    assert lab.exec("C0/c1", "hostname").stdout.strip() == "c1"
    assert f"{address}\tc1" in lab.exec("C0/c1", "cat", "/etc/hosts").stdout
    assert lab.exec("C0/c1", "cat", "/etc/resolv.conf").stdout != Path("/etc/resolv.conf").read_text()


def test_the_pods_source_address_is_kept_between_workers(lab: Lab) -> None:
    address, target = lab.py('C0w1.pod_ip("c1")'), lab.py('C0w3.pod_ip("c4")')
    lab.py('C0w3.exec_container_async("c4", "busybox nc -l -p 7000 -e netstat -tn")')
    wait_until("the server", lambda: "" if ":7000" in lab.exec("C0/c4", "ss", "-ltn").stdout else "its port", 60)
    reply = lab.exec("C0/c1", "busybox", "nc", "-w", "3", target, "7000").stdout
    assert f"{address}:" in reply


def test_worker_and_pod_reach_each_other(lab: Lab) -> None:
    for worker in ("C0w1", "C0w3"):
        lab.exec(worker, "ping", "-c1", "-W2", lab.py('C0w1.pod_ip("c1")'))
    lab.exec("C0/c1", "ping", "-c1", "-W2", lab.py("C0w3.IP()"))


def test_a_pod_reaches_the_underlay_outside_its_cluster_masqueraded(lab: Lab) -> None:
    lab.exec("C0/c1", "ping", "-c1", "-W2", lab.py("C0e1.IP()"))


def test_a_pod_comes_and_goes(lab: Lab) -> None:
    address = lab.py('C0w2.create_container("extra")')
    lab.exec("C0/c1", "ping", "-c1", "-W2", address)
    assert "k0_extra" in lab.exec("C0w2", "ip", "netns").stdout
    lab.py('C0w2.delete_container("extra")')
    assert "k0_extra" not in lab.exec("C0w2", "ip", "netns").stdout
    assert lab.exec("C0/c1", "ping", "-c1", "-W1", address, check=False).returncode != 0
    again = lab.py('C0w2.create_container("extra")')
    lab.exec("C0/c1", "ping", "-c1", "-W2", again)
    lab.py('C0w2.delete_container("extra")')


def test_a_pod_name_on_two_workers_is_one_pod(lab: Lab) -> None:
    """The first knetsim shared /run/netns: a name used again on a second worker destroyed the first pod."""
    output = lab.line('py C0w2.create_container("c1")', check=False)
    assert "exists" in output
    lab.exec("C0/c4", "ping", "-c1", "-W2", lab.py('C0w1.pod_ip("c1")'))


def test_deleting_an_unknown_pod_and_creating_on_an_unknown_worker(lab: Lab) -> None:
    assert "no pod 'nothing'" in lab.line('py C0w1.delete_container("nothing")', check=False)
    assert "did you mean 'w1'?" in lab.line('py C0.get("w11").create_container("c9")', check=False)
    assert "is not on C0w2" in lab.line('py C0w2.delete_container("c1")', check=False)
    gone = lab.exec("C0/nothing", "true", check=False)
    assert gone.returncode == 1
    assert "no pod 'nothing'" in gone.stderr


def test_a_container_is_a_process_with_namespaces_of_its_own(lab: Lab) -> None:
    lab.py('C0w1.create_container("app", "echo started; touch /tmp/knetsim-test-mine; exec sleep 1000")')
    try:
        assert lab.exec("C0/app", "ps", "-o", "pid=,comm=").stdout.split()[:2] == ["1", "sleep"]
        assert lab.exec("C0/app", "ls", "/tmp").stdout.split() == ["knetsim-test-mine"]
        assert not Path("/tmp/knetsim-test-mine").exists()
    finally:
        lab.py('C0w1.delete_container("app")')


def test_nothing_is_an_orphan(lab: Lab) -> None:
    # the veth pairs of deleted pods go with their network namespaces, which the kernel ends in the background
    wait_until("no orphans", lambda: str(lab.status()["orphans"] or ""), 30)


def test_objects_lie_where_kubernetes_keeps_them(lab: Lab) -> None:
    keys = lab.exec("C0e1", "etcdctl", "get", "/", "--prefix", "--keys-only").stdout.split()
    assert {"/registry/pods/default/c1", "/registry/minions/c0w1", "/registry/namespaces/default"} <= set(keys)
    assert "/registry/leases/kube-node-lease/c0w1" in keys
    assert "/coreos.com/network/config" in keys
    pod = json.loads(lab.exec("C0e1", "etcdctl", "get", "/registry/pods/default/c1", "--print-value-only").stdout)
    assert pod["kind"] == "Pod"
    assert "resourceVersion" not in pod["metadata"]
    assert pod["status"]["podIP"] == lab.py('C0w1.pod_ip("c1")')


def test_drift_is_repaired(lab: Lab) -> None:
    """What the agents own and somebody deletes by hand comes back."""
    target = lab.py('C0w3.pod_ip("c4")')
    lab.exec("C0w1", "ip", "link", "set", "cni0", "down")
    lab.exec("C0w1", "ip", "link", "del", "cni0")
    wait_until("the bridge repaired", lambda: unanswered(lab, target), 60)


def unanswered(lab: Lab, address: str) -> str:
    ping = lab.exec("C0/c1", "ping", "-c1", "-W1", address, check=False)
    return ping.stdout if ping.returncode else ""
