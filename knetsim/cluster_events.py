"""What a cluster's parts have to tell, as Events about its objects; about a host, they are about its Node."""

from __future__ import annotations

from knetsim import names
from knetsim.api.events import NORMAL, WARNING, EventRecorder
from knetsim.api.objects import Object
from knetsim.api.store import Store
from knetsim.node.kubelet.events import EventQueue
from knetsim.system.daemon import Daemon


class ClusterEvents:
    """Writes Events by a thread of its own: who tells something may be the thread that is to start etcd again. What is
    told before there is a store is dropped; the status shows it."""

    def __init__(self) -> None:
        self._queue = EventQueue()
        self._recorder: EventRecorder | None = None

    def start(self, store: Store) -> None:
        """Begin to write."""
        self._recorder = EventRecorder(store, "knetsim")
        self._queue.start()

    def stop(self) -> None:
        """Drop what has not been written. Twice is once."""
        self._queue.stop()

    def warn(self, obj: Object, reason: str, message: str) -> None:
        """Something is wrong with an object; returns at once."""
        self._put(obj, reason, message, WARNING)

    def note(self, obj: Object, reason: str, message: str) -> None:
        """All is well with an object; returns at once."""
        self._put(obj, reason, message, NORMAL)

    def warn_host(self, host: str, reason: str, message: str) -> None:
        """Something is wrong with a host; returns at once."""
        node = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": names.node_name(host)}}
        self._put(node, reason, message, WARNING)

    def network_repaired(self, host: str, message: str) -> None:
        """A host's overlay was changed by somebody else."""
        self.warn_host(host, "NetworkRepaired", message)

    def daemon_ended(self, host: str, daemon: Daemon) -> None:
        """A daemon ended and is started again."""
        program = daemon.spec.name.partition("/")[2]
        self.warn_host(host, "DaemonEnded", f"{program} ended ({daemon.last_exit}); it is started again")

    def _put(self, obj: Object, reason: str, message: str, kind: str) -> None:
        recorder = self._recorder
        if recorder is not None:
            self._queue.put(lambda: recorder.record(obj, reason, message, type=kind))
