"""Namespaces: those that every cluster has, and the end of one, as Kubernetes' namespace controller makes it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import KINDS, Object, name_of, namespace_of
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, NotFound

_log = logging.getLogger(__name__)

#: what a kube-apiserver makes at its first start
STANDARD_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")

#: until a namespace is looked at again that holds more than pods, whose ends are told: what finalizers keep
_AGAIN_SECONDS = 2.0


def build_namespace(name: str) -> Object:
    """A Namespace to be created."""
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}


def ensure_namespaces(store: Store, names: Iterable[str] = STANDARD_NAMESPACES) -> None:
    """Make the namespaces that are missing."""
    present = {name_of(namespace) for namespace in store.list("Namespace").items}
    for name in names:
        if name not in present:
            try:
                store.create(build_namespace(name))
            except AlreadyExists:
                pass  # somebody else made it meanwhile


class NamespaceController:
    """One thread that empties namespaces which are being deleted."""

    def __init__(self, store: EtcdStore, namespaces: Informer, pods: Informer) -> None:
        self._store, self._namespaces, self._pods = store, namespaces, pods
        self._loop = Loop("namespaces", self._reconcile, self._failed, threads=1)

    def start(self) -> None:
        """Begin; both informers have been started."""
        self._namespaces.on_change(self._changed)
        self._pods.on_change(self._pod_changed)
        self._loop.start()

    def stop(self) -> None:
        """End; what is being deleted is deleted."""
        self._namespaces.forget(self._changed)
        self._pods.forget(self._pod_changed)
        self._loop.stop()

    def _changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if after is not None and "deletionTimestamp" in after["metadata"]:
            self._loop.add(key)

    def _pod_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if after is None and before is not None:
            self._loop.add(namespace_of(before))

    def _reconcile(self, name: str) -> float | None:
        namespace = self._namespaces.get(None, name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return None
        return None if reconcile_namespace(self._store, name) else _AGAIN_SECONDS

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        _log.warning("namespace %s is not emptied: %s; again in %g s", key, error, pause)


def reconcile_namespace(store: EtcdStore, name: str) -> bool:
    """Delete what is in a namespace that is being deleted, and the namespace once it is empty.

    Whether nothing is left to do; pods take their time to end: call again when one is gone.
    """
    try:
        namespace = store.get("Namespace", name)
    except NotFound:
        return True
    if not namespace["metadata"].get("deletionTimestamp"):
        return True
    contents = [
        (kind.name, obj) for kind in KINDS.values() if kind.namespaced for obj in store.list(kind.name, name).items
    ]
    for kind, obj in contents:
        if not obj["metadata"].get("deletionTimestamp"):
            try:
                store.delete(kind, name_of(obj), name)
            except NotFound:
                pass  # ended by itself meanwhile
    if any(store.list(kind.name, name).items for kind in KINDS.values() if kind.namespaced):
        return False
    try:
        store.finish_namespace(name)
    except NotFound:
        pass  # another one was faster
    return True
