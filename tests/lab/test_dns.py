"""Cluster DNS of whole simulations: CoreDNS and our own server, asked by pods and by hosts as a learner asks them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.dns import table
from tests.lab.lab import Lab, running

#: control plane and server
VARIANTS = ("kubernetes-coredns", "kubernetes-embedded", "embedded-embedded")
SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {{name: dns}}
spec:
  clusters:
    - name: C0
      workers: [{{name: w1}}, {{name: w2, proxy: {proxy}}}]
      controlPlane: {plane}
      dns: {{server: {server}}}
      etcd: {{members: 1}}
      podNetwork: {{agent: embedded, cni: native}}
"""
ADDRESS = "100.64.0.10"
#: an image with dig in it; busybox has its own nslookup and its own resolver
TOOLS = "nicolaka/netshoot"
SECONDS = 60.0
#: CoreDNS looks at its Corefile every 30 to 45 s, and the kubelet at ConfigMaps when they change
RELOAD_SECONDS = 120.0


@pytest.fixture(scope="module", params=VARIANTS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    plane, server = request.param.split("-")
    if plane == "kubernetes":
        for program in ("kube-apiserver", "coredns"):
            if find_program(program) is None:
                pytest.skip(f"no {program} on this machine: ./utils/setup")
    proxy = "kube-proxy" if plane == "kubernetes" else "emulator"
    scenario = SCENARIO.format(plane=plane, server=server, proxy=proxy)
    with running(scenario, tmp_path_factory.mktemp("dns")) as lab:
        apply(lab, *table.read_table()[0], build_pod("ask-1", "c0w1"), build_pod("ask-2", "c0w2", TOOLS))
        wait_ready(lab, "ask-1", "ask-2")
        yield lab


@pytest.fixture
def coredns(lab: Lab) -> Lab:
    if lab.status()["clusters"][0]["dnsServer"] != "coredns":
        pytest.skip("this cluster has no CoreDNS")
    return lab


def apply(lab: Lab, *objects: dict[str, Any]) -> None:
    lab.apply(yaml.safe_dump_all(objects))


def build_pod(name: str, node: str, image: str = "busybox", **spec: Any) -> dict[str, Any]:
    command = spec.pop("command", ["sleep", "infinity"])
    container = {"name": "main", "image": image, "command": command}
    whole = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole}


def build_web(name: str, node: str) -> list[dict[str, Any]]:
    """A pod that serves /hostname, and the Service of the same name before it, at port 80."""
    pod = build_pod(name, node, command=["httpd", "-f", "-p", "8080", "-h", "/etc"])
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return [
        pod,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": ports},
        },
    ]


def wait_ready(lab: Lab, *pods: str) -> None:
    def explain() -> str:
        ready = {pod["name"] for pod in lab.status()["clusters"][0]["pods"] if pod["ready"]}
        return ", ".join(pod for pod in pods if pod not in ready)

    wait_until("pods", explain, SECONDS)


def in_pod(lab: Lab, pod: str, script: str, check: bool = True) -> str:
    return lab.exec(f"C0/{pod}", "sh", "-c", script, check=check).stdout


def wait_answer(lab: Lab, place: str, question: str, wanted: str, seconds: float = SECONDS) -> None:
    """Wait until `dig +short` says `wanted`, lines sorted: kube-proxy and CoreDNS hear of changes a moment later."""

    def explain() -> str:
        said = lab.exec(place, "dig", "+short", f"@{ADDRESS}", *question.split(), check=False)
        found = " ".join(sorted(said.stdout.split()))
        return "" if said.returncode == 0 and found == wanted else f"{question} is {found!r} instead of {wanted!r}"

    wait_until("the answer", explain, seconds)


# --- the specification, asked of the Service's address by UDP and TCP


@pytest.mark.parametrize("host", ["C0w1", "C0w2"])
def test_the_specification(lab: Lab, host: str) -> None:
    wait_answer(lab, host, "alias.default.svc.cluster.local", "100.64.0.201 kubernetes-like.default.svc.cluster.local.")
    answers = json.loads(lab.exec(host, sys.executable, str(Path(table.__file__)), ADDRESS).stdout)
    questions = table.read_table()[1]
    assert len(answers) == len(questions)
    pairs = [(question, answer) for question, both in zip(questions, answers, strict=True) for answer in both]
    assert [words for question, answer in pairs if (words := table.explain_difference(question, answer))] == []


# --- as a learner asks


def test_pods_find_services_by_name(lab: Lab) -> None:
    apply(lab, *build_web("svc-name", "c0w1"))
    wait_ready(lab, "svc-name")
    if "c1" not in {pod["name"] for pod in lab.status()["clusters"][0]["pods"]}:
        lab.py('C0w1.create_container("c1")')
    wait_answer(lab, "C0/ask-2", "+search svc-name", lab.py('C0.store.get("Service", "svc-name")["spec"]["clusterIP"]'))
    for url in ("svc-name", "svc-name.default", "svc-name.default.svc", "svc-name.default.svc.cluster.local."):
        assert lab.py(f'C0w1.exec_container("c1", "wget -qO- http://{url}/hostname")').strip() == "svc-name"
        for pod in ("ask-1", "ask-2"):
            assert in_pod(lab, pod, f"wget -qO- http://{url}/hostname").strip() == "svc-name"
    found = in_pod(lab, "ask-1", "nslookup svc-name.default.svc.cluster.local; nslookup 10.1.1.2")
    assert f"Server:\t\t{ADDRESS}" in found and "name = C0w2" in found


def test_hosts_know_each_other_and_say_at_once_what_they_do_not_know(lab: Lab) -> None:
    said = lab.exec("C0w1", "sh", "-c", "cat /etc/resolv.conf; nslookup C0w2; nslookup www.example.com; true").stdout
    assert "nameserver 10.1.0.10\n" in said
    assert "Address: 10.1.1.2" in said
    assert "server can't find www.example.com: NXDOMAIN" in said
    for name in ("svc-name.default.svc.cluster.local", "kubernetes.default"):
        assert "NXDOMAIN" in lab.exec("C0w1", "dig", name).stdout, "hosts do not know the cluster's names"
    assert "NXDOMAIN" in in_pod(lab, "ask-2", "nslookup www.example.com", check=False)


def test_a_service_has_its_name_as_long_as_it_is_there(lab: Lab) -> None:
    name = "short.default.svc.cluster.local"
    _, service = build_web("short", "c0w1")
    service["spec"]["clusterIP"] = "100.64.0.77"
    for _ in range(2):
        apply(lab, service)
        wait_answer(lab, "C0w1", name, "100.64.0.77")
        lab.py('C0.store.delete("Service", "short")')
        wait_answer(lab, "C0w1", name, "")


def test_pods_have_names_of_their_own_below_a_headless_service(lab: Lab) -> None:
    service = {"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "selector": {"app": "db"}}}
    pods = [build_pod(f"db-{node}", node, hostname=f"host-{node}", subdomain="db") for node in ("c0w1", "c0w2")]
    for pod in pods:
        pod["metadata"]["labels"] = {"app": "db"}
    apply(lab, {"apiVersion": "v1", "kind": "Service", **service}, *pods)
    wait_ready(lab, "db-c0w1", "db-c0w2")
    addresses = {pod["name"]: pod["ip"] for pod in lab.status()["clusters"][0]["pods"]}
    wait_answer(
        lab, "C0w1", "db.default.svc.cluster.local", " ".join(sorted([addresses["db-c0w1"], addresses["db-c0w2"]]))
    )
    for node in ("c0w1", "c0w2"):
        name, address = f"host-{node}.db.default.svc.cluster.local", addresses[f"db-{node}"]
        wait_answer(lab, "C0w2", name, address)
        assert in_pod(lab, f"db-{node}", "hostname -f").strip() == name
        assert in_pod(lab, "ask-1", f"ping -c 1 -W 2 host-{node}.db").startswith(f"PING host-{node}.db ({address})")
    lab.py('C0w2.delete_container("db-c0w2")')
    wait_answer(lab, "C0w1", "db.default.svc.cluster.local", addresses["db-c0w1"])


def test_dns_policy_and_dns_config_say_whom_a_pod_asks(lab: Lab) -> None:
    config = {"nameservers": ["192.0.2.53"], "searches": ["shop.test"], "options": [{"name": "ndots", "value": "2"}]}
    pods = {
        "first": {},
        "default": {"dnsPolicy": "Default"},
        "own": {"dnsPolicy": "None", "dnsConfig": config},
        "more": {"dnsConfig": {"searches": ["kube-system.svc.cluster.local"]}},
        "host": {"hostNetwork": True},
        "host-first": {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
    }
    apply(lab, *(build_pod(f"policy-{name}", "c0w1", TOOLS, **spec) for name, spec in pods.items()))
    wait_ready(lab, *(f"policy-{name}" for name in pods))
    files = {name: in_pod(lab, f"policy-{name}", "grep -v ^# /etc/resolv.conf").splitlines() for name in pods}
    search = "search default.svc.cluster.local svc.cluster.local cluster.local"
    first = [search, f"nameserver {ADDRESS}", "options ndots:5"]
    assert files == {
        "first": first,
        "default": ["nameserver 10.1.0.10"],
        "own": ["search shop.test", "nameserver 192.0.2.53", "options ndots:2"],
        "more": [f"{search} kube-system.svc.cluster.local", *first[1:]],
        "host": ["nameserver 10.1.0.10"],
        "host-first": first,
    }
    for pod, name in (("first", "kube-dns.kube-system"), ("more", "kube-dns"), ("host-first", "kube-dns.kube-system")):
        assert in_pod(lab, f"policy-{pod}", f"dig +search +short {name}").split() == [ADDRESS]


# --- trouble


def test_a_killed_coredns_is_started_again_and_the_other_one_answers(coredns: Lab) -> None:
    lab, name = coredns, "kubernetes-like.default.svc.cluster.local"
    # in the simulation's own pid namespace
    pids = lab.exec("C0w1", "pidof", "coredns").stdout.split()
    assert len(pids) == 2
    lab.exec("C0w1", "kill", "-KILL", pids[0])

    def explain() -> str:
        assert lab.exec("C0w1", "dig", "+short", "+tries=5", "+time=1", f"@{ADDRESS}", name).stdout == "100.64.0.201\n"
        pods = [pod for pod in lab.status()["clusters"][0]["pods"] if pod["name"].startswith("coredns-")]
        restarted = sum(pod["restarts"] for pod in pods)
        return "" if restarted and all(pod["ready"] for pod in pods) else "the pod is not ready again"

    wait_until("CoreDNS", explain, SECONDS)


def test_without_a_pod_of_it_dns_is_a_problem_until_there_is_one_again(coredns: Lab) -> None:
    lab = coredns
    kubectl(lab, "-n kube-system scale deployment coredns --replicas=0")
    wait_problem(lab, "C0w1", "C0w2")
    kubectl(lab, "-n kube-system scale deployment coredns --replicas=2")
    wait_problem(lab)


@pytest.mark.timeout(2 * RELOAD_SECONDS)
def test_a_corefile_that_is_edited_is_read_again(coredns: Lab) -> None:
    lab, name = coredns, "here.example.org"
    wait_answer(lab, "C0w1", name, "")
    config = json.loads(kubectl(lab, "-n kube-system get configmap coredns -o json"))
    hosts = "    hosts {\n        192.0.2.80 here.example.org\n        fallthrough\n    }\n    ready\n"
    corefile = config["data"]["Corefile"].replace("    ready\n", hosts)
    metadata = {"name": "coredns", "namespace": "kube-system"}
    apply(lab, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": corefile}})
    wait_answer(lab, "C0w1", name, "192.0.2.80", RELOAD_SECONDS)
    wait_answer(lab, "C0/ask-2", "kubernetes-like.default.svc.cluster.local", "100.64.0.201")


def kubectl(lab: Lab, words: str) -> str:
    """The output of kubectl on the control plane's host."""
    return lab.exec("C0cp", "bash", "-c", f"export KUBECONFIG=/tmp/knetsim/C0cp/admin.conf; kubectl {words}").stdout


def wait_problem(lab: Lab, *workers: str) -> None:
    """Wait until the status says that exactly these workers get no answer."""

    def explain() -> str:
        found = [one["what"] for one in lab.status()["problems"] if one["object"] == "DNS of C0"]
        told = [worker for worker in ("C0w1", "C0w2") if worker in "".join(found)]
        return "" if told == list(workers) else f"the status says of DNS: {found}"

    wait_until("the status", explain, SECONDS)


def test_a_server_that_is_cut_off_is_a_problem_until_it_is_back(lab: Lab) -> None:
    if lab.status()["clusters"][0]["dnsServer"] != "embedded":
        pytest.skip("its pods are on the workers")
    lab.line("link C0cp C0s0 down")
    wait_problem(lab, "C0w1", "C0w2")
    lab.line("link C0cp C0s0 up")
    wait_problem(lab)
    wait_answer(lab, "C0/ask-2", "kubernetes-like.default.svc.cluster.local", "100.64.0.201")


# --- none


def test_without_cluster_dns_pods_ask_as_their_worker_does(tmp_path: Path) -> None:
    with running(SCENARIO.format(plane="embedded", server="none", proxy="emulator"), tmp_path) as lab:
        cluster = lab.status()["clusters"][0]
        assert (cluster["dnsServer"], cluster["dnsAddress"]) == ("none", "")
        apply(lab, build_pod("alone", "c0w1"))
        wait_ready(lab, "alone")
        assert "nameserver 10.1.0.10" in in_pod(lab, "alone", "cat /etc/resolv.conf")
        assert "Address: 10.1.1.2" in in_pod(lab, "alone", "nslookup c0w2")
        assert lab.py('C0.store.list("Service").items') == "[]"
