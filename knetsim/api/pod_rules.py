"""What must hold in a Pod's spec beside its structure: the mistakes that a kube-apiserver finds, by type.

The rules that protect a user, not all of them: what is not checked here is said by the kubelet when it meets it, with
either control plane. What only Kubernetes' scheduler and admission carry out is refused with the remedy. Sources:
Kubernetes' pkg/apis/core/validation/validation.go (release 1.36), admission Priority.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from knetsim import names
from knetsim.api import words
from knetsim.api.checks import Check, Problems, filled_text, integer, list_of, matching
from knetsim.api.openapi import Rules
from knetsim.api.quantities import parse_quantity
from knetsim.api.words import exactly_one, optional, unique

CONTAINER_LISTS = ("initContainers", "containers")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_VOLUME_NAME = "name"
#: classes that every API server has, and their priorities
SYSTEM_PRIORITIES = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}

_NO_SCHEDULER = "needs Kubernetes' scheduler (controlPlane: kubernetes)"
_node_name = matching(re.compile(f"|{names.DNS_SUBDOMAIN.pattern}"), "name of a Node")
_identity = integer(0, 2**31 - 1)
_seconds = integer(0)
_mode = integer(0, 0o777)
_port = integer(1, 65535)
_sysctl = matching(re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"), "sysctl's name")
_FIELD_PATH = re.compile(
    r"metadata\.(name|namespace|uid|labels|annotations|(labels|annotations)\['[^']+'\])"
    r"|spec\.(nodeName|serviceAccountName)|status\.(podIP|podIPs|hostIP|hostIPs)"
)
_field_path = matching(_FIELD_PATH, "field of a pod that it may see, as metadata.name, spec.nodeName, status.podIP")


def containers_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All containers with their paths, in the order in which they start."""
    for field in CONTAINER_LISTS:
        for index, container in enumerate(spec.get(field) or ()):
            yield f"spec.{field}[{index}]", container


# --- containers -------------------------------------------------------------------------------------------------------


def _check_env(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    if value.get("value") and value.get("valueFrom") is not None:
        problems.add(f"{path}.valueFrom", "cannot be beside value")


def _check_resources(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    limits = value.get("limits") or {}
    for name, amount in (value.get("requests") or {}).items():
        if name in limits and parse_quantity(amount) > parse_quantity(limits[name]):
            problems.add(f"{path}.requests[{name}]", f"must not be above the limit of {limits[name]}")


def _check_security(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    if value.get("privileged") and value.get("allowPrivilegeEscalation") is False:
        problems.add(f"{path}.allowPrivilegeEscalation", "cannot be false in a privileged container")


def _check_probe_of(word: str) -> Check:
    def check(value: Mapping[str, Any], path: str, problems: Problems) -> None:
        if (value.get("successThreshold") or 1) != 1:
            problems.add(f"{path}.successThreshold", f"must be 1 for a {word} probe")

    return check


_HANDLER = ("exec", "httpGet", "tcpSocket", "grpc")
_CONTAINER = Rules(
    {
        "name": words.label_name,
        "image": filled_text,
        "ports": unique("name"),
        "volumeMounts": unique("mountPath"),
        "livenessProbe": _check_probe_of("liveness"),
        "startupProbe": _check_probe_of("startup"),
    },
    required=("image",),
)

_CONTAINERS: dict[str, Rules] = {
    "Container": _CONTAINER,
    "EnvVar": Rules({"name": words.env_name}, _check_env),
    "EnvVarSource": Rules(
        whole=exactly_one(
            ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"), "one source"
        )
    ),
    "EnvFromSource": Rules(whole=exactly_one(("configMapRef", "secretRef"), "one source")),
    "ObjectFieldSelector": Rules({"fieldPath": _field_path}),
    "ConfigMapKeySelector": Rules({"key": words.file_key, "name": filled_text}, required=("name",)),
    "SecretKeySelector": Rules({"key": words.file_key, "name": filled_text}, required=("name",)),
    "ContainerPort": Rules(
        {
            "containerPort": _port,
            "hostPort": integer(0, 65535),
            "name": optional(words.port_name),
            "hostIP": optional(words.address),
        }
    ),
    "ResourceRequirements": Rules(whole=_check_resources),
    "Probe": Rules(
        {
            "initialDelaySeconds": _seconds,
            "timeoutSeconds": _seconds,
            "periodSeconds": _seconds,
            "successThreshold": _seconds,
            "failureThreshold": _seconds,
            "terminationGracePeriodSeconds": integer(1),
        },
        exactly_one(_HANDLER, "one way to ask"),
    ),
    "LifecycleHandler": Rules(whole=exactly_one(("exec", "httpGet", "tcpSocket", "sleep"), "one thing to do")),
    "HTTPGetAction": Rules({"port": words.port_or_name}),
    "TCPSocketAction": Rules({"port": words.port_or_name}),
    "GRPCAction": Rules({"port": _port}),
    "SecurityContext": Rules({"runAsUser": _identity, "runAsGroup": _identity}, _check_security),
    "PodSecurityContext": Rules({"runAsUser": _identity, "runAsGroup": _identity, "fsGroup": _identity}),
    "Sysctl": Rules({"name": _sysctl}),
}


# --- volumes ----------------------------------------------------------------------------------------------------------


def _check_volume(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    given = [field for field, source in value.items() if field != _VOLUME_NAME and source is not None]
    if len(given) > 1:
        problems.add(path, f"has more than one source: {', '.join(given)}")


def _check_mount(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    if value.get("subPath") and value.get("subPathExpr"):
        problems.add(f"{path}.subPathExpr", "cannot be beside subPath")


_FIELD_FILE = exactly_one(("fieldRef", "resourceFieldRef"), "one source")

_VOLUMES: dict[str, Rules] = {
    "Volume": Rules({"name": words.label_name}, _check_volume),
    "VolumeMount": Rules(
        {"name": filled_text, "mountPath": filled_text, "subPath": words.volume_path, "subPathExpr": words.volume_path},
        _check_mount,
    ),
    "ConfigMapVolumeSource": Rules({"name": filled_text, "defaultMode": _mode}, required=("name",)),
    "SecretVolumeSource": Rules({"secretName": filled_text, "defaultMode": _mode}, required=("secretName",)),
    "HostPathVolumeSource": Rules({"path": filled_text}),
    "DownwardAPIVolumeFile": Rules({"path": words.volume_path, "mode": _mode}, _FIELD_FILE),
    "KeyToPath": Rules({"key": words.file_key, "path": words.volume_path, "mode": _mode}),
    "VolumeProjection": Rules(
        whole=exactly_one(
            ("configMap", "secret", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"),
            "one source",
        )
    ),
    "ConfigMapProjection": Rules({"name": filled_text}, required=("name",)),
    "SecretProjection": Rules({"name": filled_text}, required=("name",)),
    "ServiceAccountTokenProjection": Rules({"path": words.volume_path, "expirationSeconds": integer(600, 2**32)}),
}


# --- the pod ----------------------------------------------------------------------------------------------------------


def _filled(value: Any, path: str, problems: Problems) -> None:
    if not value:
        problems.add(path, "must not be empty")


def _refused(reason: str) -> Check:
    def check(value: Any, path: str, problems: Problems) -> None:
        if value:
            problems.add(path, reason)

    return check


def _priority_class(value: str, path: str, problems: Problems) -> None:
    if value and value not in SYSTEM_PRIORITIES:
        known = ", ".join(SYSTEM_PRIORITIES)
        problems.add(path, f"there is no PriorityClass {value!r} without Kubernetes' control plane, but {known}")


def _check_toleration(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    if not value.get("key") and value.get("operator") != "Exists":
        problems.add(f"{path}.operator", "must be Exists where no key is given")
    if value.get("operator") == "Exists" and value.get("value"):
        problems.add(f"{path}.value", "must be empty with the operator Exists")
    if value.get("tolerationSeconds") is not None and value.get("effect") != "NoExecute":
        problems.add(f"{path}.effect", "must be NoExecute where tolerationSeconds is given")


def _check_spec(spec: Mapping[str, Any], path: str, problems: Problems) -> None:
    _check_mounts(spec, problems)
    _check_container_names(spec, problems)
    _check_init_containers(spec, problems)
    _check_host_ports(spec, problems)
    dns = spec.get("dnsConfig") or {}
    if spec.get("dnsPolicy") == "None" and not dns.get("nameservers"):
        problems.add(f"{path}.dnsConfig.nameservers", "is missing: the dnsPolicy None leaves no other")
    name = spec.get("priorityClassName") or ""
    if spec.get("priority") not in (None, SYSTEM_PRIORITIES.get(name, 0)):
        problems.add(f"{path}.priority", "comes from priorityClassName; leave it out")


def _check_mounts(spec: Mapping[str, Any], problems: Problems) -> None:
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for path, container in containers_of(spec):
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


def _check_init_containers(spec: Mapping[str, Any], problems: Problems) -> None:
    """One that ends has nothing to probe; one that is restarted always, a sidecar, has."""
    for index, container in enumerate(spec.get("initContainers") or ()):
        if container.get("restartPolicy") != "Always":
            for field in (*PROBES, "lifecycle"):
                if container.get(field) is not None:
                    what = "needs restartPolicy: Always in an init container"
                    problems.add(f"spec.initContainers[{index}].{field}", what)


def _check_host_ports(spec: Mapping[str, Any], problems: Problems) -> None:
    seen = set()
    for path, container in containers_of(spec):
        for number, port in enumerate(container.get("ports") or ()):
            where, host_port = f"{path}.ports[{number}]", port.get("hostPort")
            if not host_port:
                continue
            if spec.get("hostNetwork") and host_port != port["containerPort"]:
                problems.add(f"{where}.hostPort", "must be the containerPort in a pod with hostNetwork")
            mark = (port.get("protocol") or "TCP", port.get("hostIP") or "", host_port)
            if mark in seen:
                problems.add(f"{where}.hostPort", f"{host_port} is there twice")
            seen.add(mark)


def _both(*checks: Check) -> Check:
    def check(value: Any, path: str, problems: Problems) -> None:
        for one in checks:
            one(value, path, problems)

    return check


def _needing(reason: str, fields: Collection[str]) -> dict[str, Check]:
    return dict.fromkeys(fields, _refused(reason))


#: rules of all types below a Pod
POD_RULES: dict[str, Rules] = {
    **_CONTAINERS,
    **_VOLUMES,
    "Pod": Rules(required=("spec",)),
    "PodSpec": Rules(
        {
            "containers": _both(_filled, unique("name")),
            "initContainers": unique("name"),
            "ephemeralContainers": _refused("cannot be given: kubectl debug adds them to a pod that runs"),
            "volumes": unique("name"),
            "terminationGracePeriodSeconds": _seconds,
            "activeDeadlineSeconds": integer(1),
            "nodeName": _node_name,
            "nodeSelector": words.labels,
            "hostname": optional(words.label_name),
            "subdomain": optional(words.label_name),
            "serviceAccountName": optional(words.subdomain),
            "priorityClassName": _priority_class,
            **_needing(_NO_SCHEDULER, ("topologySpreadConstraints", "resourceClaims")),
        },
        _check_spec,
    ),
    "Affinity": Rules(_needing(_NO_SCHEDULER, ("podAffinity", "podAntiAffinity"))),
    "NodeSelectorRequirement": Rules({"key": words.label_key}, words.requirement),
    "Toleration": Rules({"key": optional(words.label_key)}, _check_toleration),
    "HostAlias": Rules({"ip": words.address, "hostnames": list_of(words.subdomain)}),
    "PodReadinessGate": Rules({"conditionType": words.label_key}),
}
