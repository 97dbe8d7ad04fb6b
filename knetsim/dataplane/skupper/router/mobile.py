"""Who serves what: addresses of services at this router and at all others, kept alike by MAR and MAU. Pure.

A router counts its changes. It tells all of a change (MAU with what was added and removed) and advertises the new
count; who has missed one sees a gap and asks (MAR), and is told everything.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from knetsim.dataplane.skupper.router.control import (
    TO_ALL_ADDRESSES,
    AddressesRequest,
    AddressesUpdate,
    Control,
    to_router,
)

_LOG = logging.getLogger("ROUTER_MA")
#: how a message to an address is delivered, as numbers of the protocol
TREATMENTS = {"flood": 0, "multicast": 1, "closest": 2, "balanced": 3, "unavailable": 4}
#: seconds after which a request that was not answered is made again
_PATIENCE = 3.0


@dataclass(slots=True)
class Remote:
    """What another router serves."""

    version: int = 0
    addresses: dict[str, int] = field(default_factory=dict)
    asked_at: float | None = None
    #: whether it has answered at all
    told: bool = False


class MobileAddresses:
    """Keys begin with their class: `Mweb:8080`. What is to be sent is in `outbox`, keys that changed in `changed`."""

    def __init__(self, router: str) -> None:
        self.router = router
        self.version = 0
        self.outbox: list[tuple[str, Control]] = []
        self.changed: set[str] = set()
        self.remotes: dict[str, Remote] = {}
        self._local: dict[str, int] = {}
        self._told: dict[str, int] = {}

    @property
    def local(self) -> Mapping[str, int]:
        """Key → treatment of what this router serves."""
        return self._local

    def serve(self, key: str, treatment: str) -> None:
        """This router serves `key` from now on."""
        self._local[key] = TREATMENTS[treatment]
        self.changed.add(key)

    def withdraw(self, key: str) -> None:
        """… and no more."""
        if self._local.pop(key, None) is not None:
            self.changed.add(key)

    def servers(self, key: str) -> Iterator[str]:
        """The other routers that serve `key`, reachable or not."""
        return (router for router, remote in self.remotes.items() if key in remote.addresses)

    def flush(self) -> bool:
        """Tell all what has changed since the last time. Whether there was something: then advertise the version."""
        added = {key: how for key, how in self._local.items() if self._told.get(key) != how}
        removed = tuple(key for key in self._told if key not in self._local)
        if not added and not removed:
            return False
        self._told = dict(self._local)
        self.version += 1
        update = AddressesUpdate(self.router, self.version, added=added, removed=removed)
        self.outbox.append((TO_ALL_ADDRESSES, update))
        return True

    def receive(self, message: AddressesRequest | AddressesUpdate) -> None:
        """A message of another router that the topology knows."""
        if message.router == self.router:
            return
        if isinstance(message, AddressesRequest):
            # what was not told to all yet is not in this version
            update = AddressesUpdate(self.router, self.version, exist=dict(self._told))
            self.outbox.append((to_router(message.router, addresses=True), update))
            return
        remote = self.remotes.setdefault(message.router, Remote())
        if message.exist is not None:
            self._replace(remote, dict(message.exist))
        elif message.version == remote.version + 1:
            kept = {key: how for key, how in remote.addresses.items() if key not in (message.removed or ())}
            self._replace(remote, {**kept, **(message.added or {})})
        else:
            if message.version > remote.version:
                self._ask(message.router, remote)
            return
        remote.version, remote.asked_at, remote.told = message.version, None, True

    def compare(self, router: str, version: int | None, now: float) -> None:
        """A router that can be reached advertises `version`: ask when it is not the known one. Again after a while.

        None: it has advertised nothing yet; it is asked all the same, so that nobody waits for its next turn.
        """
        remote = self.remotes.setdefault(router, Remote())
        if remote.version >= version if version is not None else remote.told:
            remote.asked_at = None
        elif remote.asked_at is None or now - remote.asked_at >= _PATIENCE:
            self._ask(router, remote)
            remote.asked_at = now

    def void(self, router: str) -> None:
        """What a router serves is unknown again."""
        remote = self.remotes.pop(router, None)
        if remote is not None:
            self.changed.update(remote.addresses)

    def _replace(self, remote: Remote, addresses: dict[str, int]) -> None:
        self.changed.update(addresses.keys() ^ remote.addresses.keys())
        remote.addresses = addresses

    def _ask(self, router: str, remote: Remote) -> None:
        _LOG.debug("asking router %s for its addresses, %s being known", router, remote.version)
        request = AddressesRequest(self.router, remote.version)
        self.outbox.append((to_router(router, addresses=True), request))
