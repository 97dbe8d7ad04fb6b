"""The object store straight on etcd, for clusters without an API server: Kubernetes' keys, Kubernetes' JSON.

How a write stays honest without a server in between:
- Every write is one etcd transaction that compares the revision it was built on, so two writers never overwrite each other unseen.
  `update` with a resourceVersion then raises Conflict; writes that are to happen whatever changed (`update_status`, `delete`,
  `update` without a resourceVersion) are built anew on what the transaction found, and tried again.
- What a new object refers to is compared in the same transaction: its namespace still stands, unchanged, as it was when it was seen
  not to be deleted, and its Node exists. Nothing can slip in between check and write, and a create is one round trip.
- A repeated create whose first answer was lost finds its own uid in place: done. An update whose answer was lost finds its own
  bytes (`Etcd.swap`), or, when somebody has changed them already, reports a Conflict that the caller resolves as any other.
- The bytes of recently written objects are kept, so that a change of one needs no read first; when they are out of date, the
  transaction's comparison fails and brings the present ones.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from knetsim import names
from knetsim.api import accept
from knetsim.api.etcd import Etcd, Stored
from knetsim.api.etcd_watch import StoreWatch
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
    storage_key,
    storage_prefix,
)
from knetsim.api.store import Listing
from knetsim.errors import AlreadyExists, Conflict, KnetsimError, NotFound, ObjectError

_log = logging.getLogger(__name__)

#: bytes of this many objects are kept
_RECENT = 4096
#: seconds during which new objects with a ttl share one etcd lease, as in Kubernetes
_LEASE_SHARED = 60


class EtcdStore:
    """A `Store` on the etcd cluster with these gRPC targets. `etcd` is the client below, for what is no Kubernetes object."""

    def __init__(self, etcd: Etcd | Sequence[str], *, clock: Callable[[], float] = time.time) -> None:
        self.etcd = etcd if isinstance(etcd, Etcd) else Etcd(etcd)
        self._clock = clock
        self._recent = _Recent()
        self._leases = _SharedLeases(self.etcd)

    def close(self) -> None:
        """End all watches and connections."""
        self.etcd.close()

    # --- reads ----------------------------------------------------------------------------------------------------------

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
        row = kind_named(kind)
        entries, revision = self.etcd.prefix(storage_prefix(row, namespace))
        items = [obj for entry in entries if (obj := read_entry(entry.key, entry.value, entry.revision)) is not None]
        return Listing(items, str(revision))

    def watch(self, kind: str, namespace: str | None = None) -> StoreWatch:
        """See Store."""
        return StoreWatch(self.etcd, storage_prefix(kind_named(kind), namespace))

    # --- writes ---------------------------------------------------------------------------------------------------------

    def create(self, obj: Mapping[str, Any]) -> Object:
        """See Store."""
        kind = kind_of(obj)
        while True:
            accepted = accept.accept_create(kind, obj, self._clock())
            try:
                return self._create(kind, accepted)
            except AlreadyExists:
                if name_of(obj):
                    raise
                # A generated name was taken already: another one is drawn, as Kubernetes does.

    def _create(self, kind: Kind, accepted: Object) -> Object:
        key, value = storage_key(kind, name_of(accepted), namespace_of(accepted)), encode(accepted)
        lease = self._leases.current(kind.ttl) if kind.ttl else 0
        guards = self._references(kind, accepted, None)
        while True:
            swap = self.etcd.swap(key, value, 0, lease=lease, guards=guards)
            if swap.done:
                return self._written(key, value, swap.revision)
            if swap.current is not None:
                current = _decoded(key, swap.current)
                if current["metadata"]["uid"] == accepted["metadata"]["uid"]:
                    return current  # ours: the answer was lost, and somebody has changed it since
                raise AlreadyExists("exists already", describe(accepted), hint="delete it first, or take another name")
            guards = self._check_references(accepted, guards, swap.guards)

    def update(self, obj: Mapping[str, Any]) -> Object:
        """See Store. What changes nothing is not written."""
        expected = _expected_revision(obj)

        def change(current: Object) -> Object | None:
            if expected and current["metadata"]["resourceVersion"] != expected:
                raise _conflict(obj, current)
            return accept.accept_update(kind_of(obj), obj, current)

        return self._change(kind_of(obj), name_of(obj), namespace_of(obj), change)

    def update_status(self, obj: Mapping[str, Any]) -> Object:
        """See Store. What changes nothing is not written."""
        kind = kind_of(obj)
        return self._change(
            kind, name_of(obj), namespace_of(obj), lambda current: accept.accept_status(kind, obj, current)
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

        def change(current: Object) -> Object | None:
            return accept.plan_delete(row, current, grace_seconds, uid, self._clock())

        return self._change(row, name, namespace, change)

    def finish_namespace(self, name: str) -> Object:
        """Take away an emptied namespace that is being deleted: what Kubernetes' namespace controller does by `finalize`."""

        def change(current: Object) -> Object | None:
            if not current["metadata"].get("deletionTimestamp"):
                raise Conflict("the namespace is not being deleted", describe(current))
            return {**current, "spec": {}}

        return self._change(kind_named("Namespace"), name, None, change)

    # --- how an object is changed ---------------------------------------------------------------------------------------

    def _change(
        self, kind: Kind, name: str, namespace: str | None, change: Callable[[Object], Object | None]
    ) -> Object:
        """Store what `change` makes of the present object (None: remove it), on nothing but that very version."""
        place, name = locate(kind, name, namespace)
        key = storage_key(kind, name, place)
        stored = self._recent.get(key)
        fresh = stored is None
        if stored is None:
            stored = self.etcd.get(key)
        guards: dict[str, int | None] = {}
        while True:
            if stored is None:
                self._recent.drop(key)
                raise _not_found(kind, name, place)
            current = _decoded(key, stored)
            try:
                changed = change(current)
            except KnetsimError:
                if fresh:
                    raise
                # Refused because of what may be out of date here: the present version decides.
                stored, fresh = self.etcd.get(key), True
                continue
            value = None if changed is None or accept.is_finished_delete(changed) else encode(changed)
            if value == stored.value and fresh:
                self._recent.put(key, stored)
                return current
            if changed is not None:
                guards = self._references(kind, changed, current)
            if value == stored.value:  # nothing to write, if what is known here is still so
                stored, fresh = self.etcd.get(key), True
                continue
            lease = self._leases.current(kind.ttl) if kind.ttl and value is not None else 0
            swap = self.etcd.swap(key, value, stored.revision, lease=lease, guards=guards)
            if swap.done and value is None:
                self._recent.drop(key)
                return changed if changed is not None else current
            if swap.done:
                assert value is not None
                return self._written(key, value, swap.revision)
            if swap.current is not None and swap.current.revision == stored.revision:
                assert changed is not None
                self._check_references(changed, guards, swap.guards)
            stored, fresh = swap.current, True

    def _written(self, key: str, value: bytes, revision: int) -> Object:
        self._recent.put(key, Stored(value, revision))
        return decode(value, revision)

    # --- what an object refers to ---------------------------------------------------------------------------------------

    def _references(self, kind: Kind, obj: Object, current: Object | None) -> dict[str, int | None]:
        """The keys that must stand for `obj` to be written, with the revisions at which they were seen to be fine."""
        guards: dict[str, int | None] = {}
        if kind.namespaced and current is None:
            key = _namespace_key(namespace_of(obj))
            known = self._recent.get(key) or self.etcd.get(key)
            self._check_namespace(obj, key, known)
            assert known is not None
            self._recent.put(key, known)
            guards[key] = known.revision
        node = _node_of(obj)
        if node and (current is None or _node_of(current) != node):
            guards[storage_key(kind_named("Node"), node)] = None
        return guards

    def _check_references(
        self, obj: Object, guards: Mapping[str, int | None], found: Mapping[str, Stored | None]
    ) -> dict[str, int | None]:
        """What to compare at the next attempt, after one of the guards did not stand; ObjectError when it never will."""
        renewed = dict(guards)
        for key, stored in found.items():
            if key == _namespace_key(namespace_of(obj)):
                self._recent.drop(key)
                self._check_namespace(obj, key, stored)
                assert stored is not None
                self._recent.put(key, stored)
                renewed[key] = stored.revision
            elif stored is None:
                self._refuse_unknown_node(obj)
        return renewed

    def _check_namespace(self, obj: Object, key: str, stored: Stored | None) -> None:
        name = namespace_of(obj)
        if stored is None:
            known = [name_of(item) for item in self.list("Namespace").items]
            hint = names.did_you_mean(name, known)
            raise ObjectError(f"there is no namespace {name!r}", describe(obj), hint=hint, field="metadata.namespace")
        if _decoded(key, stored)["metadata"].get("deletionTimestamp"):
            raise ObjectError(
                f"the namespace {name!r} is being deleted",
                describe(obj),
                hint="wait until it is gone",
                field="metadata.namespace",
            )

    def _refuse_unknown_node(self, obj: Object) -> None:
        node, known = _node_of(obj), [name_of(item) for item in self.list("Node").items]
        if node not in known:
            hint = names.did_you_mean(node, known)
            raise ObjectError(f"there is no worker {node!r}", describe(obj), hint=hint, field="spec.nodeName")


# --- small parts --------------------------------------------------------------------------------------------------------


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


def read_entry(key: str, value: bytes, revision: int) -> Object | None:
    """The object at a key, or None, with a warning, when something there is none: one bad key must not hide the others."""
    try:
        return decode(value, revision)
    except (ValueError, LookupError, TypeError) as error:
        _log.warning("%s holds no object: %s", key, error)
        return None


def _decoded(key: str, stored: Stored) -> Object:
    try:
        return decode(stored.value, stored.revision)
    except (ValueError, LookupError, TypeError) as error:
        raise KnetsimError("this key holds no object", key, str(error), f"etcdctl del {key}") from error


def _namespace_key(name: str) -> str:
    return storage_key(kind_named("Namespace"), name)


def _node_of(obj: Object) -> str:
    if obj.get("kind") != "Pod":
        return ""
    node = (obj.get("spec") or {}).get("nodeName")
    return node if isinstance(node, str) else ""


def _expected_revision(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata")
    return str(metadata.get("resourceVersion") or "") if isinstance(metadata, Mapping) else ""


def _conflict(obj: Mapping[str, Any], current: Object) -> Conflict:
    return Conflict(
        "somebody else has changed it",
        describe(obj),
        f"it is at resourceVersion {current['metadata']['resourceVersion']}, not {_expected_revision(obj)}",
        "read it again and change that",
    )


def _not_found(kind: Kind, name: str, namespace: str) -> NotFound:
    return NotFound("does not exist", f"{kind.name} {make_key(name, namespace)}")
