"""The patch by which `.status` is replaced without losing what others wrote into it meanwhile. Pure.

Several write into one status (shared_status.py). So the server is asked to merge, as the real kubelet does: by a
strategic merge patch, which knows conditions by their type. Three directives make of it a replacement wherever there
is but one writer:

    $retainKeys        the fields of the status that stay; those that the new one does not have go
    $patch: replace    this map, or this list, becomes what is said here, nothing of the old one is merged in
    metadata.uid       the server compares it (Conflict): another object may have taken the name
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.api.objects import Object
from knetsim.api.shared_status import shared_fields

#: a patch that knows which lists are merged, by which field of their items
STRATEGIC_MERGE = "application/strategic-merge-patch+json"

#: lists that Kubernetes would merge, item by item; each has one writer
_REPLACED_LISTS = frozenset(("podIPs", "hostIPs", "addresses"))


def build_status_patch(kind: str, status: Mapping[str, Any], uid: str) -> Object:
    """The patch for the object's `/status` that replaces it, but for what others write (`shared_fields`)."""
    shared = shared_fields(kind)
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
