"""Kubernetes' official Python client, from the host through its port, and from inside a pod by its service account."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch
from kubernetes.stream import portforward, stream

from knetsim.control_choice import has_kubernetes
from tests.lab.lab import CHECKOUT, Lab, knetsim, running

SCENARIO = """
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: python}
spec: {clusters: [{name: C0, workers: 2, controlPlane: kubernetes, etcd: {members: 1}}]}
"""
SECONDS = 60
INSIDE = """
from kubernetes import client, config
config.load_incluster_config()
core = client.CoreV1Api()
print(client.Configuration.get_default_copy().host)
print([pod.metadata.name for pod in core.list_namespaced_pod("default").items])
try:
    core.list_namespaced_secret("kube-system")
except client.ApiException as error:
    print(error.status)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    with running(SCENARIO, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def api(lab: Lab) -> Any:
    return config.new_client_from_config(str(lab.directory.kubeconfig))


@pytest.fixture(scope="module")
def web(api: Any) -> str:
    """A pod that serves, made and followed by the client; its name."""
    core = client.CoreV1Api(api)
    container = {"name": "main", "image": "nginx"}
    pod = {"metadata": {"name": "web"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    core.create_namespaced_pod("default", pod)
    follower = watch.Watch()
    for event in follower.stream(core.list_namespaced_pod, "default", timeout_seconds=SECONDS):
        conditions = event["object"].status.conditions or []
        if event["object"].metadata.name == "web" and any(c.type == "Ready" and c.status == "True" for c in conditions):
            follower.stop()
            return "web"
    raise AssertionError("the pod did not become ready")


def test_nodes_and_versions(api: Any) -> None:
    assert client.VersionApi(api).get_code().git_version.startswith("v1.")
    nodes = client.CoreV1Api(api).list_node().items
    assert [node.metadata.name for node in nodes] == ["c0w1", "c0w2"]


def test_a_watch_begins_where_a_list_ended(api: Any, web: str) -> None:
    core = client.CoreV1Api(api)
    for _ in range(3):  # of a quiet kind, whose cache the server learns about by progress notes alone
        core.create_namespaced_config_map("default", {"metadata": {"generateName": "quiet-"}})
        revision = core.list_namespaced_pod("default").metadata.resource_version
        listed = core.list_namespaced_pod("default", resource_version=revision)
        assert web in [pod.metadata.name for pod in listed.items]


def test_commands_in_a_pod(api: Any, web: str) -> None:
    session = stream(
        client.CoreV1Api(api).connect_get_namespaced_pod_exec, web, "default",
        command=["sh", "-c", "read word; echo got $word; exit 4"],
        stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
    )  # fmt: skip
    session.write_stdin("sesame\n")
    session.run_forever(timeout=SECONDS)
    assert session.read_stdout() == "got sesame\n"
    assert session.returncode == 4


def test_a_port_of_a_pod(api: Any, web: str) -> None:
    forward = portforward(client.CoreV1Api(api).connect_get_namespaced_pod_portforward, web, "default", ports="80")
    connection = forward.socket(80)
    connection.setblocking(True)
    connection.sendall(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    assert b"200 OK" in answer
    assert b"Welcome to nginx" in answer
    assert forward.error(80) is None


def test_from_inside_a_pod(lab: Lab, api: Any) -> None:
    if CHECKOUT.is_relative_to("/tmp") or Path(sys.prefix).resolve().is_relative_to("/tmp"):
        pytest.skip("this checkout is below /tmp, and pods have a /tmp of their own")
    role = {"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.create_namespaced_role("default", role)
    binding = {
        "metadata": {"name": "readers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    }
    rbac.create_namespaced_role_binding("default", binding)
    output = knetsim(
        "kubectl", "--name", lab.name, "run", "inside", "--image=debian", "--restart=Never", "-i", "--rm", "--quiet",
        "--", sys.executable, "-c", INSIDE,
    ).stdout  # fmt: skip
    assert "https://100.64.0.1:443" in output
    assert "'inside'" in output
    assert "403" in output
