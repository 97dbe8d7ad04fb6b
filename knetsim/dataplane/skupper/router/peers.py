"""A neighbour: the links over which two routers exchange control messages, short messages and streams.

The side that dials opens a pair of control links and ten pairs of links for short messages, one for each priority. Each
stream gets a link with a session of its own, opened by whoever sends and used again when the stream is over.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from proton import Condition, Link, symbol

from knetsim.dataplane.skupper.router.amqp import SESSION_CAPACITY, AmqpConnection
from knetsim.dataplane.skupper.router.links import InLink, Links, OutLink, capability_of
from knetsim.dataplane.skupper.router.streams import Incoming, Outgoing, Source

_LOG = logging.getLogger("ROUTER_CORE")
CONTROL, SHORT = "qd.router", "qd.router-data"
_PRIORITIES = 10
#: free links for streams that are kept
_MOST_FREE = 128
#: the number of a role that dialled connections for streams alone bear
_DATA_ROLE = 4
CAPABILITIES = ("ANONYMOUS-RELAY", "qd.streaming-links", "qd.connection_trunking")


class Core(Protocol):
    """What a neighbour's messages are for."""

    def take_control(self, peer: Peer, incoming: Incoming) -> None:
        """A whole message of the control link."""

    def take_message(self, incoming: Incoming) -> None:
        """A whole message, or a stream of which the head has come."""

    def gain_peer(self, peer: Peer) -> None:
        """A neighbour can be talked to."""

    def lose_peer(self, peer: Peer) -> None:
        """… and no more."""


class Peer(Links):
    """A connection between routers."""

    def __init__(
        self, connection: AmqpConnection, number: int, core: Core, cost: int, ended: Callable[[str], None]
    ) -> None:
        """`cost`: this side's. `ended` is told when the connection is over."""
        super().__init__(connection, number)
        self.core, self.cost = core, cost
        #: the other router's name, once it has said it
        self.router = ""
        self.control_out: OutLink | None = None
        self.properties: dict[str, Any] = {}
        self._ended = ended
        self._control_in = False
        self._short_in = 0
        self._short: list[OutLink] = []
        self._free: list[OutLink] = []
        self._names = itertools.count(1)

    @property
    def for_streams(self) -> bool:
        """Whether the peer opened it for streams alone."""
        return bool(self.properties.get("qd.inter-router-role") == _DATA_ROLE)

    def opened(self) -> None:
        """Conversation's."""
        remote = self.connection.connection
        self.router = remote.remote_container or ""
        self.properties = {str(key): value for key, value in (remote.remote_properties or {}).items()}
        cost = self.properties.get("qd.inter-router-cost", 1)
        self.cost = max(self.cost, cost if isinstance(cost, int) else 1)
        if not self.connection.dialled:
            return
        self._open_pair(CONTROL)
        for _ in range(_PRIORITIES):
            self._open_pair(SHORT)

    def attached(self, link: Link) -> None:
        """Conversation's."""
        capability = capability_of(link)
        if capability in (CONTROL, SHORT) and self.for_streams:
            return self._refuse(link, "qd:forbidden", "no such links on a connection for streams")
        if not capability and not self._control_in and not self.for_streams:
            return self._refuse(link, "qd:wrong-role", "no control link has been opened")
        if capability not in (CONTROL, SHORT, ""):
            return self._refuse(link, "amqp:not-implemented", f"what is a link for {capability}?")
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.open()
        self._keep(link, capability)
        return None

    def closed(self, why: str) -> None:
        """Conversation's."""
        if self.control_out is not None:
            self.core.lose_peer(self)
        self._free.clear()
        self._short.clear()
        self.control_out = None
        self.lose_all()
        self._ended(why)

    def detached(self, link: Link) -> None:
        """Conversation's."""
        address = int(link._impl)
        if self.control_out is not None and int(self.control_out.impl) == address:
            self.connection.close("the neighbour has ended the control link")
        self._short = [one for one in self._short if int(one.impl) != address]
        self._free = [one for one in self._free if int(one.impl) != address]
        session = link.session
        streams = not capability_of(link)
        super().detached(link)
        if streams:
            session.close()

    def send_control(self, octets: bytes) -> None:
        """A message to the neighbour's own router, or through it to others."""
        if self.control_out is not None:
            self.control_out.send_message(octets)

    def send_short(self, octets: bytes, priority: int = 4) -> bool:
        """A whole message. Whether it was sent."""
        if not self._short:
            return False
        return self._short[min(priority, len(self._short) - 1)].send_message(octets)

    def send_stream(self, source: Source, head: bytes, over: Callable[[], None] | None = None) -> Outgoing:
        """A stream, on a link of its own. `over` is called when the neighbour is done with it, or it is given up."""
        link = self._free.pop() if self._free else self._open_stream()
        return link.send(source, head, over)

    def _open_pair(self, capability: str) -> None:
        session = self.connection.connection.session()
        session.incoming_capacity = SESSION_CAPACITY
        session.open()
        number = next(self._names)
        for link in (session.receiver(f"{capability}.in.{number}"), session.sender(f"{capability}.out.{number}")):
            for terminus in (link.source, link.target):
                terminus.capabilities.put_object(symbol(capability))
            link.open()
            self._keep(link, capability)

    def _open_stream(self) -> OutLink:
        session = self.connection.connection.session()
        session.incoming_capacity = SESSION_CAPACITY
        session.open()
        link = session.sender(f"stream.{next(self._names)}")
        link.open()
        return self.add_out(OutLink(self, link, "inter-router", self._release))

    def _release(self, link: OutLink) -> None:
        if len(self._free) < _MOST_FREE and int(link.impl) in self.outs:
            self._free.append(link)
        else:
            self.close_link(link.link, link.link.session)

    def _keep(self, link: Link, capability: str) -> None:
        if link.is_receiver:
            deliver = self._take_control if capability == CONTROL else self.core.take_message
            kind = "router-control" if capability == CONTROL else "inter-router"
            incoming = self.add_in(InLink(self, link, kind, deliver, streams=capability != CONTROL))
            self._set_priority(incoming, capability)
            self._control_in = self._control_in or capability == CONTROL
        elif capability == CONTROL:
            self.control_out = self.add_out(OutLink(self, link, "router-control"))
            self.control_out.priority = _PRIORITIES - 1
            self.core.gain_peer(self)
        elif capability == SHORT:
            out = self.add_out(OutLink(self, link, "inter-router"))
            out.priority = min(len(self._short), _PRIORITIES - 1)
            self._short.append(out)

    def _set_priority(self, link: InLink, capability: str) -> None:
        """The n-th pair of links is for messages of the priority n."""
        if capability == CONTROL:
            link.priority = _PRIORITIES - 1
        elif capability == SHORT:
            link.priority = min(self._short_in, _PRIORITIES - 1)
            self._short_in += 1

    def _take_control(self, incoming: Incoming) -> None:
        self.core.take_control(self, incoming)

    def _refuse(self, link: Link, name: str, why: str) -> None:
        _LOG.error("connection %s: a link is refused: %s", self.number, why)
        link.condition = Condition(name, why)
        link.open()
        link.close()
        self.mark()
