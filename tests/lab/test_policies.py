"""NetworkPolicies of a whole simulation: the tour of scenarios/policies.yaml, with either control plane.

With Kubernetes' own one, a worker has the real kube-proxy and wires its pods with the CNI plugins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from knetsim.control_choice import has_kubernetes
from knetsim.status import ClusterPolicies
from knetsim.system.programs import find_plugin, find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import CHECKOUT, SETTLE_SECONDS, Lab, knetsim, running, wait_to_find
from tests.status_shape import explain_mismatch

SCENARIO = CHECKOUT / "scenarios" / "policies.yaml"
API, DB = "http://100.64.20.1:8080", "http://100.64.20.2:5432"
#: a pod of the shop that asks for everything as soon as it runs, and says whether it was answered
EAGER = """\
apiVersion: v1
kind: Pod
metadata: {name: eager, labels: {app: eager}}
spec:
  nodeName: c0w1
  restartPolicy: Never
  containers:
    - name: main
      image: busybox
      command: [sh, -c, "for i in 1 2 3 4 5; do timeout 1 wget -qO- %s && exit 1; done; exit 0"]
"""


@pytest.fixture(scope="module", params=["kubernetes", "embedded"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    document: Any = yaml.safe_load(SCENARIO.read_text())
    cluster = document["spec"]["clusters"][0]
    second = {"name": "w2", "cni": "native"}
    if request.param == "kubernetes":
        if not has_kubernetes():
            pytest.skip("Kubernetes' control plane is not installed")
        if find_program("kube-proxy") is not None:
            second["proxy"] = "kube-proxy"
        if find_plugin("flannel") is not None:
            second["cni"] = "plugins"
    cluster |= {"controlPlane": request.param, "etcd": {"members": 1}, "workers": [{"name": "w1"}, second]}
    document["spec"]["manifests"] = [str(SCENARIO.with_suffix(""))]
    with running(yaml.safe_dump(document), tmp_path_factory.mktemp("policies")) as lab:
        yield lab


def get(lab: Lab, pod: str, url: str, seconds: int = 2) -> str:
    """What the pod is answered, or `nothing` within so many seconds."""
    result = lab.exec(f"C0/{pod}", "timeout", str(seconds), "wget", "-qO-", url, check=False)
    return result.stdout.strip() if result.returncode == 0 else "nothing"


def get_all(lab: Lab, *asked: tuple[str, str], seconds: int = 2) -> list[str]:
    """What each (pod, URL) is answered; all ask at once, for what is held back is known only after a while."""
    with ThreadPoolExecutor(len(asked)) as threads:
        return list(threads.map(lambda one: get(lab, *one, seconds), asked))


def find_ip(lab: Lab, name: str) -> str:
    return next(str(pod["ip"]) for pod in lab.status()["clusters"][0]["pods"] if pod["name"] == name)


def settle(lab: Lab, pod: str, url: str, wanted: str) -> None:
    """Wait until a pod is answered so."""
    wait_to_find(f"{pod} asks {url}", lambda: get(lab, pod, url), wanted)


def test_the_ways_that_are_open_are_open_from_the_first_moment_and_no_others(lab: Lab) -> None:
    front = f"http://{find_ip(lab, 'front')}:8080"
    open_ways = (("street/visitor", front), ("front", API), ("api", DB), ("watch/guard", API), ("watch/guard", front))
    assert get_all(lab, *open_ways, seconds=20) == ["front", "api", "db", "api", "front"]
    closed_ways = (("front", DB), ("street/visitor", API), ("street/visitor", DB), ("watch/guard", DB), ("api", front))
    assert get_all(lab, *closed_ways, ("db", API)) == ["nothing"] * 6
    assert (
        lab.exec("C0w2", "timeout", "2", "wget", "-qO-", DB.replace("100.64.20.2", find_ip(lab, "db"))).stdout == "db\n"
    )


def test_names_are_known_to_those_who_may_ask(lab: Lab) -> None:
    """Whoever answers: pods of CoreDNS, or a server that is no pod."""
    assert get(lab, "front", "http://api:8080", 20) == "api"
    dns = next(
        one
        for one in yaml.safe_load_all((SCENARIO.with_suffix("") / "policies.yaml").read_text())
        if one["metadata"]["name"] == "dns"
    )
    rules = dns["spec"]["egress"]
    dns["spec"]["egress"] = []
    lab.apply(yaml.safe_dump(dns))
    settle(lab, "front", "http://api:8080", "nothing")
    dns["spec"]["egress"] = rules
    lab.apply(yaml.safe_dump(dns))
    settle(lab, "front", "http://api:8080", "api")


def test_probes_pass_and_nothing_is_a_problem(lab: Lab) -> None:
    status = lab.status()
    assert all(pod["ready"] for pod in status["clusters"][0]["pods"])
    assert [problem for problem in status["problems"] if "olic" in problem["object"]] == []


def test_no_container_starts_before_its_policies_hold(lab: Lab) -> None:
    lab.apply(EAGER % API)

    def explain() -> str:
        phases = {pod["name"]: pod["phase"] for pod in lab.status()["clusters"][0]["pods"]}
        assert phases.get("eager") != "Failed", "it was answered, though no policy lets it"
        return "" if phases.get("eager") == "Succeeded" else str(phases.get("eager"))

    wait_until("the pod's end", explain, SETTLE_SECONDS)


def test_a_table_deleted_by_hand_is_back(lab: Lab) -> None:
    lab.exec("C0w2", "nft", "delete", "table", "ip", "knetsim-policy")
    settle(lab, "watch/guard", DB, "nothing")
    assert get(lab, "front", API, 20) == "api"


def test_packets_of_one_worker_are_seen_too(lab: Lab) -> None:
    """The guard and db are on one bridge: their frames turn back there, and are held back nevertheless."""
    on_second = {pod["name"] for pod in lab.status()["clusters"][0]["pods"] if pod["worker"] == "C0w2"}
    assert {"guard", "db"} <= on_second
    assert get(lab, "watch/guard", DB) == "nothing"
    counted = lab.exec("C0w2", "nft", "list", "chain", "ip", "knetsim-policy", "to/default/closed_db").stdout
    assert "counter packets 0 " not in counted


def test_the_status_tells_who_is_selected_what_is_allowed_and_what_was_dropped(lab: Lab) -> None:
    rows = json.loads(knetsim("status", "policies", "--name", lab.name, "-o", "json").stdout)
    assert [line for one in rows for line in explain_mismatch(one, ClusterPolicies)] == []
    found = {policy["name"]: policy for policy in rows[0]["policies"]}
    assert found["db"]["pods"] == ["db"]
    (ingress,) = found["db"]["directions"]
    assert ingress["allows"] == ["pods app=api in namespace default: 5432-5440/tcp"]
    before = ingress["passed"], ingress["dropped"]
    assert get(lab, "api", DB, 20) == "db"
    assert get(lab, "watch/guard", DB) == "nothing"
    rows = json.loads(knetsim("status", "policies", "--name", lab.name, "-o", "json").stdout)
    (ingress,) = next(policy for policy in rows[0]["policies"] if policy["name"] == "db")["directions"]
    assert ingress["passed"] > before[0]
    assert ingress["dropped"] > before[1]


def test_a_policy_that_is_added_or_changed_counts_at_once(lab: Lab) -> None:
    policy = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: more}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}}]}]
"""
    lab.apply(policy % "street")
    settle(lab, "street/visitor", DB, "db")
    assert get(lab, "watch/guard", DB) == "nothing"
    lab.apply(policy % "watch")
    settle(lab, "street/visitor", DB, "nothing")
    settle(lab, "watch/guard", DB, "db")
