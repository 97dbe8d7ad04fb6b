"""Prompt, `knetsim`, kubectl and manifests of scenarios show and change the same objects."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from knetsim.control_choice import EMBEDDED, KUBERNETES, has_kubernetes
from knetsim.errors import EXIT_USAGE
from knetsim.system.wait import wait_until
from tests.lab.lab import CHECKOUT, Lab, knetsim, running

SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {{name: surfaces}}
spec:
  clusters:
    - {{name: C0, workers: 2, controlPlane: {control}, etcd: {{members: 1}}}}
  manifests: [{manifest}]
"""
SECONDS = 30.0


def build_pod(name: str) -> str:
    container = {"name": "main", "image": "debian:12", "command": ["sleep", "infinity"]}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


@pytest.fixture(scope="module", params=[EMBEDDED, KUBERNETES])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if request.param == KUBERNETES and not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    directory = tmp_path_factory.mktemp("surfaces")
    manifest = directory / "pod.yaml"
    manifest.write_text(build_pod("by-scenario"))
    with running(SCENARIO.format(control=request.param, manifest=manifest), directory) as lab:
        lab.py('C0w1.create_container("by-prompt")')
        knetsim("apply", "--name", lab.name, "-f", "-", stdin=build_pod("by-apply"))
        if request.param == KUBERNETES:
            kubectl(lab, "apply", "-f", "-", stdin=build_pod("by-kubectl"))
        yield lab


def has_kubectl(lab: Lab) -> bool:
    return bool(lab.status()["clusters"][0]["controlPlane"] == KUBERNETES)


def kubectl(lab: Lab, *words: str, stdin: str | None = None) -> str:
    return knetsim("kubectl", "--name", lab.name, *words, stdin=stdin).stdout


def made(lab: Lab) -> list[str]:
    ways = ["by-scenario", "by-prompt", "by-apply"]
    return [*ways, "by-kubectl"] if has_kubectl(lab) else ways


def read_pods(lab: Lab) -> list[str]:
    """The names of pods by `knetsim status`."""
    return sorted(pod["name"] for cluster in lab.status()["clusters"] for pod in cluster["pods"])


def by_script(lab: Lab, name: str) -> str:
    """`./utils/exec 0 w1 POD -- hostname`."""
    pod = next(pod for pod in lab.status()["clusters"][0]["pods"] if pod["name"] == name)
    words = ["--name", lab.name, "0", pod["worker"].removeprefix("C0"), name, "--", "hostname"]
    return subprocess.run(
        [CHECKOUT / "utils" / "exec", *words], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def wait_running(lab: Lab) -> None:
    def lack() -> str:
        pods = {pod["name"]: pod for cluster in lab.status()["clusters"] for pod in cluster["pods"]}
        waiting = [name for name in made(lab) if name not in pods or not pods[name]["ready"]]
        return f"{waiting} are not ready" if waiting else ""

    wait_until("the pods", lack, SECONDS)


def test_each_is_seen_and_entered_by_all(lab: Lab) -> None:
    wait_running(lab)
    for name in made(lab):
        assert lab.exec(f"C0/{name}", "hostname").stdout.strip() == name
        assert by_script(lab, name) == name
        assert lab.py(f'C0.exec_pod("{name}", "hostname")').strip() == name
        if has_kubectl(lab):
            assert kubectl(lab, "exec", name, "--", "hostname").strip() == name
    if has_kubectl(lab):
        listed = {item["metadata"]["name"] for item in json.loads(kubectl(lab, "get", "pods", "-o", "json"))["items"]}
        assert set(made(lab)) <= listed


def test_what_kubectl_remembers_goes_with_the_simulation(lab: Lab) -> None:
    """Of the API server as the host sees it, and as the simulation does; kubectl has one directory for it."""
    if not has_kubectl(lab):
        pytest.skip("kubectl needs Kubernetes' own control plane")
    kubectl(lab, "get", "pods")
    assert len(list((lab.directory.kubectl_cache / "discovery").iterdir())) == 1
    lab.line("kubectl get pods")
    assert len(list((lab.directory.kubectl_cache / "discovery").iterdir())) == 2


@pytest.mark.parametrize("line", ["x 1", "foo 1", "link C0w1 C0w9 down"])
def test_wrong_words_at_the_prompt_are_an_error_in_two_lines(lab: Lab, line: str) -> None:
    ended = knetsim("attach", "--name", lab.name, "--exec", line, check=False)
    assert ended.returncode == EXIT_USAGE
    error, hint = ended.stdout.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("  try:   ")


def test_each_is_deleted_by_another(lab: Lab) -> None:
    wait_running(lab)
    if has_kubectl(lab):
        kubectl(lab, "delete", "pod", "by-prompt", "by-scenario")
        assert not {"by-prompt", "by-scenario"} & set(read_pods(lab))
        lab.py('C0.delete_pod("by-kubectl")')
        assert "by-kubectl" not in kubectl(lab, "get", "pods", "-o", "name")
    lab.py('C0.delete_pod("by-apply")')
    assert "by-apply" not in read_pods(lab)
    assert lab.exec("C0/by-apply", "hostname", check=False).returncode != 0
