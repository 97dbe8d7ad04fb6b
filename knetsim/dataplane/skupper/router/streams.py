"""Streams: what comes in by a delivery or a socket, and where it goes while it is still coming.

A `Source` has bytes, a `Sink` pulls them when it has room. Nothing lies between the two: what is not pulled stays in
the kernel's buffer or in proton's, whose windows stop the sender. Backwards a sink tells its source how much has
arrived at the very end (`received`), and how it ended (`settle`); a router in the middle passes both on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import cproton
from cproton import pn_delivery_partial, pn_delivery_pending, pn_link_recv, pn_link_send, pn_session_outgoing_bytes

from knetsim.dataplane.skupper.router.errors import DecodeError, Incomplete
from knetsim.dataplane.skupper.router.message import Head, read_head

if TYPE_CHECKING:
    from knetsim.dataplane.skupper.router.links import InLink, OutLink

RECEIVED, ACCEPTED, REJECTED, RELEASED, MODIFIED = 0x23, 0x24, 0x25, 0x26, 0x27
OUTCOMES = {ACCEPTED: "accepted", REJECTED: "rejected", RELEASED: "released", MODIFIED: "modified"}
#: bytes taken from a source at once; a little less than a frame holds
PIECE = 65536 - 128
#: how many may wait in a session before its source must wait; how many are taken in one turn
_WAITING, _TURN = 4 * PIECE, 4 * PIECE
#: a head, or a whole message, that is longer is refused
LONGEST_HEAD, LONGEST_MESSAGE = 1 << 16, 1 << 24


class Source(Protocol):
    """Where bytes come from."""

    @property
    def ended(self) -> bool:
        """No more will come, and all have been read."""

    @property
    def aborted(self) -> bool:
        """Something has gone wrong: what was read is not all."""

    def read(self, limit: int) -> bytes:
        """Up to `limit` bytes; none when there are none now."""

    def received(self, offset: int) -> None:
        """So many bytes have arrived at the far end."""

    def settle(self, outcome: int) -> None:
        """The far end is done with it, for better or worse. Once."""


class Sink(Protocol):
    """Where bytes go."""

    def pull(self) -> None:
        """The source has something, or has ended."""


class Incoming:
    """A delivery that comes in: first its head, then it is a Source of the bytes that follow."""

    def __init__(self, link: InLink, delivery: Any) -> None:
        self.link = link
        self.head: Head | None = None
        self.sink: Sink | None = None
        self.octets = bytearray()
        self._delivery: Any = delivery
        self._lost = False

    @property
    def ended(self) -> bool:
        """Source's."""
        if self.octets or not self.complete:
            return False
        return self._delivery is None or not pn_delivery_pending(self._delivery)

    @property
    def aborted(self) -> bool:
        """Source's."""
        return self._lost or bool(self._delivery and cproton.pn_delivery_aborted(self._delivery))

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self._delivery is None or not pn_delivery_partial(self._delivery)

    def advance(self) -> None:
        """Something has come, or the sender has settled it."""
        if self.sink is not None:
            self.sink.pull()
        elif self.aborted:
            self.settle(MODIFIED)
        elif self.head is None:
            self._read_head()
        elif self.link.wants_whole(self.head):
            self._gather()

    def read(self, limit: int) -> bytes:
        """Source's."""
        if self.octets:
            piece = bytes(self.octets[:limit])
            del self.octets[:limit]
            return piece
        if self._delivery is None:
            return b""
        pending = pn_delivery_pending(self._delivery)
        if pending <= 0:
            return b""
        count, piece = pn_link_recv(self.link.impl, min(pending, limit))
        self.link.conversation.mark()
        return piece if count > 0 else b""

    def received(self, offset: int) -> None:
        """Source's."""
        if self._delivery is not None and not cproton.pn_delivery_settled(self._delivery):
            local = cproton.pn_delivery_local(self._delivery)
            cproton.pn_disposition_set_section_number(local, 0)
            cproton.pn_disposition_set_section_offset(local, offset)
            cproton.pn_delivery_update(self._delivery, RECEIVED)
            self.link.conversation.mark()

    def settle(self, outcome: int) -> None:
        """Source's."""
        delivery, self._delivery = self._delivery, None
        if delivery is None:
            return
        self.octets.clear()
        self.link.count(outcome)
        if outcome:
            cproton.pn_delivery_update(delivery, outcome)
        cproton.pn_delivery_settle(delivery)
        self.link.finish(self)

    def lose(self) -> None:
        """Its link is gone."""
        self._delivery, self._lost = None, True
        if self.sink is not None:
            self.sink.pull()

    def _read_head(self) -> None:
        self._gather_bytes(LONGEST_HEAD)
        complete = self.complete and not pn_delivery_pending(self._delivery)
        try:
            self.head = read_head(self.octets, complete=complete)
        except Incomplete:
            if len(self.octets) >= LONGEST_HEAD:
                self.link.refuse(self, "a head without an end")
            return
        except DecodeError as error:
            self.link.refuse(self, str(error))
            return
        if self.link.wants_whole(self.head):
            self._gather()
        else:
            self.link.deliver(self)

    def _gather(self) -> None:
        """The whole of a message that is not forwarded before its end."""
        self._gather_bytes(LONGEST_MESSAGE)
        if len(self.octets) >= LONGEST_MESSAGE:
            self.link.refuse(self, f"a message of more than {LONGEST_MESSAGE} bytes")
        elif self.complete:
            self.link.deliver(self)

    def _gather_bytes(self, most: int) -> None:
        room = most - len(self.octets)
        pending = pn_delivery_pending(self._delivery)
        while pending > 0 and room > 0:
            count, piece = pn_link_recv(self.link.impl, min(pending, room))
            if count <= 0:
                break
            self.octets += piece
            room -= len(piece)
            pending = pn_delivery_pending(self._delivery)
        self.link.conversation.mark()


class Outgoing:
    """A delivery that goes out: a Sink, until the peer has settled it or its link is lost."""

    def __init__(self, link: OutLink, source: Source, head: bytes, over: Callable[[], None] | None = None) -> None:
        """`over` is called once, when the peer is done with it or it is given up."""
        self.link, self.source = link, source
        self._over = over
        self._delivery: Any = link.begin(self)
        self._complete = False
        if head:
            pn_link_send(link.impl, head)

    def pull(self) -> None:
        """Sink's: as much as there is room for; the connection calls again when there is more."""
        link, source, left = self.link, self.source, _TURN
        if self._delivery is None or self._complete:
            return
        session, connection = link.session_impl, link.conversation
        while left > 0 and pn_session_outgoing_bytes(session) < _WAITING:
            piece = source.read(PIECE)
            if not piece:
                break
            pn_link_send(link.impl, piece)
            left -= len(piece)
        else:
            connection.stall(self.pull)
        if source.aborted:
            self.abort()
        elif source.ended:
            self._complete = True
            cproton.pn_link_advance(link.impl)
        connection.mark()

    def abort(self) -> None:
        """The source will never end: the peer is told to forget what it has."""
        if self._delivery is not None and not self._complete:
            delivery, self._delivery = self._delivery, None
            cproton.pn_delivery_abort(delivery)
            cproton.pn_delivery_settle(delivery)
            self.link.finish(self, None)
            self._end(MODIFIED)
            self.link.conversation.mark()

    def update(self, delivery: Any) -> None:
        """The peer has said something about it."""
        if self._delivery is None:
            return
        state = cproton.pn_delivery_remote_state(delivery)
        settled = cproton.pn_delivery_settled(delivery)
        if state == RECEIVED and not settled:
            self.source.received(cproton.pn_disposition_get_section_offset(cproton.pn_delivery_remote(delivery)))
        elif state in OUTCOMES or settled:
            self._settle(state if state in OUTCOMES else MODIFIED)

    def lose(self) -> None:
        """Its link is gone."""
        if self._delivery is not None:
            self._delivery = None
            self._end(MODIFIED)

    def _settle(self, outcome: int) -> None:
        delivery, self._delivery = self._delivery, None
        if not self._complete:
            # the peer wants no more: what it has is all that it will get
            cproton.pn_link_advance(self.link.impl)
        cproton.pn_delivery_settle(delivery)
        self.link.finish(self, outcome)
        self._end(outcome)
        self.link.conversation.mark()

    def _end(self, outcome: int) -> None:
        over, self._over = self._over, None
        self.source.settle(outcome)
        if over is not None:
            over()
