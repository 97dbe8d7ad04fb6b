"""Services: listeners that offer one to clients, connectors that lead to its backend.

A listener's port is open only while somebody serves its address, so that a client is refused at once instead of being
kept waiting.
"""

from __future__ import annotations

import errno
import itertools
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from knetsim.dataplane.skupper.router.core import RouterCore
from knetsim.dataplane.skupper.router.flows import EgressFlow, IngressFlow, check_stream, join_own
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.sockets import Dial, open_listener
from knetsim.dataplane.skupper.router.streams import MODIFIED, Incoming
from knetsim.dataplane.skupper.router.tcp import TcpEnd, Traffic

_LOG = logging.getLogger("TCP_ADAPTOR")
#: connections taken at once before others have their turn
_ACCEPT = 64
#: seconds until a port that was taken, or a shortage of descriptors, is looked at again
_PATIENCE = 1.0
_numbers = itertools.count(1)


class TcpListener:
    """A tcpListener of the configuration."""

    def __init__(self, core: RouterCore, attributes: Mapping[str, Any], *, drops: bool = True) -> None:
        """`drops`: its connections end with it."""
        self.core, self.attributes, self._drops = core, attributes, drops
        self.address = str(attributes["address"])
        self.traffic = Traffic()
        self.flows: dict[IngressFlow, int] = {}
        #: why the port is not open though the service is there
        self.trouble = ""
        self._socket: socket.socket | None = None
        self._stopped = False

    @property
    def is_up(self) -> bool:
        """Whether clients are taken."""
        return self._socket is not None

    def start(self) -> None:
        """Open the port as soon as the service is there."""
        self.core.watch(self.address, self._update)
        self._update()

    def stop(self) -> None:
        """Close the port, and all connections."""
        self._stopped = True
        self.core.unwatch(self.address, self._update)
        self._close()
        if self._drops:
            for flow in list(self.flows):
                flow.end.fail("the listener is deleted")

    def _update(self) -> None:
        reachable = self.core.is_reachable(self.address) and not self._stopped
        if reachable and self._socket is None:
            self._open()
        elif not reachable:
            self._close()

    def _open(self) -> None:
        host, port = str(self.attributes.get("host") or ""), str(self.attributes["port"])
        try:
            self._socket = open_listener(host, port, int(self.attributes.get("backlog") or 0) or 256)
        except OSError as error:
            words = error.strerror or str(error)
            if words != self.trouble:
                _LOG.error("tcpListener %s: cannot listen at %s:%s: %s", self.attributes["name"], host, port, words)
            self.trouble = words
            self.core.loop.after(_PATIENCE, self._update)
            return
        self.trouble = ""
        self.core.loop.watch(self._socket.fileno(), self._accept, level=True)
        _LOG.info("tcpListener %s: listens at %s:%s for %s", self.attributes["name"], host, port, self.address)

    def _close(self) -> None:
        listener, self._socket = self._socket, None
        if listener is not None:
            self.core.loop.unwatch(listener.fileno())
            listener.close()
            _LOG.info("tcpListener %s: listens no more: %s is not reachable", self.attributes["name"], self.address)

    def _accept(self, _mask: int) -> None:
        for _ in range(_ACCEPT):
            if self._socket is None:
                return
            try:
                stream, peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    self._rest(error)
                    return
                continue  # the client has gone before it was taken
            flow = IngressFlow(self.core, stream, self.address, self.traffic, self._over)
            flow.end.peer_address = f"{peer[0]}:{peer[1]}"
            self.flows[flow] = next(_numbers)
            flow.start()

    def _rest(self, error: OSError) -> None:
        """No descriptors are left: clients wait in the kernel's queue."""
        _LOG.error("tcpListener %s: %s; no connections are taken for a while", self.attributes["name"], error.strerror)
        listener = self._socket
        if listener is None:
            return
        self.core.loop.unwatch(listener.fileno())

        def again() -> None:
            if self._socket is listener:
                self.core.loop.watch(listener.fileno(), self._accept, level=True)

        self.core.loop.after(_PATIENCE, again)

    def _over(self, flow: IngressFlow) -> None:
        self.flows.pop(flow, None)


class TcpConnector:
    """A tcpConnector of the configuration."""

    def __init__(self, core: RouterCore, attributes: Mapping[str, Any], *, drops: bool = True) -> None:
        """`drops`: its connections end with it."""
        self.core, self.attributes, self._drops = core, attributes, drops
        self.name = str(attributes["name"])
        self.address = str(attributes["address"])
        self.traffic = Traffic()
        self.flows: dict[Any, int] = {}

    def start(self) -> None:
        """Tell the network that the service is here."""
        self.core.serve(self.address, self)

    def stop(self) -> None:
        """Tell the network that it is not, and close all connections."""
        self.core.withdraw(self.address, self)
        if self._drops:
            for flow in list(self.flows):
                flow.end.fail("the connector is deleted")

    def take(self, incoming: Incoming, over: Callable[[], None]) -> None:
        """Consumer's."""
        if not check_stream(incoming):
            return over()

        def dialled(stream: socket.socket) -> None:
            def ended(flow: EgressFlow) -> None:
                self.flows.pop(flow, None)
                over()

            flow = EgressFlow(self.core, stream, self.traffic, incoming, ended)
            if flow.end.is_open:
                self.flows[flow] = next(_numbers)
                flow.end.peer_address = self._place

        def failed(why: str) -> None:
            self._warn(why)
            incoming.settle(MODIFIED)
            over()

        return self._dial(dialled, failed)

    def take_own(self, client: TcpEnd) -> None:
        """A client's connection at a listener of this very router."""

        def dialled(stream: socket.socket) -> None:
            own = _OwnFlow(self.core.loop, stream, self.traffic, lambda flow: self.flows.pop(flow, None))
            self.flows[own] = next(_numbers)
            own.end.peer_address = self._place
            join_own(client, own.end)

        def failed(why: str) -> None:
            self._warn(why)
            client.fail(why)

        self._dial(dialled, failed)

    @property
    def _place(self) -> str:
        return f"{self.attributes['host']}:{self.attributes['port']}"

    def _dial(self, dialled: Callable[[socket.socket], None], failed: Callable[[str], None]) -> None:
        Dial(self.core.loop, str(self.attributes["host"]), str(self.attributes["port"]), dialled, failed)

    def _warn(self, why: str) -> None:
        _LOG.warning("tcpConnector %s: no connection to %s: %s", self.name, self._place, why)


class _OwnFlow:
    """A backend's connection whose client is at this router."""

    def __init__(self, loop: Loop, stream: socket.socket, traffic: Traffic, over: Callable[[_OwnFlow], object]) -> None:
        self._told = over
        self.end = TcpEnd(loop, stream, traffic, over=self._over, dialling=True)
        self.address = ""

    def _over(self) -> None:
        self._told(self)
