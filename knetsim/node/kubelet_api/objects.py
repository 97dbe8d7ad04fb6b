"""What a node says of itself: that it is well, which pods it has, how it is configured."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from knetsim.node.kubelet_api.context import NODES
from knetsim.system.container_watch import LOG_MAX_BYTES, LOG_MAX_FILES


async def answer_healthz(request: web.Request) -> web.Response:
    """The kubelet is well if it answers."""
    return web.Response(text="ok")


async def answer_pods(request: web.Request) -> web.Response:
    """The pods that are bound to the node; of `/runningpods/` those that run."""
    nodes = request.app[NODES]
    pods = nodes.kubelet.pods_on(nodes.worker_of(request).node)
    if request.path.startswith("/runningpods"):
        pods = [_running(pod) for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
    items = [{name: value for name, value in pod.items() if name not in ("kind", "apiVersion")} for pod in pods]
    return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})


def _running(pod: dict[str, Any]) -> dict[str, Any]:
    """As the container runtime sees a pod: its names, and what its containers are."""
    metadata, spec = pod["metadata"], pod["spec"]
    containers = [{"name": one["name"], "image": one.get("image", ""), "resources": {}} for one in spec["containers"]]
    kept = {name: metadata[name] for name in ("name", "namespace", "uid", "creationTimestamp") if name in metadata}
    return {"metadata": kept, "spec": {"containers": containers}, "status": {}}


async def answer_configz(request: web.Request) -> web.Response:
    """What of a kubelet's configuration holds here."""
    worker = request.app[NODES].worker_of(request)
    config = {
        "port": 10250,
        "maxPods": worker.max_pods,
        "containerLogMaxSize": f"{LOG_MAX_BYTES >> 20}Mi",
        "containerLogMaxFiles": LOG_MAX_FILES,
        "clusterDomain": "cluster.local",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": ["none"],
        "failSwapOn": False,
        "authentication": {"x509": {}, "webhook": {"enabled": False}, "anonymous": {"enabled": False}},
    }
    return web.json_response({"kubeletconfig": config})
