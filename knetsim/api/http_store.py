"""The object store through a kube-apiserver: it checks, fills in and keeps; what is said here is said by it.

How a write stays honest although answers get lost:
- A create that finds its name taken after an answer was lost looks at what is there: when it holds all that was asked
  for, it was done. Names are drawn here, not by the server (`generateName`), so that there is a name to look at.
- An update compares resourceVersion and uid. When that fails, the present object tells why: gone, another one of the
  name, or changed meanwhile; and whether it was our own change whose answer was lost.
- A status is merged by the server (http/status_patch.py), so it needs no version and is one request; but that of a
  custom kind, which the server cannot merge, is read, merged here and compared.
- What is deleted twice is deleted: after a lost answer, "not found" is the wanted end.

What this server promises less than `EtcdStore`, since Kubernetes does: a Pod may name a Node that does not exist.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from knetsim import names
from knetsim.api.http import Answer, ApiClient, Expired
from knetsim.api.http.failures import TRY_AGAIN, error_of, has_cause, is_ok, refusal_of, status_of
from knetsim.api.http.resources import Discovery, Resource, resource_of
from knetsim.api.http.status_patch import STRATEGIC_MERGE, build_status_patch
from knetsim.api.http.versions import RecentVersions, Version
from knetsim.api.http.wanted import (
    asked_of,
    draw_name,
    expected_version,
    given_name,
    holds,
    name_base,
    place_object,
    place_of,
)
from knetsim.api.http.watch import HttpWatch, ObjectReader, read_list
from knetsim.api.objects import (
    KINDS,
    SERVED,
    Kind,
    Object,
    describe,
    key_of,
    kind_named,
    kind_of,
    locate,
    make_key,
    name_of,
    namespace_of,
    parse_time,
    uid_of,
)
from knetsim.api.shared_status import keep_shared
from knetsim.api.store import Listing
from knetsim.errors import Conflict, KnetsimError, NotFound, ObjectError

#: who writes, in `metadata.managedFields`
WRITER = "knetsim"
APPLY = "application/apply-patch+yaml"  # JSON is YAML
#: fields that the server does not know are refused, not dropped
_OPTIONS = {"fieldManager": WRITER, "fieldValidation": "Strict"}
#: codes by which it is said that a patch does not fit what is there: some kinds' uid is "immutable", others' conflicts
_UNFITTING = frozenset((409, 422))
_BROKEN = 500


class HttpStore:
    """A `Store` through the API server that `client` speaks to; for kinds that have no row of KINDS: `apply`."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self._recent = RecentVersions()
        self._discovery = Discovery(client)
        groups = sorted({kind.api_version for kind in KINDS.values() if kind.custom})
        client.awaited = tuple(f"/apis/{group}/" for group in groups)

    def close(self) -> None:
        """End all watches and connections."""
        self.client.close()

    # --- reads --------------------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """See Store."""
        row = kind_named(kind)
        place, name = locate(row, name, namespace)
        return self._get(row, name, place)

    def list(self, kind: str, namespace: str | None = None) -> Listing:
        """See Store."""
        row = kind_named(kind)
        while True:
            try:
                items, revision = read_list(
                    self._read, resource_of(row), namespace or "", _reader(resource_of(row), row.name)
                )
            except Expired:
                continue  # between two pages, by a hair; begin again at the present revision
            return Listing(items, revision)

    def watch(self, kind: str, namespace: str | None = None) -> HttpWatch:
        """See Store."""
        row = SERVED.get(kind) or kind_named(kind)
        return HttpWatch(self.client, resource_of(row), _reader(resource_of(row), row.name), namespace or "")

    # --- writes -------------------------------------------------------------------------------------------------------

    def create(self, obj: Mapping[str, Any]) -> Object:
        """See Store."""
        return self._create(resource_of(kind_of(obj)), obj)

    def update(self, obj: Mapping[str, Any]) -> Object:
        """See Store."""
        kind, expected, uid = kind_of(obj), expected_version(obj), uid_of(obj)
        place, name = locate(kind, given_name(obj), namespace_of(obj))
        wanted, path = place_object(obj, name, place), resource_of(kind).path(place, name, **_OPTIONS)
        base = self._base(kind, wanted, expected, uid)
        while True:
            # With a uid it is never made anew, as the server would do for some kinds (Leases).
            wanted["metadata"].update(resourceVersion=base.revision, uid=base.uid)
            answer = self.client.send("PUT", path, wanted, where=describe(wanted))
            if is_ok(answer):
                return self._learn(kind, answer)
            if not _is_conflict(answer):
                raise error_of(answer, describe(wanted))
            current = self._get(kind, name, place)
            if answer.uncertain and holds(current, asked_of(wanted)):
                return current
            _refuse_other_uid(uid, current, wanted)
            if expected:
                raise _conflict(wanted, current, expected)
            if Version.of(current) == base:
                raise error_of(answer, describe(wanted))
            base = Version.of(current)

    def update_status(self, obj: Mapping[str, Any]) -> Object:
        """See Store."""
        kind, uid = kind_of(obj), uid_of(obj)
        place, name = locate(kind, given_name(obj), namespace_of(obj))
        where = describe(place_object(obj, name, place))
        if not kind.status:
            what = f"a {kind.name} has no status of its own"
            raise ObjectError(what, where, hint="write it with update", field="status")
        status = obj.get("status")
        if not isinstance(status, Mapping):
            raise ObjectError("status must be a mapping", where, field="status")
        if kind.custom:
            return self._replace_status(kind, name, place, status, uid)
        patch = build_status_patch(kind.name, status, uid)
        path = resource_of(kind).path(place, name, "status", **_OPTIONS)
        while True:
            answer = self.client.send("PATCH", path, patch, content_type=STRATEGIC_MERGE, where=where)
            if is_ok(answer):
                return self._learn(kind, answer)
            if uid and answer.code in _UNFITTING:
                _refuse_other_uid(uid, self._get(kind, name, place), obj)
            if not _is_conflict(answer):
                raise error_of(answer, where)
            # So many wrote at the same moment that the server gave up merging.

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        uid: str | None = None,
    ) -> Object:
        """See Store."""
        row = kind_named(kind)
        place, name = locate(row, name, namespace)
        self._recent.drop((row.name, make_key(name, place)))
        return self._delete(resource_of(row), row.name, name, place, grace_seconds, uid)

    # --- what only an API server offers -------------------------------------------------------------------------------

    def apply(self, obj: Mapping[str, Any], *, manager: str = WRITER, force: bool = True) -> Object:
        """Server-side apply, of any kind that the server serves; with only a generateName it is created."""
        resource = self._discovery.find(obj)
        if not name_of(obj) and isinstance(obj.get("metadata"), Mapping) and obj["metadata"].get("generateName"):
            return self._create(resource, obj)
        name, place = given_name(obj), place_of(resource, obj)
        wanted = place_object(obj, name.lower() if obj["kind"] == "Node" else name, place)
        query = {**_OPTIONS, "fieldManager": manager, "force": str(force).lower()}
        path = resource.path(place, name_of(wanted), **query)
        send = partial(self.client.send, "PATCH", path, wanted, content_type=APPLY, where=describe(wanted))
        answer = send(try_again=TRY_AGAIN - {_BROKEN})
        if answer.code == _BROKEN:
            # This is also what the server says of a field that it does not know, unless it is not well itself.
            if not self.client.explain_unready():
                raise refusal_of(answer, describe(wanted))
            answer = send()
        if not is_ok(answer):
            raise self._lacking(answer, wanted)
        return _reader(resource, obj["kind"]).complete(answer.json)

    def read(self, obj: Mapping[str, Any]) -> Object:
        """An object of any kind that the server serves, by its kind and name. NotFound."""
        resource = self._discovery.find(obj)
        name, place = given_name(obj), place_of(resource, obj)
        found: Object = self.client.request("GET", resource.path(place, name), where=describe(obj))
        return _reader(resource, obj["kind"]).complete(found)

    def delete_object(self, obj: Mapping[str, Any], *, grace_seconds: int | None = None) -> Object:
        """Delete an object of any kind that the server serves."""
        resource = self._discovery.find(obj)
        name, place = given_name(obj), place_of(resource, obj)
        return self._delete(resource, obj["kind"], name, place, grace_seconds, uid_of(obj) or None)

    def bind(self, pod: Mapping[str, Any], node: str) -> None:
        """Have a Pod run on a Node, as a scheduler does; Conflict when it is bound to another one."""
        name, place = given_name(pod), namespace_of(pod) or names.DEFAULT_NAMESPACE
        metadata = {"name": name, "namespace": place, **({"uid": uid_of(pod)} if uid_of(pod) else {})}
        target = {"kind": "Node", "apiVersion": "v1", "name": node.lower()}
        binding = {"kind": "Binding", "apiVersion": "v1", "metadata": metadata, "target": target}
        path = resource_of(kind_named("Pod")).path(place, name, "binding")
        answer = self.client.send("POST", path, binding, where=describe(pod))
        if is_ok(answer):
            return
        if _is_conflict(answer):
            current = self.get("Pod", name, place)
            _refuse_other_uid(uid_of(pod), current, pod)
            bound = (current.get("spec") or {}).get("nodeName")
            if answer.uncertain and bound == node.lower():
                return
            raise Conflict(f"it is bound to {bound} already" if bound else "cannot be bound", describe(pod))
        raise error_of(answer, describe(pod))

    def token(self, namespace: str, account: str, request: Mapping[str, Any]) -> Object:
        """A token of a ServiceAccount; `request` is a TokenRequest's spec, returned is its status (`token`,
        `expirationTimestamp`)."""
        path = resource_of(kind_named("ServiceAccount")).path(namespace, account, "token")
        body = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": dict(request)}
        where = f"ServiceAccount {make_key(account, namespace)}"
        answered: Object = self.client.request("POST", path, body, where=where)["status"]
        return answered

    # --- how a write happens ------------------------------------------------------------------------------------------

    def _read(self, path: str) -> Answer:
        return self.client.send("GET", path)

    def _get(self, kind: Kind, name: str, place: str) -> Object:
        key = make_key(name, place)
        answer = self._read(resource_of(kind).path(place, name))
        if not is_ok(answer):
            self._recent.drop((kind.name, key))
            raise error_of(answer, f"{kind.name} {key}")
        return self._learn(kind, answer)

    def _learn(self, kind: Kind, answer: Answer) -> Object:
        obj = _reader(resource_of(kind), kind.name).complete(answer.json)
        self._recent.put((kind.name, key_of(obj)), Version.of(obj))
        return obj

    def _base(self, kind: Kind, wanted: Object, expected: str, uid: str) -> Version:
        """The version that an update is to replace: the given one, or the newest that is known."""
        if expected and uid:
            return Version(expected, uid)
        known = self._recent.get((kind.name, key_of(wanted)))
        if known is None or (uid and uid != known.uid):
            current = self._get(kind, name_of(wanted), namespace_of(wanted))
            _refuse_other_uid(uid, current, wanted)
            known = Version.of(current)
        return Version(expected or known.revision, known.uid)

    def _replace_status(self, kind: Kind, name: str, place: str, status: Mapping[str, Any], uid: str) -> Object:
        """Custom kinds know no strategic merge: what others wrote is put in here, and the server compares versions."""
        path = resource_of(kind).path(place, name, "status", **_OPTIONS)
        while True:
            current = self._get(kind, name, place)
            _refuse_other_uid(uid, current, current)
            before = current.get("status") or {}
            wanted = {**current, "status": keep_shared(kind.name, status, before)}
            if wanted["status"] == before:
                return current
            answer = self.client.send("PUT", path, wanted, where=describe(current))
            if is_ok(answer):
                return self._learn(kind, answer)
            if not _is_conflict(answer):
                raise error_of(answer, describe(current))

    def _create(self, resource: Resource, obj: Mapping[str, Any]) -> Object:
        if expected_version(obj):
            what = "metadata.resourceVersion must not be set on a new object"
            raise ObjectError(what, describe(obj), field="metadata.resourceVersion")
        place, name, base = place_of(resource, obj), name_of(obj), name_base(obj)
        began = time.time()
        while True:
            wanted = place_object(obj, name.lower() if obj["kind"] == "Node" else name or draw_name(base), place)
            path = resource.path(place, **_OPTIONS)
            answer = self.client.send("POST", path, wanted, where=describe(wanted))
            if is_ok(answer):
                created = _reader(resource, obj["kind"]).complete(answer.json)
                self._recent.put((obj["kind"], key_of(created)), Version.of(created))
                return created
            if status_of(answer).get("reason") != "AlreadyExists":
                raise self._lacking(answer, wanted)
            if answer.uncertain and (present := self._present(resource, wanted, began)):
                return present
            if name:
                raise error_of(answer, describe(wanted))
            # A drawn name was taken already: another one is drawn.

    def _present(self, resource: Resource, wanted: Object, began: float) -> Object | None:
        """The object that a create has made whose answer was lost; None when what is there is somebody else's."""
        answer = self._read(resource.path(namespace_of(wanted), name_of(wanted)))
        if not is_ok(answer):
            return None
        current = _reader(resource, wanted["kind"]).complete(answer.json)
        is_new = parse_time(current["metadata"]["creationTimestamp"]) >= int(began)
        return current if is_new and holds(current, asked_of(wanted)) else None

    def _delete(
        self, resource: Resource, kind: str, name: str, place: str, grace_seconds: int | None, uid: str | None
    ) -> Object:
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_seconds is not None:
            if grace_seconds < 0:  # the server would take it for 1
                what = "the grace period must be 0 or more whole seconds"
                raise ObjectError(what, f"{kind} {make_key(name, place)}", f"it is {grace_seconds}")
            options["gracePeriodSeconds"] = grace_seconds
        if uid:
            options["preconditions"] = {"uid": uid}
        where, path = f"{kind} {make_key(name, place)}", resource.path(place, name)
        answer = self.client.send("DELETE", path, options, where=where)
        body, reader = answer.json, _reader(resource, kind)
        if is_ok(answer) and body.get("kind") != "Status":
            return reader.complete(body)
        if is_ok(answer) or (answer.uncertain and isinstance(error_of(answer, where), NotFound)):
            # It is gone; of some kinds the server does not say how it was.
            details = (body or {}).get("details") or {}
            metadata = {"name": name, "namespace": place, "uid": details.get("uid") or uid}
            return reader.complete({"metadata": {field: value for field, value in metadata.items() if value}})
        if uid and _is_conflict(answer):
            current = self._read(path)
            if not is_ok(current):
                raise error_of(current, where)
            _refuse_other_uid(uid, reader.complete(current.json), {"kind": kind, "metadata": {"name": name}})
        raise error_of(answer, where)

    def _lacking(self, answer: Answer, wanted: Object) -> KnetsimError:
        """Why an object cannot be made: its namespace may be missing or going away."""
        status, namespace = status_of(answer), namespace_of(wanted)
        missing = status.get("reason") == "NotFound" and (status.get("details") or {}).get("kind") == "namespaces"
        if missing and namespace:
            hint = names.did_you_mean(namespace, [name_of(item) for item in self.list("Namespace").items])
            what = f"there is no namespace {namespace!r}"
            return ObjectError(what, describe(wanted), hint=hint, field="metadata.namespace")
        if has_cause(status, "NamespaceTerminating"):
            what = f"the namespace {namespace!r} is being deleted"
            return ObjectError(what, describe(wanted), hint="wait until it is gone", field="metadata.namespace")
        return error_of(answer, describe(wanted))


# --- small parts ------------------------------------------------------------------------------------------------------


def _reader(resource: Resource, kind: str) -> ObjectReader:
    return ObjectReader(kind, resource.api_version)


def _is_conflict(answer: Answer) -> bool:
    return status_of(answer).get("reason") == "Conflict"


def _refuse_other_uid(uid: str, current: Object, obj: Mapping[str, Any]) -> None:
    if uid and uid != uid_of(current):
        why = f"the uid is {uid_of(current)}, not {uid}"
        raise Conflict("it is not the object that was meant", describe(obj), why, "read it again")


def _conflict(obj: Mapping[str, Any], current: Object, expected: str) -> Conflict:
    why = f"it is at resourceVersion {current['metadata']['resourceVersion']}, not {expected}"
    return Conflict("somebody else has changed it", describe(obj), why, "read it again and change that")
