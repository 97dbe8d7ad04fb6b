"""What a kube-apiserver does to an object before it stores it: fill in, check, keep what must not change. Pure.

Used where no API server runs. Each function takes the object as it was given and returns the object to store, a new
dict; what cannot be accepted is an ObjectError that names every mistake with its field. Sources: Kubernetes' registry
strategies (pkg/registry/core/*/strategy.go), apiserver's rest.BeforeCreate/BeforeUpdate/BeforeDelete, and
apimachinery's validation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from knetsim import names
from knetsim.api import pods, rules, words
from knetsim.api.checks import Problems
from knetsim.api.objects import KINDS, Kind, Object, describe, format_time, locate, new_uid, parse_time
from knetsim.api.shared_status import keep_shared
from knetsim.errors import Conflict, ObjectError

#: namespaces that are never deleted, as Kubernetes' NamespaceLifecycle admission has it
LASTING_NAMESPACES = frozenset((names.DEFAULT_NAMESPACE, "kube-system", "kube-public"))

#: what an update leaves as it was
_KEPT_METADATA = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "generateName",
)  # fmt: skip
_GENERATED_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def accept_create(kind: Kind, obj: Mapping[str, Any], now: float) -> Object:
    """A new object, named, defaulted and checked, with its uid and creation time."""
    problems = Problems(describe(obj))
    metadata = _metadata(kind, obj, problems)
    if metadata.get("resourceVersion"):
        problems.add("metadata.resourceVersion", "must not be set on a new object")
    base = metadata.get("generateName")
    if isinstance(base, str) and base and not metadata.get("name"):
        metadata["name"] = base + "".join(random.choices(_GENERATED_LETTERS, k=5))
    metadata["uid"], metadata["creationTimestamp"] = new_uid(), format_time(now)
    for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        metadata.pop(field, None)
    if kind.generation:
        metadata["generation"] = 1
    accepted = {**obj, "metadata": metadata}
    _check(kind, accepted, problems)
    rules.fill(kind.name, accepted)
    if kind.name in _FIRST_STATE:
        _FIRST_STATE[kind.name](accepted)
    if kind.custom:
        accepted.pop("status", None)  # it is written apart, from the first
    return accepted


def accept_update(kind: Kind, obj: Mapping[str, Any], current: Object) -> Object:
    """What is stored when `obj` replaces `current`: all of `obj` but status and what only the store writes."""
    problems = Problems(describe(obj))
    metadata = _metadata(kind, obj, problems)
    before = current["metadata"]
    _refuse_other_uid(metadata.get("uid"), before, obj)
    for field in _KEPT_METADATA:
        metadata.pop(field, None)
        if field in before:
            metadata[field] = before[field]
    accepted = {**obj, "metadata": metadata}
    if kind.status:
        accepted.pop("status", None)
        if "status" in current:
            accepted["status"] = current["status"]
    if kind.name == "Namespace":  # its finalizers are the business of who empties it
        accepted["spec"] = current.get("spec", {})
    rules.keep(kind.name, accepted, current)
    _check(kind, accepted, problems)
    rules.fill(kind.name, accepted)
    if "deletionTimestamp" in before:
        for finalizer in set(metadata.get("finalizers", ())) - set(before.get("finalizers", ())):
            problems.add("metadata.finalizers", f"no finalizer ({finalizer}) can be added to what is being deleted")
    rules.check_update(kind.name, accepted, current, problems)
    problems.raise_any()
    if kind.generation and _wanted(accepted) != _wanted(current):
        metadata["generation"] = int(before.get("generation", 0)) + 1
    return accepted


def _wanted(obj: Mapping[str, Any]) -> Object:
    """What users want of an object: its spec, or all of one that has none, as an EndpointSlice."""
    return {field: value for field, value in obj.items() if field not in ("metadata", "status")}


def accept_status(kind: Kind, obj: Mapping[str, Any], current: Object) -> Object:
    """`current` with the status of `obj`, and what others have written into the one before."""
    if not kind.status:
        what = f"a {kind.name} has no status of its own"
        raise ObjectError(what, describe(obj), hint="write it with update", field="status")
    problems = Problems(describe(obj))
    rules.check_status(kind.name, obj.get("status"), problems)
    problems.raise_any()
    metadata = obj.get("metadata")
    _refuse_other_uid(metadata.get("uid") if isinstance(metadata, Mapping) else None, current["metadata"], obj)
    accepted = {**current, "status": keep_shared(kind.name, obj["status"], current.get("status") or {})}
    if kind.custom:
        rules.fill(kind.name, accepted)
    return accepted


def plan_delete(kind: Kind, current: Object, grace_seconds: int | None, uid: str | None, now: float) -> Object | None:
    """What is stored when `current` is deleted: None when nothing, `current` itself when nothing changes, else it with
    its deletionTimestamp (the moment at which it should be gone)."""
    _refuse_other_uid(uid, current["metadata"], current)
    if kind.name == "Namespace":
        return _plan_namespace_delete(current, now)
    metadata = current["metadata"]
    grace = pods.grace_of(current, grace_seconds) if kind.graceful else 0
    if metadata.get("finalizers") and not grace:
        if metadata.get("deletionTimestamp") and not metadata.get("deletionGracePeriodSeconds"):
            return current
        return _marked(current, now, 0)
    if not grace:
        return None
    deadline, before = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if deadline is None:
        return _marked(current, now + grace, grace)
    if before is None or grace_seconds is None or grace >= before:
        return current  # a deletion can only be hurried
    changed = {**metadata, "deletionTimestamp": format_time(parse_time(deadline) - before + grace)}
    changed["deletionGracePeriodSeconds"] = grace
    return {**current, "metadata": changed}


def is_finished_delete(obj: Object) -> bool:
    """Whether nothing holds a deleted object any more: no finalizer, no time of grace."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if obj["kind"] == "Namespace":
        return not obj.get("spec", {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def _marked(current: Object, deadline: float, grace: int) -> Object:
    metadata = {**current["metadata"], "deletionTimestamp": format_time(deadline), "deletionGracePeriodSeconds": grace}
    if metadata.get("generation"):
        metadata["generation"] += 1  # its owner has something new to do
    return {**current, "metadata": metadata}


def _plan_namespace_delete(current: Object, now: float) -> Object | None:
    """A namespace is Terminating until it was emptied and `spec.finalizers` taken away (control/embedded.py)."""
    metadata = current["metadata"]
    if metadata["name"] in LASTING_NAMESPACES:
        raise ObjectError(
            f"the namespace {metadata['name']} cannot be deleted", describe(current), "Kubernetes keeps it"
        )
    if not current.get("spec", {}).get("finalizers") and not metadata.get("finalizers"):
        return None
    if metadata.get("deletionTimestamp"):
        return current
    marked = {**metadata, "deletionTimestamp": format_time(now)}
    return {**current, "metadata": marked, "status": {**current.get("status", {}), "phase": "Terminating"}}


def finish_namespace(current: Object) -> Object:
    """A namespace from which its last hold was taken, as Kubernetes' namespace controller does by `finalize`."""
    if not current["metadata"].get("deletionTimestamp"):
        raise Conflict("the namespace is not being deleted", describe(current))
    return {**current, "spec": {}}


def _refuse_other_uid(uid: Any, metadata: Mapping[str, Any], obj: Mapping[str, Any]) -> None:
    present = metadata.get("uid")
    if uid and uid != present:
        why = f"the uid is {present}, not {uid}"
        raise Conflict("it is not the object that was meant", describe(obj), why, "read it again")


def check_structure(obj: Mapping[str, Any]) -> None:
    """Refuses what no kube-apiserver can read: fields that Kubernetes does not know, values of other types.

    Only of kinds that are known here, in their one version; all other mistakes are left to the API server, but of kinds
    that knetsim defines: it is told nothing else about these.
    """
    kind = KINDS.get(str(obj.get("kind")))
    if kind is None or obj.get("apiVersion") != kind.api_version:
        return
    problems = Problems(describe(obj))
    structure = rules.STRUCTURE if kind.custom else rules.KUBERNETES
    structure.check(kind.name)(obj, "", problems)
    problems.raise_any()


# --- checks -----------------------------------------------------------------------------------------------------------


def _metadata(kind: Kind, obj: Mapping[str, Any], problems: Problems) -> Object:
    """The object's metadata, copied, with the namespace and the case of the name put right."""
    given = obj.get("metadata")
    if not isinstance(given, Mapping):
        what = "metadata is missing" if given is None else "metadata must be a mapping"
        raise ObjectError(what, describe(obj), hint="metadata: {name: …}", field="metadata")
    metadata = dict(given)
    metadata.pop("managedFields", None)  # who has written which field is not kept
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if isinstance(name, str) and name and (namespace is None or isinstance(namespace, str)):
        place, metadata["name"] = locate(kind, name, namespace)
        if kind.namespaced:
            metadata["namespace"] = place
    elif kind.namespaced and not namespace:
        metadata["namespace"] = names.DEFAULT_NAMESPACE
    problems.where = describe({**obj, "metadata": metadata})
    if not kind.namespaced and namespace:
        problems.add("metadata.namespace", f"a {kind.name} lives in no namespace")
    return metadata


def _check(kind: Kind, obj: Object, problems: Problems) -> None:
    """Refuses an object with mistakes, all of them at once; its status, which programs write, may be incomplete."""
    rules.prepare(kind.name, obj)
    body = {field: value for field, value in obj.items() if field != "status" or not kind.status}
    _check_name(kind, obj["metadata"], problems)
    rules.STRUCTURE.check(kind.name)(body, "", problems)
    if kind.status and obj.get("status") is not None:
        rules.check_status(kind.name, obj["status"], problems)
    problems.raise_any()
    metadata = obj["metadata"]
    for field in [field for field, value in metadata.items() if value in (None, "", {}, [])]:
        del metadata[field]  # what is empty is not stored, as in Kubernetes


def _check_name(kind: Kind, metadata: Mapping[str, Any], problems: Problems) -> None:
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if kind.label_names:
        pattern, what = (names.DNS_LABEL, words.LABEL_WORDS)
    else:
        pattern, what = (names.DNS_SUBDOMAIN, words.SUBDOMAIN_WORDS)
    if name is None or name == "":
        problems.add("metadata.name", "is missing")
    elif isinstance(name, str) and not pattern.fullmatch(name):
        problems.add("metadata.name", f"{name!r} is no name: {what}")
    if kind.namespaced and isinstance(namespace, str) and not names.DNS_LABEL.fullmatch(namespace):
        problems.add("metadata.namespace", f"{namespace!r} is no name: {words.LABEL_WORDS}")


def _set_namespace_state(obj: Object) -> None:
    obj["spec"], obj["status"] = {"finalizers": ["kubernetes"]}, {"phase": "Active"}


def _set_pod_state(obj: Object) -> None:
    obj["status"] = {"phase": "Pending", "qosClass": pods.qos_class(obj["spec"])}
    if obj["spec"].get("schedulingGates"):
        obj["status"]["conditions"] = [dict(pods.GATED)]


def _set_service_state(obj: Object) -> None:
    obj["status"] = {"loadBalancer": {}}


#: what the store itself says of a new object, whatever its writer said (a Node brings its own status)
_FIRST_STATE: dict[str, Callable[[Object], None]] = {
    "Namespace": _set_namespace_state,
    "Pod": _set_pod_state,
    "Service": _set_service_state,
    "Ingress": _set_service_state,
}
