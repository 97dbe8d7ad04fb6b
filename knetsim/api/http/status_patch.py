"""The patch by which `.status` is replaced without losing what others wrote into it meanwhile. Pure.

A status has several writers: the kubelet, the scheduler and Kubernetes' controllers all add conditions to Pods and
Nodes, and a Node's capacity holds resources that others count. Writing back a whole status, as it was read, would undo
what they did in between. So the server is asked to merge, as the real kubelet does: a strategic merge patch, which
knows conditions by their type. Three directives make of it a replacement wherever there is but one writer:

    $retainKeys        the fields of the status that stay; those that the new one does not have go
    $patch: replace    this map, or this list, becomes what is said here, nothing of the old one is merged in
    metadata.uid       the server compares it (Conflict): another object may have taken the name
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.api.objects import Object

#: a patch that knows which lists are merged, by which field of their items
STRATEGIC_MERGE = "application/strategic-merge-patch+json"

_CLAIMS = ("resourceClaimStatuses", "extendedResourceClaimStatus")
#: fields of a status that others write: what the new status does not say of them stays
SHARED_FIELDS: Mapping[str, frozenset[str]] = {
    "Pod": frozenset(("conditions", "qosClass", "observedGeneration", "nominatedNodeName", *_CLAIMS)),
    "Node": frozenset(("conditions", "capacity", "allocatable", "volumesAttached", "volumesInUse")),
}
_SHARED = frozenset(("conditions",))
#: lists that Kubernetes would merge, item by item; each has one writer
_REPLACED_LISTS = frozenset(("podIPs", "hostIPs", "addresses"))


def build_status_patch(kind: str, status: Mapping[str, Any], uid: str) -> Object:
    """The patch for the object's `/status` that replaces it, but for what others write (`SHARED_FIELDS`)."""
    shared = SHARED_FIELDS.get(kind, _SHARED)
    patch: Object = {field: _replaced(field, value, shared) for field, value in status.items() if value is not None}
    patch["$retainKeys"] = sorted(patch.keys() | shared)
    return {**({"metadata": {"uid": uid}} if uid else {}), "status": patch}


def _replaced(field: str, value: Any, shared: frozenset[str]) -> Any:
    if field in shared:
        return value
    if isinstance(value, Mapping):
        return {**value, "$patch": "replace"}
    if isinstance(value, list) and field in _REPLACED_LISTS:
        return [{"$patch": "replace"}, *value]
    return value
