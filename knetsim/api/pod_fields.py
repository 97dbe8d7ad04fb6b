"""The fields of a Pod's spec, as tables: which are carried out, and how each is checked; which are refused, and why.

What is accepted is enforced: a field of Kubernetes that nothing here carries out yet is refused with the reason instead
of being ignored. When the kubelet learns a field, its row moves up. Used where no API server checks. Sources:
Kubernetes' pkg/apis/core/validation/validation.go, k8s.io/api/core/v1/types.go (release 1.36).
"""

from __future__ import annotations

import re
from typing import Any

from knetsim import names
from knetsim.api import checks
from knetsim.api.checks import Check, Problems, boolean, fields, filled_text, integer, list_of, one_of, text, text_map

_NOT_YET = "is not carried out by knetsim's kubelet without Kubernetes' control plane"
_NO_SCHEDULER = "needs Kubernetes' scheduler; here a pod is spread by load, nodeSelector, taints and cordon"

_ENV_NAME = re.compile(r"[^=\x00-\x1f\x7f]+")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_QUANTITY = re.compile(r"[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?")


def _matching(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            problems.add(path, f"{value!r} is no {what}")

    return check


_label_name = _matching(names.DNS_LABEL, "name: lower case letters, digits and '-', at most 63")
_node_name = _matching(re.compile(f"|{names.DNS_SUBDOMAIN.pattern}"), "name of a Node")
_env_name = _matching(_ENV_NAME, "name of a variable")
_port_name = _matching(_PORT_NAME, "port name: lower case letters, digits, '-', at most 15, one letter at least")
_absolute_path = _matching(re.compile(r"/.*", re.DOTALL), "absolute path")
_volume_path = _matching(re.compile(r"(?!/)(?!(.*/)?\.\.(/|$)).*", re.DOTALL), "path below the volume, without '..'")


def _quantity(value: Any, path: str, problems: Problems) -> None:
    written = str(value) if checks.is_integer(value) or isinstance(value, float) else value
    if not isinstance(written, str) or not _QUANTITY.fullmatch(written):
        problems.add(path, f"{value!r} is no quantity: a number and a unit, as 100m, 0.5, 64Mi")


def _quantities(value: Any, path: str, problems: Problems) -> None:
    if checks.check_mapping(value, path, problems):
        for name, amount in value.items():
            _quantity(amount, f"{path}.{name}", problems)


def _later(reason: str, words: str) -> dict[str, str]:
    """Fields that are refused for one reason."""
    return dict.fromkeys(words.split(), reason)


_ENV = fields({"name": _env_name, "value": text}, required=("name",), later=_later(_NOT_YET, "valueFrom"))

_PORT = fields(
    {"containerPort": integer(1, 65535), "name": _port_name, "protocol": one_of("TCP", "UDP", "SCTP")},
    required=("containerPort",),
    later=_later(_NOT_YET, "hostIP hostPort"),
)

_MOUNT = fields(
    {"name": filled_text, "mountPath": _absolute_path, "readOnly": boolean, "subPath": _volume_path},
    required=("name", "mountPath"),
    later=_later(_NOT_YET, "mountPropagation recursiveReadOnly subPathExpr"),
)

_CONTAINER = fields(
    {
        "name": _label_name,
        "image": filled_text,
        "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"),
        "command": list_of(text),
        "args": list_of(text),
        "workingDir": _absolute_path,
        "env": list_of(_ENV),
        "ports": list_of(_PORT, unique="name"),
        "resources": fields({"limits": _quantities, "requests": _quantities}, later=_later(_NOT_YET, "claims")),
        "volumeMounts": list_of(_MOUNT, unique="mountPath"),
        "terminationMessagePath": _absolute_path,
        "terminationMessagePolicy": one_of("File", "FallbackToLogsOnError"),
        "stdin": boolean,
        "stdinOnce": boolean,
        "tty": boolean,
    },
    required=("name", "image"),
    later=_later(
        _NOT_YET,
        "envFrom lifecycle livenessProbe readinessProbe resizePolicy restartPolicy restartPolicyRules securityContext"
        " startupProbe volumeDevices",
    ),
)

_VOLUME = fields(
    {"name": _label_name, "emptyDir": fields({"medium": one_of("", "Memory"), "sizeLimit": _quantity})},
    required=("name",),
    later=_later(
        f"this source of a volume {_NOT_YET}; emptyDir is",
        "awsElasticBlockStore azureDisk azureFile cephfs cinder configMap csi downwardAPI ephemeral fc flexVolume"
        " flocker gcePersistentDisk gitRepo glusterfs hostPath image iscsi nfs persistentVolumeClaim"
        " photonPersistentDisk portworxVolume projected quobyte rbd scaleIO secret storageos vsphereVolume",
    ),
)

_TOLERATION = fields(
    {
        "key": text,
        "operator": one_of("Exists", "Equal", "Lt", "Gt"),
        "value": text,
        "effect": one_of("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
        "tolerationSeconds": integer(),
    }
)

_SECURITY_CONTEXT = fields(
    {},
    later=_later(
        _NOT_YET,
        "appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy"
        " seLinuxOptions seccompProfile supplementalGroups supplementalGroupsPolicy sysctls windowsOptions",
    ),
)

#: checks a whole Pod spec: (spec, "spec", problems)
check_pod_spec = fields(
    {
        "containers": list_of(_CONTAINER, filled=True, unique="name"),
        "volumes": list_of(_VOLUME, unique="name"),
        "restartPolicy": one_of("Always", "OnFailure", "Never"),
        "terminationGracePeriodSeconds": integer(0),
        "dnsPolicy": one_of("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
        "nodeName": _node_name,
        "nodeSelector": text_map,
        "hostname": _label_name,
        "schedulerName": filled_text,
        "enableServiceLinks": boolean,
        "serviceAccountName": text,
        "serviceAccount": text,
        "automountServiceAccountToken": boolean,
        "securityContext": _SECURITY_CONTEXT,
        "tolerations": list_of(_TOLERATION),
        "priority": integer(),
        "preemptionPolicy": one_of("PreemptLowerPriority", "Never"),
    },
    required=("containers",),
    later={
        **_later(
            _NOT_YET,
            "activeDeadlineSeconds dnsConfig ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers"
            " hostnameOverride imagePullSecrets initContainers os overhead readinessGates resourceClaims resources"
            " runtimeClassName setHostnameAsFQDN shareProcessNamespace subdomain workloadRef",
        ),
        **_later(_NO_SCHEDULER, "affinity priorityClassName schedulingGates topologySpreadConstraints"),
    },
)
