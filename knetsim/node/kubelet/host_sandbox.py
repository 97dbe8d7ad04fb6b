"""The place of a pod with `hostNetwork: true`: its worker's network, and its Node's name for a host name.

Reality: it has its machine's host name, which is the Node's too. A worker's is that of the Mininet host (`C0w1`), so
such a pod has a UTS namespace of its own. Else there is nothing to make, to wire or to tear down; the pod has its
worker's address, and its ports are the worker's.
How it differs: a command that outlives its pod is not ended with it, since nothing tells it from the worker's own.
"""

from __future__ import annotations

import os
from pathlib import Path

from knetsim.dataplane.pod import Wired
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.system.netns import Namespaces, create_uts, entered


class HostSandbox(PodSandbox):
    """One pod's place, which is its worker's."""

    def open(self) -> None:
        """Know the worker's address as the pod's own."""
        with self._lock:
            self.hostname = self.worker.node
            self._own = self._own or Namespaces(self.netns_name, uts=create_uts(self.hostname))
            self.wired = Wired(self.worker.address, "", "", "", 0)

    def adopt(self) -> bool:
        """What a kubelet before this one had is still there."""
        self.open()
        return True

    def check(self) -> list[str]:
        """The worker's network is not this pod's to look after."""
        return []

    def repair(self) -> None:
        """See `check`."""

    def close(self) -> None:
        """Let go of it. Twice is once."""
        with self._lock:
            own, view, self._own, self._view, self.wired = self._own, self._view, None, None, None
        if view is not None:
            os.close(view)
        if own is not None:
            own.close()

    def _read_worker_hosts(self) -> str:
        with entered(self.worker.place.namespaces):
            return Path("/etc/hosts").read_text()
