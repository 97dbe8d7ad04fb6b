"""A scenario's objects written to a cluster, and awaited: Namespaces, definitions of kinds, all else, Pods last.

What the controllers make of workloads is awaited as `kubectl rollout status` does it (kubectl's pkg/polymorphichelpers,
rollout_status.go), then every Pod is, then that Services lead to them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from knetsim.api.informer import Informer
from knetsim.api.objects import Object, describe, has_condition, key_of, namespace_of
from knetsim.control_planes import Plane
from knetsim.errors import NotReady
from knetsim.node.service_objects import BY_OWNER
from knetsim.scenario import Scenario, build_multicluster, read_all_manifests
from knetsim.system.wait import wait_until

#: written before all others: they live in Namespaces, are of kinds that are defined here, or have routers link up while
#: pods start
_FIRST = ("Namespace", "CustomResourceDefinition", "Site", "AccessGrant", "AccessToken")
_CODE_BYTES = 24


def collect_objects(scenario: Scenario) -> dict[str, list[Object]]:
    """What a scenario has written to each cluster: what its `multicluster` stands for, and its manifests. The codes by
    which sites link to each other are drawn here. ScenarioError."""
    manifests = read_all_manifests(scenario)
    sites = build_multicluster(scenario, partial(secrets.token_urlsafe, _CODE_BYTES))
    return {name: [*made, *(one.object for one in manifests[name])] for name, made in sites.items()}


def write_objects(plane: Plane, objects: Sequence[Object]) -> list[Object]:
    """Write the objects; returns those that a controller makes Pods of. Errors of the store."""
    for obj in sorted((obj for obj in objects if obj["kind"] != "Pod"), key=_rank):
        plane.apply(obj)
    plane.write_pods([obj for obj in objects if obj["kind"] == "Pod"])
    return [obj for obj in objects if obj["kind"] in _ROLLOUTS]


def _rank(obj: Object) -> int:
    return _FIRST.index(obj["kind"]) if obj["kind"] in _FIRST else len(_FIRST)


def wait_rolled_out(plane: Plane, workloads: Sequence[Object], deadline: float) -> None:
    """Wait until each workload has the pods it wants; NotReady says which has not after `deadline` seconds."""
    for workload in workloads:
        missing = partial(_read_missing, plane, workload)
        wait_until(describe(workload), missing, deadline, hint="see its Events: kubectl describe")


def _read_missing(plane: Plane, workload: Object) -> str:
    return explain_rollout(plane.read(workload))


def explain_rollout(obj: Object) -> str:
    """What a workload still waits for, in words; empty when it has all its pods. Pure."""
    status, metadata = obj.get("status") or {}, obj["metadata"]
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return "its controller has not seen it"
    return _ROLLOUTS[obj["kind"]](obj.get("spec") or {}, status)


def _explain_replicas(spec: Mapping[str, object], status: Mapping[str, object]) -> str:
    wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
    return "" if ready == wanted else f"{ready} of {wanted} pods are ready"


def _explain_daemons(spec: Mapping[str, object], status: Mapping[str, object]) -> str:
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    return "" if ready == wanted else f"{ready} of {wanted} pods are ready"


_ROLLOUTS: dict[str, Callable[[Mapping[str, object], Mapping[str, object]], str]] = {
    "Deployment": _explain_replicas,
    "ReplicaSet": _explain_replicas,
    "ReplicationController": _explain_replicas,
    "StatefulSet": _explain_replicas,
    "DaemonSet": _explain_daemons,
}


def wait_endpoints(services: Sequence[Object], pods: Sequence[Object], slices: Informer, deadline: float) -> None:
    """Wait until each Service's EndpointSlices list all pods that it selects of these, which are ready; at most
    `deadline` seconds, since who changes a Service or pod meanwhile is to hold up nobody's start. `slices` is indexed
    by owner."""
    wanted = {key_of(service): find_endpoints(service, pods) for service in services}
    try:
        slices.wait_for(
            lambda known: all(each <= _read_endpoints(known.find(BY_OWNER, key)) for key, each in wanted.items()),
            deadline,
            "Services lead to their pods",
        )
    except NotReady:
        pass


def find_endpoints(service: Object, pods: Sequence[Object]) -> set[str]:
    """The addresses of the pods that a Service's selector leads to. Pure."""
    spec = service.get("spec") or {}
    selector = spec.get("selector") or {}
    if not selector or spec.get("type") == "ExternalName":
        return set()
    return {
        pod["status"]["podIP"]
        for pod in pods
        if namespace_of(pod) == namespace_of(service)
        and selector.items() <= (pod["metadata"].get("labels") or {}).items()
        and _is_serving(pod)
    }


def _is_serving(pod: Object) -> bool:
    address = (pod.get("status") or {}).get("podIP")
    return has_condition(pod, "Ready") and bool(address) and not pod["metadata"].get("deletionTimestamp")


def _read_endpoints(slices: Sequence[Object]) -> set[str]:
    endpoints = [endpoint for each in slices for endpoint in each.get("endpoints") or ()]
    ready = [each for each in endpoints if (each.get("conditions") or {}).get("ready", True)]
    return {address for each in ready for address in each["addresses"]}
