"""The fields of a Pod's spec, as tables: which are carried out, and how each is checked; which are refused, and why.

What is accepted is enforced: a field of Kubernetes that nothing here carries out yet is refused with the reason instead
of being ignored. When the kubelet learns a field, its row moves up. Used where no API server checks. Sources:
Kubernetes' pkg/apis/core/validation/validation.go, k8s.io/api/core/v1/types.go (release 1.36).
"""

from __future__ import annotations

import re

from knetsim import names
from knetsim.api.checks import (
    boolean,
    fields,
    filled_text,
    integer,
    list_of,
    matching,
    one_of,
    quantities,
    quantity,
    text,
    text_map,
)

_NOT_YET = "is not carried out by knetsim's kubelet without Kubernetes' control plane"
_NO_SCHEDULER = "needs Kubernetes' scheduler; here a pod is spread by load, nodeSelector, taints and cordon"

_ENV_NAME = re.compile(r"[^=\x00-\x1f\x7f]+")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")


_label_name = matching(names.DNS_LABEL, "name: lower case letters, digits and '-', at most 63")
_node_name = matching(re.compile(f"|{names.DNS_SUBDOMAIN.pattern}"), "name of a Node")
_host_name = matching(names.DNS_SUBDOMAIN, "name of a host: lower case letters, digits, '-' and '.'")
_address = matching(re.compile(r"[0-9A-Fa-f:.]+"), "IP address")
_env_name = matching(_ENV_NAME, "name of a variable")
_port_name = matching(_PORT_NAME, "port name: lower case letters, digits, '-', at most 15, one letter at least")
_absolute_path = matching(re.compile(r"/.*", re.DOTALL), "absolute path")
_volume_path = matching(re.compile(r"(?!/)(?!(.*/)?\.\.(/|$)).*", re.DOTALL), "path below the volume, without '..'")


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
        "resources": fields({"limits": quantities, "requests": quantities}, later=_later(_NOT_YET, "claims")),
        "volumeMounts": list_of(_MOUNT, unique="mountPath"),
        "terminationMessagePath": _absolute_path,
        "terminationMessagePolicy": one_of("File", "FallbackToLogsOnError"),
    },
    required=("name", "image"),
    later=_later(
        _NOT_YET,
        "envFrom lifecycle livenessProbe readinessProbe resizePolicy restartPolicy restartPolicyRules securityContext"
        " startupProbe stdin stdinOnce tty volumeDevices",
    ),
)

_VOLUME = fields(
    {"name": _label_name, "emptyDir": fields({"medium": one_of("", "Memory"), "sizeLimit": quantity})},
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

_HOST_ALIAS = fields({"ip": _address, "hostnames": list_of(_host_name)}, required=("ip",))

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
        "initContainers": list_of(_CONTAINER, unique="name"),
        "volumes": list_of(_VOLUME, unique="name"),
        "restartPolicy": one_of("Always", "OnFailure", "Never"),
        "terminationGracePeriodSeconds": integer(0),
        # "None" goes with dnsConfig.
        "dnsPolicy": one_of("ClusterFirst", "ClusterFirstWithHostNet", "Default"),
        "hostAliases": list_of(_HOST_ALIAS),
        "nodeName": _node_name,
        "nodeSelector": text_map,
        "hostname": _label_name,
        "subdomain": _label_name,
        "readinessGates": list_of(fields({"conditionType": filled_text}, required=("conditionType",))),
        "schedulerName": one_of("default-scheduler"),
        "enableServiceLinks": boolean,
        "securityContext": _SECURITY_CONTEXT,
        "tolerations": list_of(_TOLERATION),
        "priority": integer(0, 0),  # classes of priority are admission's and the scheduler's
        "preemptionPolicy": one_of("PreemptLowerPriority", "Never"),
    },
    required=("containers",),
    later={
        **_later(
            _NOT_YET,
            "activeDeadlineSeconds automountServiceAccountToken dnsConfig ephemeralContainers hostIPC hostNetwork"
            " hostPID hostUsers hostnameOverride imagePullSecrets os overhead resourceClaims resources runtimeClassName"
            " serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace workloadRef",
        ),
        **_later(_NO_SCHEDULER, "affinity priorityClassName schedulingGates topologySpreadConstraints"),
    },
)
