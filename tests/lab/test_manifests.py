"""Manifests of a scenario with everything in them: written in the right order, awaited, and what has no effect said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knetsim.control_choice import has_kubernetes
from knetsim.system.wait import wait_until
from tests.lab.lab import Lab, knetsim, running

SCENARIO = """
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: manifests}
spec:
  clusters: [{name: C0, workers: 2, controlPlane: kubernetes, etcd: {members: 1}}]
  manifests: [app.yaml]
"""
MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: own, namespace: shop}
spec: {containers: [{name: main, image: registry.k8s.io/pause:3.10}]}
---
apiVersion: example.com/v1
kind: Cat
metadata: {name: tom, namespace: shop}
spec: {lives: 7}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: registry.k8s.io/pause:3.10}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: door, namespace: shop}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cats.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: cats, singular: cat, kind: Cat}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    directory = tmp_path_factory.mktemp("lab")
    (directory / "app.yaml").write_text(MANIFESTS)
    with running(SCENARIO, directory) as lab:
        yield lab


def get(lab: Lab, *words: str) -> dict[str, object]:
    answer = json.loads(knetsim("kubectl", "--name", lab.name, "get", *words, "-n", "shop", "-o", "json").stdout)
    assert isinstance(answer, dict)
    return answer


def find_pods(lab: Lab) -> list[dict[str, Any]]:
    """The manifests' own; the cluster has others, which answer names."""
    return [pod for pod in lab.status()["clusters"][0]["pods"] if pod["namespace"] == "shop"]


def test_all_of_it_is_there_once_the_simulation_is_ready(lab: Lab) -> None:
    assert [pod["ready"] for pod in find_pods(lab)] == [True] * 4
    assert get(lab, "cat", "tom")["spec"] == {"lives": 7}


def test_what_has_no_effect_is_said(lab: Lab) -> None:
    assert "Ingress C0/shop/door" in [problem["object"] for problem in lab.status()["problems"]]

    def missing() -> str:
        events = get(lab, "events", "--field-selector", "involvedObject.kind=Ingress")["items"]
        return "" if "ServiceNotFound" in json.dumps(events) else "no Event on the Ingress"

    wait_until("the Event", missing, 60)


def test_apply_changes_what_is_there(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(MANIFESTS.replace("replicas: 3", "replicas: 4"))
    output = knetsim("apply", "--name", lab.name, "-f", str(file)).stdout
    assert "Deployment shop/web: serverside-applied" in output
    wait_until("4 pods", lambda: "" if _ready(lab) == 5 else f"{_ready(lab)} pods", 30)


def _ready(lab: Lab) -> int:
    return sum(pod["ready"] for pod in find_pods(lab))
