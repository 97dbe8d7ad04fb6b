"""Pods as a kube-apiserver stores them: their defaults, what may change in one that runs, how long it may take to end.

Pure; used where no API server does it. Sources: Kubernetes' pkg/apis/core/v1/defaults.go,
pkg/registry/core/pod/strategy.go, pkg/apis/core/validation (ValidatePodUpdate), pkg/apis/core/helper/qos, admission
DefaultTolerationSeconds and Priority.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim import names
from knetsim.api import checks
from knetsim.api.checks import Problems
from knetsim.api.objects import Object, describe
from knetsim.api.pod_defaults import default_action, default_probe, default_source, default_volume, fill, without_nulls
from knetsim.api.pod_rules import CONTAINER_LISTS, PROBES, SYSTEM_PRIORITIES, containers_of
from knetsim.errors import ObjectError

FINISHED_PHASES = ("Succeeded", "Failed")

_SPEC_DEFAULTS: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}
_CONTAINER_DEFAULTS = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
#: the condition of a new pod that is not to be bound yet
GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}
#: taints under which a pod stays for five minutes unless it says otherwise
_PATIENT_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

_CHANGEABLE = "only a container's image, added tolerations and, once, nodeName can; delete the pod and make it anew"


# --- a Pod as it is stored --------------------------------------------------------------------------------------------


def prepare_pod(pod: Object) -> None:
    """Before a Pod is checked: the Mininet host C0w1 is the Node c0w1."""
    spec = pod.get("spec")
    if isinstance(spec, Mapping) and isinstance(spec.get("nodeName"), str):
        pod["spec"] = {**spec, "nodeName": names.node_name(spec["nodeName"])}


def fill_pod(pod: Object) -> None:
    """Replaces the spec of a Pod that was found right by one with the defaults."""
    pod["spec"] = _default_spec(pod["spec"])


def _default_spec(given: Mapping[str, Any]) -> Object:
    spec = without_nulls(given)
    for field in ("nodeName", "priorityClassName"):
        if spec.get(field) == "":
            del spec[field]
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:  # the second is what the first was called in 2014
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    if "volumes" in spec:
        spec["volumes"] = [default_volume(volume) for volume in spec["volumes"]]
    for field in CONTAINER_LISTS:
        if field in spec:
            host = bool(spec.get("hostNetwork"))
            spec[field] = [_default_container(container, host_network=host) for container in spec[field]]
    for field, value in _SPEC_DEFAULTS.items():
        if spec.get(field) in (None, ""):
            spec[field] = value
    if spec.get("priorityClassName"):
        spec["priority"] = SYSTEM_PRIORITIES[spec["priorityClassName"]]
    if not spec.get("schedulingGates"):
        spec.pop("schedulingGates", None)
    spec.setdefault("securityContext", {})
    spec["tolerations"] = _default_tolerations(spec.get("tolerations") or [])
    return spec


def _default_container(given: Mapping[str, Any], *, host_network: bool) -> Object:
    container = without_nulls(given)
    if "ports" in container:
        container["ports"] = [_default_port(port, host_network=host_network) for port in container["ports"]]
    if "env" in container:
        container["env"] = [_default_env(variable) for variable in container["env"]]
    for field in PROBES:
        if field in container:
            container[field] = default_probe(container[field])
    if "lifecycle" in container:
        container["lifecycle"] = {
            moment: action if moment == "stopSignal" else default_action(action)
            for moment, action in without_nulls(container["lifecycle"]).items()
        }
    resources = without_nulls(container.get("resources") or {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    container["resources"] = resources
    fill(container, _CONTAINER_DEFAULTS)
    fill(container, {"imagePullPolicy": "Always" if _is_latest(container["image"]) else "IfNotPresent"})
    return container


def _default_port(given: Mapping[str, Any], *, host_network: bool) -> Object:
    port = fill(without_nulls(given), {"protocol": "TCP"})
    if host_network:
        fill(port, {"hostPort": port["containerPort"]})
    return port


def _default_env(given: Mapping[str, Any]) -> Object:
    variable = without_nulls(given)
    if "valueFrom" in variable:
        variable["valueFrom"] = default_source(variable["valueFrom"])
    return variable


def _is_latest(image: str) -> bool:
    """Whether an image is named by the tag `latest`, or by none, which means the same."""
    if "@" in image:
        return False
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return not colon or tag == "latest"


def _default_tolerations(tolerations: list[Object]) -> list[Object]:
    def is_covered(taint: str) -> bool:
        return any(
            (item.get("key") or "") in ("", taint) and (item.get("effect") or "") in ("", "NoExecute")
            for item in tolerations
        )

    return tolerations + [
        {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for taint in _PATIENT_TAINTS
        if not is_covered(taint)
    ]


def qos_class(spec: Mapping[str, Any]) -> str:
    """Guaranteed: every container's cpu and memory have limits, equal to the requests; BestEffort: none has any; else
    Burstable."""
    guaranteed, any_set = True, False
    for _, container in containers_of(spec):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            any_set = any_set or name in limits or name in requests
            guaranteed = guaranteed and name in limits and requests.get(name, limits[name]) == limits[name]
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


# --- a running Pod ----------------------------------------------------------------------------------------------------


def check_pod_update(pod: Object, current: Object, problems: Problems) -> None:
    """Refuses changes of what a running Pod cannot change. Both specs hold their defaults."""
    before, after = current.get("spec") or {}, pod["spec"]
    for field in sorted(before.keys() | after.keys()):
        old, new = before.get(field), after.get(field)
        if old == new:
            continue
        if field == "nodeName":
            if old:
                problems.add("spec.nodeName", f"the pod is bound to {old}; a pod never moves to another worker")
        elif field == "schedulingGates":
            if any(item not in (old or ()) for item in new or ()):
                problems.add("spec.schedulingGates", "gates can be taken away, not added")
        elif field == "tolerations":
            if any(item not in new for item in old or ()):
                problems.add("spec.tolerations", "tolerations can be added, not changed or taken away")
        elif field in CONTAINER_LISTS:
            _check_containers_update(field, old or [], new or [], problems)
        else:
            problems.add(f"spec.{field}", f"cannot change: {_CHANGEABLE}")


def _check_containers_update(field: str, old: list[Object], new: list[Object], problems: Problems) -> None:
    if [container["name"] for container in old] != [container["name"] for container in new]:
        problems.add(f"spec.{field}", f"containers cannot be added, removed, renamed or moved: {_CHANGEABLE}")
        return
    for index, (before, after) in enumerate(zip(old, new, strict=True)):
        for name in sorted(before.keys() | after.keys()):
            if name != "image" and before.get(name) != after.get(name):
                problems.add(f"spec.{field}[{index}].{name}", f"cannot change: {_CHANGEABLE}")


def grace_of(pod: Object, grace_seconds: int | None) -> int:
    """Seconds that a Pod gets to end when it is deleted; 0 when no kubelet has it or it has ended."""
    if grace_seconds is not None and (not checks.is_integer(grace_seconds) or grace_seconds < 0):
        raise ObjectError("the grace period must be 0 or more whole seconds", describe(pod), f"it is {grace_seconds!r}")
    spec = pod.get("spec") or {}
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in FINISHED_PHASES:
        return 0
    return int(spec.get("terminationGracePeriodSeconds", 0)) if grace_seconds is None else grace_seconds
