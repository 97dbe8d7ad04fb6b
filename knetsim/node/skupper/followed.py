"""The objects of a cluster that its site is made of, followed by informers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from knetsim.api.informer import Informer
from knetsim.api.store import Store

LIST_DEADLINE = 60.0
_KINDS = ("Site", "RouterAccess", "Link", "Listener", "Connector", "AccessGrant", "AccessToken")


class Followed:
    """The objects of Skupper, and, from the first of them on, Secrets."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kinds = {kind: Informer(store, kind) for kind in _KINDS}
        self.secrets: Informer | None = None
        self._lock = threading.Lock()

    def start(self, changed: Callable[[], None]) -> None:
        for informer in self.kinds.values():
            informer.start()
            informer.on_change(lambda key, before, after: changed())

    @property
    def synced(self) -> bool:
        return all(informer.synced for informer in self.kinds.values())

    def is_empty(self) -> bool:
        return not any(map(len, self.kinds.values()))

    def follow_secrets(self, changed: Callable[[], None]) -> Informer:
        """Begin to follow Secrets, or go on; from any thread, for tokens are redeemed by other clusters' threads."""
        with self._lock:
            if self.secrets is None:
                secrets = Informer(self._store, "Secret")
                secrets.start()
                secrets.wait_synced(LIST_DEADLINE)
                secrets.on_change(lambda key, before, after: changed())
                self.secrets = secrets
            return self.secrets

    def all(self) -> Iterable[Informer]:
        return [*self.kinds.values(), *([self.secrets] if self.secrets is not None else [])]
