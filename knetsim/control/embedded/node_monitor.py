"""The Node loop: a Node whose kubelet no longer renews its Lease is not Ready, and neither are its pods.

As Kubernetes' node life-cycle controller does it, whose grace period is the same: whether a Lease was renewed is seen
by the change itself and timed by this process, so that clocks need not agree. The Node's conditions become Unknown, the
condition Ready of its pods False, so that they leave the EndpointSlices; a kubelet that is back says both anew. Left
out: the taints `unreachable` and the eviction of pods that follows from them. Source: pkg/controller/nodelifecycle
(node_lifecycle_controller.go), pkg/controller/util/node (MarkPodsNotReady).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from knetsim.api.events import NORMAL, WARNING, EventRecorder
from knetsim.api.informer import Informer
from knetsim.api.loop import Clock, Loop
from knetsim.api.objects import Object, format_time, name_of
from knetsim.api.store import Store
from knetsim.errors import Conflict, NotFound

_log = logging.getLogger(__name__)

#: where kubelets keep the Leases of their Nodes
LEASE_NAMESPACE = "kube-node-lease"
#: seconds without a renewal after which a Node is lost: --node-monitor-grace-period
GRACE_SECONDS = 50.0
#: seconds between two looks: --node-monitor-period
_PERIOD_SECONDS = 5.0
BY_NODE = "node"
_READY = "Ready"
#: the conditions that only the kubelet knows
_CONDITIONS = (_READY, "MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(slots=True)
class _Renewal:
    """The last renewal of a Lease that was seen: what it said, and when it was seen."""

    said: Any
    seen: float


class NodeMonitor:
    """One thread. The informer of pods has the index BY_NODE; that of Leases sees LEASE_NAMESPACE at least."""

    def __init__(
        self,
        store: Store,
        nodes: Informer,
        leases: Informer,
        pods: Informer,
        events: EventRecorder,
        *,
        grace_seconds: float = GRACE_SECONDS,
        steady: Clock = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._nodes, self._leases, self._pods, self._events = store, nodes, leases, pods, events
        self._grace_seconds, self._steady, self._wall = grace_seconds, steady, wall
        self._renewals: dict[str, _Renewal] = {}
        self._loop = Loop("nodes", self._reconcile, self._failed, threads=1, clock=steady)

    def start(self) -> None:
        """Begin; all informers have been started and have read the full list."""
        self._nodes.on_change(self._node_changed)
        self._loop.start()

    def stop(self) -> None:
        """End. Twice is once."""
        self._nodes.forget(self._node_changed)
        self._loop.stop()

    def look_at_clock(self) -> None:
        """The clock has jumped: a test's does."""
        self._loop.look_at_clock()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until every Node whose turn it is has been looked at."""
        return self._loop.wait_idle(timeout)

    def _node_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if before is None or after is None:
            self._loop.add(key)  # from then on it comes back by itself

    def _reconcile(self, key: str) -> float | None:
        node = self._nodes.by_key(key)
        if node is None:
            self._renewals.pop(key, None)
            return None
        now, lease = self._steady(), self._leases.get(LEASE_NAMESPACE, name_of(node))
        said = (lease.get("spec") or {}).get("renewTime") if lease else None
        renewal = self._renewals.setdefault(key, _Renewal(said, now))
        if said != renewal.said:
            renewal.said, renewal.seen = said, now
        left = renewal.seen + self._grace_seconds - now
        if left > 0:
            return min(left, _PERIOD_SECONDS)
        self._lose(node)
        return _PERIOD_SECONDS

    def _lose(self, node: Object) -> None:
        """Say of a lost Node, and of its pods, what is not known any more, unless it is said already."""
        try:
            if _status_of(node, _READY) != "Unknown":
                self._store.update_status(self._build_lost(node))
                self._events.record(
                    node, "NodeNotReady", f"Node {name_of(node)} status is now: NodeNotReady", type=NORMAL
                )
            for pod in self._pods.find(BY_NODE, name_of(node)):
                if _status_of(pod, _READY) == "True":
                    self._store.update_status(self._build_unready(pod))
                    self._events.record(pod, "NodeNotReady", "Node is not ready", type=WARNING)
        except (Conflict, NotFound):
            pass  # it was written meanwhile, or is gone: the next look knows more

    def _build_lost(self, node: Object) -> Object:
        now = format_time(self._wall())
        unknown = {"status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": now}
        unknown["message"] = "Kubelet stopped posting node status."
        conditions = (node.get("status") or {}).get("conditions") or []
        changed = [{**one, **unknown} if one["type"] in _CONDITIONS else one for one in conditions]
        return {**node, "status": {**node.get("status", {}), "conditions": changed}}

    def _build_unready(self, pod: Object) -> Object:
        now = format_time(self._wall())
        changed = [
            {**one, "status": "False", "lastTransitionTime": now} if one["type"] == _READY else one
            for one in pod["status"]["conditions"]
        ]
        return {**pod, "status": {**pod["status"], "conditions": changed}}

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        _log.warning("Node %s could not be looked at: %s; again in %g s", key, error, pause)


def _status_of(obj: Object, condition: str) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((one.get("status", "") for one in conditions if one.get("type") == condition), "")
