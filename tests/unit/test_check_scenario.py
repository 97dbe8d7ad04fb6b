"""What `knetsim validate` says of manifests depends on who will take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from knetsim.cli.check import check_scenario
from knetsim.control_choice import has_kubernetes
from knetsim.errors import ScenarioError

SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: s}
spec:
  clusters:
    - {name: C0, workers: 1, controlPlane: %s}
  manifests: [m.yaml]
"""
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: main, image: a, %s}]}\n"
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n"


def mistakes(folder: Path, control_plane: str, manifest: str) -> list[str]:
    (folder / "m.yaml").write_text(manifest)
    (folder / "s.yaml").write_text(SCENARIO % control_plane)
    try:
        check_scenario(folder / "s.yaml")
    except ScenarioError as error:
        return [problem.what for problem in error.problems]
    return []


def test_embedded_refuses_all_mistakes(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "embedded", DEPLOYMENT) == ["kind Deployment needs Kubernetes' controllers"]
    (what,) = mistakes(tmp_path, "embedded", POD % "livenessProbe: {periodSeconds: 1}")
    assert what.startswith("spec.containers[0].livenessProbe: needs one way to ask")
    assert mistakes(tmp_path, "embedded", POD % "command: [a]") == []


@pytest.mark.skipif(not has_kubernetes(), reason="Kubernetes' programs are not installed")
def test_an_api_server_judges_the_rest_itself(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "kubernetes", DEPLOYMENT) == []
    assert mistakes(tmp_path, "auto", POD % "livenessProbe: {periodSeconds: 1}") == []
    (what,) = mistakes(tmp_path, "kubernetes", POD % "comand: [a]")
    assert what == "spec.containers[0].comand: is unknown: did you mean 'command'?"
