"""Which fields of a status have several writers, and what a write leaves of the others' share. Pure.

The kubelet, the scheduler and Kubernetes' controllers all add conditions to Pods and Nodes, and a Node's capacity holds
resources that others count. Who writes a status has read it a moment ago: what others wrote since must not be undone.
So conditions are merged by type, amounts by name, and the rest of a shared field stays unless the new status says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.api.objects import Object

_CLAIMS = ("resourceClaimStatuses", "extendedResourceClaimStatus")
#: fields of a status that others write
SHARED_FIELDS: Mapping[str, frozenset[str]] = {
    "Pod": frozenset(("conditions", "qosClass", "observedGeneration", "nominatedNodeName", *_CLAIMS)),
    "Node": frozenset(("conditions", "capacity", "allocatable", "volumesAttached", "volumesInUse")),
}
_OTHERS = frozenset(("conditions",))


def shared_fields(kind: str) -> frozenset[str]:
    """The fields of this kind's status of which what the new status does not say stays."""
    return SHARED_FIELDS.get(kind, _OTHERS)


def keep_shared(kind: str, status: Mapping[str, Any], before: Mapping[str, Any]) -> Object:
    """`status`, with what others have written into the one before."""
    kept = {**status}
    for field in shared_fields(kind) & before.keys():
        old, new = before[field], status.get(field)
        if not new:
            kept[field] = old
        elif field == "conditions":
            named = {condition["type"] for condition in new}
            kept[field] = [*new, *(condition for condition in old if condition["type"] not in named)]
        elif isinstance(new, Mapping):
            kept[field] = {**old, **new}
    return kept
