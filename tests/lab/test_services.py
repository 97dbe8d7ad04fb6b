"""Services of a whole simulation: Kubernetes' control plane, workers with the emulator and with the real kube-proxy.

Whoever serves a worker, the same questions get the same answers: every test asks from all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import Lab, running

SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: services}
spec:
  clusters:
    - name: C0
      workers: [{name: w1}, {name: w2, proxy: kube-proxy}, {name: w3}]
      controlPlane: kubernetes
      etcd: {members: 1}
      podNetwork: {agent: embedded, cni: native}
"""
#: answers /hostname with its own name, anything else with the address that it sees asking
SERVER = """\
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = socket.gethostname() if self.path == "/hostname" else self.client_address[0]
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 100.64.7.7
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"""
WORKERS = ("c0w1", "c0w2", "c0w3")
#: the pods that ask, and the hosts that do
PLACES = ("C0/ask-c0w1", "C0/ask-c0w2", "C0/ask-c0w3", "C0w1", "C0w2", "C0w3", "C0cp")
SECONDS = 30.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    for program in ("kube-apiserver", "kube-proxy"):
        if find_program(program) is None:
            pytest.skip(f"no {program} on this machine: ./utils/setup")
    with running(SCENARIO, tmp_path_factory.mktemp("services")) as lab:
        apply(lab, build_pods("ask", *WORKERS) + SERVICE)
        kubectl(lab, "wait --for=condition=Ready pod --all --timeout=60s")
        yield lab


def kubectl(lab: Lab, words: str) -> str:
    """The output of kubectl on the control plane's host."""
    return lab.exec("C0cp", "sh", "-c", f"KUBECONFIG=/tmp/knetsim/C0cp/admin.conf kubectl {words}").stdout


def build_pods(app: str, *nodes: str) -> str:
    """A pod `APP-NODE` on each of these Nodes, which answers."""
    container = {"name": "main", "image": "debian:12", "command": ["python3", "-c", SERVER]}
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{app}-{node}", "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [container]},
        }
        for node in nodes
    ]
    return yaml.safe_dump_all(pods) + "---\n"


def apply(lab: Lab, manifests: str) -> None:
    """`kubectl apply`, the manifests on its standard input."""
    kubectl(lab, f"apply -f - <<'END_OF_MANIFESTS'\n{manifests}\nEND_OF_MANIFESTS")


def serve(lab: Lab, *nodes: str) -> None:
    """Have exactly these Nodes' pods `web-NODE` behind the Service."""
    gone = " ".join(f"web-{node}" for node in WORKERS if node not in nodes)
    if gone:
        kubectl(lab, f"delete pod {gone} --ignore-not-found --now")
    if nodes:
        apply(lab, build_pods("web", *nodes))
        kubectl(lab, "wait --for=condition=Ready pod -l app=web --timeout=60s")


def ask(lab: Lab, place: str, url: str, times: int = 1) -> Counter[str]:
    """Who answered how often; `exit 7` is curl's for refused, `exit 28` for lost."""
    script = f"for i in $(seq {times}); do curl -s -m 2 {url} || echo exit $?; echo; done"
    return Counter(line for line in lab.exec(place, "sh", "-c", script).stdout.splitlines() if line)


def settle(lab: Lab, place: str, url: str, wanted: set[str]) -> None:
    """Wait until `place` is answered by all of `wanted` and by nobody else: kube-proxy takes a second for a change."""

    def explain() -> str:
        found = set(ask(lab, place, url, 12))
        return "" if found == wanted else f"{place} is answered by {found} instead of {wanted}"

    wait_until("the Service", explain, SECONDS)


@pytest.mark.parametrize("place", PLACES)
def test_the_api_server_is_reached_as_kubernetes_default(lab: Lab, place: str) -> None:
    answer = lab.exec(place, "curl", "-sk", "-m", "3", "https://100.64.0.1/version").stdout
    assert '"gitVersion": "v1.36' in answer


def test_a_service_follows_its_pods_from_everywhere(lab: Lab) -> None:
    for nodes in (WORKERS, ("c0w2",), ()):
        serve(lab, *nodes)
        wanted = {f"web-{node}" for node in nodes} or {"exit 7"}
        for place in PLACES:
            settle(lab, place, "http://100.64.7.7/hostname", wanted)


def test_a_node_port_of_every_worker_leads_there(lab: Lab) -> None:
    serve(lab, "c0w1", "c0w3")
    for place in ("C0/ask-c0w1", "C0w2"):
        for number in (1, 2, 3):
            settle(lab, place, f"http://10.1.1.{number}:30080/hostname", {"web-c0w1", "web-c0w3"})


def test_a_pod_is_seen_as_itself_and_reaches_itself(lab: Lab) -> None:
    serve(lab, "c0w1", "c0w2")
    for node, host in (("c0w1", "C0w1"), ("c0w2", "C0w2")):
        url = "http://100.64.7.7/whoami"
        pod = f"C0/ask-{node}"
        address = lab.exec(pod, "hostname", "-i").stdout.split()[0]
        assert ask(lab, pod, url, 10) == {address: 10}, host
        settle(lab, f"C0/web-{node}", "http://100.64.7.7/hostname", {"web-c0w1", "web-c0w2"})


def test_a_table_deleted_by_hand_is_back(lab: Lab) -> None:
    serve(lab, "c0w3")
    settle(lab, "C0/ask-c0w1", "http://100.64.7.7/hostname", {"web-c0w3"})
    lab.exec("C0w1", "nft", "delete", "table", "ip", "knetsim-services")
    settle(lab, "C0/ask-c0w1", "http://100.64.7.7/hostname", {"web-c0w3"})
    wait_until("the Event", lambda: "" if "the table is gone" in kubectl(lab, "get events") else "no Event", SECONDS)


def test_the_status_has_no_problem_and_nothing_is_orphaned(lab: Lab) -> None:
    status = lab.status()
    assert [worker["proxy"] for worker in status["clusters"][0]["workers"]] == ["emulator", "kube-proxy", "emulator"]
    assert status["clusters"][0]["serviceProblems"] == []
    assert [problem for problem in status["problems"] if "ervice" in problem["object"]] == []
