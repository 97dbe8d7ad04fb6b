"""A name server: port 53 of a host, by UDP and TCP, in one thread for all places that it listens at."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import Any, cast

from knetsim.dataplane.dns.answers import answer_bytes
from knetsim.dataplane.dns.zones import Zone
from knetsim.errors import KnetsimError
from knetsim.system.loop_thread import LoopThread
from knetsim.system.netns import Namespaces, netns_socket

#: seconds that a connection may be silent, and how many there may be at a place (RFC 7766 wants both bounded)
_IDLE_SECONDS, _MOST_CONNECTIONS = 10.0, 128
_LENGTH = struct.Struct("!H")


class NameServer:
    """Answers from zones. `start` once, `stop` once; `listen` in between, from any thread."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's."""
        self._thread = LoopThread(name)
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []

    def start(self) -> None:
        """Begin; nothing listens yet."""
        self._thread.start()

    def listen(self, place: Namespaces, address: str, port: int, zones: Sequence[Zone]) -> None:
        """Answer at an address of a host, from zones that are asked in this order. KnetsimError when it is taken."""
        opened: list[socket.socket] = []
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                opened.append(netns_socket(place, socket.AF_INET, kind))
                opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
                opened[-1].bind((address, port))
                opened[-1].setblocking(False)
            self._thread.call(self._open(opened[0], opened[1], zones))
        except OSError as error:
            for one in opened:
                one.close()
            what = f"no name server can listen at {address}:{port}"
            raise KnetsimError(what, place.name, error.strerror or str(error)) from error

    def stop(self) -> None:
        """Listen no more, and end. Twice is once."""
        self._thread.stop(self._close)

    async def _open(self, datagrams: socket.socket, stream: socket.socket, zones: Sequence[Zone]) -> None:
        transport, _ = await self._thread.loop.create_datagram_endpoint(lambda: _Datagrams(zones), sock=datagrams)
        self._transports.append(transport)
        connections = _Connections(zones)
        self._servers.append(await asyncio.start_server(connections.serve, sock=stream, backlog=_MOST_CONNECTIONS))

    async def _close(self) -> None:
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Datagrams(asyncio.DatagramProtocol):
    """A question a datagram."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = zones
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's; it opens."""
        # not isinstance: before Python 3.12 asyncio's own has another base class
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """asyncio's; a question."""
        answer = answer_bytes(data, self._zones, datagram=True)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


class _Connections:
    """Questions by TCP, each after its length; a connection may ask several."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = zones
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it is closed, silent for long, or speaks something else."""
        self._open += 1
        try:
            while self._open <= _MOST_CONNECTIONS:
                async with asyncio.timeout(_IDLE_SECONDS):
                    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                    answer = answer_bytes(await reader.readexactly(length), self._zones, datagram=False)
                    if answer is None:
                        return
                    writer.write(_LENGTH.pack(len(answer)) + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            pass  # it has ended, or is taken to have
        finally:
            self._open -= 1
            writer.close()
