"""The scheduler: binds pods that have no worker, one after the other, and says of one that waits why it does.

As Kubernetes' own: a pod that fits nowhere gets the condition PodScheduled=False and an Event FailedScheduling, and is
looked at again when a Node has changed. Nothing is preempted. Pods of another schedulerName are another's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from knetsim.api.events import WARNING, EventRecorder
from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, describe, format_time, key_of
from knetsim.api.store import Store
from knetsim.control.embedded.placement import choose_worker, is_finished
from knetsim.errors import KnetsimError, NotFound, NotReady

_log = logging.getLogger(__name__)

NAME = "default-scheduler"


def is_ours(pod: Mapping[str, Any]) -> bool:
    """Whether a pod waits for this scheduler: bound to no worker, nothing holds it back."""
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and spec.get("schedulerName", NAME) == NAME
        and not pod["metadata"].get("deletionTimestamp")
        and not is_finished(pod)
    )


class Scheduler:
    """One thread that binds the pods of a cluster."""

    def __init__(
        self, store: Store, pods: Informer, nodes: Informer, events: EventRecorder, *,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._store, self._pods, self._nodes, self._events, self._clock = store, pods, nodes, events, clock
        self._lock = threading.Lock()
        self._load: Counter[str] = Counter()
        self._bound: dict[str, str] = {}  # pods counted in the load before the informer tells of their worker
        self._waiting: set[str] = set()
        self._loop = Loop("scheduler", self._reconcile, self._failed, threads=1)

    def start(self) -> None:
        """Begin; both informers have been started."""
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(self._node_changed)
        self._loop.start()

    def stop(self) -> None:
        """End; what is being bound is bound."""
        self._pods.forget(self._pod_changed)
        self._nodes.forget(self._node_changed)
        self._loop.stop()

    def waiting(self) -> list[str]:
        """The keys of the pods that no worker can take."""
        with self._lock:
            return sorted(self._waiting)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until every pod has been looked at."""
        return self._loop.wait_idle(timeout)

    # --- what is known ------------------------------------------------------------------------------------------------

    def _pod_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        with self._lock:
            for pod, step in ((before, -1), (after, 1)):
                if pod is not None and not is_finished(pod) and pod["spec"].get("nodeName"):
                    self._load[pod["spec"]["nodeName"]] += step
            if after is None or after["spec"].get("nodeName"):
                node = self._bound.pop(key, None)
                if node is not None:
                    self._load[node] -= 1
                self._waiting.discard(key)
        if after is not None and is_ours(after):
            self._loop.add(key)

    def _node_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if before is None or after is None or _traits(before) != _traits(after):
            for waiting in self.waiting():
                self._loop.add(waiting)

    # --- one pod ------------------------------------------------------------------------------------------------------

    def _reconcile(self, key: str) -> float | None:
        pod = self._pods.by_key(key)
        with self._lock:
            done = pod is None or key in self._bound
            load = Counter(self._load)
        if pod is None or done or not is_ours(pod):
            return None
        with self._lock:
            self._waiting.add(key)  # before the Nodes are looked at: one that changes meanwhile is not missed
        try:
            node = choose_worker(pod, self._nodes.items(), load)
        except NotReady as refusal:
            self._tell_waiting(pod, refusal.why)
            return None
        self._bind(pod, node)
        return None

    def _bind(self, pod: Object, node: str) -> None:
        key = key_of(pod)
        with self._lock:
            self._bound[key] = node
            self._load[node] += 1
            self._waiting.discard(key)
        try:
            self._store.update({**pod, "spec": {**pod["spec"], "nodeName": node}})
        except KnetsimError as error:
            with self._lock:
                if self._bound.pop(key, None) is not None:
                    self._load[node] -= 1
            if not isinstance(error, NotFound):
                raise
            return
        self._events.record(pod, "Scheduled", f"Successfully assigned {key} to {node}")

    def _tell_waiting(self, pod: Object, why: str) -> None:
        status = dict(pod.get("status") or {})
        conditions = [item for item in status.get("conditions") or () if item.get("type") != "PodScheduled"]
        before = [item for item in status.get("conditions") or () if item.get("type") == "PodScheduled"]
        if before and before[0].get("message") == why:
            return
        since = before[0].get("lastTransitionTime") if before and before[0].get("status") == "False" else None
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "lastTransitionTime": since or format_time(self._clock()),
            "reason": "Unschedulable",
            "message": why,
        }
        try:
            self._store.update_status({**pod, "status": {**status, "conditions": [*conditions, condition]}})
        except NotFound:
            return
        self._events.record(pod, "FailedScheduling", why, type=WARNING)

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        pod = self._pods.by_key(key)
        _log.warning("%s is not bound: %s; again in %g s", describe(pod) if pod else key, error, pause)


def _traits(node: Object) -> tuple[Any, ...]:
    """What of a Node can change the scheduler's mind."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = [item.get("status") for item in conditions if item.get("type") == "Ready"]
    spec = node.get("spec") or {}
    return node["metadata"].get("labels"), spec.get("taints"), spec.get("unschedulable"), ready
