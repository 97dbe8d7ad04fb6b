"""The embedded control plane of one cluster, as one thing to start and stop."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping, Sequence
from typing import Any

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.events import EventRecorder
from knetsim.api.informer import IndexFunction, Informer
from knetsim.api.objects import Object, namespace_of
from knetsim.control.embedded.allotment import Allotment
from knetsim.control.embedded.endpoint_slices import BY_NAMESPACE, BY_SERVICE, EndpointSliceController, service_key
from knetsim.control.embedded.namespaces import NamespaceController, ensure_namespaces
from knetsim.control.embedded.node_monitor import BY_NODE, LEASE_NAMESPACE, NodeMonitor
from knetsim.control.embedded.scheduler import NAME, Scheduler
from knetsim.control.embedded.services import ServiceController
from knetsim.control.embedded.writing import write_pods

#: who Kubernetes' Events say they come from
_IDENTITY, _ALLOTTER = "endpoint-slice-controller", "ipallocator-repair-controller"
_NODES = "node-controller"
DEADLINE = 60.0


class EmbeddedControl:
    """Scheduler, Service, EndpointSlice, Node and namespace loops on a store of its own process.

    `start` returns once all lists have been read: what is written from then on is carried out.
    """

    def __init__(self, store: EtcdStore, service_network: ipaddress.IPv4Network) -> None:
        self._store = store
        self._namespaces = Informer(store, "Namespace")
        self._nodes = Informer(store, "Node")
        by_namespace: dict[str, IndexFunction] = {BY_NAMESPACE: lambda obj: [namespace_of(obj)]}
        by_node: dict[str, IndexFunction] = {BY_NODE: lambda obj: [obj["spec"].get("nodeName", "")]}
        self._pods = Informer(store, "Pod", indexes={**by_namespace, **by_node})
        self._leases = Informer(store, "Lease", LEASE_NAMESPACE)
        self._services = Informer(store, "Service", indexes=by_namespace)
        self._slices = Informer(store, "EndpointSlice", indexes={BY_SERVICE: lambda obj: [service_key(obj)]})
        self._informers = (
            self._namespaces, self._nodes, self._leases, self._services, self._slices, self._pods
        )  # fmt: skip
        self.allotment = Allotment(service_network)
        self.scheduler = Scheduler(store, self._pods, self._nodes, EventRecorder(store, NAME))
        self._controllers = (
            NamespaceController(store, self._namespaces, self._pods),
            ServiceController(store, self._services, self.allotment, EventRecorder(store, _ALLOTTER)),
            EndpointSliceController(
                store, self._services, self._pods, self._nodes, self._slices, EventRecorder(store, _IDENTITY)
            ),
            self.scheduler,
            NodeMonitor(store, self._nodes, self._leases, self._pods, EventRecorder(store, _NODES)),
        )

    def start(self, deadline: float = DEADLINE) -> None:
        """Make what every cluster has and begin; NotReady, StoreUnavailable."""
        ensure_namespaces(self._store)
        for informer in self._informers:
            informer.start()
        self.wait_ready(deadline)
        self._services.on_change(self._observe)  # before anybody is allotted an address that another one has
        self._store.admission = self.allotment.admit
        for controller in self._controllers:
            controller.start()

    def _observe(self, key: str, before: Object | None, after: Object | None) -> None:
        self.allotment.observe(before, after)

    def wait_ready(self, deadline: float = DEADLINE) -> None:
        """Wait until all lists have been read; NotReady after `deadline` seconds."""
        end = time.monotonic() + deadline
        for informer in self._informers:
            informer.wait_synced(max(0.0, end - time.monotonic()))

    def write_pods(self, pods: Sequence[Mapping[str, Any]]) -> list[Object]:
        """Create pods, several at once, spread over the workers; see `writing.write_pods`."""
        return write_pods(self._store, pods)

    def status(self) -> list[tuple[str, str]]:
        """What is not as it should be: (object, in words)."""
        found = []
        for key in self.scheduler.waiting():
            pod = self._pods.by_key(key)
            conditions = ((pod or {}).get("status") or {}).get("conditions") or ()
            why = next((item.get("message", "") for item in conditions if item.get("type") == "PodScheduled"), "")
            if why:
                found.append((f"Pod {key}", f"has no worker: {why}"))
        return found

    def stop(self) -> None:
        """End all loops, then the watches. Twice is once."""
        for controller in reversed(self._controllers):
            controller.stop()
        for informer in self._informers:
            informer.stop()
