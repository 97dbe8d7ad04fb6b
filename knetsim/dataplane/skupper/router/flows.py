"""TCP connections across the network: a stream each way, from a listener at one router to a connector at another.

The listener's router sends F to the service's address, with an address for the answer; the connector's router dials the
backend and answers with R. Each stream is a head and then the connection's bytes as they are.
"""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Callable
from typing import Any

from knetsim.dataplane.skupper.router.addresses import read_address
from knetsim.dataplane.skupper.router.codec import UInt
from knetsim.dataplane.skupper.router.core import RouterCore
from knetsim.dataplane.skupper.router.message import (
    BODY_NULL,
    STREAMING,
    WITHOUT_BRAKE,
    Annotations,
    Head,
    Properties,
    build_head,
)
from knetsim.dataplane.skupper.router.streams import MODIFIED, REJECTED, RELEASED, Incoming
from knetsim.dataplane.skupper.router.tcp import TcpEnd, Traffic

_LOG = logging.getLogger("TCP_ADAPTOR")
_CONTENT = "application/octet-stream"
_VERSION = 1
_flows = itertools.count(1)


def _build_start(core: RouterCore, properties: Properties) -> bytes:
    """The head of a stream that begins at this router."""
    own = f"0/{core.router}"
    annotations = Annotations(STREAMING | WITHOUT_BRAKE, None, own, (own,))
    return build_head(annotations, properties, {"V": UInt(_VERSION)}) + BODY_NULL


def _is_tcp(head: Head | None) -> bool:
    return head is not None and head.properties.content_type == _CONTENT and head.null_body


def _join(incoming: Incoming, end: TcpEnd) -> None:
    """What comes in after the head goes to the socket."""
    assert incoming.head is not None
    del incoming.octets[: incoming.head.body_at + len(BODY_NULL)]
    end.input, incoming.sink = incoming, end
    end.pull()


class IngressFlow:
    """A client's connection, at its listener's router."""

    def __init__(
        self, core: RouterCore, stream: socket.socket, address: str, traffic: Traffic, over: Callable[[Any], None]
    ) -> None:
        """`over` is told when the connection is closed."""
        self.core, self.address = core, address
        self._told = over
        self._reply, self._key = core.new_address(self._take_reply)
        self._release: Callable[[], None] = lambda: None
        self.end = TcpEnd(core.loop, stream, traffic, over=self._over)

    def start(self) -> None:
        """Send F to where the service is. The connection is reset if it is nowhere."""
        chosen = self.core.choose(self.address)
        if chosen is None:
            return self.end.fail(f"nobody serves {self.address}")
        entry, place = chosen
        self._release = lambda: entry.places.release(place)
        entry.ingress += 1
        if place.kind == "consumer":
            entry.egress += 1
            return entry.consumers[place.name].take_own(self.end)
        peer = self.core.peer_to(place.name)
        if peer is None:
            return self.end.fail(f"there is no way to router {place.name}")
        correlation = f"{self._key}:{next(_flows)}"
        properties = Properties(to=self.address, reply_to=self._reply, correlation=correlation, content_type=_CONTENT)
        self.end.output = peer.send_stream(self.end, _build_start(self.core, properties))
        return None

    def _take_reply(self, incoming: Incoming) -> None:
        if self.end.input is not None or not self.end.is_open:
            return incoming.settle(RELEASED)
        if not _is_tcp(incoming.head):
            incoming.settle(REJECTED)
            return self.end.fail("the answer is no stream of TCP")
        _join(incoming, self.end)
        return self.end.start()

    def _over(self) -> None:
        self.core.own.pop(self._key, None)
        self._release()
        self._told(self)


class EgressFlow:
    """A connection to a backend, at its connector's router."""

    def __init__(
        self,
        core: RouterCore,
        stream: socket.socket,
        traffic: Traffic,
        incoming: Incoming,
        over: Callable[[Any], None],
    ) -> None:
        """`stream` is connecting."""
        self.core, self._incoming, self._told = core, incoming, over
        self.address = (incoming.head.to if incoming.head else None) or ""
        self.end = TcpEnd(core.loop, stream, traffic, over=self._over, dialling=True)
        self.end.connected = self._connected
        _join(incoming, self.end)

    def _connected(self) -> None:
        head = self._incoming.head
        assert head is not None
        reply = head.properties.reply_to or ""
        peer = self.core.peer_to(read_address(reply).router)
        if peer is None:
            return self.end.fail("there is no way back")
        start = _build_start(self.core, Properties(to=reply, content_type=_CONTENT))
        self.end.output = peer.send_stream(self.end, start)
        return self.end.start()

    def _over(self) -> None:
        self._told(self)


def check_stream(incoming: Incoming) -> bool:
    """Whether a stream is one that a connector can serve; it is settled if it is not."""
    head = incoming.head
    if not _is_tcp(head):
        incoming.settle(RELEASED)  # another consumer may know what it is
        return False
    if head is None or not head.properties.reply_to:
        incoming.settle(REJECTED)
        return False
    if incoming.aborted:
        incoming.settle(MODIFIED)
        return False
    return True


def join_own(client: TcpEnd, backend: TcpEnd) -> None:
    """Listener and connector are of one router: their connections are each other's streams."""
    client.output, client.input = backend, backend
    backend.output, backend.input = client, client
    backend.connected = lambda: _start_both(client, backend)


def _start_both(client: TcpEnd, backend: TcpEnd) -> None:
    client.start()
    backend.start()
