"""Being told of changes in a network namespace, instead of polling: rtnetlink's multicast groups.

An event is only a reason to look: what is true is in the kernel. When events come faster than they are read, some are
lost (ENOBUFS), which is said (`lost`): then look at everything.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from knetsim.system.netlink import decode, wire
from knetsim.system.netlink.connection import messages, open_socket
from knetsim.system.netlink.decode import Address, FdbEntry, Link, Neighbour, Route
from knetsim.system.netns import Namespaces

GROUPS = {
    "link": wire.RTNLGRP_LINK,
    "address": wire.RTNLGRP_IPV4_IFADDR,
    "route": wire.RTNLGRP_IPV4_ROUTE,
    "neighbour": wire.RTNLGRP_NEIGH,
}
_RECEIVE_BUFFER = 1 << 20
_NEW = {wire.RTM_NEWLINK, wire.RTM_NEWADDR, wire.RTM_NEWROUTE, wire.RTM_NEWNEIGH}


def _decode_link(data: memoryview) -> Link | None:
    """None for what a bridge says of its ports: its RTM_DELLINK means that a port left, not that the link is gone.

    The link itself is reported too, with its new master.
    """
    return None if data[0] == wire.AF_BRIDGE else decode.decode_link(data)


_DECODERS: dict[int, Callable[[memoryview], Link | Address | Route | Neighbour | FdbEntry | None]] = {
    wire.RTM_NEWLINK: _decode_link,
    wire.RTM_DELLINK: _decode_link,
    wire.RTM_NEWADDR: decode.decode_address,
    wire.RTM_DELADDR: decode.decode_address,
    wire.RTM_NEWROUTE: decode.decode_route,
    wire.RTM_DELROUTE: decode.decode_route,
    wire.RTM_NEWNEIGH: decode.decode_neighbour,
    wire.RTM_DELNEIGH: decode.decode_neighbour,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is new or different (`present`) or gone."""

    present: bool
    item: Link | Address | Route | Neighbour | FdbEntry


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the last look, in order. `lost`: there was more than could be kept, look at everything."""

    items: tuple[Change, ...] = ()
    lost: bool = False

    def __bool__(self) -> bool:
        return self.lost or bool(self.items)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.items)


class Monitor:
    """Changes of links, IPv4 addresses, IPv4 routes and neighbours in one network namespace, from its making on.

    `fileno` makes it fit select and epoll, so that one thread can stand watch over many namespaces.
    """

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self._socket = sock
        self._waiting = threading.Lock()
        self._closing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._closing, select.POLLIN)
        self.closed = False

    @classmethod
    def in_namespace(cls, place: Namespaces, groups: Iterable[str] = tuple(GROUPS)) -> Monitor:
        """Subscribe in `place`'s network namespace to `groups`: link, address, route, neighbour (ARP and FDB)."""
        numbers = [GROUPS[group] for group in groups]
        sock = open_socket(place, _RECEIVE_BUFFER)
        try:
            sock.setblocking(False)
            sock.bind((0, sum(1 << (number - 1) for number in numbers)))
            return cls(place.name, sock)
        except BaseException:
            sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket's descriptor: readable when there are changes."""
        return self._socket.fileno()

    def wait(self, timeout: float | None = None) -> Changes:
        """What happened, waiting up to `timeout` seconds for something to; empty when nothing did, or on `close`."""
        with self._waiting:
            if not self.closed:
                self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
            return Changes() if self.closed else self.read()

    def close(self) -> None:
        """Stop; a thread that waits here returns at once with nothing. Twice is once."""
        if self.closed:
            return
        self.closed = True
        os.eventfd_write(self._closing, 1)
        with self._waiting:  # descriptors that somebody polls must not be closed: their numbers would be used again
            self._socket.close()
            os.close(self._closing)

    def read(self) -> Changes:
        """What happened since the last look, without waiting."""
        items: list[Change] = []
        lost = False
        while True:
            try:
                data = self._socket.recv(64 << 10)
            except BlockingIOError:
                return Changes(tuple(items), lost)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            for reply in messages(memoryview(data)):
                decoder = _DECODERS.get(reply.kind)
                item = decoder(reply.body) if decoder else None
                if item is not None:
                    items.append(Change(reply.kind in _NEW, item))
