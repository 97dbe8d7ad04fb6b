"""The EndpointSlice loop: keeps the slices of every Service that selects pods (slices.py says what is in them)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from knetsim.api.events import WARNING, EventRecorder
from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, make_key, name_of, namespace_of, revision_of, split_key
from knetsim.api.store import Store
from knetsim.control.embedded.slices import (
    CONTROLLER,
    MANAGED_BY,
    SERVICE_NAME,
    Plan,
    has_slices,
    plan_slices,
    selects,
)
from knetsim.errors import Conflict, KnetsimError, NotFound, ObjectError

_log = logging.getLogger(__name__)

#: seconds for which a slice that was written may take to be told of
_PATIENCE = 2.0
#: names under which informers find objects
BY_NAMESPACE, BY_SERVICE = "namespace", "service"


@dataclass(frozen=True, slots=True)
class _Written:
    key: str
    revision: int
    until: float


def service_key(one: Object) -> str:
    """The key of the Service whose slice this is, if this loop keeps it; else ""."""
    labels = one["metadata"].get("labels") or {}
    name = labels.get(SERVICE_NAME)
    return make_key(name, namespace_of(one)) if name and labels.get(MANAGED_BY) == CONTROLLER else ""


class EndpointSliceController:
    """Two threads. The informers have the indexes BY_NAMESPACE (pods, Services) and BY_SERVICE (slices)."""

    def __init__(
        self,
        store: Store,
        services: Informer,
        pods: Informer,
        nodes: Informer,
        slices: Informer,
        events: EventRecorder,
    ) -> None:
        self._store, self._services, self._pods, self._nodes = store, services, pods, nodes
        self._slices, self._events = slices, events
        self._loop = Loop("endpoint slices", self._reconcile, self._failed, threads=2)
        # a slice that was written and that the informer has not told of yet: its Service waits for it
        self._expected: dict[str, _Written] = {}

    def start(self) -> None:
        """Begin; all informers have been started and have read the full list."""
        self._services.on_change(self._service_changed)
        self._pods.on_change(self._pod_changed)
        self._slices.on_change(self._slice_changed)
        self._loop.start()

    def stop(self) -> None:
        """End."""
        self._services.forget(self._service_changed)
        self._pods.forget(self._pod_changed)
        self._slices.forget(self._slice_changed)
        self._loop.stop()

    # --- who is concerned ---------------------------------------------------------------------------------------------

    def _service_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        self._loop.add(key)

    def _slice_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        for one in (before, after):
            if one is not None and (owner := service_key(one)):
                self._loop.add(owner)

    def _pod_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None and _traits(before) == _traits(after):
            return
        pods = [pod for pod in (before, after) if pod is not None]
        for service in self._services.find(BY_NAMESPACE, namespace_of(pods[0])):
            selector = service["spec"].get("selector")
            if selector and any(selects(selector, pod["metadata"].get("labels")) for pod in pods):
                self._loop.add(make_key(name_of(service), namespace_of(service)))

    # --- one Service --------------------------------------------------------------------------------------------------

    def _reconcile(self, key: str) -> float | None:
        existing = sorted(self._slices.find(BY_SERVICE, key), key=name_of)
        if not self._seen(key):
            return _PATIENCE  # the informer will tell before, and this key comes back
        service = self._services.by_key(key)
        if service is None or not has_slices(service) or service["metadata"].get("deletionTimestamp"):
            self._write(key, Plan(delete=existing))
            return None
        namespace, _ = split_key(key)
        selector = service["spec"]["selector"]
        pods = [
            pod
            for pod in self._pods.find(BY_NAMESPACE, namespace or "")
            if selects(selector, pod["metadata"].get("labels"))
        ]
        pods.sort(key=name_of)
        nodes = {name_of(node): node for node in self._nodes.items()}
        try:
            self._write(key, plan_slices(service, pods, nodes, existing))
        except ObjectError as error:
            if error.field != "metadata.namespace":
                raise
            # the namespace is being deleted, and the Service with it
        return None

    def _seen(self, key: str) -> bool:
        """Whether the informer has told of the last slice that was written for a Service."""
        written = self._expected.get(key)
        if written is None:
            return True
        known = self._slices.by_key(written.key)
        told = known is not None and revision_of(known) >= written.revision
        if not told and time.monotonic() < written.until:
            return False  # once it is too late, somebody has deleted it meanwhile
        self._expected.pop(key, None)
        return True

    def _write(self, key: str, plan: Plan) -> None:
        for one in plan.delete:
            try:
                self._store.delete("EndpointSlice", name_of(one), namespace_of(one), uid=one["metadata"].get("uid"))
            except (NotFound, Conflict):
                pass  # gone, or another one by now
        last: Object | None = None
        for one in plan.update:
            last = self._store.update(one)
        for one in plan.create:
            last = self._store.create(one)
        if last is not None:
            written, revision = make_key(name_of(last), namespace_of(last)), revision_of(last)
            self._expected[key] = _Written(written, revision, time.monotonic() + _PATIENCE)

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        service = self._services.by_key(key)
        if isinstance(error, Conflict | NotFound) or service is None:
            return  # somebody was faster; the next look knows more
        if isinstance(error, KnetsimError):
            what = f"Error updating Endpoint Slices for Service {key}: {error}"
            self._events.record(service, "FailedToUpdateEndpointSlices", what, type=WARNING)
        _log.warning("the slices of Service %s are not right: %s; again in %g s", key, error, pause)


def _traits(pod: Object) -> tuple[Any, ...]:
    """What of a pod an endpoint shows."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    ready = [item.get("status") for item in status.get("conditions") or () if item.get("type") == "Ready"]
    return (
        metadata.get("labels"), metadata.get("uid"), bool(metadata.get("deletionTimestamp")), status.get("phase"),
        status.get("podIP"), ready, pod["spec"].get("nodeName"),
    )  # fmt: skip
