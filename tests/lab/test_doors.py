"""The doors into a cluster, in whole simulations with either control plane: the commands of the first knetsim as it
printed them, load balancers, ingress, and what becomes of them when a worker is cut off.

Cluster C0 is the default scenario's, with embedded pod network; w2 has the real kube-proxy where there is one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from knetsim.control_choice import has_kubernetes
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import CHECKOUT, SETTLE_SECONDS, TRIES, Lab, running, wait_to_find

BACKENDS = {"svc1": {"S1-W2", "S1-W3"}, "svc2": {"S2-W2", "S2-W3"}}


def build_scenario(control_plane: str) -> str:
    proxies = ("emulator", "kube-proxy", "emulator") if control_plane == "kubernetes" else ("emulator",) * 3
    workers = [{"name": f"w{number}", "proxy": proxy} for number, proxy in enumerate(proxies, 1)]
    cluster = {
        "name": "C0",
        "workers": workers,
        "controlPlane": control_plane,
        "etcd": {"members": 1},
        "podNetwork": {"agent": "embedded", "cni": "native"},
        "ingress": {"workers": ["w1"], "httpPort": 8001},
    }
    spec = {"clusters": [cluster], "manifests": [str(CHECKOUT / "scenarios" / "default" / "C0")]}
    return yaml.safe_dump(
        {"apiVersion": "knetsim.io/v1", "kind": "Scenario", "metadata": {"name": "doors"}, "spec": spec}
    )


@pytest.fixture(scope="module", params=["kubernetes", "embedded"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if request.param == "kubernetes" and not (has_kubernetes() and find_program("kube-proxy")):
        pytest.skip("no Kubernetes on this machine: ./utils/setup")
    with running(build_scenario(request.param), tmp_path_factory.mktemp("doors")) as lab:
        yield lab


def settle_status(lab: Lab, url: str, wanted: str) -> None:
    """Wait until C0e1 gets this HTTP status."""
    words = ("curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", url)
    wait_to_find(url, lambda: lab.exec("C0e1", *words).stdout, wanted)


def get(lab: Lab, kind: str, name: str) -> dict[str, object]:
    """An object as the cluster's store has it."""
    found = json.loads(lab.py(f'__import__("json").dumps(C0.store.get("{kind}", "{name}"))'))
    assert isinstance(found, dict)
    return found


# --- the first knetsim's


def test_a_ping_of_the_vip_is_answered_from_pods_and_workers(lab: Lab) -> None:
    assert "5 received" in lab.py('C0w1.exec_container("c1", "ping 100.64.10.1 -c 5 -i 0.01")')
    for place in ("C0w1", "C0w2", "C0/c2", "C0/c4"):
        assert ", 0% packet loss" in lab.exec(place, "ping", "-c", "1", "100.64.10.1").stdout, place
    assert "chain vip/100.64.10.1" in lab.line("C0w1 nft list ruleset")


def test_the_services_and_the_ingress_alternate(lab: Lab) -> None:
    for service, number in (("svc1", 1), ("svc2", 2)):
        lab.settle("C0w1", f"100.64.11.{number}:8000", BACKENDS[service])
        lab.settle("C0w1", f"localhost:8001/{service}", BACKENDS[service])
        lab.settle("C0e1", f"10.1.1.1:8001/{service}", BACKENDS[service])
        lab.settle("C0e1", f"C0w1:8001/{service}", BACKENDS[service])
    assert lab.line("C0e1 curl -s 10.1.1.1:8001/svc1").strip() in BACKENDS["svc1"]
    settle_status(lab, "10.1.1.1:8001/nix", "404")


def test_kp_vip_add_twice_is_once_and_del_takes_it_away(lab: Lab) -> None:
    lab.py('C0.kp_vip_add("100.64.10.7", ["c1", "c4"])')
    before = get(lab, "Service", "vip-100-64-10-7")
    lab.py('C0.kp_vip_add("100.64.10.7", ["c1", "c4"])')
    assert get(lab, "Service", "vip-100-64-10-7") == before
    for place in ("C0/c2", "C0w2", "C0w3"):
        assert "1 received" in lab.exec(place, "ping", "-c", "1", "100.64.10.7").stdout, place
    lab.py('C0.kp_vip_del("100.64.10.7")')
    assert "0 received" in lab.exec("C0/c2", "ping", "-c", "1", "-W", "1", "100.64.10.7", check=False).stdout
    assert "no VIP 100.64.10.7" in lab.py('C0.kp_vip_del("100.64.10.7")', check=False)


def test_an_address_belongs_to_a_vip_or_to_a_service(lab: Lab) -> None:
    assert "Service default/svc1 has it" in lab.py('C0.kp_vip_add("100.64.11.1", ["c1"])', check=False)
    assert "not in the range of Services" in lab.py('C0.kp_vip_add("10.9.9.9", ["c1"])', check=False)
    assert "no pod 'c9'" in lab.py('C0.kp_vip_add("100.64.10.8", ["c9"])', check=False)
    assert "needs a list of pods" in lab.py('C0.kp_vip_add("100.64.10.8", "c1")', check=False)
    spec = "{clusterIP: 100.64.10.1, ports: [{port: 80}]}"
    thief = f"{{apiVersion: v1, kind: Service, metadata: {{name: thief}}, spec: {spec}}}"
    refused = lab.apply(thief, check=False)
    assert refused.returncode != 0
    assert "100.64.10.1" in refused.stdout + refused.stderr


def test_run_ingress_opens_a_port_of_any_worker(lab: Lab) -> None:
    rules = '[{"path": "/svc1", "endpoint": "100.64.11.1:8000"}, {"path": "/svc2", "endpoint": "100.64.11.2:8000"}]'
    for _ in range(2):  # twice is once
        lab.py(f'C0w3.run_ingress("grp2", 8002, {rules})')
    for service, names in BACKENDS.items():
        lab.settle("C0e1", f"10.1.1.3:8002/{service}", names)
    assert "no address with a port" in lab.py('C0w3.run_ingress("x", 8003, [{"path": "/", "endpoint": "a b"}])', False)
    lab.py('C0.store.delete("Ingress", "grp2")')
    lab.settle("C0e1", "10.1.1.3:8002/svc1", {"exit 7"})


# --- ingress


def test_the_ingress_follows_its_pods(lab: Lab) -> None:
    lab.py('C0w2.delete_container("ic2")')
    lab.settle("C0e1", "10.1.1.1:8001/svc2", {"S2-W3"})
    ingress = get(lab, "Ingress", "grp1")
    ports = [{"port": 8001, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}]
    assert ingress["status"] == {"loadBalancer": {"ingress": [{"ip": "10.1.1.1", "ports": ports}]}}


def test_what_is_wrong_with_an_ingress_is_an_event_and_a_problem(lab: Lab) -> None:
    ingress = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: lost}
spec:
  rules:
    - http: {paths: [{path: /lost, pathType: Prefix, backend: {service: {name: lost, port: {number: 80}}}}]}
    - http: {paths: [{path: /svc1, pathType: Prefix, backend: {service: {name: svc2, port: {number: 8000}}}}]}
"""
    lab.apply(ingress)
    settle_status(lab, "10.1.1.1:8001/lost", "503")
    lab.settle("C0e1", "10.1.1.1:8001/svc1", BACKENDS["svc1"])

    def missing() -> str:
        events = lab.py('[(e["reason"], e["involvedObject"]["name"]) for e in C0.store.list("Event").items]')
        wanted = [f"('{reason}', 'lost')" for reason in ("ServiceNotFound", "PathTaken")]
        return ", ".join(each for each in wanted if each not in events)

    wait_until("the Events", missing, SETTLE_SECONDS)
    assert "Ingress C0/default/lost" in [problem["object"] for problem in lab.status()["problems"]]
    lab.py('C0.store.delete("Ingress", "lost")')


# --- load balancers


def test_a_load_balancer_has_an_address_on_the_underlay_that_moves(lab: Lab) -> None:
    balancers = """\
apiVersion: v1
kind: Service
metadata: {name: door}
spec: {type: LoadBalancer, selector: {app: svc1}, ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  loadBalancerIP: 10.1.255.77
  selector: {app: svc1}
  ports: [{port: 80, targetPort: 8000}]
"""
    lab.apply(balancers)

    def lacking() -> str:
        return "" if "10.1.255.1" in json.dumps(get(lab, "Service", "door").get("status")) else "no address"

    wait_until("the address", lacking, SETTLE_SECONDS)
    for place in ("C0e1", "C0w1", "C0w2", "C0/c1"):
        lab.settle(place, "10.1.255.1", BACKENDS["svc1"])
    # only a worker with a backend answers, and only by its own
    lab.settle("C0e1", "10.1.255.77", {find_home(lab, "local").replace("c0w", "S1-W")})
    home = find_home(lab, "door")
    host = home.replace("c0", "C0")
    lab.line(f"link {host} C0s0 down")
    try:
        wait_until("another worker", lambda: "" if find_home(lab, "door") != home else home, SETTLE_SECONDS)
        # by a pod that can still be reached
        wait_answer(lab, "10.1.255.1", {name for name in BACKENDS["svc1"] if not name.endswith(home[-1])})
    finally:
        lab.line(f"link {host} C0s0 up")
    wait_until("its return", lambda: "" if find_home(lab, "door") == home else "another", SETTLE_SECONDS)
    lab.settle("C0e1", "10.1.255.1", BACKENDS["svc1"])


def find_home(lab: Lab, name: str) -> str:
    """The Node that answers for a Service's address."""
    return lab.py(f'[a for a in C0.addons if type(a).__name__ == "LoadBalancers"][0].homes().get("default/{name}", "")')


def wait_answer(lab: Lab, url: str, wanted: set[str]) -> None:
    """Wait until one of these answers C0e1."""

    def missing() -> str:
        found = set(lab.curl("C0e1", url))
        return "" if found and found <= wanted else f"{found} instead of {wanted}"

    wait_until(url, missing, SETTLE_SECONDS)


def test_a_service_that_ceases_to_be_a_load_balancer_gives_its_address_back(lab: Lab) -> None:
    plain = "{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {type: %s, ports: [{port: 80}]}}"
    lab.apply(plain % ("brief", "LoadBalancer"))

    def has(word: str) -> str:
        status = get(lab, "Service", "brief").get("status") or {}
        assert isinstance(status, dict)
        found = bool((status.get("loadBalancer") or {}).get("ingress"))
        return "" if found is (word == "an address") else word

    wait_until("its address", lambda: has("an address"), SETTLE_SECONDS)
    lab.py('C0.store.delete("Service", "brief")')
    lab.apply(plain % ("brief", "ClusterIP"))
    assert has("no address") == ""


# --- last, as it takes a pod away for good


def test_a_ping_of_the_vip_fails_for_part_of_the_tries_once_c3_is_gone(lab: Lab) -> None:
    lab.py('C0w3.delete_container("c3")')
    ping = "ping 100.64.10.1 -c 1 -W 1"
    found = Counter("1 received" in lab.py(f'C0w1.exec_container("c1", "{ping}")') for _ in range(TRIES))
    assert found[True] > 0
    assert found[False] > 0
