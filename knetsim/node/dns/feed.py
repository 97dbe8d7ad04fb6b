"""What the name server knows, kept as the objects of a cluster are: a change is known as soon as it is heard of.

Cost: a Service is read anew, with its slices, for each change of one of them; nothing is looked at in between.
"""

from __future__ import annotations

import threading

from knetsim.api.informer import Informer
from knetsim.api.objects import Object, name_of, split_key
from knetsim.dataplane.dns import ServiceNames
from knetsim.node.dns.objects import read_names
from knetsim.node.service_objects import BY_OWNER, owner_of


class NamesFeed:
    """Fills `names` from informers of Services, EndpointSlices (with the index BY_OWNER) and Namespaces."""

    def __init__(self, services: Informer, slices: Informer, namespaces: Informer) -> None:
        self.names = ServiceNames()
        self._services, self._slices, self._namespaces = services, slices, namespaces
        # two informers tell of one Service: whoever writes last has read last
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin; what the informers know by now is known on return."""
        self._namespaces.on_change(self._namespace_changed)
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)

    def stop(self) -> None:
        """Hear of nothing any more. Twice is once."""
        self._namespaces.forget(self._namespace_changed)
        self._services.forget(self._service_changed)
        self._slices.forget(self._slice_changed)

    def _namespace_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if after is not None:
            self.names.namespaces.add(name_of(after))
        elif before is not None:
            self.names.namespaces.discard(name_of(before))

    def _service_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        self._read(key)

    def _slice_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        for owner in {owner_of(one) for one in (before, after) if one is not None}:
            if owner:
                self._read(owner)

    def _read(self, key: str) -> None:
        namespace, name = split_key(key)
        with self._lock:
            service = self._services.by_key(key)
            found = read_names(service, self._slices.find(BY_OWNER, key)) if service is not None else None
            self.names.put((namespace or "", name), found)
