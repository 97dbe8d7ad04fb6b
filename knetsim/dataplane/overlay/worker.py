"""The overlay of one worker: what its kernel shall have, brought about, watched over and repaired.

`reconcile` has two ways. Where the kernel's state is known, being what was applied last, only the difference between
two snapshots of the leases is applied: three messages for a new lease, however many there are. Where it is not known
(at the start, after an error, on drift, at times) the state is read and compared. Both are one batch of netlink
messages.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from knetsim.dataplane.overlay.drift import is_drift
from knetsim.dataplane.overlay.flannel_log import FlannelLog, explain_requests
from knetsim.dataplane.overlay.lease import NetworkConfig
from knetsim.dataplane.overlay.lease_store import KnownLease
from knetsim.dataplane.overlay.snapshot import Snapshot, changed_entries, explain_changes, without
from knetsim.dataplane.overlay.state import (
    Desired,
    Observed,
    OverlayBackend,
    Underlay,
    diff,
    diff_device,
    diff_entries,
    explain_mismatch,
    read_state,
)
from knetsim.dataplane.overlay.subnet_file import NAME, SubnetFile, read_subnet_file, write_subnet_file
from knetsim.errors import KnetsimError, NotFound, ObjectError
from knetsim.system.netlink import Monitor, Netlink, Request
from knetsim.system.netns import Namespaces
from knetsim.system.sysctl import write_sysctl

#: seconds until a worker that could not be reconciled is tried again, the first and the longest time
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class OverlayWorker:
    """A worker as its agent sees it: `interface` and `address` in the underlay, `directory` for the subnet file and
    the log.

    The netlink socket and the namespaces belong to the caller and must outlive the agent.
    """

    name: str
    namespaces: Namespaces
    netlink: Netlink
    interface: str
    address: IPv4Address
    directory: Path


@dataclass(frozen=True, slots=True)
class OverlayStatus:
    """How far a worker's overlay is. `leases`: other workers that it can reach; `revision`: of etcd, applied here.

    `error` is empty when all is well; `last_repair` says what was found wrong in the kernel and when.
    """

    worker: str
    subnet: str = ""
    leases: int = 0
    revision: int = 0
    repairs: int = 0
    last_repair: str = ""
    error: str = ""


class WorkerOverlay:
    """One worker's overlay. All but `lease`, which is handed over, belongs to the agent's kernel thread."""

    def __init__(
        self,
        worker: OverlayWorker,
        config: NetworkConfig,
        backend: OverlayBackend,
        log: FlannelLog,
        *,
        repair: bool,
        resync_seconds: float,
    ) -> None:
        self.worker, self.log = worker, log
        self.lease: KnownLease | None = None
        self.lease_error = ""
        self.monitor: Monitor | None = None
        self._config, self._backend = config, backend
        self._repair, self._resync_seconds = repair, resync_seconds
        self._interface = backend.interface(worker.interface)
        self._own: KnownLease | None = None  # the lease that was applied
        self._applied: Snapshot | None = None
        self._desired: Desired | None = None
        self._index = 0
        self._names: dict[int, str] = {}  # of the interfaces that occur in requests
        self._doubt = True  # the kernel's state may differ from what was applied
        self._due = 0.0  # when to look at it in any case
        self._pause = FIRST_PAUSE
        self._error = ""
        self._repairs, self._last_repair = 0, ""

    # --- what there is to do

    def observe(self) -> None:
        """Take in what the kernel tells; a change that disagrees makes the state doubtful."""
        if self.monitor is None or self._desired is None:
            return
        changes, desired = self.monitor.read(), self._desired
        if changes.lost or any(is_drift(change, desired, self._interface, self._index) for change in changes):
            self._doubt = True

    def is_due(self, snapshot: Snapshot, now: float) -> bool:
        """Whether `reconcile` has something to do."""
        lease = self.lease
        if lease is None or snapshot.revision < lease.revision:
            return False  # there is no snapshot with this worker's lease so far
        if self._error:
            return now >= self._due
        return snapshot is not self._applied or not self._is_known(lease) or self._is_time_to_look(now)

    def next_look(self, snapshot: Snapshot) -> float | None:
        """When `is_due` becomes true by itself, in the agent's time; None: not before something happens."""
        if self.lease is None or snapshot.revision < self.lease.revision:
            return None
        return self._due if self._error or (self._repair and self._own is not None) else None

    def _is_known(self, lease: KnownLease) -> bool:
        """Whether the kernel has what was applied last, for the lease that the worker has now."""
        return not (self._doubt or self._error) and self._own is not None and self._own.lease == lease.lease

    def _is_time_to_look(self, now: float) -> bool:
        return self._repair and now >= self._due

    def is_ready(self, revision: int) -> bool:
        """Whether all leases up to `revision` of etcd are applied."""
        applied = self._applied
        return self.lease is not None and applied is not None and applied.revision >= revision and not self.error

    @property
    def error(self) -> str:
        """What is wrong; empty when all is well."""
        return self.lease_error or self._error

    def status(self) -> OverlayStatus:
        """How far this worker is."""
        own, applied, desired = self._own, self._applied, self._desired
        return OverlayStatus(
            worker=self.worker.name,
            subnet=str(own.lease.subnet) if own else "",
            leases=len(desired.entries.routes) if desired else 0,
            revision=applied.revision if applied else 0,
            repairs=self._repairs,
            last_repair=self._last_repair,
            error=self.error,
        )

    def close(self) -> None:
        """Look no more; what is in the kernel stays."""
        if self.monitor is not None:
            self.monitor.close()

    # --- doing it

    def reconcile(self, snapshot: Snapshot, now: float) -> None:
        """Bring the kernel to what the snapshot says. What fails is kept as `error` and tried again after a pause."""
        own = self.lease
        assert own is not None, "is_due says when"
        try:
            if not self._is_known(own):
                self._reconcile_all(own, snapshot, now)
            else:
                if self._applied is not None and snapshot is not self._applied:
                    self._reconcile_changes(own, snapshot, self._applied)
                if self._is_time_to_look(now):
                    self._reconcile_all(own, snapshot, now)
        except (KnetsimError, OSError) as error:
            if str(error) != self._error:
                self.log.write(f"failed, trying again: {error}")
            self._error = str(error)
            self._due = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        else:
            self._error, self._pause = "", FIRST_PAUSE

    def _reconcile_changes(self, own: KnownLease, snapshot: Snapshot, applied: Snapshot) -> None:
        """Apply what changed since the last snapshot."""
        assert self._desired is not None
        mine = self._backend.build_entries(own.lease)
        old, new = (without(part, mine) for part in changed_entries(applied, snapshot))
        requests = diff_entries(old, new, self._index, onlink=self._desired.device is not None)
        if requests:
            self.log.write(*explain_changes(applied, snapshot))
            self._desired = replace(self._desired, entries=without(snapshot.entries, mine))
            self.worker.netlink.apply(requests)
        self._own, self._applied = own, snapshot

    def _reconcile_all(self, own: KnownLease, snapshot: Snapshot, now: float) -> None:
        """Look at everything, and apply what is missing, wrong or stale."""
        if self.monitor is not None:
            self.monitor.read()  # what was told up to here is seen by looking
        underlay = self._read_underlay()
        entries = without(snapshot.entries, self._backend.build_entries(own.lease))
        desired = self._backend.build_desired(own.lease, entries, underlay)
        requests = self._ensure_device(desired)
        observed = read_state(self.worker.netlink, self._interface, self._config.network)
        self._index, self._desired = observed.index, desired
        self._names[observed.index] = self._interface
        rest = diff(observed, desired)
        self.worker.netlink.apply(rest)
        self._note(requests + rest, own, snapshot)
        self._ensure_subnet_file(own, self._backend.mtu(underlay))
        self._own, self._applied = own, snapshot
        self._doubt = bool(diff_device(observed, desired))  # somebody took the VTEP away while it was looked at
        self._due = now + self._resync_seconds
        if self._repair and self.monitor is None:
            self.monitor = Monitor.in_namespace(self.worker.namespaces)

    def _read_underlay(self) -> Underlay:
        link = self.worker.netlink.link(self.worker.interface)
        if link is None:
            raise NotFound("the underlay's interface is gone", f"{self.worker.name} {self.worker.interface}")
        self._names[link.index] = link.name
        return Underlay(link.name, link.index, link.mtu)

    def _ensure_device(self, desired: Desired) -> list[Request]:
        """Make or change the VTEP, where the backend has one; the requests that this took."""
        if desired.device is None:
            return []
        link = self.worker.netlink.link(self._interface)
        requests = diff_device(Observed(device=link), desired)
        if not requests:
            return []
        if link is not None and (mismatch := explain_mismatch(link, desired.device)):
            self.log.write(f"{self._interface} has {mismatch}: making it anew")
        self.worker.netlink.apply(requests)
        # as flanneld: the VTEP follows no IPv6 router that a pod may announce
        setting = {f"net/ipv6/conf/{self._interface}/accept_ra": "0"}
        write_sysctl(self.worker.namespaces, setting, missing_ok=True)
        return requests

    def _note(self, requests: list[Request], own: KnownLease, snapshot: Snapshot) -> None:
        """Say in the log and the status what a look at everything led to."""
        lines = explain_requests(requests, self._names)
        if self._own is None or self._own.lease != own.lease:
            ignored = [f"ignored the lease {name}: {why}" for name, why in snapshot.unreadable.items()]
            self.log.write(f"{self.status().leases} other workers, {len(requests)} requests", *lines, *ignored)
        elif requests:
            self.log.write(f"repaired, {len(requests)} requests", *lines)
            more = f" (and {len(requests) - 1} more)" if len(requests) > 1 else ""
            self._last_repair = f"{time.strftime('%H:%M:%S')} {lines[0]}{more}"
            self._repairs += 1

    def _ensure_subnet_file(self, own: KnownLease, mtu: int) -> None:
        """The subnet file last: who waits for it finds the network working."""
        content = SubnetFile(self._config.network, IPv4Interface(own.lease.gateway), mtu)
        try:
            found = read_subnet_file(self.worker.directory)
        except ObjectError:
            found = None
        if found != content:
            write_subnet_file(self.worker.directory, content)
            self.log.write(f"wrote {NAME}: {content.gateway}, MTU {mtu}")
