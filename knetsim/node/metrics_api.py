"""The metrics API of a cluster, `metrics.k8s.io`: what `kubectl top` and autoscalers ask.

Reality: metrics-server, a Deployment that scrapes every kubelet each 15 s; the API server passes requests on to it
(kube-aggregator). Ours: the same server thread as the kubelets', on 127.0.0.1:4443 of the control plane's host, from
the same counters, taken when somebody asks. The API server finds it by an APIService and a Service that is another
name of `localhost`; it shows the front proxy's client certificate, and has checked by then who may ask.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from knetsim.api.objects import Object, format_time, name_of, namespace_of
from knetsim.node.kubelet_api.admission import read_user
from knetsim.node.kubelet_api.context import NODES, Nodes
from knetsim.node.kubelet_api.usage import Rates, key_of_container, running_containers

ADDRESS, PORT = "127.0.0.1", 4443
GROUP, VERSION = "metrics.k8s.io", "v1beta1"
_NAMESPACE, _SERVICE = "kube-system", "metrics-server"
#: what the API server expects the server's certificate to name
SERVER_NAME = f"{_SERVICE}.{_NAMESPACE}.svc"
_BASE = f"/apis/{GROUP}/{VERSION}"
_API_VERSION = f"{GROUP}/{VERSION}"
_PROXY = "front-proxy-client"


def build_metrics_objects(ca: bytes) -> list[Object]:
    """What makes the API known in a cluster. `ca` is the certificate (PEM) of who signed the server's."""
    reader = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": "system:aggregated-metrics-reader",
            "labels": {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("view", "edit", "admin")},
        },
        "rules": [{"apiGroups": [GROUP], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _SERVICE, "namespace": _NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": PORT, "protocol": "TCP"}]},
    }
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{VERSION}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "caBundle": base64.b64encode(ca).decode(),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": _SERVICE, "namespace": _NAMESPACE, "port": PORT},
        },
    }
    return [reader, service, registration]


def build_metrics_application(nodes: Nodes) -> web.Application:
    """All paths."""
    application = web.Application(middlewares=[_admit])
    application[NODES] = nodes
    router = application.router
    router.add_get(_BASE, _answer_resources)
    router.add_get(f"{_BASE}/nodes", _answer_nodes)
    router.add_get(f"{_BASE}/nodes/{{name}}", _answer_nodes)
    router.add_get(f"{_BASE}/pods", _answer_pods)
    router.add_get(f"{_BASE}/namespaces/{{namespace}}/pods", _answer_pods)
    router.add_get(f"{_BASE}/namespaces/{{namespace}}/pods/{{name}}", _answer_pods)
    return application


@web.middleware
async def _admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    transport = request.transport
    if transport is None or read_user(transport.get_extra_info("peercert")) != _PROXY:
        return _refuse(401, "Unauthorized", "only the API server is served here")
    return await handler(request)


def _refuse(code: int, reason: str, message: str, **details: str) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }
    return web.json_response(status, status=code)


async def _answer_resources(request: web.Request) -> web.Response:
    kinds = (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True))
    resources = [
        {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]}
        for name, kind, namespaced in kinds
    ]
    body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": _API_VERSION, "resources": resources}
    return web.json_response(body)


async def _answer_nodes(request: web.Request) -> web.Response:
    nodes, labels = request.app[NODES], request.app[NODES].node_labels()
    rates = await nodes.usage.rates()
    items = [build_node_metrics(name, labels[name], rates) for name in sorted(labels)]
    return _answer(request, "NodeMetrics", items)


async def _answer_pods(request: web.Request) -> web.Response:
    nodes = request.app[NODES]
    namespace, rates = request.match_info.get("namespace"), await nodes.usage.rates()
    pods = [pod for name in nodes.node_labels() for pod in nodes.kubelet.pods_on(name)]
    items = [
        build_pod_metrics(pod, rates)
        for pod in sorted(pods, key=lambda pod: (namespace_of(pod), name_of(pod)))
        if namespace in (None, namespace_of(pod)) and running_containers(pod)
    ]
    return _answer(request, "PodMetrics", items)


def _answer(request: web.Request, kind: str, items: list[Object]) -> web.Response:
    name = request.match_info.get("name")
    if name is None:
        try:
            chosen = read_selector(request.query.get("labelSelector", ""))
        except ValueError as error:
            return _refuse(400, "BadRequest", f"unable to parse requirement: {error}")
        items = [item for item in items if chosen(item["metadata"].get("labels") or {})]
        return web.json_response({"kind": f"{kind}List", "apiVersion": _API_VERSION, "metadata": {}, "items": items})
    for item in items:
        if item["metadata"]["name"] == name:
            return web.json_response({"kind": kind, "apiVersion": _API_VERSION, **item})
    resource = "nodes" if kind == "NodeMetrics" else "pods"
    message = f'{resource}.{GROUP} "{name}" not found'
    return _refuse(404, "NotFound", message, name=name, group=GROUP, kind=resource)


def build_node_metrics(node: str, labels: Mapping[str, str], rates: Rates) -> Object:
    """A node's item; pure."""
    usage, rate = rates.node(node)
    return {"metadata": {"name": node, "labels": dict(labels)}, **_measured(rates), "usage": _usage(rate, usage.memory)}


def build_pod_metrics(pod: Object, rates: Rates) -> Object:
    """A pod's item; pure."""
    metadata: Object = {"name": name_of(pod), "namespace": namespace_of(pod)}
    if labels := pod["metadata"].get("labels"):
        metadata["labels"] = labels
    containers = []
    for name in running_containers(pod):
        usage, rate = rates.container(key_of_container(pod, name))
        containers.append({"name": name, "usage": _usage(rate, usage.memory)})
    return {"metadata": metadata, **_measured(rates), "containers": containers}


def _measured(rates: Rates) -> dict[str, Any]:
    return {"timestamp": format_time(rates.now.wall), "window": f"{rates.window:.3f}s"}


def _usage(rate: int, memory: int) -> dict[str, str]:
    return {"cpu": f"{rate}n", "memory": f"{memory // 1024}Ki"}


# --- labels

_REQUIREMENT = re.compile(
    r"\s*(?:(?P<key>[\w./-]+)\s*(?P<op>==|=|!=|\bin\b|\bnotin\b)\s*(?:\((?P<set>[^)]*)\)|(?P<value>[\w.-]*))"
    r"|(?P<absent>!?)\s*(?P<name>[\w./-]+))\s*(?:,|$)"
)


def read_selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Whether labels are those that a selector means, as `kubectl -l` writes it. ValueError."""
    requirements: list[Callable[[Mapping[str, str]], bool]] = []
    position = 0
    while position < len(text):
        found = _REQUIREMENT.match(text, position)
        if found is None:
            raise ValueError(f"couldn't parse the selector string {text!r}")
        requirements.append(_read_requirement(found))
        position = found.end()
    return lambda labels: all(holds(labels) for holds in requirements)


def _read_requirement(found: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    if found["name"]:
        name, wanted = found["name"], not found["absent"]
        return lambda labels: (name in labels) is wanted
    key, is_set = found["key"], found["set"] is not None
    if is_set != (found["op"] in ("in", "notin")):
        raise ValueError(f"couldn't parse the selector string {found[0]!r}")
    values = [one.strip() for one in found["set"].split(",")] if is_set else [found["value"]]
    if found["op"] in ("in", "=", "=="):
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values
