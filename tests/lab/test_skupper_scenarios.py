"""The scenarios that show Skupper: what their comments promise. And plain YAML through kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from knetsim.control_choice import has_kubernetes
from knetsim.system.wait import wait_until
from tests.lab.lab import CONTROL_PLANE, SETTLE_SECONDS, Lab, knetsim, running, wait_to_find

_PLAIN = """
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: plain}
spec:
  clusters:
    - {name: C0, workers: 1, etcd: {members: 1}, controlPlane: kubernetes}
    - {name: C1, workers: 1, etcd: {members: 1}, controlPlane: kubernetes}
"""
_SITE = """
apiVersion: skupper.io/v2alpha1
kind: Site
metadata: {name: SITE}
spec: {linkAccess: default}
---
"""
_SERVES = """
apiVersion: skupper.io/v2alpha1
kind: AccessGrant
metadata: {name: for-east}
---
apiVersion: skupper.io/v2alpha1
kind: Connector
metadata: {name: backend}
spec: {routingKey: backend, selector: app=web, port: 8080}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
    - {name: web, image: busybox, command: [sh, -c, "mkdir /www && echo web > /www/index.html && exec httpd -f -p 8080 -h /www"]}
"""  # noqa: E501
_USES = """
apiVersion: skupper.io/v2alpha1
kind: Listener
metadata: {name: backend}
spec: {routingKey: backend, host: backend, port: 8080}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: pause, image: "registry.k8s.io/pause:3.10"}]}
"""
_TOKEN = """
apiVersion: skupper.io/v2alpha1
kind: AccessToken
metadata: {name: to-west}
spec: {url: "URL", code: "CODE", ca: CA, linkCost: 7}
"""


def ask(lab: Lab, pod: str, url: str, times: int = 1, *, together: bool = False) -> set[str]:
    """Who answers a pod, asked one after the other or all at once; `nothing` for nobody."""
    once = f"timeout 20 wget -qO- {url} 2>/dev/null || echo nothing"
    each = f"({once}) &" if together else f"{once};"
    answer = lab.exec(pod, "sh", "-c", f"for i in $(seq {times}); do {each} done; wait", timeout=60 + 20 * times)
    return set(answer.stdout.splitlines())


# --- three-sites ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running("three-sites", tmp_path_factory.mktemp("three")) as lab:
        yield lab


def ask_shop(lab: Lab, cluster: str, times: int = 6) -> set[str]:
    return ask(lab, f"{cluster}/client", "http://shop:8080", times)


def read_ways(lab: Lab, cluster: str) -> dict[str, tuple[int, str]]:
    """The sites that a cluster's router reaches: what the way costs, and the site to which it goes first."""
    sites = json.loads(knetsim("link", "status", "--name", lab.name, "-o", "json").stdout)
    named = {site["router"]: site["name"] for site in sites}
    [site] = [site for site in sites if site["cluster"] == cluster]
    return {way["site"]: (way["cost"], named.get(way["nextRouter"], "")) for way in site["reaches"]}


def test_costs_decide_which_way_traffic_goes(three: Lab) -> None:
    wait_to_find("the ways from C0", lambda: read_ways(three, "C0"), {"c1": (1, "c1"), "c2": (2, "c1")})
    wait_to_find("the ways from C2", lambda: read_ways(three, "C2"), {"c1": (1, "c1"), "c0": (2, "c1")})


def test_the_nearest_serves(three: Lab) -> None:
    wait_to_find("who serves C0", lambda: ask_shop(three, "C0"), {"web-1 of C1", "web-2 of C1"})
    wait_to_find("who serves C1", lambda: ask_shop(three, "C1"), {"web-1 of C1", "web-2 of C1"})
    wait_to_find("who serves C2", lambda: ask_shop(three, "C2"), {"web of C2"})


def test_many_at_once_are_spread(three: Lab) -> None:
    everybody = {"web-1 of C1", "web-2 of C1", "web of C2"}
    slow = "http://shop:8080/cgi-bin/slow"
    wait_to_find("who serves six at once", lambda: ask(three, "C0/client", slow, 6, together=True), everybody)


def test_servers_and_links_that_go(three: Lab) -> None:
    """Last: it takes the network apart."""
    for pod in ("web-1", "web-2"):
        three.py(f'C1w1.delete_container("{pod}")')
    wait_to_find("who serves C0", lambda: ask_shop(three, "C0"), {"web of C2"})
    wait_to_find("who serves C1", lambda: ask_shop(three, "C1"), {"web of C2"})
    three.py('C0.store.delete("Link", "to-c1")')
    wait_to_find("the ways from C0", lambda: read_ways(three, "C0"), {"c2": (5, "c2"), "c1": (6, "c2")})
    wait_to_find("who serves C0", lambda: ask_shop(three, "C0"), {"web of C2"})
    three.py('C0.store.delete("Link", "to-c2")')
    wait_to_find("who serves C0", lambda: ask_shop(three, "C0", 1), {"nothing"})
    wait_to_find("the ways from C0", lambda: read_ways(three, "C0"), {})
    wait_to_find("who serves C1", lambda: ask_shop(three, "C1"), {"web of C2"})


# --- the default scenario ---------------------------------------------------------------------------------------------


def test_the_first_knetsims_demo(tmp_path: Any) -> None:
    with running("default", tmp_path) as lab:
        wait_to_find("C1's port", lambda: lab.py('C1w1.exec_container("c1", "wget -qO- 10.2.1.1:1028")'), "c4 of C0")
        for worker, pod in (("w1", "c1"), ("w2", "c2"), ("w3", "c3")):
            command = f'C1{worker}.exec_container("{pod}", "wget -qO- http://backend:8080")'
            wait_to_find(f"the Service, from {pod}", lambda command=command: lab.py(command), "c4 of C0")


# --- plain YAML -------------------------------------------------------------------------------------------------------


def kubectl(lab: Lab, cluster: str, *words: str, stdin: str | None = None) -> str:
    return knetsim("kubectl", "--name", lab.name, "-c", cluster, *words, stdin=stdin).stdout


def read_status(lab: Lab, cluster: str, what: str) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(kubectl(lab, cluster, "get", what, "-o", "json")).get("status") or {}
    return status


def wait_ready(lab: Lab, cluster: str, *whats: str) -> None:
    for what in whats:
        wait_until(f"{what} of {cluster}", lambda what=what: explain_unready(lab, cluster, what), SETTLE_SECONDS)


def explain_unready(lab: Lab, cluster: str, what: str) -> str:
    status = read_status(lab, cluster, what)
    return "" if status.get("status") == "Ready" else str(status)


def test_yaml_for_kubectl_links_clusters_and_a_deleted_link_parts_them(tmp_path: Any) -> None:
    if not has_kubernetes() or CONTROL_PLANE == "embedded":
        pytest.skip("kubectl needs Kubernetes' own control plane")
    with running(_PLAIN, tmp_path) as lab:
        kubectl(lab, "C0", "apply", "-f", "-", stdin=_SITE.replace("SITE", "west") + _SERVES)
        kubectl(lab, "C1", "apply", "-f", "-", stdin=_SITE.replace("SITE", "east") + _USES)
        wait_ready(lab, "C0", "site/west", "accessgrant/for-east")
        grant = read_status(lab, "C0", "accessgrant/for-east")
        token = _TOKEN.replace("URL", grant["url"]).replace("CODE", grant["code"])
        kubectl(lab, "C1", "apply", "-f", "-", stdin=token.replace("CA", json.dumps(grant.get("ca", ""))))
        wait_ready(lab, "C1", "accesstoken/to-west", "link/to-west", "listener/backend")
        wait_ready(lab, "C0", "connector/backend")
        assert read_status(lab, "C1", "link/to-west")["remoteSiteName"] == "west"
        wait_to_find("who serves", lambda: ask(lab, "C1/client", "http://backend:8080"), {"web"})
        table = kubectl(lab, "C1", "get", "listeners")
        assert table.splitlines()[1].split() == ["backend", "backend", "8080", "backend", "Ready", "true", "OK"]
        kubectl(lab, "C1", "delete", "link", "to-west")
        wait_to_find("who serves", lambda: ask(lab, "C1/client", "http://backend:8080"), {"nothing"})
        matched = ("wait", "listener/backend", "--for=condition=Matched=false", "--timeout=60s")
        assert "condition met" in kubectl(lab, "C1", *matched)
        assert read_status(lab, "C1", "listener/backend")["hasMatchingConnector"] is False
