"""Clients that speak SPDY/3.1 itself, without a WebSocket around it: kubectl before 1.31, and others if told to.

The API server passes such a connection on as it is. exec and attach open one stream for each of the standard files
that the client wants, one for the status and, with a terminal, one for its size; port-forward is as in the tunnel.
Source: k8s.io/cri-streaming/pkg/streaming/remotecommand, k8s.io/apimachinery/pkg/util/httpstream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from knetsim.node.kubelet_api import spdy
from knetsim.node.kubelet_api.remote import Message, Remote, Stream
from knetsim.node.kubelet_api.spdy_connection import Carrier, SpdyConnection, SpdyStream

PROTOCOL = "SPDY/3.1"
_VERSION_HEADER = "X-Stream-Protocol-Version"
V4, V3 = "v4.channel.k8s.io", "v3.channel.k8s.io"
#: as the original prefers them; v3 brought the terminal's size, v4 the status as an object
REMOTE_COMMANDS = (V4, V3, "v2.channel.k8s.io", "channel.k8s.io")
PORT_FORWARD = ("portforward.k8s.io",)
_CHUNK = 64 * 1024
#: how long a client may take to open its streams, and to go once it has been told how it ended
_OPENING_SECONDS, _LEAVING_SECONDS = 30.0, 5.0
_NAMES = {
    "stdin": Stream.STDIN,
    "stdout": Stream.STDOUT,
    "stderr": Stream.STDERR,
    "error": Stream.ERROR,
    "resize": Stream.RESIZE,
}


def is_raw(request: web.Request) -> bool:
    """Whether the client wants to speak SPDY at once."""
    return request.headers.get("Upgrade", "").lower() == PROTOCOL.lower()


def choose_version(request: web.Request, known: Sequence[str]) -> str:
    """The client's protocol, as the server prefers; a client that names none is of the oldest. HTTP 403."""
    offered = [word.strip() for value in request.headers.getall(_VERSION_HEADER, []) for word in value.split(",")]
    for version in known:
        if version in offered or (not offered and version is known[-1]):
            return version
    raise web.HTTPForbidden(
        text=f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server accepts {list(known)}"
    )


class _Protocol(asyncio.StreamReaderProtocol):
    """Takes over a connection from aiohttp, and tells it of its end."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)


class _Wire(Carrier):
    """The bytes of a connection itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, chunk: bytes) -> None:
        """See Carrier."""
        self._writer.write(chunk)
        await self._writer.drain()

    async def receive(self) -> bytes:
        """See Carrier."""
        try:
            return await self._reader.read(_CHUNK)
        except OSError:
            return b""


class Taken(web.StreamResponse):
    """The answer to a request whose connection has become something else: aiohttp has nothing more to write."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing."""

    @property
    def keep_alive(self) -> bool | None:
        """The connection is over."""
        return False


@asynccontextmanager
async def taken_over(request: web.Request, version: str) -> AsyncIterator[SpdyConnection]:
    """The connection of a request, SPDY from here on; closed after the block. ConnectionError when it is gone.

    The client says nothing before it has read this answer, so nothing of it can be with aiohttp's parser.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    reader = asyncio.StreamReader()
    protocol = _Protocol(reader, transport.get_protocol())
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    assert isinstance(transport, asyncio.Transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    head = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {PROTOCOL}"]
    writer.write("\r\n".join([*head, f"{_VERSION_HEADER}: {version}", "", ""]).encode())
    transport.resume_reading()
    try:
        yield SpdyConnection(_Wire(reader, writer))
    finally:
        writer.close()


class SpdyRemote(Remote):
    """A client of exec or attach that speaks SPDY."""

    def __init__(self, connection: SpdyConnection, version: str) -> None:
        self._connection, self._version = connection, version
        self._streams: dict[Stream, SpdyStream] = {}
        self._said: asyncio.Queue[Message | None] = asyncio.Queue(1)
        self._tasks = [asyncio.ensure_future(self._run())]

    async def open(self, streams: frozenset[Stream], *, tty: bool) -> None:
        """Wait for the streams that the client has said it would open. ConnectionError when they do not come."""
        wanted = streams | {Stream.ERROR}
        if tty and self._version in (V4, V3):
            wanted |= {Stream.RESIZE}
        try:
            async with asyncio.timeout(_OPENING_SECONDS):
                while wanted - self._streams.keys():
                    opened = await self._connection.accept()
                    name = _NAMES.get(opened.headers.get("streamtype", ""))
                    if name is None:
                        await opened.cancel()
                    else:
                        self._streams[name] = opened
        except TimeoutError as error:
            raise ConnectionAbortedError("the client did not open its streams") from error
        for name in (Stream.STDIN, Stream.RESIZE):
            if name in self._streams:
                self._tasks.append(asyncio.ensure_future(self._read(name, self._streams[name])))

    async def _run(self) -> None:
        try:
            await self._connection.run()
        except ConnectionError:
            pass
        await self._said.put(None)

    async def _read(self, name: Stream, stream: SpdyStream) -> None:
        while chunk := await stream.read():
            await self._said.put(Message(name, chunk))
        if not stream.reset.is_set():
            await self._said.put(Message(name, None))

    async def send(self, stream: Stream, chunk: bytes) -> None:
        """See Remote; what the client has no stream for is for nobody."""
        if chunk and stream in self._streams:
            await self._streams[stream].write(chunk)

    async def receive(self) -> Message | None:
        """See Remote."""
        return await self._said.get()

    async def finish(self, status: dict[str, Any]) -> None:
        """The status, then the ends of all streams; the client closes the connection when it has read them."""
        if self._version == V4:
            words = json.dumps(status).encode()
        else:  # success is silence
            words = b"" if status["status"] == "Success" else status.get("message", "").encode()
        await self.send(Stream.ERROR, words)
        for name in (Stream.STDOUT, Stream.STDERR, Stream.ERROR):
            if name in self._streams:
                await self._streams[name].finish()
        await asyncio.wait(self._tasks[:1], timeout=_LEAVING_SECONDS)

    async def ping(self) -> None:
        """See Remote; a server's pings have even numbers."""
        await self._connection.send(spdy.build_ping(2))

    async def close(self) -> None:
        """Read no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
