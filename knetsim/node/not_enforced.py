"""Objects that a cluster takes and nobody here carries out: said by an Event on each, and in `knetsim status`.

The API server accepts every kind that Kubernetes has, whether or not something in the cluster acts on it; on a real
cluster, too, an Ingress means nothing without a controller that heeds it. There nobody says so; here it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from knetsim.api.informer import Informer
from knetsim.api.objects import Object, key_of
from knetsim.api.store import Store

REASON = "NotSimulated"
#: what is not carried out in this version, and what that means
KINDS: Mapping[str, str] = {
    "Ingress": "nothing listens for it: there is no ingress controller in this version",
}

#: called with (the object, a reason, a message)
Tell = Callable[[Object, str, str], None]


class NotEnforced:
    """Watches those kinds in one cluster."""

    def __init__(self, store: Store, tell: Tell) -> None:
        self._tell = tell
        self._informers = [Informer(store, kind) for kind in KINDS]

    def start(self) -> None:
        """Begin; returns at once."""
        for informer in self._informers:
            informer.on_change(self._note)
            informer.start()

    def _note(self, key: str, before: Object | None, after: Object | None) -> None:
        if before is None and after is not None:
            self._tell(after, REASON, KINDS[after["kind"]])

    def wait_ready(self) -> None:
        """Nothing to wait for."""

    def problems(self) -> list[tuple[str, str]]:
        """Each object that is there, as `Ingress default/web`, and what it means that it is not carried out."""
        return [
            (f"{informer.kind} {key_of(obj)}", KINDS[informer.kind])
            for informer in self._informers
            for obj in informer.items()
        ]

    def stop(self) -> None:
        """Cease to watch."""
        for informer in self._informers:
            informer.stop()
