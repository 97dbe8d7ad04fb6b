"""Pods as a kube-apiserver stores them: their defaults, what may change in one that runs, how long it may take to end.

Pure; used where no API server does it. Sources: Kubernetes' pkg/apis/core/v1/defaults.go,
pkg/registry/core/pod/strategy.go, pkg/apis/core/validation (ValidatePodUpdate), pkg/apis/core/helper/qos, admission
DefaultTolerationSeconds and Priority.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from knetsim import names
from knetsim.api import checks
from knetsim.api.checks import Problems
from knetsim.api.objects import Object, describe
from knetsim.api.pod_fields import check_pod_spec
from knetsim.errors import ObjectError

FINISHED_PHASES = ("Succeeded", "Failed")
_CONTAINER_LISTS = ("initContainers", "containers")

_SPEC_DEFAULTS: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}
#: taints under which a pod stays for five minutes unless it says otherwise
_PATIENT_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

_CHANGEABLE = "only a container's image, added tolerations and, once, nodeName can; delete the pod and make it anew"


# --- a Pod as it is stored --------------------------------------------------------------------------------------------


def complete_pod(pod: Object, problems: Problems) -> None:
    """Checks a Pod's spec and, when nothing is wrong with it, replaces it by one with the defaults."""
    given = pod.get("spec")
    if isinstance(given, Mapping) and isinstance(given.get("nodeName"), str):
        given = {**given, "nodeName": names.node_name(given["nodeName"])}  # the Mininet host C0w1 is the Node c0w1
    known = len(problems.found)
    check_pod_spec(given, "spec", problems)
    if len(problems.found) == known and isinstance(given, Mapping):
        _check_mounts(given, problems)
        _check_container_names(given, problems)
        pod["spec"] = _default_spec(given)


def _check_mounts(spec: Mapping[str, Any], problems: Problems) -> None:
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for path, container in _containers(spec):
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            if mount["name"] not in volumes:
                hint = names.did_you_mean(mount["name"], volumes)
                what = f"there is no volume {mount['name']!r}" + (f": {hint}" if hint else "")
                problems.add(f"{path}.volumeMounts[{number}].name", what)


def _check_container_names(spec: Mapping[str, Any], problems: Problems) -> None:
    """Init containers and containers share one set of names."""
    taken = {container["name"] for container in spec["containers"]}
    for index, container in enumerate(spec.get("initContainers") or ()):
        if container["name"] in taken:
            problems.add(f"spec.initContainers[{index}].name", f"{container['name']!r} is a container's name too")


def _containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All containers with their paths, in the order in which they start."""
    for field in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(field) or ()):
            yield f"spec.{field}[{index}]", container


def _default_spec(given: Mapping[str, Any]) -> Object:
    spec = _without_nulls(given)
    if spec.get("nodeName") == "":
        del spec["nodeName"]
    if "volumes" in spec:
        spec["volumes"] = [{**volume, "emptyDir": volume.get("emptyDir") or {}} for volume in spec["volumes"]]
    for field in _CONTAINER_LISTS:
        if field in spec:
            spec[field] = [_default_container(container) for container in spec[field]]
    for field, value in _SPEC_DEFAULTS.items():
        spec.setdefault(field, value)
    spec.setdefault("securityContext", {})
    spec["tolerations"] = _default_tolerations(spec.get("tolerations") or [])
    return spec


def _default_container(given: Mapping[str, Any]) -> Object:
    container = _without_nulls(given)
    if "ports" in container:
        container["ports"] = [
            {**_without_nulls(port), "protocol": port.get("protocol") or "TCP"} for port in container["ports"]
        ]
    resources = _without_nulls(container.get("resources") or {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    container["resources"] = resources
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", "Always" if _is_latest(container["image"]) else "IfNotPresent")
    return container


def _without_nulls(given: Mapping[str, Any]) -> Object:
    """A field that is null is not given, in Kubernetes."""
    return {field: value for field, value in given.items() if value is not None}


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
    for _, container in _containers(spec):
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
        elif field == "tolerations":
            if any(item not in new for item in old or ()):
                problems.add("spec.tolerations", "tolerations can be added, not changed or taken away")
        elif field in _CONTAINER_LISTS:
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
