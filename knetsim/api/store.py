"""What every agent and surface knows of the object store: the protocol `Store`, its watch and its listing.

Two implementations pass one contract test (tests/lab/test_store_contract.py): `etcd_store.EtcdStore` writes Kubernetes'
own keys straight into etcd; `http_store.HttpStore` goes through a kube-apiserver.

Objects are plain dicts as in Kubernetes' JSON. What `get`, `list`, `create` … return belongs to the caller. What a
watch yields is shared with the watch and with caches: readers must not change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from knetsim.api.objects import Object

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
#: the full list has been told: what comes now are changes
SYNCED: Final = "SYNCED"


class Change(NamedTuple):
    """One step of a watch: ADDED, MODIFIED, DELETED (the object's last state) or, once, SYNCED (no object: `{}`)."""

    type: str
    object: Object


class Listing(NamedTuple):
    """All objects of a kind, sorted by key, as of one `revision` (Kubernetes' list resourceVersion)."""

    items: list[Object]
    revision: str


class Watch(Protocol):
    """The full list as ADDED, then SYNCED, then every change in order; ends after `close`.

    An object never goes back to an older version, and no final state is missed: a lost member or connection resumes
    where it ended. When the history is gone (compaction) the difference to the present is told, so steps in between may
    be missing, and an object that was deleted and made again is told as DELETED and ADDED.
    A Pod that is deleted at once may be told to be ending (MODIFIED) before it is DELETED.
    """

    def __iter__(self) -> Iterator[Change]: ...
    def __next__(self) -> Change: ...
    def close(self) -> None:
        """End the iteration, from any thread, at once and for good."""


class Store(Protocol):
    """Reads and writes objects. A missing namespace means `default`; a Node's name is taken in any case (`C0w1`).

    Every method may raise StoreUnavailable. A write that raised it may still have happened: every write can be
    repeated.
    """

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """One object; NotFound."""

    def list(self, kind: str, namespace: str | None = None) -> Listing:
        """All objects of a kind, or those of one namespace."""

    def create(self, obj: Object) -> Object:
        """Accept (check, default, name, uid) and store a new object; AlreadyExists, ObjectError."""

    def update(self, obj: Object) -> Object:
        """Replace all but `.status`; what changes nothing is not written.

        Conflict when `metadata.resourceVersion` or `metadata.uid` is given and differs; NotFound, ObjectError.
        """

    def update_status(self, obj: Object) -> Object:
        """Replace only `.status`, whatever else has changed meanwhile; what changes nothing is not written.

        What others write into it stays (shared_status.py): conditions of types that this one does not name, above all.
        Conflict when `metadata.uid` is given and differs (another object has taken the name); NotFound.
        """

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        uid: str | None = None,
    ) -> Object:
        """Delete; returns the last state, or at least the kind, name and uid. NotFound; Conflict when `uid` differs.

        A Pod that is bound to a worker and not finished only gets a `deletionTimestamp`, unless `grace_seconds` is 0;
        its kubelet then ends it and deletes with 0. What has finalizers goes when the last one is taken away.
        """

    def watch(self, kind: str, namespace: str | None = None) -> Watch:
        """Follow a kind; returns at once, also when the store does not answer (the watch then waits for it)."""
