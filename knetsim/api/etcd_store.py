"""The object store straight on etcd, for clusters without an API server: Kubernetes' keys, Kubernetes' JSON.

How a write stays honest without a server in between:
- Every write is one etcd transaction that compares the revision it was built on, so two writers never overwrite each
  other unseen. `update` with a resourceVersion then raises Conflict; writes that are to happen whatever has changed
  (`delete`, `update_status`, `update` without a resourceVersion) are built anew on what the transaction found, and
  tried again.
- What a new object refers to is compared in the same transaction: its namespace is still as it was when it was seen not
  to be deleted, and its Node exists. Nothing slips in between check and write, and a create is one round trip.
- A create whose answer was lost is repeated and finds its own uid: done. An update whose answer was lost finds its own
  bytes (`Etcd.swap`) or, when somebody has changed them since, is a Conflict like any other.
- The bytes of recently written objects are kept, so that a change needs no read first; when they are out of date, the
  transaction's comparison fails and brings the present ones.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from knetsim import names
from knetsim.api import accept
from knetsim.api.etcd import Etcd, Stored, Swap
from knetsim.api.object_watch import ObjectWatch
from knetsim.api.objects import (
    Kind,
    Object,
    decode,
    describe,
    encode,
    kind_named,
    kind_of,
    locate,
    make_key,
    name_of,
    namespace_of,
    read_object,
    storage_key,
    storage_prefix,
    uid_of,
)
from knetsim.api.store import Listing
from knetsim.errors import AlreadyExists, Conflict, KnetsimError, NotFound, ObjectError

#: makes of an object what is to be stored instead: a new dict, the same one (no change), or None (remove it)
ChangeObject = Callable[[Object], Object | None]
Admission = Callable[[Object, Object | None], Object]
#: keys that must stand for a write to happen, at this revision (None: at any)
Guards = Mapping[str, int | None]

#: the bytes of so many objects are kept
_RECENT = 4096
#: seconds during which new objects with a ttl share one etcd lease, as in Kubernetes
_LEASE_SHARED = 60


class EtcdStore:
    """A `Store` on an etcd cluster (or on the gRPC targets of one). `etcd` is its client, for what is no object."""

    def __init__(self, etcd: Etcd | Sequence[str], *, clock: Callable[[], float] = time.time) -> None:
        self.etcd = etcd if isinstance(etcd, Etcd) else Etcd(etcd)
        self._clock = clock
        #: what allots before an object is written: (accepted, current or None) → what to store; ObjectError refuses it
        self.admission: Admission = lambda accepted, current: accepted
        self._recent = _Recent()
        self._leases = _SharedLeases(self.etcd)

    def close(self) -> None:
        """End all watches and connections."""
        self.etcd.close()

    # --- reads --------------------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """See Store."""
        row = kind_named(kind)
        place, name = locate(row, name, namespace)
        key = storage_key(row, name, place)
        stored = self.etcd.get(key)
        if stored is None:
            raise _not_found(row, name, place)
        self._recent.put(key, stored)
        return _decoded(key, stored)

    def list(self, kind: str, namespace: str | None = None) -> Listing:
        """See Store. What cannot be read is left out, with a warning in the log."""
        entries, revision = self.etcd.prefix(storage_prefix(kind_named(kind), namespace))
        items = (read_object(entry.key, entry.value, entry.revision) for entry in entries)
        return Listing([obj for obj in items if obj is not None], str(revision))

    def watch(self, kind: str, namespace: str | None = None) -> ObjectWatch:
        """See Store."""
        return ObjectWatch(self.etcd, storage_prefix(kind_named(kind), namespace))

    # --- writes -------------------------------------------------------------------------------------------------------

    def create(self, obj: Mapping[str, Any]) -> Object:
        """See Store."""
        kind = kind_of(obj)
        while True:
            accepted = self.admission(accept.accept_create(kind, obj, self._clock()), None)
            try:
                return self._create(kind, accepted)
            except AlreadyExists:
                if name_of(obj):
                    raise
                # A generated name was taken already: another one is drawn, as Kubernetes does.

    def update(self, obj: Mapping[str, Any]) -> Object:
        """See Store."""
        kind = kind_of(obj)
        expected = _expected_revision(obj)

        def change(current: Object) -> Object:
            if expected and current["metadata"]["resourceVersion"] != expected:
                raise _conflict(obj, current, expected)
            return self.admission(accept.accept_update(kind, obj, current), current)

        return self._change(kind, _given_name(obj), namespace_of(obj), change)

    def update_status(self, obj: Mapping[str, Any]) -> Object:
        """See Store."""
        kind = kind_of(obj)
        return self._change(
            kind, _given_name(obj), namespace_of(obj), lambda current: accept.accept_status(kind, obj, current)
        )

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
        return self._change(
            row, name, namespace, lambda current: accept.plan_delete(row, current, grace_seconds, uid, self._clock())
        )

    def finish_namespace(self, name: str) -> Object:
        """Remove a namespace that is being deleted and was emptied; see `control.embedded.reconcile_namespace`."""
        return self._change(kind_named("Namespace"), name, None, accept.finish_namespace)

    # --- how a write happens ------------------------------------------------------------------------------------------

    def _create(self, kind: Kind, accepted: Object) -> Object:
        key, value = storage_key(kind, name_of(accepted), namespace_of(accepted)), encode(accepted)
        guards: Guards = {**self._namespace_guard(kind, accepted), **_node_guard(accepted, None)}
        while True:
            swap = self._swap(kind, key, accepted, value, 0, guards)
            if swap.done:
                return self._written(key, value, swap.revision)
            if swap.current is not None:
                current = _decoded(key, swap.current)
                if uid_of(current) == uid_of(accepted):
                    return current  # ours: the answer was lost, and somebody has changed it since
                raise AlreadyExists("exists already", describe(accepted), hint="delete it first, or take another name")
            guards = self._renewed(guards, swap, accepted)

    def _change(self, kind: Kind, name: str, namespace: str | None, change: ChangeObject) -> Object:
        """Store what `change` makes of the present object, on nothing but that very version of it."""
        place, name = locate(kind, name, namespace)
        key = storage_key(kind, name, place)
        stored, certain = self._recent.get(key), False  # certain: this is the present version, not one from memory
        while True:
            if stored is None and not certain:
                stored, certain = self.etcd.get(key), True
            if stored is None:
                self._recent.drop(key)
                raise _not_found(kind, name, place)
            current = _decoded(key, stored)
            try:
                changed = change(current)
            except KnetsimError:
                if certain:
                    raise
                stored = None  # refused because of what may have changed: look, and decide by that
                continue
            if changed == current:
                if certain:
                    return current
                stored = None  # nothing to write, if this is still so: look
                continue
            value = None if changed is None or accept.is_finished_delete(changed) else encode(changed)
            guards = _node_guard(changed, current) if changed is not None else {}
            swap = self._swap(kind, key, current, value, stored.revision, guards)
            if swap.done and value is not None:
                return self._written(key, value, swap.revision)
            if swap.done:
                self._recent.drop(key)
                return changed or current
            if changed is not None and swap.current is not None and swap.current.revision == stored.revision:
                self._renewed(guards, swap, changed)  # it was a guard that did not stand
            stored, certain = swap.current, True

    def _swap(self, kind: Kind, key: str, obj: Object, value: bytes | None, expected: int, guards: Guards) -> Swap:
        lease = self._leases.current(kind.ttl) if kind.ttl and value is not None else 0
        try:
            return self.etcd.swap(key, value, expected, lease=lease, guards=guards)
        except NotFound:
            # The lease is the only thing that a transaction does not find. Ours has run out, after a long sleep of the
            # whole machine say.
            if not kind.ttl:
                raise
            self._leases.forget(kind.ttl)
            lease = self._leases.current(kind.ttl)
            return self.etcd.swap(key, value, expected, lease=lease, guards=guards)
        except ObjectError as error:
            raise ObjectError(error.what, describe(obj), error.why, error.hint) from error

    def _written(self, key: str, value: bytes, revision: int) -> Object:
        self._recent.put(key, Stored(value, revision))
        return decode(value, revision)

    # --- what a new object refers to ----------------------------------------------------------------------------------

    def _namespace_guard(self, kind: Kind, obj: Object) -> Guards:
        """The key of the object's namespace, at the revision at which it was seen not to be deleted."""
        if not kind.namespaced:
            return {}
        key = _namespace_key(namespace_of(obj))
        known = self._recent.get(key) or self.etcd.get(key)
        return {key: self._checked_namespace(key, known, obj)}

    def _checked_namespace(self, key: str, stored: Stored | None, obj: Object) -> int:
        """The revision of a namespace that takes new objects; ObjectError when it does not."""
        name = namespace_of(obj)
        if stored is None:
            self._recent.drop(key)
            known = [name_of(item) for item in self.list("Namespace").items]
            hint = names.did_you_mean(name, known)
            raise ObjectError(f"there is no namespace {name!r}", describe(obj), hint=hint, field="metadata.namespace")
        if _decoded(key, stored)["metadata"].get("deletionTimestamp"):
            what = f"the namespace {name!r} is being deleted"
            raise ObjectError(what, describe(obj), hint="wait until it is gone", field="metadata.namespace")
        self._recent.put(key, stored)
        return stored.revision

    def _renewed(self, guards: Guards, swap: Swap, obj: Object) -> Guards:
        """The guards for another attempt after one did not stand; ObjectError when it stands for a real lack."""
        renewed = dict(guards)
        for key, stored in swap.guards.items():
            if key == _namespace_key(namespace_of(obj)):
                renewed[key] = self._checked_namespace(key, stored, obj)
            elif stored is None:
                node = _node_of(obj)
                hint = names.did_you_mean(node, [name_of(item) for item in self.list("Node").items])
                raise ObjectError(f"there is no worker {node!r}", describe(obj), hint=hint, field="spec.nodeName")
        return renewed


# --- small parts ------------------------------------------------------------------------------------------------------


class _Recent:
    """The newest known bytes of the keys used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: OrderedDict[str, Stored] = OrderedDict()

    def get(self, key: str) -> Stored | None:
        with self._lock:
            return self._stored.get(key)

    def put(self, key: str, stored: Stored) -> None:
        with self._lock:
            known = self._stored.get(key)
            if known is not None and known.revision > stored.revision:
                return  # another thread has learned something newer meanwhile
            self._stored[key] = stored
            self._stored.move_to_end(key)
            if len(self._stored) > _RECENT:
                self._stored.popitem(last=False)

    def drop(self, key: str) -> None:
        with self._lock:
            self._stored.pop(key, None)


class _SharedLeases:
    """Leases for objects that etcd is to forget: one for all that are written within a minute."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._lock = threading.Lock()
        self._leases: dict[int, tuple[int, float]] = {}

    def current(self, ttl: int) -> int:
        """A lease that lives `ttl` seconds at least from now."""
        with self._lock:
            lease, until = self._leases.get(ttl, (0, 0.0))
            if time.monotonic() >= until:
                lease = self._etcd.lease_grant(ttl + _LEASE_SHARED)
                self._leases[ttl] = lease, time.monotonic() + _LEASE_SHARED
            return lease

    def forget(self, ttl: int) -> None:
        """Take a new lease from now on."""
        with self._lock:
            self._leases.pop(ttl, None)


def _decoded(key: str, stored: Stored) -> Object:
    try:
        return decode(stored.value, stored.revision)
    except (ValueError, LookupError, TypeError) as error:
        raise KnetsimError("this key holds no object", key, str(error), f"etcdctl del {key}") from error


def _given_name(obj: Mapping[str, Any]) -> str:
    name = name_of(obj)
    if not name:
        raise ObjectError("metadata.name is missing", describe(obj), field="metadata.name")
    return name


def _namespace_key(name: str) -> str:
    return storage_key(kind_named("Namespace"), name)


def _node_of(obj: Object) -> str:
    return (obj.get("spec") or {}).get("nodeName") or "" if obj["kind"] == "Pod" else ""


def _node_guard(obj: Object, before: Object | None) -> Guards:
    """The key of the Node to which a Pod is bound by this write."""
    node = _node_of(obj)
    if not node or (before is not None and _node_of(before) == node):
        return {}
    return {storage_key(kind_named("Node"), node): None}


def _expected_revision(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata")
    return str(metadata.get("resourceVersion") or "") if isinstance(metadata, Mapping) else ""


def _conflict(obj: Mapping[str, Any], current: Object, expected: str) -> Conflict:
    present = current["metadata"]["resourceVersion"]
    why = f"it is at resourceVersion {present}, not {expected}"
    return Conflict("somebody else has changed it", describe(obj), why, "read it again and change that")


def _not_found(kind: Kind, name: str, namespace: str) -> NotFound:
    return NotFound("does not exist", f"{kind.name} {make_key(name, namespace)}")
