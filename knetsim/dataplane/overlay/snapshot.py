"""All leases of a cluster at one revision, and what changed between two: computed once, whatever the number of
workers; pure.

One watch follows the leases of a cluster. Each batch of changes makes a new snapshot, which all workers share; a worker
remembers the one it has applied. The difference between the two is the same for all workers, but for their own lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from knetsim.dataplane.overlay.lease import Lease, parse_lease
from knetsim.dataplane.overlay.lease_store import LeaseChange, StoredKey
from knetsim.dataplane.overlay.state import Entries
from knetsim.errors import ObjectError


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The leases by name (`11.15.64.0-20`), what they make of every other worker, and what could not be read."""

    leases: Mapping[str, Lease]
    entries: Entries
    unreadable: Mapping[str, str]
    revision: int


class LeaseTable:
    """Follows the leases of a cluster; for one thread. `build_entries` is the backend's."""

    def __init__(self, build_entries: Callable[[Lease], Entries]) -> None:
        self._build_entries = build_entries
        self._leases: dict[str, Lease] = {}
        self._unreadable: dict[str, str] = {}

    def reset(self, entries: Iterable[StoredKey], revision: int) -> Snapshot:
        """The snapshot after a full listing."""
        self._leases.clear()
        self._unreadable.clear()
        for entry in entries:
            self._set(entry.key, entry.value)
        return self._snapshot(revision)

    def update(self, changes: Iterable[LeaseChange]) -> Snapshot:
        """The snapshot after changes, of which there is at least one."""
        revision = 0
        for change in changes:
            self._set(change.key, change.value)
            revision = change.revision
        return self._snapshot(revision)

    def _set(self, key: str, value: bytes | None) -> None:
        name = key.rpartition("/")[2]
        self._leases.pop(name, None)
        self._unreadable.pop(name, None)
        if value is None:
            return
        try:
            self._leases[name] = parse_lease(key, value)
        except ObjectError as error:
            self._unreadable[name] = str(error)

    def _snapshot(self, revision: int) -> Snapshot:
        leases = dict(self._leases)
        return Snapshot(leases, merge(map(self._build_entries, leases.values())), dict(self._unreadable), revision)


def merge(parts: Iterable[Entries]) -> Entries:
    """The entries of several leases as one set."""
    routes: dict[str, str | None] = {}
    neighbours: dict[str, str] = {}
    fdb: dict[str, str] = {}
    for part in parts:
        routes.update(part.routes)
        neighbours.update(part.neighbours)
        fdb.update(part.fdb)
    return Entries(routes, neighbours, fdb)


def without(entries: Entries, own: Entries) -> Entries:
    """The entries but for those by which others reach this worker."""
    routes, neighbours, fdb = dict(entries.routes), dict(entries.neighbours), dict(entries.fdb)
    for dst in own.routes:
        routes.pop(dst, None)
    for address in own.neighbours:
        neighbours.pop(address, None)
    for mac in own.fdb:
        fdb.pop(mac, None)
    return Entries(routes, neighbours, fdb)


@lru_cache(maxsize=16)
def changed_entries(old: Snapshot, new: Snapshot) -> tuple[Entries, Entries]:
    """What of the old snapshot's entries does not hold any more, and what of the new one's is new.

    An entry that two leases give, such as the FDB entry of a worker that moved to another subnet, is compared as a
    whole, so that the end of one lease does not take away what the other needs.
    """
    return _only_in(old.entries, new.entries), _only_in(new.entries, old.entries)


def _only_in(entries: Entries, others: Entries) -> Entries:
    return Entries(
        {dst: via for dst, via in entries.routes.items() if others.routes.get(dst) != via},
        {address: mac for address, mac in entries.neighbours.items() if others.neighbours.get(address) != mac},
        {mac: address for mac, address in entries.fdb.items() if others.fdb.get(mac) != address},
    )


@lru_cache(maxsize=16)
def explain_changes(old: Snapshot, new: Snapshot) -> tuple[str, ...]:
    """What changed between two snapshots, a line for each lease."""
    lines = [f"{lease.subnet} is gone" for name, lease in old.leases.items() if name not in new.leases]
    for name, lease in new.leases.items():
        before = old.leases.get(name)
        if before != lease:
            vtep = f", VTEP {lease.vtep_mac}" if lease.vtep_mac else ""
            lines.append(f"{lease.subnet} is {'now ' if before else ''}at {lease.public_ip}{vtep}")
    lines += [f"ignored the lease {name}: {why}" for name, why in new.unreadable.items() if name not in old.unreadable]
    return tuple(lines)
