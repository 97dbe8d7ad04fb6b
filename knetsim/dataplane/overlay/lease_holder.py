"""The subnet leases of an agent's workers: taken, renewed, and taken again when they are lost.

Each worker's key hangs on an etcd lease of its own, as flanneld has it, so that one of them can be let run out. A key
is written by a transaction that names the revision at which it was seen (or that it did not exist), so two agents, of
either kind, never write over each other; who loses the race lists again and chooses again. (flanneld v0.28 ends
there.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network

from knetsim.dataplane.overlay.lease import (
    LEASE_TTL,
    RENEW_MARGIN,
    Choice,
    Lease,
    NetworkConfig,
    build_lease_value,
    build_mac,
    choose_subnet,
    lease_key,
)
from knetsim.dataplane.overlay.lease_store import KnownLease, LeaseListing, LeaseStore, list_leases
from knetsim.dataplane.overlay.snapshot import Snapshot
from knetsim.dataplane.overlay.state import OverlayBackend
from knetsim.dataplane.overlay.subnet_file import read_subnet_file
from knetsim.dataplane.overlay.worker import WorkerOverlay
from knetsim.errors import KnetsimError, NotFound, ObjectError, StoreUnavailable

#: how often in a row a lost race is tried again, as flannel has it
RACES = 10
#: seconds until a renewal that failed is tried again, as flannel has it
RENEW_PAUSE = 60.0
#: how many leases are written at the same time
_WRITERS = 8


@dataclass(frozen=True, slots=True)
class _Held:
    """A worker's lease: the etcd lease it hangs on, and when that is to be renewed (the agent's time)."""

    known: KnownLease
    etcd_lease: int
    due: float


class LeaseHolder:
    """Holds one lease for each worker; for one thread (its writers it starts and ends itself)."""

    def __init__(
        self, store: LeaseStore, prefix: str, config: NetworkConfig, backend: OverlayBackend, clock: Callable[[], float]
    ) -> None:
        self._store, self._prefix, self._config, self._backend = store, prefix, config, backend
        self._clock = clock
        self._held: dict[str, _Held] = {}

    def acquire(self, pending: dict[str, WorkerOverlay]) -> None:
        """Lease for all in `pending`, who leave it; those left have a `lease_error`. StoreUnavailable."""
        for _ in range(RACES):
            listing = list_leases(self._store, self._prefix)
            choices = self._choose(pending.values(), listing)
            if not choices:
                return
            with ThreadPoolExecutor(min(_WRITERS, len(choices))) as writers:
                done = list(writers.map(partial(self._try, listing), *zip(*choices, strict=True)))
            for (overlay, _), won in zip(choices, done, strict=True):
                if won:
                    del pending[overlay.worker.name]

    def _choose(self, workers: Iterable[WorkerOverlay], listing: LeaseListing) -> list[tuple[WorkerOverlay, Choice]]:
        """A subnet for each worker, all different; workers for which there is none are left out."""
        taken = listing.taken
        choices = []
        for overlay in workers:
            previous = self._previous(overlay)
            try:
                if previous is not None and previous in listing.unreadable and overlay.lease is not None:
                    choice = Choice(previous, "restored")  # somebody has spoiled the value of a key that is ours
                else:
                    choice = choose_subnet(self._config, listing.leases, taken, overlay.worker.address, previous)
            except KnetsimError as error:
                overlay.lease_error = str(error)
                continue
            overlay.lease_error = ""
            taken.append(choice.subnet)
            choices.append((overlay, choice))
        return choices

    @staticmethod
    def _previous(overlay: WorkerOverlay) -> IPv4Network | None:
        """The subnet that the worker has lost or, when the agent is new, that its subnet file names."""
        if overlay.lease is not None:
            return overlay.lease.lease.subnet
        try:
            file = read_subnet_file(overlay.worker.directory)
        except (ObjectError, OSError):
            return None  # the file is written anew once there is a lease
        return file.subnet if file else None

    def _try(self, listing: LeaseListing, overlay: WorkerOverlay, choice: Choice) -> bool:
        """Whether the worker has the lease now; if not, why is in its `lease_error`."""
        try:
            if self._write(listing, overlay, choice):
                return True
            overlay.lease_error = f"another agent took {choice.subnet} first"
        except StoreUnavailable:
            raise
        except (KnetsimError, OSError) as error:  # this worker's trouble: its interfaces cannot be read, say
            overlay.lease_error = str(error)
        return False

    def _write(self, listing: LeaseListing, overlay: WorkerOverlay, choice: Choice) -> bool:
        """Put the lease into etcd, and say whether nobody was faster."""
        worker = overlay.worker
        for own in choice.discard:
            self._store.delete(lease_key(own.subnet, self._prefix), revision=listing.revision_of(own.subnet))
        seen = listing.revision_of(choice.subnet)
        known_mac = next((found.vtep_mac for found in listing.leases if found.subnet == choice.subnet), None)
        lease = self._backend.build_lease(choice.subnet, worker.address, self._choose_mac(overlay, known_mac))
        key, value = lease_key(lease.subnet, self._prefix), build_lease_value(lease)
        etcd_lease = self._store.lease_grant(LEASE_TTL)
        if seen is None:
            revision = self._store.create(key, value, lease=etcd_lease)
        else:
            revision = self._store.compare_and_swap(key, value, seen, lease=etcd_lease)
        if revision is None:
            self._store.lease_revoke(etcd_lease)
            return False
        known = KnownLease(lease, revision)
        self._held[worker.name] = _Held(known, etcd_lease, self._clock() + LEASE_TTL - RENEW_MARGIN)
        overlay.lease = known
        vtep = f", VTEP {lease.vtep_mac}" if lease.vtep_mac else ""
        overlay.log.write(
            f"leased {lease.subnet} ({choice.reason}) for {lease.public_ip}{vtep}, etcd lease {etcd_lease:x}"
        )
        return True

    def _choose_mac(self, overlay: WorkerOverlay, known: str | None) -> str:
        """The MAC of the VTEP that is there; else the one that others know it by; else a new one."""
        link = overlay.worker.netlink.link(self._backend.interface(overlay.worker.interface))
        if link is not None and link.kind == "vxlan":
            return link.mac
        return known or build_mac(os.urandom(6))

    # --- keeping them

    def next_renewal(self) -> float | None:
        """When the next lease is to be renewed, in the agent's time."""
        return min((held.due for held in self._held.values()), default=None)

    def renew(self) -> set[str]:
        """Renew what is due; the names of workers whose lease has run out."""
        lost = set()
        now = self._clock()
        for name, held in list(self._held.items()):
            if held.due > now:
                continue
            try:
                seconds = self._store.lease_keepalive(held.etcd_lease)
                due = now + max(seconds - RENEW_MARGIN, 1)
            except NotFound:
                lost.add(name)
                due = now + RENEW_PAUSE
            except KnetsimError:  # etcd does not answer, say
                due = now + RENEW_PAUSE
            self._held[name] = _Held(held.known, held.etcd_lease, due)
        return lost

    def find_lost(self, snapshot: Snapshot, *, repair: bool) -> set[str]:
        """The names of workers whose lease is gone or another's; with `repair` also where its value was spoiled."""
        lost = set()
        for name, held in self._held.items():
            mine = held.known.lease
            if snapshot.revision < held.known.revision:
                continue  # from before it was written
            found: Lease | None = snapshot.leases.get(mine.name)
            spoiled = mine.name in snapshot.unreadable if found is None else found.public_ip == mine.public_ip
            if found != mine and (repair or not spoiled):
                lost.add(name)
        return lost
