"""What pods are made of beside their own object: ConfigMaps, Secrets, Services, tokens, their Node.

A kubelet watches each ConfigMap and Secret that a pod of its node names. Here one watch per kind and cluster serves all
workers, begun with the first pod that asks. Who has asked for an object is looked at again when it changes; Services
are read when a container starts and never again, as with a kubelet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from knetsim.api.informer import Informer
from knetsim.api.objects import Object, make_key, parse_time
from knetsim.api.store import Store
from knetsim.errors import KnetsimError, NotFound

_SYNC_SECONDS = 20.0


class Sources(Protocol):
    """What one pod may read."""

    def config_map(self, namespace: str, name: str) -> Object | None: ...
    def secret(self, namespace: str, name: str) -> Object | None: ...
    def claim(self, namespace: str, name: str) -> Object | None: ...
    def disk(self, name: str) -> Object | None: ...
    def services(self) -> list[Object]: ...
    def allocatable(self, node: str) -> Mapping[str, str]: ...
    def token(self, namespace: str, account: str, body: Object) -> tuple[str, float]:
        """A token of a service account as asked for by a TokenRequest's spec, and when it expires (seconds since
        1970)."""


class StoreSources:
    """All pods' sources, read through the store. `wake` is called with the key of a pod that is to be looked at."""

    def __init__(self, store: Store, wake: Callable[[str], None]) -> None:
        self._store, self._wake = store, wake
        self._lock = threading.Lock()
        self._informers: dict[str, Informer] = {}
        self._readers: dict[tuple[str, str], set[str]] = {}

    def of_pod(self, key: str) -> PodSources:
        """What the pod called `key` may read; what it reads wakes it when it changes, until `forget`."""
        return PodSources(self, key)

    def forget(self, key: str) -> None:
        """The pod is no more."""
        with self._lock:
            for wanted in [wanted for wanted, readers in self._readers.items() if key in readers]:
                self._readers[wanted].discard(key)
                if not self._readers[wanted]:
                    del self._readers[wanted]

    def stop(self) -> None:
        """End all watches."""
        with self._lock:
            informers, self._informers = list(self._informers.values()), {}
        for informer in informers:
            informer.stop()

    def read(self, kind: str, namespace: str, name: str, reader: str) -> Object | None:
        """One object, for a pod that is woken when it changes."""
        with self._lock:
            self._readers.setdefault((kind, make_key(name, namespace)), set()).add(reader)
        found = self.informer(kind).get(namespace, name)
        if found is None:  # it may have been made just before the pod, and not be told yet
            try:
                return self._store.get(kind, name, namespace)
            except NotFound:
                pass
        return found

    def informer(self, kind: str) -> Informer:
        """The copy of a kind, begun when it is wanted first. NotReady when the store does not tell it."""
        with self._lock:
            informer = self._informers.get(kind)
            if informer is None:
                informer = self._informers[kind] = Informer(self._store, kind)
                informer.on_change(lambda key, before, after: self._note(kind, key))
                informer.start()
        informer.wait_synced(_SYNC_SECONDS)
        return informer

    def _note(self, kind: str, key: str) -> None:
        with self._lock:
            readers = list(self._readers.get((kind, key), ()))
        for reader in readers:
            self._wake(reader)

    def read_served(self, kind: str, namespace: str, name: str) -> Object | None:
        """An object that only an API server keeps, or None. KnetsimError where there is no such server."""
        read: Any = getattr(self._store, "read", None)
        if read is None:
            raise KnetsimError(
                f"there is no {kind} {name}",
                why="only Kubernetes' own control plane has claims",
                hint="run the cluster with controlPlane: kubernetes",
            )
        try:
            metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
            found: Object = read({"apiVersion": "v1", "kind": kind, "metadata": metadata})
        except NotFound:
            return None
        return found

    def read_node(self, name: str) -> Object:
        """A Node as it is stored. NotFound."""
        return self._store.get("Node", name)

    def request_token(self, namespace: str, account: str, body: Object) -> tuple[str, float]:
        """See `Sources.token`."""
        request: Any = getattr(self._store, "token", None)
        if request is None:
            raise KnetsimError(
                f"there is no token for service account {namespace}/{account}",
                why="only Kubernetes' API server issues tokens",
                hint="run the cluster with controlPlane: kubernetes",
            )
        status = request(namespace, account, body["spec"])
        return status["token"], parse_time(status["expirationTimestamp"])


class PodSources:
    """The sources as one pod sees them."""

    def __init__(self, sources: StoreSources, key: str) -> None:
        self._sources, self._key = sources, key

    def config_map(self, namespace: str, name: str) -> Object | None:
        """A ConfigMap, or None."""
        return self._sources.read("ConfigMap", namespace, name, self._key)

    def secret(self, namespace: str, name: str) -> Object | None:
        """A Secret, or None."""
        return self._sources.read("Secret", namespace, name, self._key)

    def claim(self, namespace: str, name: str) -> Object | None:
        """A PersistentVolumeClaim, or None."""
        return self._sources.read_served("PersistentVolumeClaim", namespace, name)

    def disk(self, name: str) -> Object | None:
        """A PersistentVolume, or None."""
        return self._sources.read_served("PersistentVolume", "", name)

    def services(self) -> list[Object]:
        """All Services."""
        return self._sources.informer("Service").items()

    def allocatable(self, node: str) -> Mapping[str, str]:
        """What a Node can give."""
        found: Mapping[str, str] = self._sources.read_node(node)["status"]["allocatable"]
        return found

    def token(self, namespace: str, account: str, body: Object) -> tuple[str, float]:
        """See `Sources.token`."""
        return self._sources.request_token(namespace, account, body)
