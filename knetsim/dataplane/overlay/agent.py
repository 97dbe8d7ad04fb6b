"""The embedded agent: what flanneld does, for all workers of a cluster in one process.

What flannel does. A daemon on every worker takes a subnet of the pod network by a lease in etcd, makes the VTEP,
writes the subnet file for the CNI plugin, and follows the leases of all others, for each of which it adds a route, an
ARP and an FDB entry. All that the daemons know of each other is in etcd.
What ours does: the same, in the same place and format, so that workers with flanneld and workers with this agent form
one pod network; but one watch serves all workers, and each change is one batch of netlink messages per worker.
How it differs: it compares the kernel's state with what it shall be, when the kernel tells of a change that
disagrees, and every `resync_seconds`, and repairs it (`repair=False` leaves things broken, for lessons); a lease that
is lost is taken again at once, where flanneld ends.

    etcd ──watch──> [follow] ──snapshot──> [kernel] ──netlink──> the workers' network namespaces
      ^                 `──snapshot──> [lease] : a lease that is gone is taken again
      `────────── lease, renewal ─────────┘

Three threads a cluster. [lease] may wait for etcd as long as it takes while [kernel] goes on repairing. Ended or
killed, the agent leaves device, entries and leases where they are, as flanneld does: packets do not need it. A new
one finds each worker's lease by its address in the underlay and adopts what is there.
Cost: with a hundred workers 25 KB and two netlink sockets for each, where a flanneld has 51 MB; in etcd a key and a
lease. One more worker is three messages to each of the others (`tests/kernel/overlay/test_overlay_scale.py`).
"""

from __future__ import annotations

import os
import queue
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from knetsim.dataplane.overlay.backend import choose_backend
from knetsim.dataplane.overlay.flannel_log import FlannelLog
from knetsim.dataplane.overlay.lease import PREFIX, NetworkConfig, leases_prefix
from knetsim.dataplane.overlay.lease_holder import LeaseHolder
from knetsim.dataplane.overlay.lease_store import LeaseStore, LeaseWatch, read_network_config
from knetsim.dataplane.overlay.snapshot import LeaseTable, Snapshot
from knetsim.dataplane.overlay.state import OverlayBackend
from knetsim.dataplane.overlay.worker import OverlayStatus, OverlayWorker, WorkerOverlay
from knetsim.errors import KnetsimError, NotReady

#: seconds between two looks at a worker's kernel of which nothing was heard, with a hundred workers or less
RESYNC_SECONDS = 30.0
#: seconds until etcd is tried again, the first and the longest time
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
#: seconds that `stop` waits for a thread; a call to an etcd that does not answer takes as long
_STOP_SECONDS = 10.0


def choose_resync_seconds(workers: int) -> float:
    """How often to look at each kernel: what that costs grows with the square of the workers, so the time between does.

    All looks together take about 1 % of a processor (20 µs an entry, measured).
    """
    return RESYNC_SECONDS * max(1.0, (workers / 100) ** 2)


class OverlayAgent:
    """Flannel for `workers` of the cluster `name`, whose etcd is `store`; one use: start, stop."""

    def __init__(
        self,
        name: str,
        store: LeaseStore,
        workers: Iterable[OverlayWorker],
        *,
        prefix: str = PREFIX,
        repair: bool = True,
        resync_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._store, self._prefix, self._clock = store, prefix, clock
        self._workers = {worker.name: worker for worker in workers}
        self._repair = repair
        self._resync_seconds = resync_seconds or choose_resync_seconds(len(self._workers))
        self._overlays: Mapping[str, WorkerOverlay] = {}
        self._snapshot: Snapshot | None = None
        self._watch: LeaseWatch | None = None
        self._error = "not started"
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self._look_at_leases: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._threads: list[threading.Thread] = []

    # --- for the cluster

    def start(self) -> None:
        """Begin; returns at once (see `wait_ready`)."""
        self._error = "no network configuration read so far"
        self._start_thread("lease", self._hold_leases)

    def stop(self) -> None:
        """End the agent. Devices, entries, leases and files stay. Twice is once."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake_all()
        if self._watch is not None:
            self._watch.close()
        for thread in self._threads:  # the first may still start the others, and this loop then comes to them
            thread.join(_STOP_SECONDS)
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        if alive:
            raise NotReady(f"the overlay agent of {self.name} did not end", why=f"still running: {', '.join(alive)}")
        os.close(self._wake)

    def wait_ready(self, deadline: float) -> None:
        """Wait until every worker reaches all others that have a lease by now; NotReady after `deadline` seconds."""
        end = time.monotonic() + deadline
        with self._progress:
            while (missing := self._explain_missing()) and time.monotonic() < end:
                self._progress.wait(end - time.monotonic())
        if missing:
            raise NotReady(
                f"the pod network of {self.name} is not ready after {deadline:g} s",
                why="; ".join(missing[:3]) + (f"; and {len(missing) - 3} more workers" if len(missing) > 3 else ""),
                hint="see flannel.log in the worker's directory",
            )

    def status(self) -> list[OverlayStatus]:
        """How far each worker is, in the order of their names."""
        found = []
        for name in sorted(self._workers):
            overlay = self._overlays.get(name)
            status = overlay.status() if overlay else OverlayStatus(name)
            if not status.subnet and not status.error:
                status = replace(status, error=self._error)
            found.append(status)
        return found

    def _explain_missing(self) -> list[str]:
        """What `wait_ready` waits for, worker by worker."""
        if self._error:
            return [self._error]
        overlays = self._overlays.values()
        revision = max((overlay.lease.revision for overlay in overlays if overlay.lease), default=0)
        return [
            f"{overlay.worker.name}: {overlay.error or ('not all leases applied' if overlay.lease else 'no lease')}"
            for overlay in overlays
            if not overlay.is_ready(revision)
        ]

    # --- threads

    def _start_thread(self, what: str, work: Callable[[], None]) -> None:
        def run() -> None:
            finished = False
            try:
                work()
                finished = True
            finally:  # an error that was not foreseen goes to threading.excepthook, and the status says so
                if not finished:
                    self._set_error(f"the {what} thread of the agent has failed; see the simulation's log")

        thread = threading.Thread(target=run, name=f"overlay-{self.name}-{what}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _set_error(self, error: str) -> None:
        with self._progress:
            self._error = error
            self._progress.notify_all()

    def _wake_all(self) -> None:
        self._look_at_leases.put(None)
        os.eventfd_write(self._wake, 1)
        with self._progress:
            self._progress.notify_all()

    # --- [lease]

    def _hold_leases(self) -> None:
        config = self._wait_for_config()
        if config is None:
            return
        backend = choose_backend(config.backend)
        self._overlays = self._prepare_workers(config, backend)
        table = LeaseTable(backend.build_entries)
        holder = LeaseHolder(self._store, self._prefix, config, backend, self._clock)
        pending = dict(self._overlays)
        pause, retry_at = FIRST_PAUSE, 0.0
        while not self._stopping.is_set():
            if pending and self._clock() >= retry_at:
                try:
                    holder.acquire(pending)
                    self._set_error("")
                except KnetsimError as error:
                    self._set_error(str(error))
                pause = min(pause * 2, LONGEST_PAUSE) if pending else FIRST_PAUSE
                retry_at = self._clock() + pause
                self._begin_following(table)
                os.eventfd_write(self._wake, 1)
            self._wait_for_leases(holder.next_renewal(), retry_at if pending else None)
            lost = holder.renew()
            if self._snapshot is not None:
                lost |= holder.find_lost(self._snapshot, repair=self._repair)
            for name in lost - pending.keys():
                self._overlays[name].log.write("the lease in etcd is gone or changed: taking it again")
                pending[name] = self._overlays[name]
                retry_at = 0.0

    def _prepare_workers(self, config: NetworkConfig, backend: OverlayBackend) -> dict[str, WorkerOverlay]:
        return {
            name: WorkerOverlay(
                worker,
                config,
                backend,
                FlannelLog(worker.directory),
                repair=self._repair,
                resync_seconds=self._resync_seconds,
            )
            for name, worker in self._workers.items()
        }

    def _wait_for_config(self) -> NetworkConfig | None:
        """The network configuration, once it is there and right; None when the agent is stopped first."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                return read_network_config(self._store, self._prefix)
            except KnetsimError as error:
                self._set_error(str(error))
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        return None

    def _begin_following(self, table: LeaseTable) -> None:
        """Follow the leases, after the first attempt to take one's own: so the first snapshot has them all."""
        if len(self._threads) == 1 and not self._stopping.is_set():
            self._start_thread("follow", partial(self._follow_leases, table))
            self._start_thread("kernel", self._reconcile_kernel)

    def _wait_for_leases(self, *times: float | None) -> None:
        """Wait until a new snapshot is there, or the first of these times has come."""
        known = [when for when in times if when is not None]
        timeout = max(0.0, min(known) - self._clock()) if known else None
        try:
            self._look_at_leases.get(timeout=timeout)
        except queue.Empty:
            return

    # --- [follow]

    def _follow_leases(self, table: LeaseTable) -> None:
        pause = FIRST_PAUSE
        prefix = leases_prefix(self._prefix)
        while not self._stopping.is_set():
            try:
                entries, revision = self._store.prefix(prefix)
                self._publish(table.reset(entries, revision))
                self._watch = watch = self._store.watch_prefix(prefix, revision + 1)
                if self._stopping.is_set():
                    watch.close()
                for changes in watch:
                    self._publish(table.update(changes))
                    pause = FIRST_PAUSE
            except KnetsimError:
                pass  # etcd is away, or has compacted what was not seen yet: list again
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._wake_all()

    # --- [kernel]

    def _reconcile_kernel(self) -> None:
        overlays = list(self._overlays.values())
        watched: dict[int, WorkerOverlay] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(self._seconds_to_next_look(overlays)):
                    if key.fd == self._wake:
                        os.eventfd_read(self._wake)
                    else:
                        watched[key.fd].observe()
                self._reconcile_due(overlays)
                for overlay in overlays:
                    if overlay.monitor is not None and overlay.monitor.fileno() not in watched:
                        watched[overlay.monitor.fileno()] = overlay
                        selector.register(overlay.monitor, selectors.EVENT_READ)
        for overlay in overlays:
            overlay.close()

    def _seconds_to_next_look(self, overlays: Iterable[WorkerOverlay]) -> float | None:
        snapshot = self._snapshot
        if snapshot is None:
            return None
        looks = [when for overlay in overlays if (when := overlay.next_look(snapshot)) is not None]
        return max(0.0, min(looks) - self._clock()) if looks else None

    def _reconcile_due(self, overlays: Iterable[WorkerOverlay]) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            return
        for overlay in overlays:
            if self._stopping.is_set():
                return
            if overlay.is_due(snapshot, self._clock()):
                overlay.reconcile(snapshot, self._clock())
        with self._progress:
            self._progress.notify_all()
