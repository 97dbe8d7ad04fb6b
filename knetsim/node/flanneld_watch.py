"""What flanneld does not do: notice that somebody deleted its routes, ARP or FDB entries, and bring them back.

flanneld acts on changes of leases, not on changes of the kernel. A restarted one makes everything anew from the leases
and leaves what is there alone. So a worker that lacks something at two looks in a row has its flanneld restarted;
traffic over what is still there is not disturbed. With `repair: false` nobody looks, as with flannel in reality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from knetsim.api.etcd import Etcd
from knetsim.api.loop import Loop
from knetsim.dataplane.overlay.lease import NetworkConfig
from knetsim.dataplane.overlay.lease_store import list_leases
from knetsim.dataplane.overlay.readiness import read_missing
from knetsim.dataplane.overlay.worker import OverlayWorker
from knetsim.system.daemon import Supervisor

#: seconds between looks, and until the second look at a worker that lacks something: flanneld may be at it
LOOK_SECONDS = 15.0
PATIENCE_SECONDS = 3.0


class FlanneldWatch:
    """Looks after the flannelds of a cluster. `tell(worker, message)` is called for each restart."""

    def __init__(
        self,
        cluster: str,
        etcd: Etcd,
        config: NetworkConfig,
        workers: Mapping[str, OverlayWorker],
        supervisor: Supervisor,
        tell: Callable[[str, str], None],
    ) -> None:
        """`workers` are by the names of their daemons: `C0w1/flanneld`."""
        self._etcd, self._config, self._workers = etcd, config, dict(workers)
        self._supervisor, self._tell = supervisor, tell
        self._suspects: dict[str, list[str]] = {}
        self._loop = Loop(
            f"flanneld-watch {cluster}",
            self._look,
            self._look_failed,
            threads=1,
            keys=lambda: list(self._workers),
            resync_seconds=LOOK_SECONDS,
        )

    def start(self) -> None:
        """Begin to look."""
        self._loop.start()

    def stop(self) -> None:
        """Look no more. Twice is once."""
        self._loop.stop()

    def _look(self, daemon: str) -> float | None:
        missing = read_missing(self._workers[daemon], self._config, list_leases(self._etcd))
        if not missing:
            self._suspects.pop(daemon, None)
            return None
        if self._suspects.pop(daemon, None) != missing:
            self._suspects[daemon] = missing
            return PATIENCE_SECONDS
        self._tell(daemon.partition("/")[0], f"flanneld is restarted, since the kernel lacks: {'; '.join(missing[:3])}")
        self._supervisor.restart(daemon)
        return PATIENCE_SECONDS

    def _look_failed(self, daemon: str, error: Exception, pause: float) -> None:
        """etcd is away, or the worker's namespaces are: the next look finds out more."""
