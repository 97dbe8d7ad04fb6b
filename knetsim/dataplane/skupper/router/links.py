"""Links of a connection: each carries one delivery after another, in one direction.

Whoever opens a link, both sides see the same: an InLink reads the head of what comes and passes it on, an OutLink
carries one Outgoing and is free again when the peer has settled it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import cproton
from cproton import pn_link_current
from proton import Link, Receiver, Sender, Session

from knetsim.dataplane.skupper.router.amqp import AmqpConnection
from knetsim.dataplane.skupper.router.message import Head
from knetsim.dataplane.skupper.router.streams import OUTCOMES, REJECTED, Incoming, Outgoing, Source

_LOG = logging.getLogger("CONTAINER")
#: deliveries that a peer may begin on a link before one is settled
CREDIT = 250
#: messages without a settlement that may wait for a peer's credit; more are dropped, as on a line that is down
_MOST_QUEUED = 1000
#: of messages that say nothing about it
_PRIORITY = 4


class InLink:
    """Deliveries that come in, one at a time."""

    def __init__(
        self, links: Links, link: Receiver, kind: str, deliver: Callable[[Incoming], None], *, streams: bool
    ) -> None:
        """`deliver` gets what has come: a stream with its head, another message when it is whole. It must settle it."""
        self.conversation, self.link, self.impl, self.kind = links, link, link._impl, kind
        self.deliver = deliver
        self.session = int(link.session._impl)
        self.priority = _PRIORITY
        self.incoming: Incoming | None = None
        self.outcomes: Counter[str] = Counter()
        self.deliveries = 0
        self._streams = streams

    def wants_whole(self, head: Head) -> bool:
        """Whether a message is to be gathered before it is passed on."""
        return not (self._streams and head.annotations is not None and head.annotations.is_stream)

    def advance(self) -> None:
        """Something has come."""
        if self.incoming is None:
            delivery = pn_link_current(self.impl)
            if delivery is None:
                return
            self.deliveries += 1
            self.incoming = Incoming(self, delivery)
        self.incoming.advance()

    def finish(self, incoming: Incoming) -> None:
        """A delivery is settled: the next one may come, and may be here already."""
        if self.incoming is incoming:
            self.incoming = None
            self.link.flow(1)
            self.conversation.connection.loop.soon(self._go_on)
            self.conversation.mark()

    def refuse(self, incoming: Incoming, why: str) -> None:
        """What came makes no sense."""
        _LOG.error("connection %s: a message is refused: %s", self.conversation.number, why)
        incoming.settle(REJECTED)

    def count(self, outcome: int) -> None:
        """For statistics."""
        self.outcomes[OUTCOMES.get(outcome, "presettled")] += 1

    def lose(self) -> None:
        """The link is gone."""
        incoming, self.incoming = self.incoming, None
        if incoming is not None:
            incoming.lose()

    def _go_on(self) -> None:
        if self.incoming is None and self.conversation.is_alive(self):
            self.advance()


class OutLink:
    """Deliveries that go out: one stream at a time, or messages that need no answer."""

    def __init__(self, links: Links, link: Sender, kind: str, free: Callable[[OutLink], None] | None = None) -> None:
        """`free` is told when a stream is over and the link can carry the next one."""
        self.conversation, self.link, self.impl, self.kind = links, link, link._impl, kind
        self.session_impl = link.session._impl
        self.session = int(self.session_impl)
        self.priority = _PRIORITY
        self.outgoing: Outgoing | None = None
        self.outcomes: Counter[str] = Counter()
        self.deliveries = 0
        self._free = free

    def begin(self, outgoing: Outgoing) -> Any:
        """A new delivery, for `outgoing`."""
        self.outgoing = outgoing
        self.deliveries += 1
        return cproton.pn_delivery(self.impl, format(self.deliveries, "x"))

    def send(self, source: Source, head: bytes, over: Callable[[], None] | None = None) -> Outgoing:
        """Carry a stream; `over` is called at its end, good or bad."""
        outgoing = Outgoing(self, source, head, over)
        outgoing.pull()
        self.conversation.mark()
        return outgoing

    def send_message(self, octets: bytes) -> bool:
        """Carry a whole message that nobody settles. Whether it was taken."""
        if cproton.pn_link_queued(self.impl) >= _MOST_QUEUED:
            self.outcomes["dropped"] += 1
            return False
        self.deliveries += 1
        delivery = cproton.pn_delivery(self.impl, format(self.deliveries, "x"))
        cproton.pn_link_send(self.impl, octets)
        cproton.pn_link_advance(self.impl)
        cproton.pn_delivery_settle(delivery)
        self.outcomes["presettled"] += 1
        self.conversation.mark()
        return True

    def update(self, delivery: Any) -> None:
        """The peer has said something about a delivery."""
        if self.outgoing is not None:
            self.outgoing.update(delivery)
        else:
            cproton.pn_delivery_settle(delivery)

    def finish(self, outgoing: Outgoing, outcome: int | None) -> None:
        """A stream is over; without an outcome it was given up."""
        self.outcomes[OUTCOMES.get(outcome or 0, "aborted")] += 1
        if self.outgoing is outgoing:
            self.outgoing = None
            if self._free is not None:
                self._free(self)

    def lose(self) -> None:
        """The link is gone."""
        outgoing, self.outgoing = self.outgoing, None
        if outgoing is not None:
            outgoing.lose()


class Links:
    """The links of one connection: the part that all conversations have in common."""

    def __init__(self, connection: AmqpConnection, number: int) -> None:
        self.connection, self.number = connection, number
        self.ins: dict[int, InLink] = {}
        self.outs: dict[int, OutLink] = {}
        #: of deliveries on links that are gone
        self.outcomes: Counter[str] = Counter()

    def links(self) -> list[InLink | OutLink]:
        """All of them."""
        return [*self.ins.values(), *self.outs.values()]

    def mark(self) -> None:
        """There is something to send."""
        self.connection.mark()

    def stall(self, call: Callable[[], None]) -> None:
        """Call again when what there is has been sent."""
        self.connection.stalled[call] = None
        self.connection.mark()

    def is_alive(self, link: InLink) -> bool:
        """Whether a link is still one."""
        return self.ins.get(int(link.impl)) is link

    def add_in(self, link: InLink) -> InLink:
        """Keep a link, and let the peer send."""
        self.ins[int(link.impl)] = link
        link.link.flow(CREDIT)
        self.mark()
        return link

    def add_out(self, link: OutLink) -> OutLink:
        """Keep a link."""
        self.outs[int(link.impl)] = link
        self.mark()
        return link

    def close_link(self, link: Link, session: Session | None = None) -> None:
        """End a link that this side opened, and its session if it has one of its own."""
        self._forget(link)
        link.close()
        if session is not None:
            session.close()
        self.mark()

    def delivered(self, link: int, delivery: Any) -> None:
        """Conversation's."""
        self.connection.delivered_at = self.connection.loop.now()
        incoming = self.ins.get(link)
        if incoming is not None:
            incoming.advance()
            return
        outgoing = self.outs.get(link)
        if outgoing is not None:
            outgoing.update(delivery)

    def credited(self, link: int) -> None:
        """Conversation's."""
        out = self.outs.get(link)
        if out is not None and out.outgoing is not None:
            out.outgoing.pull()

    def detached(self, link: Link) -> None:
        """Conversation's. The link's memory, and its session's, go with the connection: proton 0.37, asked to free them
        before, now and then freed them twice, when Python let go of its last name for them."""
        self._forget(link)
        link.close()
        self.mark()

    def ended(self, session: int) -> None:
        """Conversation's."""
        for link in self.links():
            if link.session == session:
                self.detached(link.link)

    def lose_all(self) -> None:
        """The connection is over: so is everything on it."""
        lost = self.links()
        self.ins, self.outs = {}, {}
        for link in lost:
            link.lose()

    def _forget(self, link: Link) -> None:
        address = int(link._impl)
        for found in (self.ins.pop(address, None), self.outs.pop(address, None)):
            if found is not None:
                found.lose()
                self.outcomes += found.outcomes


def capability_of(link: Link) -> str:
    """What the peer says a link is for: its source's or target's first capability; empty if there is none."""
    for terminus in (link.remote_target, link.remote_source):
        capabilities = terminus.capabilities
        capabilities.rewind()
        if capabilities.next():
            value = capabilities.get_object()
            elements = getattr(value, "elements", None)
            if elements is not None:
                value = elements[0] if elements else ""
            return str(value)
    return ""
