"""A client: a connection of `skstat`, `skmanage` or the like, to ask for management and get the answers."""

from __future__ import annotations

from collections.abc import Callable

from proton import Condition, Link

from knetsim.dataplane.skupper.router.amqp import AmqpConnection
from knetsim.dataplane.skupper.router.core import RouterCore
from knetsim.dataplane.skupper.router.links import InLink, Links, OutLink
from knetsim.dataplane.skupper.router.message import read_head
from knetsim.dataplane.skupper.router.streams import ACCEPTED, REJECTED, RELEASED, Incoming


class Client(Links):
    """A connection whose role is `normal`."""

    def __init__(self, connection: AmqpConnection, number: int, core: RouterCore, ended: Callable[[str], None]) -> None:
        super().__init__(connection, number)
        self.core = core
        self.router = ""
        self._ended = ended
        self._replies: dict[int, str] = {}

    def opened(self) -> None:
        """Conversation's."""
        self.router = self.connection.connection.remote_container or ""

    def attached(self, link: Link) -> None:
        """Conversation's."""
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        if link.is_receiver:
            address = link.remote_target.address
            if address is not None and not _is_management(address):
                return self._refuse(link, f"{address}: messages of clients go to management only")
            link.open()
            self.add_in(InLink(self, link, "endpoint", lambda incoming: self._take(incoming, address), streams=False))
        else:
            if not link.remote_source.dynamic:
                return self._refuse(link, "clients receive answers only, by a dynamic source")
            out = OutLink(self, link, "endpoint")
            address, key = self.core.new_address(lambda incoming: self._answer(out, incoming))
            self._replies[int(link._impl)] = key
            self.core.clients[key] = lambda octets: self._send(out, octets)
            link.source.dynamic = False
            link.source.address = address
            link.open()
            self.add_out(out)
        return None

    def detached(self, link: Link) -> None:
        """Conversation's."""
        self._forget_reply(self._replies.pop(int(link._impl), ""))
        super().detached(link)

    def closed(self, why: str) -> None:
        """Conversation's."""
        for key in self._replies.values():
            self._forget_reply(key)
        self._replies.clear()
        self.lose_all()
        self._ended(why)

    def _take(self, incoming: Incoming, target: str | None) -> None:
        head = incoming.head
        assert head is not None
        address = target or head.to
        if address is None or not _is_management(address):
            return incoming.settle(REJECTED)
        return self.core.take_client_message(incoming, address)

    def _answer(self, out: OutLink, incoming: Incoming) -> None:
        """An answer, from this router or another one, without what routers say to each other."""
        head = incoming.head
        assert head is not None
        sent = out.send_message(bytes(incoming.octets[head.rest_at :]))
        incoming.settle(ACCEPTED if sent else RELEASED)

    def _forget_reply(self, key: str) -> None:
        self.core.own.pop(key, None)
        self.core.clients.pop(key, None)

    def _send(self, out: OutLink, octets: bytes) -> None:
        """An answer of this router's own: without the annotations that it would have for others."""
        out.send_message(octets[read_head(octets, complete=True).rest_at :])

    def _refuse(self, link: Link, why: str) -> None:
        link.condition = Condition("amqp:not-allowed", why)
        link.open()
        link.close()
        self.mark()


def _is_management(address: str) -> bool:
    return address == "$management" or address.endswith("/$management")
