"""The parts of a control plane die or hang under load, a worker is cut off: what runs goes on, and all is well after.

Packets show it: a pod asks a VIP ten times a second from the first test to the last, and none of its requests is lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from knetsim.control_choice import has_kubernetes
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import running
from tests.lab.trouble_fixture import (
    API_SERVER,
    CLIENT,
    SECONDS,
    Hurt,
    build_deployment,
    build_pod,
    build_service,
)

pytestmark = pytest.mark.timeout(600)

SCENARIO = """
    apiVersion: knetsim.io/v1
    kind: Scenario
    metadata: {name: trouble}
    spec:
      clusters:
        - name: C0
          workers: 3
          controlPlane: kubernetes
          etcd: {members: 3}
          podNetwork: {agent: embedded, cni: native}
    """
KILLS = 3
#: the cluster takes a Node for lost when it has not heard of it for 40 s, and looks every 5
LOST_SECONDS = 90.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hurt]:
    """One cluster for all tests, with a Deployment `web` behind a VIP that the pod `client` asks all the time. The
    workers of these are w1 and w2; w3 is the one that is cut off."""
    if not has_kubernetes() or find_program("kubectl") is None:
        pytest.skip("Kubernetes' control plane is not installed")
    with running(SCENARIO, tmp_path_factory.mktemp("lab")) as lab:
        cluster = Hurt(lab)
        cluster.kubectl("label", "nodes", "c0w1", "c0w2", "safe=yes")
        web = build_deployment("web", 3, image="nginx", nodeSelector={"safe": "yes"})
        cluster.apply(web, build_service("web"))
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        vip = cluster.get("service", "web")["spec"]["clusterIP"]
        cluster.apply(build_pod("client", image="busybox", worker="c0w1", command=["sh", "-c", CLIENT, vip]))
        cluster.kubectl("wait", "pod/client", "--for=condition=Ready", "--timeout=60s")
        wait_until("the first answer", lambda: "" if cluster.answers("client")[0] else "it", SECONDS)
        yield cluster


@pytest.fixture
def untouched(cluster: Hurt) -> Iterator[None]:
    """Whatever a test does: the pods of `web` are the same after, and none of the client's requests is lost."""
    pods, (answered, lost) = cluster.snapshot("app in (web, client)"), cluster.answers("client")
    assert len(pods) == 4
    yield
    assert cluster.snapshot("app in (web, client)") == pods
    wait_until("more answers", lambda: "" if cluster.answers("client")[0] > answered + 10 else "them", SECONDS)
    assert cluster.answers("client")[1] == lost


@pytest.mark.usefixtures("untouched")
def test_an_api_server_that_is_killed_under_load(cluster: Hurt) -> None:
    """It dies three times in a row while a Deployment is scaled: what was wanted is done by the next one."""
    cluster.apply(build_deployment("load", 2))
    restarts = cluster.lab.daemon(API_SERVER)["restarts"]
    for attempt in range(KILLS):
        cluster.wait_kubectl()
        replicas = 10 if attempt % 2 == 0 else 2
        cluster.kubectl("scale", "deployment/load", f"--replicas={replicas}")
        cluster.kill(API_SERVER)
    cluster.wait_kubectl()
    assert cluster.lab.daemon(API_SERVER)["restarts"] == restarts + KILLS
    cluster.kubectl("rollout", "status", "deployment/load", "--timeout=90s")
    assert len(ready := cluster.get("deployment", "load")["status"]) and ready["readyReplicas"] == 10
    # agents hear of what is new: the kubelet starts a pod, and rules lead to it
    cluster.apply(build_deployment("late", 1, image="nginx"), build_service("late"))
    cluster.kubectl("rollout", "status", "deployment/late", "--timeout=60s")
    vip = cluster.get("service", "late")["spec"]["clusterIP"]
    wait_until("the new VIP", lambda: unanswered(cluster, vip), 60)
    cluster.kubectl("delete", "deployment/load", "deployment/late", "service/late", "--cascade=foreground")


def unanswered(cluster: Hurt, address: str) -> str:
    """What a pod's request to an address comes to; empty when it is answered."""
    words = ("exec", "client", "--", "timeout", "2", "wget", "-q", "-O", "/dev/null", f"http://{address}/")
    done = cluster.kubectl(*words, check=False)
    return done.stdout.strip() if done.returncode else ""


@pytest.mark.usefixtures("untouched")
def test_controllers_that_die_during_a_rollout(cluster: Hurt) -> None:
    cluster.apply(build_deployment("rolling", 6))
    cluster.kubectl("rollout", "status", "deployment/rolling", "--timeout=60s")
    cluster.kubectl("set", "env", "deployment/rolling", "ROUND=2")
    cluster.kill("C0cp/kube-controller-manager")
    cluster.kubectl("rollout", "status", "deployment/rolling", "--timeout=90s")
    sets = cluster.get("replicasets", "-l", "app=rolling")["items"]
    assert sorted(one["spec"]["replicas"] for one in sets) == [0, 6]
    cluster.kubectl("delete", "deployment/rolling", "--cascade=foreground")


@pytest.mark.usefixtures("untouched")
def test_pods_that_come_while_there_is_no_scheduler(cluster: Hurt) -> None:
    cluster.kill("C0cp/kube-scheduler")
    cluster.apply(build_deployment("waiting", 4))
    cluster.kubectl("rollout", "status", "deployment/waiting", "--timeout=90s")
    cluster.kubectl("delete", "deployment/waiting", "--cascade=foreground")


@pytest.mark.usefixtures("untouched")
def test_etcd_without_a_quorum(cluster: Hurt) -> None:
    """Two of three members hang: kubectl is told so in bounded time, and nothing else happens."""
    lab, vip = cluster.lab, cluster.get("service", "web")["spec"]["clusterIP"]
    pids = [lab.host_pid(lab.member(name)["pid"]) for name in ("C0e2", "C0e3")]
    with cluster.stopped(*pids):
        begun = time.monotonic()
        done = cluster.kubectl("create", "configmap", "nobody", check=False)
        seconds = time.monotonic() - begun
        assert done.returncode == 1
        # which of its ways to etcd gives up first: the server's own words
        assert re.search("etcdserver|[Tt]imed? ?out|code = Unavailable", done.stdout), done.stdout
        assert seconds < 70
        assert cluster.lab.py(f'C0.exec_pod("client", "wget -q -O /dev/null http://{vip}/ && echo here")') == "here"
    wait_until("kubectl", lambda: unwritten(cluster), SECONDS)


def unwritten(cluster: Hurt) -> str:
    """Why nothing can be written; empty when it can."""
    done = cluster.kubectl("create", "configmap", "somebody", "--dry-run=server", check=False)
    return done.stdout if done.returncode else ""


@pytest.mark.usefixtures("untouched")
def test_a_worker_that_is_cut_off(cluster: Hurt) -> None:
    """Its pods go on, whatever is decided of them; when it is back, it does what it has missed, and nothing twice."""
    soon = [
        {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        for taint in ("not-ready", "unreachable")
    ]
    cluster.apply(
        build_pod("stays", image="busybox", worker="c0w3", command=["sleep", "1000000"]),
        build_pod("deleted", image="busybox", worker="c0w3", command=["sleep", "1000000"]),
        build_deployment("moves", 3, image="nginx", tolerations=soon, topologySpreadConstraints=spread("moves")),
    )
    cluster.kubectl("rollout", "status", "deployment/moves", "--timeout=60s")
    cluster.kubectl("wait", "pod/stays", "pod/deleted", "--for=condition=Ready", "--timeout=60s")
    before = cluster.snapshot("app in (stays, deleted, moves)")
    (moving,) = (name for name, facts in before.items() if name.startswith("moves-") and facts[2] == "c0w3")
    cluster.lab.line("link C0w3 C0s0 down")
    try:
        # not before it has noticed: what it reached a second ago, it may still do
        cluster.kubectl("wait", "node/c0w3", "--for=condition=Ready=Unknown", f"--timeout={LOST_SECONDS:g}s")
        cluster.apply(build_pod("unheard", image="busybox", worker="c0w3", command=["sleep", "1000000"]))
        cluster.kubectl("delete", "pod", "deleted", "--wait=false")
        wait_until("the eviction", lambda: explain_unmoved(cluster, moving), LOST_SECONDS)
        assert {name: cluster.began(name) for name in before} == {name: facts[-1] for name, facts in before.items()}
        unheard = cluster.get("pod", "unheard")
        assert not unheard["status"].get("podIP")
        assert unheard["status"]["phase"] == "Pending"
    finally:
        cluster.lab.line("link C0w3 C0s0 up")
    cluster.kubectl("wait", "node/c0w3", "--for=condition=Ready", "--timeout=60s")
    cluster.kubectl("wait", "pod/deleted", f"pod/{moving}", "--for=delete", "--timeout=60s")
    cluster.kubectl("wait", "pod/unheard", "--for=condition=Ready", "--timeout=60s")
    assert cluster.snapshot("app=stays") == {"stays": before["stays"]}
    moved = cluster.snapshot("app=moves")
    assert len(moved) == 3
    assert {name: facts for name, facts in before.items() if name in moved} == {
        name: facts for name, facts in moved.items() if name in before
    }
    here = [word for word in cluster.lab.exec("C0w3", "ip", "netns").stdout.split() if word.startswith("k0_")]
    assert sorted(word for word in here if "coredns" not in word) == ["k0_stays", "k0_unheard"]
    cluster.kubectl("delete", "deployment/moves", "pod/stays", "pod/unheard")


def explain_unmoved(cluster: Hurt, moving: str) -> str:
    """What of a pod's move to another worker has not happened yet."""
    pods = {pod["metadata"]["name"]: pod for pod in cluster.get("pods", "-l", "app=moves")["items"]}
    if "deletionTimestamp" not in pods[moving]["metadata"]:
        return "the eviction"
    ready = [pod for name, pod in pods.items() if name != moving and pod["status"]["phase"] == "Running"]
    return "" if len(ready) == 3 else "the pod that takes its place"


def spread(name: str) -> list[dict[str, object]]:
    """One on each worker, as long as there is room."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": name}},
        }
    ]
