"""Services of whole simulations: the emulator, the real kube-proxy, both in one cluster, and both control planes.

Whoever serves a worker, and whoever decides, the same questions get the same answers: every test asks from every place.
KNETSIM_TEST_ALL=1 adds clusters with only one of the two proxies to the one that has both.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator

import pytest

from knetsim.status import ClusterServices
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import Lab, knetsim, running
from tests.lab.service_lab import (
    HOLDER,
    LOST,
    REFUSED,
    SECONDS,
    Question,
    ServiceLab,
    build_server,
    build_server_spec,
    build_service,
    who,
    with_node_port,
)
from tests.status_shape import explain_mismatch

SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {{name: services}}
spec:
  clusters:
    - name: C0
      workers: [{{name: w1, proxy: {0}}}, {{name: w2, proxy: {1}}}, {{name: w3, proxy: {2}}}]
      controlPlane: {3}
      etcd: {{members: 1}}
      podNetwork: {{agent: embedded, cni: native}}
"""
EMULATOR, KUBE_PROXY = "emulator", "kube-proxy"
#: the proxies of the workers, and the control plane
CLUSTERS = {
    "mixed": (EMULATOR, KUBE_PROXY, EMULATOR, "kubernetes"),
    "emulator": (EMULATOR, EMULATOR, EMULATOR, "kubernetes"),
    "kube-proxy": (KUBE_PROXY, KUBE_PROXY, KUBE_PROXY, "kubernetes"),
    "embedded": (EMULATOR, EMULATOR, EMULATOR, "embedded"),
}
WORKERS = ("c0w1", "c0w2", "c0w3")
ADDRESSES = {"c0w1": "10.1.1.1", "c0w2": "10.1.1.2", "c0w3": "10.1.1.3"}
PODS = tuple(f"C0/ask-{node}" for node in WORKERS)
#: a machine of the underlay that is no part of the cluster's pod network
OUTSIDE, OUTSIDE_ADDRESS = "C0e1", "10.1.0.1"
VIP, NODE_PORT = "100.64.7.7", 30080
VIP_ASKED: tuple[Question, ...] = (("tcp", VIP, 80), ("udp", VIP, 80))
BALANCER = "10.1.200.7"

pytestmark = pytest.mark.timeout(900)


class Cluster(ServiceLab):
    """A cluster with pods that ask, the Service `web` at VIP, and who decides in it."""

    def __init__(self, lab: Lab, proxies: tuple[str, ...], control_plane: str) -> None:
        super().__init__(lab)
        self.proxies, self.real = dict(zip(WORKERS, proxies, strict=True)), control_plane == "kubernetes"
        #: the hosts that ask
        self.hosts = ("C0w1", "C0w2", "C0w3", *(("C0cp",) if self.real else ()))
        self.places = (*PODS, *self.hosts)

    def kubectl(self, words: str) -> str:
        """The output of kubectl on the control plane's host."""
        return self.lab.exec("C0cp", "sh", "-c", f"KUBECONFIG=/tmp/knetsim/C0cp/admin.conf kubectl {words}").stdout

    def pod_ip(self, name: str) -> str:
        """A pod's address."""
        return next(pod["ip"] for pod in self.pods() if pod["name"] == name)


@pytest.fixture(scope="module", params=CLUSTERS if os.environ.get("KNETSIM_TEST_ALL") else ("mixed", "embedded"))
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    *proxies, control_plane = CLUSTERS[request.param]
    needed = ["kube-apiserver"] * (control_plane == "kubernetes") + ["kube-proxy"] * (KUBE_PROXY in proxies)
    for program in needed:
        if find_program(program) is None:
            pytest.skip(f"no {program} on this machine: ./utils/setup")
    scenario = SCENARIO.format(*proxies, control_plane)
    with running(scenario, tmp_path_factory.mktemp("services")) as lab:
        with Cluster(lab, tuple(proxies), control_plane) as cluster:
            cluster.apply(*(build_server("ask", node) for node in WORKERS))
            cluster.apply(with_node_port(build_service("web", VIP, "web"), NODE_PORT))
            cluster.wait_ready(f"ask-{node}" for node in WORKERS)
            yield cluster


@pytest.fixture(autouse=True)
def tidied(cluster: Cluster) -> Iterator[None]:
    """No test finds another one's Services, whose addresses may be its own."""
    yield
    for name in cluster.services().keys() - {"web", "kubernetes"}:
        cluster.delete("Service", name)


def test_a_service_follows_its_pods_from_everywhere(cluster: Cluster) -> None:
    """Backends 0, 3, 1 and none again; from pods and hosts, on the same and on other workers, TCP and UDP."""
    for nodes in ((), WORKERS, ("c0w2",), ()):
        cluster.serve("web", nodes)
        wanted = {f"web-{node}" for node in nodes} or {REFUSED}
        for place in cluster.places:
            cluster.settle(place, wanted, *VIP_ASKED)


def test_pods_are_seen_as_themselves_and_reach_themselves(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w1", "c0w2"))
    for node in WORKERS:
        cluster.settle(f"C0/ask-{node}", {"web-c0w1", "web-c0w2"}, *VIP_ASKED)
        seen = f" {cluster.pod_ip(f'ask-{node}')}"
        for found in cluster.ask(f"C0/ask-{node}", *VIP_ASKED, times=10):
            assert all(answer.endswith(seen) for answer in found), found
    for node in ("c0w1", "c0w2"):
        cluster.settle(f"C0/web-{node}", {"web-c0w1", "web-c0w2"}, *VIP_ASKED)


def test_node_ports_of_every_worker_lead_there(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w1", "c0w3"))
    asked = [(kind, address, NODE_PORT) for kind in ("tcp", "udp") for address in ADDRESSES.values()]
    for place in (*cluster.places, OUTSIDE):
        cluster.settle(place, {"web-c0w1", "web-c0w3"}, *asked)
    for node in WORKERS:
        cluster.settle(f"C0{node.removeprefix('c0')}", {REFUSED}, ("tcp", "127.0.0.1", NODE_PORT))
    cluster.serve("web", ())
    cluster.settle(OUTSIDE, {REFUSED}, *asked)


def test_external_and_load_balancer_addresses(cluster: Cluster) -> None:
    external = "10.1.200.6"
    outside = build_service("outside", "100.64.7.8", "web", type="LoadBalancer", externalIPs=[external])
    outside["spec"]["loadBalancerClass"] = "knetsim.io/by-hand"
    cluster.serve("web", ("c0w1", "c0w2"))
    cluster.apply(outside)
    give_address(cluster, "outside")
    for number, node in enumerate(WORKERS):
        addresses = (external, BALANCER)
        with routed(cluster, node, *addresses):
            asked = [(kind, address, 80) for kind in ("tcp", "udp") for address in addresses]
            cluster.settle(OUTSIDE, {"web-c0w1", "web-c0w2"}, *asked)
            if number == 0:
                for place in cluster.places:
                    cluster.settle(place, {"web-c0w1", "web-c0w2"}, *asked)
    outside["spec"]["loadBalancerSourceRanges"] = ["10.1.0.99/32", f"{cluster.pod_ip('ask-c0w2')}/32"]
    cluster.apply(outside)
    for node in WORKERS:
        with routed(cluster, node, BALANCER):
            cluster.settle(OUTSIDE, {LOST}, ("tcp", BALANCER, 80), ("udp", BALANCER, 80))
            cluster.settle(OUTSIDE, {"web-c0w1", "web-c0w2"}, ("tcp", ADDRESSES[node], node_port(cluster, "outside")))
    cluster.settle("C0/ask-c0w2", {"web-c0w1", "web-c0w2"}, ("tcp", BALANCER, 80))
    cluster.settle("C0/ask-c0w1", {LOST}, ("tcp", BALANCER, 80))


def give_address(cluster: Cluster, name: str) -> None:
    """Write what a load balancer's controller would."""
    status = {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}
    found = f'C0.store.get("Service", "{name}", "default")'
    cluster.lab.py(f'C0.store.update_status({{**{found}, "status": {status}}})')


def node_port(cluster: Cluster, name: str) -> int:
    """The NodePort that a Service's first port was allotted."""
    return int(cluster.lab.py(f'C0.store.get("Service", "{name}", "default")["spec"]["ports"][0]["nodePort"]'))


class routed:  # noqa: N801 - used as a function
    """The outside machine sends what is for these addresses to a worker."""

    def __init__(self, cluster: Cluster, node: str, *addresses: str) -> None:
        self._cluster, self._node, self._addresses = cluster, node, addresses

    def __enter__(self) -> None:
        for address in self._addresses:
            self._ip("replace", f"{address}/32", "via", ADDRESSES[self._node])

    def __exit__(self, *_: object) -> None:
        for address in self._addresses:
            self._ip("del", f"{address}/32")

    def _ip(self, *words: str) -> None:
        self._cluster.lab.exec(OUTSIDE, "ip", "route", *words)


def test_clients_stay_with_their_backend(cluster: Cluster) -> None:
    cluster.serve("web", WORKERS)
    sticky = build_service("sticky", "100.64.7.9", "web", sessionAffinity="ClientIP")
    cluster.apply(sticky)
    asked: tuple[Question, ...] = (("tcp", "100.64.7.9", 80), ("udp", "100.64.7.9", 80))
    for place in cluster.places:
        wait_until("affinity", lambda place=place: explain_spread(cluster, place, asked), SECONDS)  # type: ignore[misc]
    free = {**sticky, "spec": {**sticky["spec"], "sessionAffinity": "None"}}
    cluster.apply(free)
    for place in cluster.places:
        cluster.settle(place, {f"web-{node}" for node in WORKERS}, *asked)


def explain_spread(cluster: Cluster, place: str, asked: tuple[Question, ...]) -> str:
    """Which backends answer a client that should have one."""
    found = cluster.ask(place, *asked, times=10)
    return "" if all(len(one) == 1 and who(one) <= {f"web-{node}" for node in WORKERS} for one in found) else str(found)


def test_internal_traffic_stays_on_its_worker(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w1", "c0w2"))
    cluster.apply(build_service("inside", "100.64.7.10", "web", internalTrafficPolicy="Local"))
    asked: tuple[Question, ...] = (("tcp", "100.64.7.10", 80), ("udp", "100.64.7.10", 80))
    for node in WORKERS:
        wanted, host = {f"web-{node}"} if node != "c0w3" else {LOST}, f"C0{node.removeprefix('c0')}"
        cluster.settle(f"C0/ask-{node}", wanted, *asked)
        # a host's own datagram that is dropped is refused by its kernel: EPERM
        cluster.settle(host, wanted, *(asked if node != "c0w3" else asked[:1]))


def test_external_traffic_keeps_its_address_and_balancers_learn_where_to_send_it(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w1", "c0w2"))
    local = build_service("local", "100.64.7.11", "web", type="LoadBalancer", externalTrafficPolicy="Local")
    local["spec"]["loadBalancerClass"] = "knetsim.io/by-hand"
    cluster.apply(local)
    give_address(cluster, "local")
    port = node_port(cluster, "local")
    for node in WORKERS:
        with routed(cluster, node, BALANCER):
            asked = [("tcp", ADDRESSES[node], port), ("tcp", BALANCER, 80), ("udp", BALANCER, 80)]
            cluster.settle(OUTSIDE, {f"web-{node}"} if node != "c0w3" else {LOST}, *asked)
            if node != "c0w3":
                assert [list(one) for one in cluster.ask(OUTSIDE, *asked, times=5)] == [
                    [f"web-{node} {OUTSIDE_ADDRESS}"] for _ in asked
                ]
    for place in ("C0/ask-c0w3", "C0w3"):
        cluster.settle(place, {"web-c0w1", "web-c0w2"}, ("tcp", ADDRESSES["c0w3"], port), ("tcp", BALANCER, 80))
    check = cluster.lab.py('C0.store.get("Service", "local", "default")["spec"]["healthCheckNodePort"]')
    for node, wanted in (("c0w1", "200 1"), ("c0w2", "200 1"), ("c0w3", "503 0")):
        written = "%{http_code} %header{x-load-balancing-endpoint-weight}"
        url = f"http://{ADDRESSES[node]}:{check}/healthz"
        found = cluster.lab.exec(OUTSIDE, "curl", "-s", "-o", "/dev/null", "-w", written, url).stdout
        assert found == wanted, node


def test_connections_are_spread_evenly_and_counted(cluster: Cluster) -> None:
    """3 000 connections, ±10 % each: a backend's share varies by 2.6 %."""
    cluster.serve("web", WORKERS)
    wanted = {f"web-{node}" for node in WORKERS}
    for node in ("c0w1", "c0w2"):
        cluster.settle(f"C0/ask-{node}", wanted, VIP_ASKED[0])
        before = count_connections(cluster, node)
        (found,) = cluster.ask(f"C0/ask-{node}", VIP_ASKED[0], times=3000, patience=SECONDS)
        shares = {answer.split()[0]: times for answer, times in found.items() if not is_left(cluster, node, answer)}
        assert shares.keys() == wanted, found
        assert all(900 <= times <= 1100 for times in shares.values()), shares
        if cluster.proxies[node] == EMULATOR:
            after = count_connections(cluster, node)
            assert {name: after[name] - before.get(name, 0) for name in wanted} == shares


def is_left(cluster: Cluster, node: str, why: str) -> bool:
    """Whether it is what kube-proxy leaves: connections that nobody answered are tracked for two minutes, and who gets
    their source port meanwhile is led to the pod that is no more."""
    return cluster.proxies[node] == KUBE_PROXY and os.strerror(errno.EHOSTUNREACH) in why


def count_connections(cluster: Cluster, node: str) -> dict[str, int]:
    """What the table of a worker has counted for each pod of the Service `web`, TCP."""
    port = next(port for port in cluster.services()["web"]["ports"] if port["protocol"] == "tcp")
    host = f"C0{node.removeprefix('c0')}"
    return {backend["pod"]: backend["senders"].get(host, 0) for backend in port["backends"]}


def test_a_backend_is_deleted_under_load(cluster: Cluster) -> None:
    """What begins once the change is everywhere never fails; what was established goes on while the pod still serves.

    How long that takes is for `knetsim bench` to say: tests assert no time.
    """
    cluster.serve("web", WORKERS)
    for place in PODS:
        cluster.settle(place, {f"web-{node}" for node in WORKERS}, VIP_ASKED[0])
    with cluster.load(VIP, 1000 / len(PODS), PODS) as finish:
        cluster.lab.py('C0.delete_pod("web-c0w1")')
        for place in PODS:
            cluster.settle(place, {"web-c0w2", "web-c0w3"}, VIP_ASKED[0])
        settled = time.monotonic()
        for place in PODS:
            cluster.settle(place, {"web-c0w2", "web-c0w3"}, VIP_ASKED[0])
        failures = finish()
    assert failures.count > 100
    late = [failure for failure in failures.failed if failure.began > settled]
    assert [
        failure for failure in late if not is_left(cluster, failure.place.removeprefix("C0/ask-"), failure.why)
    ] == []


def test_an_established_connection_drains(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w2",))
    cluster.apply(build_server("web", "c0w1", linger=SECONDS))
    cluster.wait_ready(["web-c0w1"])
    cluster.settle("C0/ask-c0w3", {"web-c0w1", "web-c0w2"}, VIP_ASKED[0])
    with cluster.running("C0/ask-c0w3", HOLDER, VIP, "80", "web-c0w1") as held:
        cluster.delete("Pod", "web-c0w1")
        cluster.settle("C0/ask-c0w3", {"web-c0w2"}, *VIP_ASKED)
        assert held.say("who?").split()[0] == "web-c0w1"
    cluster.serve("web", ())


def test_a_deployment_is_scaled_and_updated_under_load(cluster: Cluster) -> None:
    if not cluster.real:
        pytest.skip("the embedded control plane has no Deployments")
    vip = "100.64.7.12"
    cluster.apply(build_service("rolled", vip, "rolled"), build_deployment(0))
    asked: tuple[Question, ...] = (("tcp", vip, 80), ("udp", vip, 80))
    for replicas, version in ((0, 1), (3, 1), (1, 1), (3, 1)):
        cluster.apply(build_deployment(replicas, version))
        settle_deployment(cluster, asked)
    with cluster.load(vip, 50, PODS) as finish:
        cluster.apply(build_deployment(3, 2))
        settle_deployment(cluster, asked)
        failures = finish()
    assert failures.failed == []
    cluster.kubectl("delete deployment/rolled")


def build_deployment(replicas: int, version: int = 1) -> dict[str, object]:
    """Pods `rolled-…` that go on for some seconds when they are asked to end, as long as rules take to forget them."""
    labels = {"app": "rolled"}
    metadata = {"labels": labels, "annotations": {"version": str(version)}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "rolled"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": metadata, "spec": build_server_spec(linger=15)},
        },
    }


def settle_deployment(cluster: Cluster, asked: tuple[Question, ...]) -> None:
    """Wait until the Deployment is as it should be, and its pods, no others, answer."""
    cluster.kubectl(f"rollout status deployment/rolled --timeout={SECONDS:g}s")
    words = "get pods -l app=rolled -o name --field-selector=status.phase=Running"
    alive = {pod["name"] for pod in cluster.pods() if pod["name"].startswith("rolled-") and pod["phase"] == "Running"}
    assert alive <= {line.removeprefix("pod/") for line in cluster.kubectl(words).split()}
    for place in (*PODS, "C0w1"):
        cluster.settle(place, alive or {REFUSED}, *asked)


def test_the_api_server_is_reached_as_kubernetes_default(cluster: Cluster) -> None:
    if not cluster.real:
        pytest.skip("the embedded control plane has no API server")
    for place in cluster.places:
        answer = cluster.lab.exec(place, "curl", "-sk", "-m", "3", "https://100.64.0.1/version").stdout
        assert '"gitVersion": "v1.36' in answer, place


def test_a_table_deleted_by_hand_is_back(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w3",))
    emulated = [node for node in WORKERS if cluster.proxies[node] == EMULATOR]
    for node in emulated:
        host = f"C0{node.removeprefix('c0')}"
        cluster.settle(f"C0/ask-{node}", {"web-c0w3"}, *VIP_ASKED)
        cluster.lab.exec(host, "nft", "delete", "table", "ip", "knetsim-services")
        cluster.settle(f"C0/ask-{node}", {"web-c0w3"}, *VIP_ASKED)
    told = 'sorted(one["involvedObject"]["name"] for one in C0.store.list("Event")[0] if one["reason"]'
    told += ' == "ServicesRepaired" and "the table is gone" in one["message"])'
    wait_until("the Events", lambda: "" if cluster.lab.py(told) == str(emulated) else "missing", SECONDS)


def test_a_worker_that_is_cut_off_leaves_and_returns(cluster: Cluster) -> None:
    """Its pods leave the EndpointSlices once its Lease is late, with either control plane."""
    if cluster.proxies["c0w3"] == KUBE_PROXY or (cluster.real and KUBE_PROXY not in cluster.proxies.values()):
        pytest.skip("it takes a minute: with both proxies, and with the embedded control plane")
    cluster.serve("web", WORKERS)
    cluster.settle("C0/ask-c0w1", {f"web-{node}" for node in WORKERS}, *VIP_ASKED)
    cluster.lab.line("link C0w3 C0s0 down")
    try:
        wait_until("the end of the Lease", lambda: "" if find_state(cluster, "web-c0w3") != "ready" else "ready", 150)
        for place in ("C0/ask-c0w1", "C0/ask-c0w2", "C0w1", "C0w2"):
            cluster.settle(place, {"web-c0w1", "web-c0w2"}, *VIP_ASKED)
    finally:
        cluster.lab.line("link C0w3 C0s0 up")
    wait_until("its return", lambda: "" if find_state(cluster, "web-c0w3") == "ready" else "not ready", 150)
    for place in cluster.places:
        cluster.settle(place, {f"web-{node}" for node in WORKERS}, *VIP_ASKED)


def find_state(cluster: Cluster, pod: str) -> str:
    """What the EndpointSlices say of a pod behind the Service `web`."""
    backends = cluster.services()["web"]["ports"][0]["backends"]
    return next((str(backend["state"]) for backend in backends if backend["pod"] == pod), "gone")


def test_the_status_tells_what_selects_nothing_and_nothing_else(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w1",))
    cluster.apply(build_service("astray", "100.64.7.13", "wbe"))
    expected = {("Service C0/default/astray", "its selector matches no pod")}
    wait_until("the status", lambda: "" if find_problems(cluster) == expected else str(find_problems(cluster)), SECONDS)
    cluster.delete("Service", "astray")
    wait_until("the status", lambda: str(find_problems(cluster) or ""), SECONDS)
    assert [one["proxy"] for one in cluster.lab.status()["clusters"][0]["workers"]] == list(cluster.proxies.values())


def test_the_command_shows_services_as_documented(cluster: Cluster) -> None:
    cluster.serve("web", ("c0w1",))
    words = ("status", "services", "--name", cluster.lab.name)
    wait_until("the backend", lambda: "" if find_state(cluster, "web-c0w1") == "ready" else "not yet", SECONDS)
    found = json.loads(knetsim(*words, "-o", "json").stdout)
    assert [line for one in found for line in explain_mismatch(one, ClusterServices)] == []
    assert found[0]["uncounted"] == [f"C0{node[2:]}" for node in WORKERS if cluster.proxies[node] == KUBE_PROXY]
    line = next(line for line in knetsim(*words).stdout.splitlines() if line.startswith("web "))
    assert line.split()[1:3] == ["NodePort", "80/tcp"]
    assert "web-c0w1" in line


def find_problems(cluster: Cluster) -> set[tuple[str, str]]:
    """What the status says is wrong with Services."""
    return {(one["object"], one["what"]) for one in cluster.lab.status()["problems"] if "Service" in one["object"]}
