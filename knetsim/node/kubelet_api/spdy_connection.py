"""A connection that speaks SPDY/3.1, as its server: streams that can be read and written, over whatever carries bytes.

There is no flow control in what Kubernetes speaks: a stream that is not read holds up the whole connection once it has
a few frames waiting, here as in the original.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from aiohttp import WSMsgType, web

from knetsim.node.kubelet_api import spdy

_WAITING_FRAMES = 16
#: pieces that are sent at once
_CHUNK = 32 * 1024


class Carrier(Protocol):
    """What carries the bytes. A connection that is lost is a ConnectionError, or the end."""

    async def send(self, chunk: bytes) -> None:
        """Send; waits when the other side does not read."""

    async def receive(self) -> bytes:
        """Some bytes; none at the end."""


class Tunnel:
    """A WebSocket whose binary messages carry the bytes. Empty messages say nothing, and borders of messages mean
    nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, chunk: bytes) -> None:
        """See Carrier."""
        await self._socket.send_bytes(chunk)

    async def receive(self) -> bytes:
        """See Carrier."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:
                return message.data


class SpdyStream:
    """One stream. It is read by one task and written by one."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str], *, ended: bool) -> None:
        self.number, self.headers = number, headers
        self._connection = connection
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_FRAMES)
        self._read_to_end, self._written_to_end = ended, False
        self.reset = asyncio.Event()  # the other side wants it no more

    async def read(self) -> bytes:
        """The next piece; none after the last."""
        if self._read_to_end and self._pieces.empty():
            return b""
        piece = await self._pieces.get()
        if not piece:
            self._read_to_end = True
        return piece

    async def write(self, chunk: bytes) -> None:
        """Send a piece; into a stream that was reset, nothing is sent. ConnectionError."""
        for start in range(0, len(chunk), _CHUNK):
            if not self.reset.is_set() and not self._written_to_end:
                await self._connection.send(spdy.build_piece(self.number, chunk[start : start + _CHUNK]))

    async def finish(self) -> None:
        """End our direction. Twice is once."""
        if not self._written_to_end and not self.reset.is_set():
            self._written_to_end = True
            await self._connection.send(spdy.build_piece(self.number, b"", fin=True))

    async def cancel(self) -> None:
        """End both directions."""
        if not self.reset.is_set():
            self.reset.set()
            await self._connection.send(spdy.build_reset(self.number))

    async def take(self, piece: spdy.Piece) -> None:
        """Called by the connection; waits when nobody reads."""
        if piece.chunk:
            await self._put(piece.chunk)
        if piece.fin:
            await self._put(b"")

    async def _put(self, chunk: bytes) -> None:
        putting = asyncio.ensure_future(self._pieces.put(chunk))
        dropped = asyncio.ensure_future(self.reset.wait())
        try:
            await asyncio.wait((putting, dropped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            dropped.cancel()

    def drop(self) -> None:
        """Called by the connection: the other side has reset it, or is gone."""
        self.reset.set()
        self._read_to_end = True
        if not self._pieces.full():
            self._pieces.put_nowait(b"")


class SpdyConnection:
    """The streams of one connection. `run` reads it; each stream that is opened comes out of `accept`."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._decoder, self._encoder = spdy.Decoder(), spdy.Encoder()
        self._streams: dict[int, SpdyStream] = {}
        self._opened: asyncio.Queue[SpdyStream] = asyncio.Queue()
        self._sending = asyncio.Lock()

    async def send(self, frame: bytes) -> None:
        """Send whole frames. ConnectionError."""
        async with self._sending:
            await self._carrier.send(frame)

    async def accept(self) -> SpdyStream:
        """The next stream that the client opens; it has been told that it is taken."""
        return await self._opened.get()

    def forget(self, stream: SpdyStream) -> None:
        """Nothing that comes for it is wanted any more."""
        self._streams.pop(stream.number, None)

    async def run(self) -> None:
        """Read until the end. ConnectionError."""
        try:
            while chunk := await self._carrier.receive():
                for frame in self._decoder.feed(chunk):
                    if isinstance(frame, spdy.GoAway):
                        return
                    await self._take(frame)
        finally:
            for stream in self._streams.values():
                stream.drop()

    async def _take(self, frame: spdy.Frame) -> None:
        if isinstance(frame, spdy.Opened):
            stream = SpdyStream(self, frame.stream, frame.headers, ended=frame.fin)
            self._streams[frame.stream] = stream
            async with self._sending:  # built and sent in one order
                await self._carrier.send(self._encoder.reply(frame.stream))
            self._opened.put_nowait(stream)
        elif isinstance(frame, spdy.Ping):
            await self.send(spdy.build_ping(frame.number))
        elif isinstance(frame, spdy.Piece | spdy.Reset):
            known = self._streams.get(frame.stream)
            if known is None:
                return
            if isinstance(frame, spdy.Piece):
                await known.take(frame)
            else:
                known.drop()
                self.forget(known)
