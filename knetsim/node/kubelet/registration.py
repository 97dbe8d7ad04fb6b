"""The Nodes of a cluster's workers: registered, their Leases renewed while their workers reach the store, their
status kept.

One writer per field: labels and spec that others wrote stay when a Node is registered again. Whoever deletes a Node, or
says that it is not ready while it is, sees it put right: the node life-cycle controller writes Unknown into a Node
whose heartbeats it has missed, and only a kubelet writes True again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from knetsim.api.informer import Informer
from knetsim.api.loop import Clock, Loop
from knetsim.api.objects import Object, has_condition, name_of
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, Conflict, NotFound
from knetsim.node.kubelet.heartbeat import Beat, Heartbeat
from knetsim.node.kubelet.node import KubeletWorker, Machine, build_lease, build_node, build_node_status
from knetsim.system.netns import entered
from knetsim.system.reach import find_reachable

#: a Node's status is written anew at least so often, as a kubelet does
STATUS_SECONDS = 300.0
_REACH_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Registered:
    """A worker with its own resolv.conf, its Node as it was written last, and when its status was."""

    worker: KubeletWorker
    resolv_conf: str
    node: Object
    written: float = 0.0


class Nodes:
    """All workers of a cluster as Nodes. `members` are where a worker must get through to, or none: it always does."""

    def __init__(
        self, store: Store, members: Sequence[tuple[str, int]], beat_seconds: float, wall: Clock, steady: Clock
    ) -> None:
        self._store, self._members, self._wall, self._steady = store, tuple(members), wall, steady
        self._reach_seconds = min(_REACH_SECONDS, beat_seconds / 2)
        self._machine = Machine.read()
        self._registered: dict[str, Registered] = {}
        self._regained: Callable[[str], None] = lambda node: None
        self.heartbeat = Heartbeat(
            self._find_reachable, self.renew, self._regain, every=beat_seconds, wall=wall, steady=steady
        )
        self._nodes = Informer(store, "Node")
        self._loop = Loop("nodes", self._reconcile, self._note_failure, threads=1, clock=steady)

    def start(self, regained: Callable[[str], None]) -> None:
        """Begin to beat, and to look after the Nodes; `regained` is called with one whose worker reaches the store
        again."""
        self._regained = regained
        self._nodes.on_change(lambda key, before, after: self._note(before or after or {}))
        self._nodes.start()
        self._loop.start()
        self.heartbeat.start()

    def stop(self) -> None:
        """Leave the Nodes as they are. Twice is once."""
        self.heartbeat.stop()
        self._loop.stop()
        self._nodes.stop()

    def reaches(self, node: str) -> bool:
        """Whether the worker reached the store at the last look."""
        return self.heartbeat.reached(node)

    def reaches_now(self, node: str) -> bool:
        """Whether the worker reaches the store, by a look of this moment."""
        return self.heartbeat.reaches_now(node)

    def current(self, node: str) -> Object:
        """The Node as it is stored."""
        return self._nodes.by_key(node) or self._registered[node].node

    def _note(self, node: Object) -> None:
        if node and name_of(node) in self._registered:
            self._loop.add(name_of(node))

    def _reconcile(self, node: str) -> None:
        """Put right what is stored of a Node."""
        stored = self._nodes.by_key(node)
        if not self.reaches(node) or (stored is not None and has_condition(stored, "Ready")):
            return
        self.write_status(node)

    def _note_failure(self, node: str, error: Exception, pause: float) -> None:
        _log.warning("the Node %s cannot be put right: %s; trying again in %g s", node, error, pause)

    def _regain(self, node: str) -> None:
        self.write_status(node)
        self._regained(node)

    def register(self, worker: KubeletWorker) -> Registered:
        """Write a worker's Node, Ready, and its Lease, and beat for it from now on. Errors of the store."""
        registered = Registered(worker, _read_resolv_conf(worker), {})
        self._write(registered)
        self._registered[worker.node] = registered
        self.heartbeat.add(worker.node)
        return registered

    def beats(self) -> list[tuple[KubeletWorker, Beat]]:
        """The workers by the names of their Nodes, with what is known of their heartbeats."""
        beats = self.heartbeat.status()
        return [(self._registered[node].worker, beat) for node, beat in sorted(beats.items())]

    def renew(self, node: str) -> None:
        """One heartbeat: renew the Lease, and at times say the status again. What was deleted is made anew."""
        registered = self._registered[node]
        try:
            self._store.update(build_lease(registered.node, self._wall()))
        except NotFound:
            self._write(registered)
        if self._steady() >= registered.written + STATUS_SECONDS:
            self.write_status(node)

    def write_status(self, node: str) -> None:
        """Say that the Node is Ready, whatever was said of it meanwhile."""
        registered = self._registered[node]
        try:
            registered.node = self._store.get("Node", node)
            self._write_status(registered)
        except NotFound:
            self._write(registered)

    def _write(self, registered: Registered) -> None:
        """Write the Node and its Lease, whether they are there or not."""
        now = self._wall()
        node = build_node(registered.worker, self._machine, now)
        try:
            registered.node = self._store.create(node)
        except AlreadyExists:
            registered.node = self._update(node)
            self._write_status(registered)
        registered.written = self._steady()
        lease = build_lease(registered.node, now)
        try:
            self._store.create(lease)
        except AlreadyExists:
            self._store.update(lease)

    def _update(self, node: Object) -> Object:
        """Put what is ours into the Node that is there, whoever else writes it at the same moment."""
        while True:
            try:
                return self._store.update(_merge(self._store.get("Node", name_of(node)), node))
            except Conflict:
                pass  # a controller has just tainted it, for one: that is to stay

    def _write_status(self, registered: Registered) -> None:
        before = (registered.node.get("status") or {}).get("conditions") or ()
        status = build_node_status(registered.worker, self._machine, before, self._wall())
        registered.node = self._store.update_status({**registered.node, "status": status})
        registered.written = self._steady()

    def _find_reachable(self, nodes: Collection[str]) -> set[str]:
        if not self._members:
            return set(nodes)
        places = {node: self._registered[node].worker.place.namespaces for node in nodes}
        return find_reachable(places, self._members, self._reach_seconds)


def _merge(present: Object, node: Object) -> Object:
    """The stored Node, in the version that was read, with what is ours in it."""
    labels = {**present["metadata"].get("labels", {}), **node["metadata"]["labels"]}
    metadata = {**present["metadata"], "labels": labels}
    return {**present, "metadata": metadata, "spec": {**present.get("spec", {}), **node["spec"]}}


def _read_resolv_conf(worker: KubeletWorker) -> str:
    with entered(worker.place.namespaces):
        path = Path("/etc/resolv.conf")
        return path.read_text() if path.exists() else ""
