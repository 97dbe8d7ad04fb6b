"""Scenarios to measure, as text: a cluster of any size, and existing ones with other parts; pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from knetsim.names import DEFAULT_NAMESPACE

PAUSE_IMAGE = "registry.k8s.io/pause:3.10"


def build_scenario(
    workers: int | Sequence[dict[str, Any]],
    *,
    agent: str,
    cni: str,
    manifests: str | None = None,
    control_plane: str = "embedded",
) -> str:
    """One cluster with `workers` workers (a number, or a list as in a scenario), pods from the file `manifests`."""
    cluster = {
        "name": "C0",
        "workers": workers if isinstance(workers, int) else list(workers),
        "controlPlane": control_plane,
        "podNetwork": {"agent": agent, "cni": cni},
    }
    spec: dict[str, Any] = {"clusters": [cluster]}
    if manifests is not None:
        spec["manifests"] = [manifests]
    return _document({"apiVersion": "knetsim.io/v1", "kind": "Scenario", "metadata": {"name": "bench"}, "spec": spec})


def build_pods(count: int) -> str:
    """`count` pods p1, p2 … that only hold their network; nobody says on which worker."""
    return "---\n".join(_document(build_pod(f"p{number}")) for number in range(1, count + 1))


def build_pod(name: str, node: str | None = None) -> dict[str, Any]:
    """One such pod, on the Node `node` if that is given."""
    spec: dict[str, Any] = {"containers": [{"name": "pause", "image": PAUSE_IMAGE}]}
    if node is not None:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def write_scenario(directory: Path, workers: int, pods: int, *, control_plane: str = "embedded") -> Path:
    """A scenario of that size with its manifests, in files of `directory`, without flanneld and CNI plugins; its
    file."""
    directory.mkdir(parents=True, exist_ok=True)
    if pods:
        (directory / "pods.yaml").write_text(build_pods(pods))
    scenario = directory / "scenario.yaml"
    scenario.write_text(
        build_scenario(
            workers,
            agent="embedded",
            cni="native",
            manifests="pods.yaml" if pods else None,
            control_plane=control_plane,
        )
    )
    return scenario


def change_parts(text: str, directory: Path, *, agent: str, cni: str, control_plane: str) -> str:
    """The scenario `text`, found in `directory`, with these parts in all its clusters."""
    document = yaml.safe_load(text)
    for cluster in document["spec"]["clusters"]:
        cluster["controlPlane"] = control_plane
        cluster["podNetwork"] = {**cluster.get("podNetwork", {}), "agent": agent, "cni": cni}
    manifests = document["spec"].get("manifests", [])
    document["spec"]["manifests"] = [str(directory / entry) for entry in manifests]
    return _document(document)


def _document(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False)


def build_service(name: str, address: str, port: int, target: int, node_port: int = 0) -> dict[str, Any]:
    """A Service that selects no pods; its ClusterIP and, if it shall have one, its NodePort are given."""
    ports = {"port": port, "targetPort": target} | ({"nodePort": node_port} if node_port else {})
    spec = {"clusterIP": address, "ports": [ports]} | ({"type": "NodePort"} if node_port else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(name), "spec": spec}


def build_slice(service: str, addresses: Sequence[str], port: int) -> dict[str, Any]:
    """The backends of such a Service; no controller takes care of them."""
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "bench"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**_metadata(f"{service}-1"), "labels": labels},
        "addressType": "IPv4",
        "ports": [{"port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": DEFAULT_NAMESPACE}
