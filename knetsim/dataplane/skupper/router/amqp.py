"""An AMQP connection: a socket, proton's engine, and the bytes between them.

proton's engine knows no sockets: bytes from the peer are pushed into it, events and bytes for the peer come out. Here
are the loops that do so, the same for whoever dialled and whoever was dialled, with TLS or without. What events mean is
the business of the `Conversation` that a connection is given.

Events are read with cproton, proton's own lower half: its Python classes would make five objects an event. Bytes for
the peer are taken out only as fast as the socket takes them, so what a slow peer does not read stays bounded in its
sessions.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import cproton
from cproton import (
    pn_collector_peek,
    pn_collector_pop,
    pn_event_delivery,
    pn_event_link,
    pn_event_session,
    pn_event_type,
    pn_transport_capacity,
    pn_transport_peek,
    pn_transport_pending,
    pn_transport_pop,
    pn_transport_push,
)
from proton import (
    SSL,
    UNDESCRIBED,
    Array,
    Connection,
    Data,
    Link,
    Session,
    Transport,
    TransportException,
    int32,
    symbol,
)

from knetsim.dataplane.skupper.router.conversation import Conversation, Terms
from knetsim.dataplane.skupper.router.loop import READABLE, WRITABLE, Loop

_LOG = logging.getLogger("SERVER")
#: bytes read, and bytes handed to the socket, in one turn
_READ, _WRITE = 65536, 262144
#: how much is read before others have their turn
_READ_TURN = 4 * _READ
#: bytes that a session may hold which nobody has read
SESSION_CAPACITY = 16 << 20


class AmqpConnection:
    """One connection; `start` it once its conversation is known."""

    def __init__(self, loop: Loop, stream: socket.socket, terms: Terms, *, dialled: bool) -> None:
        """`stream`: connected, or connecting if `dialled`."""
        self.loop, self.terms, self.dialled = loop, terms, dialled
        self.peer_address = ""
        self.opened_at: float | None = None
        self.delivered_at: float | None = None
        self.connection = Connection()
        self.transport = Transport(Transport.CLIENT if dialled else Transport.SERVER)
        self.why = ""
        #: called, once each, when there is room for more bytes
        self.stalled: dict[Callable[[], None], None] = {}
        self._collector = cproton.pn_collector()
        self._stream = stream
        self._conversation: Conversation | None = None
        self._connecting, self._readable, self._writable = dialled, False, False
        self._marked = self._ended = self._read_is_due = False
        self._out: list[bytes] = []
        self._domain = terms.domain
        self._tls: SSL | None = None
        cproton.pn_connection_collect(self.connection._impl, self._collector)
        self._prepare()

    def __del__(self) -> None:
        cproton.pn_collector_free(self._collector)

    def start(self, conversation: Conversation) -> None:
        """Begin; a dialled connection is opened at once, another when the peer has opened it."""
        self._conversation = conversation
        self._stream.setblocking(False)
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.dialled:
            self.connection.open()
        self.loop.watch(self._stream.fileno(), self._ready)
        self.mark()

    def mark(self) -> None:
        """There may be something to send: it is sent at the end of this turn."""
        if not self._marked and not self._ended:
            self._marked = True
            self.loop.soon(self._flush)

    @property
    def is_open(self) -> bool:
        """Whether anything can still be sent."""
        return not self._ended

    @property
    def has_room(self) -> bool:
        """Whether the socket takes what there is for it."""
        return not self._out

    @property
    def protocol(self) -> str | None:
        """Which TLS it is."""
        return self._tls.protocol_name() if self._tls is not None else None

    @property
    def cipher(self) -> str | None:
        """TLS's cipher."""
        return self._tls.cipher_name() if self._tls is not None else None

    def close(self, why: str) -> None:
        """End it in order: the peer is told."""
        self.why = self.why or why
        self.connection.close()
        self.mark()

    def drop(self, why: str) -> None:
        """End it at once."""
        if self._ended:
            return
        self._ended = True
        self.why = self.why or why
        self.loop.unwatch(self._stream.fileno())
        self._stream.close()
        self._out.clear()
        self.stalled.clear()
        # they know each other, and the garbage collector, which sees nothing of proton's memory, may come late
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.closed(self.why)

    def tick(self) -> None:
        """To be called every second: a silent peer is given up, and told that this side lives."""
        if not self._ended:
            self.transport.tick(self.loop.now())
            self.mark()

    # --- both ends of proton ------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        terms, transport, connection = self.terms, self.transport, self.connection
        connection.container = terms.container
        connection.hostname = terms.hostname or None
        if terms.capabilities:
            # skrouterd looks for what a neighbour can do in an array, even of one, and in no list: a neighbour that
            # does not offer `qd.streaming-links` so gets streams in transit one behind the other on a shared link
            capabilities = Array(UNDESCRIBED, Data.SYMBOL, *map(symbol, terms.capabilities))
            connection.offered_capabilities = connection.desired_capabilities = capabilities
        if terms.properties:
            # skrouterd overlooks a cost that is an integer of another size
            connection.properties = {key: _narrow(value) for key, value in terms.properties.items()}
        transport.max_frame_size = max(terms.max_frame, 512)
        transport.channel_max = min(terms.channels, 32768) - 1
        transport.idle_timeout = terms.idle
        sasl = transport.sasl()
        if terms.mechanisms:
            sasl.allowed_mechs(terms.mechanisms)
        transport.require_auth(terms.require_authentication)
        transport.require_encryption(terms.require_encryption)
        if self._domain is not None:
            self._tls = SSL(transport, self._domain)
            if terms.peer_name:
                self._tls.peer_hostname = terms.peer_name
        transport.bind(connection)

    def _ready(self, mask: int) -> None:
        if self._connecting:
            failure = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                return self.drop(os.strerror(failure))
            if not mask & WRITABLE:
                return None
            self._connecting = False
        if mask & READABLE:
            self._readable = True
        if mask & WRITABLE:
            self._writable = True
        self._read()
        return self.mark()

    def _read(self) -> None:
        self._read_is_due = False
        left = _READ_TURN
        transport = self.transport._impl
        while self._readable and not self._ended:
            room = pn_transport_capacity(transport)
            if room <= 0:
                break
            if left <= 0:
                self._read_soon()
                break
            try:
                octets = self._stream.recv(min(room, _READ))
            except BlockingIOError:
                self._readable = False
                break
            except OSError as error:
                return self.drop(error.strerror or str(error))
            if not octets:
                self._readable = False
                self._end_input()
                break
            left -= len(octets)
            if pn_transport_push(transport, octets) < 0:
                self._end_input()
            self._dispatch()
        return self.mark()

    def _read_soon(self) -> None:
        """Another turn, and no more than one."""
        if not self._read_is_due:
            self._read_is_due = True
            self.loop.soon(self._read)

    def _end_input(self) -> None:
        self.why = self.why or "the peer has gone"
        try:
            self.transport.close_tail()
        except TransportException:
            pass  # closed in the middle of a frame: the transport's error says so
        self._dispatch()

    def _flush(self) -> None:
        self._marked = False
        if self._ended:
            return None
        self._dispatch()
        pending, went = 0, False
        while self._writable and not self._ended:
            pending = self._fill()
            if not self._out:
                break
            went = True
            self._send()
        if self._ended:
            return None
        if pending < 0 and not self._out:
            return self.drop(self._condition())
        self._dispatch()
        if self._readable:
            # what was sent may have made room for what could not be read
            self._read_soon()
        # nothing went out: the peer's window is closed, and its next word calls those who wait
        if went and self.stalled and not self._out:
            waiting, self.stalled = self.stalled, {}
            for call in waiting:
                call()
        return None

    def _fill(self) -> int:
        """Take out what the peer shall get, several frames at once; what proton says last: negative at the end."""
        transport, taken = self.transport._impl, sum(map(len, self._out))
        while taken < _WRITE:
            pending = pn_transport_pending(transport)
            if pending <= 0:
                return int(pending)
            _, octets = pn_transport_peek(transport, pending)
            pn_transport_pop(transport, pending)
            self._out.append(octets)
            taken += pending
        return 1

    def _send(self) -> None:
        out = self._out
        try:
            sent = self._stream.send(out[0]) if len(out) == 1 else self._stream.sendmsg(out)
        except BlockingIOError:
            self._writable = False
            return
        except OSError as error:
            self.drop(error.strerror or str(error))
            return
        while out and sent >= len(out[0]):
            sent -= len(out.pop(0))
        if out:
            out[0] = out[0][sent:]
            self._writable = False

    def _condition(self) -> str:
        """Why the connection is over: what either side said, or what the transport found."""
        for condition in (self.transport.condition, self.connection.remote_condition):
            if condition is not None:
                return f"{condition.name}: {condition.description or ''}".rstrip(": ")
        return self.why or "closed"

    # --- events -------------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        collector = self._collector
        while not self._ended:
            event = pn_collector_peek(collector)
            if event is None:
                return
            meaning = _MEANINGS.get(pn_event_type(event))
            try:
                if meaning is not None and self._conversation is not None:
                    meaning(self, event)
            finally:
                # also after a mistake, which would be made again and again
                pn_collector_pop(collector)

    def _on_delivery(self, event: Any) -> None:
        assert self._conversation is not None
        self._conversation.delivered(int(pn_event_link(event)), pn_event_delivery(event))

    def _on_flow(self, event: Any) -> None:
        assert self._conversation is not None
        self._conversation.credited(int(pn_event_link(event)))

    def _on_open(self, _event: Any) -> None:
        if not self.dialled:
            self.connection.open()
        self.opened_at = self.loop.now()
        self.transport.tick(self.loop.now())
        if self._conversation is not None:
            self._conversation.opened()

    def _on_close(self, _event: Any) -> None:
        self.why = self.why or self._condition()
        self.connection.close()

    def _on_session(self, event: Any) -> None:
        session = Session.wrap(pn_event_session(event))
        if session.state & Session.LOCAL_UNINIT:
            session.incoming_capacity = SESSION_CAPACITY
            session.open()

    def _on_session_end(self, event: Any) -> None:
        session = Session.wrap(pn_event_session(event))
        if self._conversation is not None:
            self._conversation.ended(int(session._impl))
        session.close()

    def _on_link(self, event: Any) -> None:
        link = Link.wrap(pn_event_link(event))
        if link.state & Link.LOCAL_UNINIT and self._conversation is not None:
            self._conversation.attached(link)

    def _on_link_end(self, event: Any) -> None:
        if self._conversation is not None:
            self._conversation.detached(Link.wrap(pn_event_link(event)))

    def _on_end(self, _event: Any) -> None:
        self.why = self._condition()


def _narrow(value: Any) -> Any:
    """A number as one of 32 bits, where it is."""
    plain = isinstance(value, int) and not isinstance(value, bool)
    return int32(value) if plain and -(1 << 31) <= value < 1 << 31 else value


_MEANINGS: dict[int, Callable[[AmqpConnection, Any], None]] = {
    cproton.PN_DELIVERY: AmqpConnection._on_delivery,
    cproton.PN_LINK_FLOW: AmqpConnection._on_flow,
    cproton.PN_LINK_REMOTE_OPEN: AmqpConnection._on_link,
    cproton.PN_LINK_REMOTE_CLOSE: AmqpConnection._on_link_end,
    cproton.PN_LINK_REMOTE_DETACH: AmqpConnection._on_link_end,
    cproton.PN_SESSION_REMOTE_OPEN: AmqpConnection._on_session,
    cproton.PN_SESSION_REMOTE_CLOSE: AmqpConnection._on_session_end,
    cproton.PN_CONNECTION_REMOTE_OPEN: AmqpConnection._on_open,
    cproton.PN_CONNECTION_REMOTE_CLOSE: AmqpConnection._on_close,
    cproton.PN_TRANSPORT_ERROR: AmqpConnection._on_end,
}
