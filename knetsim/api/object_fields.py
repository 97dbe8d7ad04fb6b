"""The fields of all kinds but a Pod's spec (pod_fields.py), as tables: how each is checked before it is stored.

One value that Kubernetes' types cannot hold, a number where text is wanted, a time without its zone, and a
kube-apiserver on the same etcd fails every list of that kind. So all that has a type is checked; in a status, which
programs write, what is not named here is taken as it is. Source: k8s.io/api (core/v1, coordination/v1), release 1.36.
"""

from __future__ import annotations

import re

from knetsim.api.checks import (
    Check,
    boolean,
    fields,
    filled_text,
    integer,
    list_of,
    mapping,
    matching,
    one_of,
    quantities,
    text,
)

_DAY_AND_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
_ZONE = r"(Z|[-+]\d\d:\d\d)"
_time = matching(re.compile(rf"{_DAY_AND_TIME}(\.\d+)?{_ZONE}"), "time, as 2025-01-31T10:00:00Z")
_micro_time = matching(re.compile(rf"{_DAY_AND_TIME}\.\d{{6}}{_ZONE}"), "time, as 2025-01-31T10:00:00.000000Z")

_CONDITION = fields(
    {
        "type": filled_text,
        "status": one_of("True", "False", "Unknown"),
        "reason": text,
        "message": text,
        "lastHeartbeatTime": _time,
        "lastProbeTime": _time,
        "lastTransitionTime": _time,
        "observedGeneration": integer(),
    },
    required=("type", "status"),
    others=True,
)

_TAINT = fields(
    {
        "key": filled_text,
        "value": text,
        "effect": one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
        "timeAdded": _time,
    },
    required=("key", "effect"),
)

_NODE_SPEC = fields(
    {
        "podCIDR": text,
        "podCIDRs": list_of(text),
        "providerID": text,
        "unschedulable": boolean,
        "taints": list_of(_TAINT),
    }
)

_NODE_STATUS = fields(
    {
        "phase": text,
        "conditions": list_of(_CONDITION, unique="type"),
        "addresses": list_of(fields({"type": filled_text, "address": text}, required=("type", "address"))),
        "capacity": quantities,
        "allocatable": quantities,
        "daemonEndpoints": fields({"kubeletEndpoint": fields({"Port": integer(0, 65535)})}),
        "nodeInfo": mapping,
    },
    others=True,
)

_OBJECT_REFERENCE = fields(
    dict.fromkeys(("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"), text)
)

_STATE = fields(
    {
        "waiting": fields({"reason": text, "message": text}),
        "running": fields({"startedAt": _time}),
        "terminated": fields(
            {
                "exitCode": integer(),
                "signal": integer(),
                "reason": text,
                "message": text,
                "startedAt": _time,
                "finishedAt": _time,
                "containerID": text,
            },
            required=("exitCode",),
        ),
    }
)

_CONTAINER_STATUS = fields(
    {
        "name": filled_text,
        "state": _STATE,
        "lastState": _STATE,
        "ready": boolean,
        "restartCount": integer(0),
        "image": text,
        "imageID": text,
        "containerID": text,
        "started": boolean,
    },
    required=("name",),
    others=True,
)

_ADDRESS = fields({"ip": text})

_POD_STATUS = fields(
    {
        "phase": one_of("Pending", "Running", "Succeeded", "Failed", "Unknown"),
        "conditions": list_of(_CONDITION),
        "reason": text,
        "message": text,
        "observedGeneration": integer(),
        "hostIP": text,
        "hostIPs": list_of(_ADDRESS),
        "podIP": text,
        "podIPs": list_of(_ADDRESS),
        "startTime": _time,
        "qosClass": one_of("Guaranteed", "Burstable", "BestEffort"),
        "initContainerStatuses": list_of(_CONTAINER_STATUS),
        "containerStatuses": list_of(_CONTAINER_STATUS),
    },
    others=True,
)

#: a kind's fields beside kind, apiVersion and metadata; checked with the path ""
OBJECT_FIELDS: dict[str, Check] = {
    "Namespace": fields({"spec": mapping, "status": mapping}),
    "Node": fields({"spec": _NODE_SPEC, "status": _NODE_STATUS}),
    "Pod": fields({"spec": mapping, "status": mapping}),
    "Lease": fields(
        {
            "spec": fields(
                {
                    "holderIdentity": text,
                    "leaseDurationSeconds": integer(1),
                    "acquireTime": _micro_time,
                    "renewTime": _micro_time,
                    "leaseTransitions": integer(0),
                    "strategy": text,
                    "preferredHolder": text,
                }
            )
        }
    ),
    "Event": fields(
        {
            "involvedObject": _OBJECT_REFERENCE,
            "related": _OBJECT_REFERENCE,
            "reason": text,
            "message": text,
            "action": text,
            "source": fields({"component": text, "host": text}),
            "firstTimestamp": _time,
            "lastTimestamp": _time,
            "eventTime": _micro_time,
            "count": integer(0),
            "type": one_of("", "Normal", "Warning"),
            "series": fields({"count": integer(0), "lastObservedTime": _micro_time}),
            "reportingComponent": text,
            "reportingInstance": text,
        },
        required=("involvedObject",),
    ),
}

#: what a kind's status may hold when it is written by itself
STATUS_FIELDS: dict[str, Check] = {
    "Namespace": fields({"phase": one_of("Active", "Terminating"), "conditions": list_of(_CONDITION)}),
    "Node": _NODE_STATUS,
    "Pod": _POD_STATUS,
}
