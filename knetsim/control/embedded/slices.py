"""What stands in the EndpointSlices of a Service: its pods as endpoints, spread over slices of 100. Pure.

Written as Kubernetes' endpointslice controller writes them: one set of slices for each set of ports that the pods give
the Service's ports; what is in a slice stays there, so that one pod's change touches one slice. Left out: the
annotation that says when the change began, and hints by share of CPUs (the annotation topology-mode: Auto). Source:
k8s.io/endpointslice (reconciler.go, utils.go, trafficdist).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knetsim.api.objects import Object, has_condition, name_of, namespace_of, uid_of
from knetsim.api.pods import FINISHED_PHASES
from knetsim.api.service_rules import HEADLESS

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
_HEADLESS_LABEL = "service.kubernetes.io/headless"
_ZONE = "topology.kubernetes.io/zone"
_SAME_NODE = "PreferSameNode"
_CLOSE = ("PreferClose", "PreferSameZone", _SAME_NODE)
MOST = 100

Endpoint = dict[str, Any]
Ports = list[dict[str, Any]]


@dataclass(slots=True)
class Plan:
    """The writes that make the slices right."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def has_slices(service: Object) -> bool:
    """Whether the controller keeps slices of a Service: one that selects pods."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def selects(selector: Mapping[str, str], labels: Mapping[str, str] | None) -> bool:
    """Whether labels match a Service's selector."""
    return all((labels or {}).get(key) == value for key, value in selector.items())


def plan_slices(
    service: Object, pods: Iterable[Object], nodes: Mapping[str, Object], existing: Sequence[Object]
) -> Plan:
    """What makes `existing` slices hold the endpoints of `pods`, all of which the Service selects."""
    groups: dict[str, tuple[Ports, dict[str, Endpoint]]] = {}
    for pod in pods:
        if not _has_endpoint(pod):
            continue
        ports = build_ports(service, pod)
        _, endpoints = groups.setdefault(_mark(ports), (ports, {}))
        endpoint = build_endpoint(service, pod, nodes.get(pod["spec"].get("nodeName", "")))
        endpoints[_identity(endpoint)] = endpoint
    plan = Plan()
    by_ports: dict[str, list[Object]] = {}
    for one in existing:
        by_ports.setdefault(_mark(one.get("ports") or []), []).append(one)
    for mark, (ports, endpoints) in groups.items():
        _plan_group(service, ports, endpoints, by_ports.pop(mark, []), plan)
    spare = [one for slices in by_ports.values() for one in slices]
    if not groups:
        _plan_placeholder(service, spare, plan)
    else:
        plan.delete += spare
    _recycle(plan)
    return plan


def _recycle(plan: Plan) -> None:
    """A slice that is no longer needed becomes one that is: one change instead of two."""
    while plan.create and plan.delete:
        new, old = plan.create.pop(0), plan.delete.pop(0)
        metadata = {**old["metadata"], "labels": new["metadata"]["labels"]}
        plan.update.append({**new, "metadata": metadata})


def _plan_placeholder(service: Object, spare: list[Object], plan: Plan) -> None:
    """A Service without endpoints has one slice, which is empty."""
    empty = [one for one in spare if not one.get("endpoints") and not one.get("ports")][:1]
    plan.delete += [one for one in spare if one not in empty]
    if empty:
        _plan_update(service, empty[0], [], [], plan)
    else:
        plan.create.append(build_slice(service, [], []))


def _plan_group(
    service: Object, ports: Ports, endpoints: dict[str, Endpoint], slices: list[Object], plan: Plan
) -> None:
    missing = dict(endpoints)
    kept: list[tuple[Object, list[Endpoint], bool]] = []
    for one in slices:
        present = one.get("endpoints") or []
        staying = [missing.pop(key) for item in present if (key := _identity(item)) in missing]
        kept.append((one, staying, staying != present))
    kept.sort(key=lambda entry: (not entry[2], -len(entry[1])))  # fill up what is written anyway, fullest first
    new = list(missing.values())
    for one, staying, changed in kept:
        room = MOST - len(staying) if changed or len(staying) + len(new) <= MOST else 0
        filled, new = staying + new[:room], new[room:]
        if filled:
            _plan_update(service, one, filled, ports, plan)
        else:
            plan.delete.append(one)
    while new:
        plan.create.append(build_slice(service, new[:MOST], ports))
        new = new[MOST:]


def _plan_update(service: Object, one: Object, endpoints: list[Endpoint], ports: Ports, plan: Plan) -> None:
    labels = build_labels(service, one)
    if (one.get("endpoints") or []) != endpoints or one["metadata"].get("labels") != labels:
        metadata = {**one["metadata"], "labels": labels}
        plan.update.append({**one, "metadata": metadata, "endpoints": endpoints, "ports": ports})


# --- the parts of a slice ---------------------------------------------------------------------------------------------


def build_slice(service: Object, endpoints: list[Endpoint], ports: Ports) -> Object:
    """A new slice, which belongs to its Service."""
    owner = {
        "apiVersion": "v1",
        "kind": "Service",
        "name": name_of(service),
        "uid": uid_of(service),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "generateName": f"{name_of(service)}-",
        "namespace": namespace_of(service),
        "labels": build_labels(service, None),
        "ownerReferences": [owner],
    }
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def build_labels(service: Object, one: Object | None) -> dict[str, str]:
    """The labels of a Service's slice: the Service's own, its name, who keeps it."""
    own = (SERVICE_NAME, MANAGED_BY, _HEADLESS_LABEL)
    labels = {key: value for key, value in (service["metadata"].get("labels") or {}).items() if key not in own}
    if service["spec"].get("clusterIP") == HEADLESS:
        labels[_HEADLESS_LABEL] = ""
    return {**labels, SERVICE_NAME: name_of(service), MANAGED_BY: CONTROLLER}


def _has_endpoint(pod: Object) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in FINISHED_PHASES


def build_endpoint(service: Object, pod: Object, node: Object | None) -> Endpoint:
    """A pod as an endpoint."""
    spec, status = pod["spec"], pod["status"]
    serving = has_condition(pod, "Ready")
    terminating = bool(pod["metadata"].get("deletionTimestamp"))
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Endpoint = {
        "addresses": [status["podIP"]],
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
    }
    if spec.get("hostname") and spec.get("subdomain") == name_of(service):
        endpoint["hostname"] = spec["hostname"]
    endpoint["targetRef"] = {
        "kind": "Pod",
        "namespace": namespace_of(pod),
        "name": name_of(pod),
        "uid": uid_of(pod),
    }
    if spec.get("nodeName"):
        endpoint["nodeName"] = spec["nodeName"]
    zone = ((node or {}).get("metadata") or {}).get("labels", {}).get(_ZONE)
    if zone:
        endpoint["zone"] = zone
    if hints := build_hints(service, endpoint):
        endpoint["hints"] = hints
    return endpoint


def build_hints(service: Object, endpoint: Endpoint) -> Object:
    """For whom an endpoint is meant, by the Service's trafficDistribution: who is in its zone, or on its node."""
    wish, hints = service["spec"].get("trafficDistribution"), {}
    if wish not in _CLOSE or not endpoint["conditions"]["ready"]:
        return {}
    if endpoint.get("zone"):
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if endpoint.get("nodeName") and wish == _SAME_NODE:
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


def build_ports(service: Object, pod: Object) -> Ports:
    """The Service's ports as they are in this pod; one whose name the pod does not know is left out."""
    ports: Ports = []
    for port in service["spec"].get("ports") or ():
        number = find_port(pod, port)
        if number is None:
            continue
        entry = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        ports.append(entry)
    return ports


def find_port(pod: Object, port: Mapping[str, Any]) -> int | None:
    """The number of a Service's targetPort in a pod: itself, or that of the container's port of that name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    sidecars = [one for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*pod["spec"]["containers"], *sidecars]:
        for one in container.get("ports") or ():
            if one.get("name") == target and (one.get("protocol") or "TCP") == (port.get("protocol") or "TCP"):
                return int(one["containerPort"])
    return None


def _identity(endpoint: Mapping[str, Any]) -> str:
    return f"{endpoint['addresses'][0]} {(endpoint.get('targetRef') or {}).get('uid', '')}"


def _mark(ports: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(sorted(json.dumps(port, sort_keys=True) for port in ports))
