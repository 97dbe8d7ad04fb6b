"""What the overlay asks of etcd, and the few reads and writes of flannel's keys that both agents need.

`LeaseStore` is satisfied by `knetsim.api.etcd.Etcd` as it stands; the data path does not import the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Protocol

from knetsim.dataplane.overlay.lease import (
    PREFIX,
    Lease,
    NetworkConfig,
    build_network_config,
    config_key,
    leases_prefix,
    parse_lease,
    parse_lease_name,
    parse_network_config,
)
from knetsim.errors import NotFound, ObjectError


class StoredValue(Protocol):
    """A value, and the revision of its last change."""

    @property
    def value(self) -> bytes: ...
    @property
    def revision(self) -> int: ...


class StoredKey(StoredValue, Protocol):
    """The same with its key."""

    @property
    def key(self) -> str: ...


class LeaseChange(Protocol):
    """One step of a watch; `value` is None when the key is gone."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def revision(self) -> int: ...


class LeaseWatch(Protocol):
    """Changes in order, as they come; ends after `close`, and with a KnetsimError when the history it needs is gone."""

    def __iter__(self) -> Iterator[Sequence[LeaseChange]]: ...
    def close(self) -> None:
        """End the iteration, from any thread."""


class LeaseStore(Protocol):
    """A client of the cluster's etcd; every call may raise StoreUnavailable, and any thread may make it."""

    def get(self, key: str) -> StoredValue | None:
        """The value of a key, or None."""

    def prefix(self, prefix: str) -> tuple[Sequence[StoredKey], int]:
        """All keys that begin with `prefix`, and the revision of which this is the state."""

    def put(self, key: str, value: str, *, lease: int = 0) -> int:
        """Set a key, whatever it holds; the new revision."""

    def create(self, key: str, value: str, *, lease: int = 0) -> int | None:
        """Set a key that does not exist; the new revision, or None when it exists."""

    def compare_and_swap(self, key: str, value: str, revision: int, *, lease: int = 0) -> int | None:
        """Set a key whose last change is still `revision`; the new revision, or None when it is not."""

    def delete(self, key: str, *, revision: int | None = None) -> bool:
        """Delete a key, if `revision` is given only when that is its last change."""

    def lease_grant(self, seconds: int) -> int:
        """A new etcd lease: keys under it vanish when it is not renewed."""

    def lease_keepalive(self, lease: int) -> int:
        """Renew an etcd lease; the seconds it lives from now. NotFound when it has run out."""

    def lease_revoke(self, lease: int) -> None:
        """End an etcd lease, and with it its keys."""

    def watch_prefix(self, prefix: str, from_revision: int) -> LeaseWatch:
        """Follow all keys that begin with `prefix`, from the changes of `from_revision` on."""


@dataclass(frozen=True, slots=True)
class KnownLease:
    """A lease in etcd and the revision of its last change."""

    lease: Lease
    revision: int


@dataclass(frozen=True, slots=True)
class LeaseListing:
    """All leases of a cluster as of `revision`, and the subnets whose value cannot be read with their last change."""

    known: tuple[KnownLease, ...]
    unreadable: Mapping[IPv4Network, int]
    revision: int

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The leases alone."""
        return tuple(known.lease for known in self.known)

    @property
    def taken(self) -> list[IPv4Network]:
        """All subnets that are spoken for."""
        return [*(known.lease.subnet for known in self.known), *self.unreadable]

    def revision_of(self, subnet: IPv4Network) -> int | None:
        """When a subnet's key was last changed; None when there is none."""
        for known in self.known:
            if known.lease.subnet == subnet:
                return known.revision
        return self.unreadable.get(subnet)


def list_leases(store: LeaseStore, prefix: str = PREFIX) -> LeaseListing:
    """All leases that are in etcd now."""
    entries, revision = store.prefix(leases_prefix(prefix))
    return parse_listing(entries, revision)


def parse_listing(entries: Iterable[StoredKey], revision: int) -> LeaseListing:
    """What the keys and values say; keys that are no subnet are overlooked, as flannel does."""
    known: list[KnownLease] = []
    unreadable: dict[IPv4Network, int] = {}
    for entry in entries:
        try:
            known.append(KnownLease(parse_lease(entry.key, entry.value), entry.revision))
        except ObjectError:
            try:
                unreadable[parse_lease_name(entry.key)] = entry.revision
            except ObjectError:
                continue
    return LeaseListing(tuple(known), unreadable, revision)


def read_network_config(store: LeaseStore, prefix: str = PREFIX) -> NetworkConfig:
    """The cluster's network configuration; NotFound when nobody wrote one, ObjectError when it is wrong."""
    key = config_key(prefix)
    stored = store.get(key)
    if stored is None:
        raise NotFound("no network configuration in etcd", key, "nobody has written it so far")
    return parse_network_config(stored.value, key)


def ensure_network_config(store: LeaseStore, config: NetworkConfig, prefix: str = PREFIX) -> None:
    """Have etcd hold this network configuration; agents read it when they start."""
    key, value = config_key(prefix), build_network_config(config)
    stored = store.get(key)
    if stored is None or stored.value != value.encode():
        store.put(key, value)
