"""The Service loop: allots what a Service lacks that was written where nobody asked, and tells of what two have."""

from __future__ import annotations

import logging

from knetsim.api.events import WARNING, EventRecorder
from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object
from knetsim.api.service_rules import needs_health_check, service_type
from knetsim.api.store import Store
from knetsim.control.embedded.allotment import Allotment
from knetsim.errors import NotFound, ObjectError

_log = logging.getLogger(__name__)


class ServiceController:
    """One thread, as the API server's repair loop; the allotment is told of every change before it."""

    def __init__(self, store: Store, services: Informer, allotment: Allotment, events: EventRecorder) -> None:
        self._store, self._services, self._allotment, self._events = store, services, allotment, events
        self._loop = Loop("services", self._reconcile, self._failed, threads=1)

    def start(self) -> None:
        """Begin; the informer has been started and has read the full list."""
        self._services.on_change(self._changed)
        self._loop.start()

    def stop(self) -> None:
        """End."""
        self._services.forget(self._changed)
        self._loop.stop()

    def _changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if after is not None:
            self._loop.add(key)

    def _reconcile(self, key: str) -> float | None:
        service = self._services.by_key(key)
        if service is None or service["metadata"].get("deletionTimestamp"):
            return None
        if taken := self._allotment.conflicts(service):
            what = f"{', '.join(taken)} is another Service's too; please recreate service"
            self._events.record(service, "ClusterIPAlreadyAllocated", what, type=WARNING)
            return None
        if _lacks(service):
            try:
                self._store.update(service)  # the store allots what is missing
            except NotFound:
                pass  # gone meanwhile
            except ObjectError as error:
                self._events.record(service, "ClusterIPNotAllocated", str(error), type=WARNING)
        return None

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        _log.warning("Service %s has no address yet: %s; again in %g s", key, error, pause)


def _lacks(service: Object) -> bool:
    spec = service["spec"]
    kind = service_type(spec)
    if kind == "ExternalName":
        return False
    ports = kind in ("NodePort", "LoadBalancer") and spec.get("allocateLoadBalancerNodePorts") is not False
    if needs_health_check(spec) and not spec.get("healthCheckNodePort"):
        return True
    return not spec.get("clusterIP") or (ports and not all(port.get("nodePort") for port in spec.get("ports") or ()))
