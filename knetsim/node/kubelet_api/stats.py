"""What a node tells collectors of metrics: `/stats/summary` as JSON, `/metrics/resource` as Prometheus reads it.

Names, units and forms are those of k8s.io/kubelet/pkg/apis/stats/v1alpha1 and of the kubelet's stable metrics, so that
a real metrics-server or Prometheus can read them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from knetsim.api.objects import Object, format_time, name_of, namespace_of, parse_time, uid_of
from knetsim.errors import NotFound
from knetsim.node.kubelet.node import Machine
from knetsim.node.kubelet_api.context import NODES, Nodes
from knetsim.node.kubelet_api.usage import Rates, key_of_container, running_containers
from knetsim.system.counters import InterfaceCounters, Usage, read_interfaces
from knetsim.system.netns import Namespaces

_SECOND = 1_000_000_000
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def answer_summary(request: web.Request) -> web.Response:
    """Node, pods and containers."""
    nodes = request.app[NODES]
    worker, rates = nodes.worker_of(request), await nodes.usage.rates()
    pods = [pod for pod in nodes.kubelet.pods_on(worker.node) if running_containers(pod)]
    interfaces = await asyncio.to_thread(lambda: {uid_of(pod): _interfaces(nodes, pod) for pod in pods})
    node_interfaces = await asyncio.to_thread(lambda: list(read_interfaces(worker.place.namespaces)))
    return web.json_response(build_summary(worker.node, pods, rates, interfaces, node_interfaces))


def _interfaces(nodes: Nodes, pod: Object) -> list[InterfaceCounters]:
    try:
        run, _ = nodes.kubelet.find(namespace_of(pod), name_of(pod))
        place: Namespaces = run.sandbox.open_place()
    except NotFound:
        return []  # it is just ending
    try:
        return list(read_interfaces(place))
    finally:
        place.close()


def build_summary(
    node: str,
    pods: Iterable[Object],
    rates: Rates,
    interfaces: dict[str, list[InterfaceCounters]],
    node_interfaces: list[InterfaceCounters],
) -> dict[str, Any]:
    """The answer; pure."""
    time = format_time(rates.now.wall)
    machine = Machine.read()
    usage, rate = rates.node(node)
    return {
        "node": {
            "nodeName": node,
            "cpu": _cpu(time, usage, rate),
            "memory": {**_memory(time, usage), "availableBytes": max(0, machine.memory - usage.memory)},
            "network": _network(time, node_interfaces),
            "rlimit": {"time": time, "curproc": usage.processes},
        },
        "pods": [_pod(pod, rates, time, interfaces.get(uid_of(pod), [])) for pod in pods],
    }


def _pod(pod: Object, rates: Rates, time: str, interfaces: list[InterfaceCounters]) -> dict[str, Any]:
    containers, total, speed = [], Usage(), 0
    for name in running_containers(pod):
        usage, rate = rates.container(key_of_container(pod, name))
        total, speed = total + usage, speed + rate
        started = _started(pod, name)
        containers.append(
            {"name": name, "startTime": started, "cpu": _cpu(time, usage, rate), "memory": _memory(time, usage)}
        )
    return {
        "podRef": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)},
        "startTime": (pod.get("status") or {}).get("startTime"),
        "containers": containers,
        "cpu": _cpu(time, total, speed),
        "memory": _memory(time, total),
        "network": _network(time, interfaces),
        "process_stats": {"process_count": total.processes},
    }


def _cpu(time: str, usage: Usage, rate: int) -> dict[str, Any]:
    return {"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": usage.cpu}


def _memory(time: str, usage: Usage) -> dict[str, Any]:
    return {"time": time, "usageBytes": usage.memory, "workingSetBytes": usage.memory, "rssBytes": usage.memory}


def _network(time: str, interfaces: list[InterfaceCounters]) -> dict[str, Any]:
    shown = [
        {
            "name": one.name,
            "rxBytes": one.rx_bytes,
            "rxErrors": one.rx_errors,
            "txBytes": one.tx_bytes,
            "txErrors": one.tx_errors,
        }
        for one in interfaces
    ]
    first = next((one for one in shown if one["name"] == "eth0"), shown[0] if shown else {"name": ""})
    return {"time": time, **first, "interfaces": shown}


def _started(pod: Object, container: str) -> str | None:
    status = pod.get("status") or {}
    fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    for field in fields:
        for one in status.get(field) or ():
            if one["name"] == container:
                return ((one.get("state") or {}).get("running") or {}).get("startedAt")
    return None


# --- for Prometheus


async def answer_resource_metrics(request: web.Request) -> web.Response:
    """CPU and memory of node, pods and containers."""
    nodes = request.app[NODES]
    worker, rates = nodes.worker_of(request), await nodes.usage.rates()
    pods = [pod for pod in nodes.kubelet.pods_on(worker.node) if running_containers(pod)]
    text = build_resource_metrics(worker.node, pods, rates)
    return web.Response(body=text.encode(), headers={"Content-Type": _TEXT})


def build_resource_metrics(node: str, pods: Iterable[Object], rates: Rates) -> str:
    """The answer; pure."""
    at = round(rates.now.wall * 1000)
    lists: list[list[str]] = [[] for _ in range(5)]
    cpu, memory, start, pod_cpu, pod_memory = lists
    for pod in pods:
        where, total = f'namespace="{namespace_of(pod)}",pod="{name_of(pod)}"', Usage()
        for name in running_containers(pod):
            usage, _ = rates.container(key_of_container(pod, name))
            total, labels = total + usage, f'{{container="{name}",{where}}}'
            cpu.append(f"container_cpu_usage_seconds_total{labels} {usage.cpu / _SECOND:g} {at}")
            memory.append(f"container_memory_working_set_bytes{labels} {usage.memory} {at}")
            if started := _started(pod, name):
                start.append(f"container_start_time_seconds{labels} {parse_time(started):.0f}")
        pod_cpu.append(f"pod_cpu_usage_seconds_total{{{where}}} {total.cpu / _SECOND:g} {at}")
        pod_memory.append(f"pod_memory_working_set_bytes{{{where}}} {total.memory} {at}")
    usage, _ = rates.node(node)
    families = (
        ("container_cpu_usage_seconds_total", "counter", cpu),
        ("container_memory_working_set_bytes", "gauge", memory),
        ("container_start_time_seconds", "gauge", start),
        ("node_cpu_usage_seconds_total", "counter", [f"node_cpu_usage_seconds_total {usage.cpu / _SECOND:g} {at}"]),
        ("node_memory_working_set_bytes", "gauge", [f"node_memory_working_set_bytes {usage.memory} {at}"]),
        ("pod_cpu_usage_seconds_total", "counter", pod_cpu),
        ("pod_memory_working_set_bytes", "gauge", pod_memory),
        ("resource_scrape_error", "gauge", ["resource_scrape_error 0"]),
    )
    lines = [line for name, kind, found in families if found for line in (*_head(name, kind), *found)]
    return "\n".join(lines) + "\n"


async def answer_metrics(request: web.Request) -> web.Response:
    """How many pods and containers run here: the first that dashboards ask a kubelet."""
    nodes = request.app[NODES]
    pods = [len(running_containers(pod)) for pod in nodes.kubelet.pods_on(nodes.worker_of(request).node)]
    values = (("kubelet_running_pods", sum(map(bool, pods))), ("kubelet_running_containers", sum(pods)))
    lines = [line for name, value in values for line in (*_head(name, "gauge"), f"{name} {value}")]
    return web.Response(body=("\n".join(lines) + "\n").encode(), headers={"Content-Type": _TEXT})


_HELP = {
    "container_cpu_usage_seconds_total": "Cumulative cpu time consumed by the container in core-seconds",
    "container_memory_working_set_bytes": "Current working set of the container in bytes",
    "container_start_time_seconds": "Start time of the container since unix epoch in seconds",
    "node_cpu_usage_seconds_total": "Cumulative cpu time consumed by the node in core-seconds",
    "node_memory_working_set_bytes": "Current working set of the node in bytes",
    "pod_cpu_usage_seconds_total": "Cumulative cpu time consumed by the pod in core-seconds",
    "pod_memory_working_set_bytes": "Current working set of the pod in bytes",
    "resource_scrape_error": "1 if there was an error while getting container metrics, 0 otherwise",
    "kubelet_running_pods": "Number of pods that have a running pod sandbox",
    "kubelet_running_containers": "Number of containers currently running",
}


def _head(name: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} [STABLE] {_HELP[name]}", f"# TYPE {name} {kind}"
