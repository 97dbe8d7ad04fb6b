"""Pods: the fields that are understood, their defaults as a kube-apiserver gives them, and what may change in a running Pod. Pure.

Used where no API server checks and fills in. The tables say of every field of Kubernetes' PodSpec whether it is carried out (then how it
is checked) or refused with the reason: what is accepted is enforced. When the kubelet learns a field, its row moves up.
Sources: Kubernetes' pkg/apis/core/v1/defaults.go, pkg/apis/core/validation/validation.go, pkg/apis/core/helper/qos, and the admission
plugins DefaultTolerationSeconds and Priority.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from knetsim import names
from knetsim.api import checks
from knetsim.api.checks import Problems, fields, filled_text, integer, list_of, one_of, text
from knetsim.api.objects import Object, describe
from knetsim.errors import ObjectError

FINISHED_PHASES = ("Succeeded", "Failed")

_NOT_YET = "is not carried out by knetsim's kubelet without Kubernetes' control plane"
_NO_SCHEDULER = "needs Kubernetes' scheduler; here a pod is spread by load, nodeSelector and cordon"

_ENV_NAME = re.compile(r"^[^=\x00-\x1f\x7f]+$")
_PORT_NAME = re.compile(r"^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$")
_QUANTITY = re.compile(r"^[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$")


def _label_name(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not names.DNS_LABEL.fullmatch(value):
        problems.add(path, f"{value!r} is no name: lower case letters, digits and '-', at most 63")


def _env_name(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not _ENV_NAME.fullmatch(value):
        problems.add(path, f"{value!r} is no name of a variable")


def _port_name(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not _PORT_NAME.fullmatch(value):
        problems.add(
            path, f"{value!r} is no port name: lower case letters, digits and '-', at most 15, one letter at least"
        )


def _absolute_path(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not value.startswith("/"):
        problems.add(path, f"must be an absolute path, not {value!r}")


def _sub_path(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or value.startswith("/") or ".." in value.split("/"):
        problems.add(path, f"must be a path below the volume, without '..', not {value!r}")


def _quantity(value: Any, path: str, problems: Problems) -> None:
    if checks.is_integer(value) or isinstance(value, float):
        value = str(value)
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        problems.add(path, f"{value!r} is no quantity: a number and a unit, as 100m, 0.5, 64Mi")


def _quantities(value: Any, path: str, problems: Problems) -> None:
    if checks.check_mapping(value, path, problems):
        for name, amount in value.items():
            _quantity(amount, f"{path}.{name}", problems)


def _labels(value: Any, path: str, problems: Problems) -> None:
    checks.check_text_map(value, path, problems)


def _node_name(value: Any, path: str, problems: Problems) -> None:
    if value != "" and (not isinstance(value, str) or not names.DNS_SUBDOMAIN.fullmatch(value)):
        problems.add(path, f"{value!r} is no name of a Node")


def _mount_name(value: Any, path: str, problems: Problems) -> None:
    filled_text(value, path, problems)


CONTAINER_FIELDS: dict[str, checks.Check] = {
    "name": _label_name,
    "image": filled_text,
    "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"),
    "command": list_of(text),
    "args": list_of(text),
    "workingDir": _absolute_path,
    "env": list_of(fields({"name": _env_name, "value": text}, required=("name",), later={"valueFrom": _NOT_YET})),
    "ports": list_of(
        fields(
            {
                "containerPort": integer(1, 65535),
                "name": _port_name,
                "protocol": one_of("TCP", "UDP", "SCTP"),
            },
            required=("containerPort",),
            later={"hostPort": _NOT_YET, "hostIP": _NOT_YET},
        ),
        unique="name",
    ),
    "resources": fields({"limits": _quantities, "requests": _quantities}, later={"claims": _NOT_YET}),
    "volumeMounts": list_of(
        fields(
            {"name": _mount_name, "mountPath": _absolute_path, "readOnly": checks.boolean, "subPath": _sub_path},
            required=("name", "mountPath"),
            later={field: _NOT_YET for field in ("subPathExpr", "mountPropagation", "recursiveReadOnly")},
        ),
        unique="mountPath",
    ),
    "terminationMessagePath": _absolute_path,
    "terminationMessagePolicy": one_of("File", "FallbackToLogsOnError"),
    "stdin": checks.boolean,
    "stdinOnce": checks.boolean,
    "tty": checks.boolean,
}
_CONTAINER_LATER = dict.fromkeys(
    ("envFrom", "lifecycle", "livenessProbe", "readinessProbe", "resizePolicy", "restartPolicy", "restartPolicyRules",
     "securityContext", "startupProbe", "volumeDevices"),
    _NOT_YET,
)  # fmt: skip

VOLUME_SOURCES_LATER = dict.fromkeys(
    ("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "configMap", "csi", "downwardAPI", "ephemeral", "fc",
     "flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs", "hostPath", "image", "iscsi", "nfs",
     "persistentVolumeClaim", "photonPersistentDisk", "portworxVolume", "projected", "quobyte", "rbd", "scaleIO", "secret",
     "storageos", "vsphereVolume"),
    f"this source of a volume {_NOT_YET}; emptyDir is",
)  # fmt: skip

_TOLERATION = fields(
    {
        "key": text,
        "operator": one_of("Exists", "Equal", "Lt", "Gt"),
        "value": text,
        "effect": one_of("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
        "tolerationSeconds": integer(),
    }
)

POD_FIELDS: dict[str, checks.Check] = {
    "containers": list_of(
        fields(CONTAINER_FIELDS, required=("name", "image"), later=_CONTAINER_LATER), filled=True, unique="name"
    ),
    "volumes": list_of(
        fields(
            {
                "name": _label_name,
                "emptyDir": fields({"medium": one_of("", "Memory"), "sizeLimit": _quantity}),
            },
            required=("name",),
            later=VOLUME_SOURCES_LATER,
        ),
        unique="name",
    ),
    "restartPolicy": one_of("Always", "OnFailure", "Never"),
    "terminationGracePeriodSeconds": integer(0),
    "dnsPolicy": one_of("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "nodeName": _node_name,
    "nodeSelector": _labels,
    "hostname": _label_name,
    "schedulerName": filled_text,
    "enableServiceLinks": checks.boolean,
    "serviceAccountName": text,
    "serviceAccount": text,
    "automountServiceAccountToken": checks.boolean,
    "securityContext": fields({}, later=dict.fromkeys(
        ("appArmorProfile", "fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxChangePolicy",
         "seLinuxOptions", "seccompProfile", "supplementalGroups", "supplementalGroupsPolicy", "sysctls", "windowsOptions"),
        _NOT_YET,
    )),
    "tolerations": list_of(_TOLERATION),
    "priority": integer(),
    "preemptionPolicy": one_of("PreemptLowerPriority", "Never"),
}  # fmt: skip
_POD_LATER = dict.fromkeys(
    ("activeDeadlineSeconds", "dnsConfig", "ephemeralContainers", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers",
     "hostnameOverride", "imagePullSecrets", "initContainers", "os", "overhead", "readinessGates", "resourceClaims", "resources",
     "runtimeClassName", "setHostnameAsFQDN", "shareProcessNamespace", "subdomain", "workloadRef"),
    _NOT_YET,
) | dict.fromkeys(("affinity", "priorityClassName", "schedulingGates", "topologySpreadConstraints"), _NO_SCHEDULER)  # fmt: skip

_check_spec = fields(POD_FIELDS, required=("containers",), later=_POD_LATER)


# --- defaults -----------------------------------------------------------------------------------------------------------


def complete_pod(pod: Object, problems: Problems) -> None:
    """Checks a Pod's spec and replaces it by one with the defaults; a Pod without a status is Pending."""
    given = pod.get("spec")
    before = len(problems.found)
    if isinstance(given, Mapping) and isinstance(given.get("nodeName"), str):
        given = {**given, "nodeName": names.node_name(given["nodeName"])}  # the Mininet host C0w1 is the Node c0w1
    _check_spec(given, "spec", problems)
    if len(problems.found) == before:
        assert isinstance(given, Mapping)
        _check_mounts(given, problems)
        pod["spec"] = _default_spec(given)
        if "status" not in pod or not pod["metadata"].get("resourceVersion"):
            pod.setdefault("status", {"phase": "Pending", "qosClass": qos_class(pod["spec"])})


def _check_mounts(spec: Mapping[str, Any], problems: Problems) -> None:
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for index, container in enumerate(spec["containers"]):
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            if mount["name"] not in volumes:
                path = f"spec.containers[{index}].volumeMounts[{number}].name"
                problems.add(
                    path,
                    f"there is no volume {mount['name']!r}: {names.did_you_mean(mount['name'], volumes)}".rstrip(": "),
                )


def _default_spec(given: Mapping[str, Any]) -> Object:
    spec = {field: value for field, value in given.items() if value is not None}
    if spec.get("nodeName") == "":
        del spec["nodeName"]
    if "volumes" in spec:
        spec["volumes"] = [
            volume if volume.get("emptyDir") is not None else {**volume, "emptyDir": {}} for volume in spec["volumes"]
        ]
    spec["containers"] = [_default_container(container) for container in spec["containers"]]
    for field, value in _SPEC_DEFAULTS.items():
        spec.setdefault(field, value)
    spec.setdefault("securityContext", {})
    spec["tolerations"] = _with_default_tolerations(spec.get("tolerations") or [])
    return spec


_SPEC_DEFAULTS: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}


def _default_container(given: Mapping[str, Any]) -> Object:
    container = {field: value for field, value in given.items() if value is not None}
    if "ports" in container:
        container["ports"] = [{"protocol": "TCP", **port} for port in container["ports"]]
    resources = dict(container.get("resources") or {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    container["resources"] = resources
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", "Always" if _is_latest(container["image"]) else "IfNotPresent")
    return container


def _is_latest(image: str) -> bool:
    """Whether an image is named by the tag `latest`, or by none, which means the same."""
    if "@" in image:
        return False
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return not colon or tag == "latest"


def _with_default_tolerations(tolerations: list[Object]) -> list[Object]:
    """A pod stays five minutes on a node that is not ready or not reachable, unless it says otherwise."""
    completed = list(tolerations)
    for taint in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(
            item.get("key", "") in ("", taint) and item.get("effect", "") in ("", "NoExecute") for item in tolerations
        ):
            completed.append({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    return completed


def qos_class(spec: Mapping[str, Any]) -> str:
    """Guaranteed when every container has cpu and memory limits equal to its requests, BestEffort when none has any, else Burstable."""
    guaranteed, any_set = True, False
    for container in spec["containers"]:
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            any_set = any_set or name in limits or name in requests
            guaranteed = guaranteed and name in limits and requests.get(name, limits[name]) == limits[name]
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


# --- a running Pod ------------------------------------------------------------------------------------------------------

_CHANGEABLE = (
    "only a container's image, added tolerations and, once, nodeName can change; delete the pod and make it anew"
)


def check_pod_update(pod: Object, current: Object, problems: Problems) -> None:
    """Refuses changes of what a running Pod cannot change. Both hold their defaults."""
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
        elif field == "containers":
            _check_containers_update(old or [], new, problems)
        else:
            problems.add(f"spec.{field}", f"cannot change: {_CHANGEABLE}")


def _check_containers_update(old: list[Object], new: list[Object], problems: Problems) -> None:
    if [container["name"] for container in old] != [container["name"] for container in new]:
        problems.add("spec.containers", f"containers cannot be added, removed, renamed or moved: {_CHANGEABLE}")
        return
    for index, (before, after) in enumerate(zip(old, new, strict=True)):
        for field in sorted(before.keys() | after.keys()):
            if field != "image" and before.get(field) != after.get(field):
                problems.add(f"spec.containers[{index}].{field}", f"cannot change: {_CHANGEABLE}")


def grace_of(pod: Object, grace_seconds: int | None) -> int:
    """Seconds that a Pod gets to end when it is deleted; 0 when no kubelet has it or it has ended."""
    if grace_seconds is not None and (not checks.is_integer(grace_seconds) or grace_seconds < 0):
        raise ObjectError("the grace period must be 0 or more whole seconds", describe(pod), f"it is {grace_seconds!r}")
    spec = pod.get("spec") or {}
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in FINISHED_PHASES:
        return 0
    if grace_seconds is not None:
        return grace_seconds
    return int(spec.get("terminationGracePeriodSeconds", 0))
