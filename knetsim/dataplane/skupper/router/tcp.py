"""A TCP connection as both ends of two streams: what it sends is a Source, what it gets it pulls as a Sink.

A FIN ends the source and nothing else; a source that has ended becomes a FIN. Whatever goes wrong on one side becomes a
reset on the other, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from knetsim.dataplane.skupper.router.loop import BROKEN, ENDED, READABLE, WRITABLE, Loop
from knetsim.dataplane.skupper.router.streams import ACCEPTED, MODIFIED, OUTCOMES, PIECE, Sink, Source

_LOG = logging.getLogger("TCP_ADAPTOR")
#: bytes that may be under way to the far end's socket, and after how many it tells that they have arrived there
WINDOW, ACKNOWLEDGED = 1042432, 521216
#: how many are written before others have their turn
_TURN = 4 * PIECE
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Traffic:
    """What went through a listener or connector."""

    opened: int = 0
    closed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class TcpEnd:
    """One connection; reading begins with `start`, writing as soon as it has a source."""

    def __init__(
        self, loop: Loop, stream: socket.socket, traffic: Traffic, *, over: Callable[[], None], dialling: bool = False
    ) -> None:
        """`over` is called once, when the connection is closed. `dialling`: it is not connected yet."""
        self.ended = self.aborted = False
        self.peer_address = ""
        self.opened_at = loop.now()
        self.bytes_in = self.bytes_out = 0
        #: where its bytes go, and whose bytes it gets
        self.output: Sink | None = None
        self.input: Source | None = None
        self.connected: Callable[[], None] | None = None
        self._loop, self._stream, self._traffic, self._over = loop, stream, traffic, over
        self._dialling, self._started = dialling, False
        self._readable = self._writable = self._hung_up = False
        self._left = memoryview(b"")
        self._offset = self._told = 0
        self._open_window = False
        self._read_done = self._write_done = self._closed = False
        traffic.opened += 1
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.watch(stream.fileno(), self._ready)

    @property
    def is_open(self) -> bool:
        """Whether it is still one."""
        return not self._closed

    def start(self) -> None:
        """The far end is connected: read."""
        self._started = True
        if self.output is not None:
            self.output.pull()

    def fail(self, why: str) -> None:
        """Reset the connection, and give up both streams."""
        if self._closed:
            return
        _LOG.debug("connection with %s: %s", self.peer_address, why)
        self.aborted = True
        try:
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass  # it is gone already
        self._close()

    # --- a Source -----------------------------------------------------------------------------------------------------

    def read(self, limit: int) -> bytes:
        """Source's."""
        if not self._readable or not self._started or self.ended or self._closed:
            return b""
        if not self._open_window and self.bytes_in - self._offset >= WINDOW:
            return b""
        try:
            octets = self._stream.recv(limit)
        except BlockingIOError:
            self._readable = False
            return b""
        except OSError as error:
            why, self._readable = error.strerror or "reading failed", False
            self._loop.soon(lambda: self.fail(why))
            return b""
        if not octets:
            self.ended = True
            return b""
        if len(octets) < limit and not self._hung_up:
            self._readable = False  # all there was; the next byte is another event
        self.bytes_in += len(octets)
        self._traffic.bytes_in += len(octets)
        return octets

    def received(self, offset: int) -> None:
        """Source's."""
        if offset > self._offset:
            self._offset = offset
            if self.output is not None:
                self.output.pull()

    def settle(self, outcome: int) -> None:
        """Source's."""
        self._read_done = self._open_window = True
        if outcome != ACCEPTED:
            self.fail(f"the far end says: {OUTCOMES.get(outcome, outcome)}")
        else:
            self._close_if_done()

    # --- a Sink -------------------------------------------------------------------------------------------------------

    def pull(self) -> None:
        """Sink's."""
        source, left = self.input, _TURN
        if source is None or self._closed or self._write_done:
            return None
        if source.aborted:
            return self.fail("the far end has given up")
        while self._writable:
            if left <= 0:
                return self._loop.soon(self.pull)
            if not self._left:
                octets = source.read(PIECE)
                if not octets:
                    break
                self._left = memoryview(octets)
            try:
                sent = self._stream.send(self._left)
            except BlockingIOError:
                self._writable = False
                break
            except OSError as error:
                return self.fail(error.strerror or "writing failed")
            self._writable = sent == len(self._left)
            self._left = self._left[sent:]
            left -= sent
            self._count_written(source, sent)
        return self._finish_writing(source)

    def _count_written(self, source: Source, sent: int) -> None:
        self.bytes_out += sent
        self._traffic.bytes_out += sent
        if self.bytes_out - self._told >= ACKNOWLEDGED:
            self._told = self.bytes_out
            source.received(self.bytes_out)

    def _finish_writing(self, source: Source) -> None:
        if self._left or not source.ended or self._dialling:
            return None
        self._write_done = True
        try:
            self._stream.shutdown(socket.SHUT_WR)
        except OSError as error:
            return self.fail(error.strerror or "closing failed")
        source.settle(ACCEPTED)
        return self._close_if_done()

    # --- the socket ---------------------------------------------------------------------------------------------------

    def _ready(self, mask: int) -> None:
        if self._dialling and not self._connect(mask):
            return
        if mask & ENDED:
            self._hung_up = True
        if mask & READABLE:
            self._readable = True
        if mask & WRITABLE:
            self._writable = True
        if self._readable and self.output is not None:
            self.output.pull()
        if self._writable:
            self.pull()
        if mask & BROKEN and not self._closed:
            # perhaps nobody reads or writes just now, so nobody would find out
            failure = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                self.fail(os.strerror(failure))

    def _connect(self, mask: int) -> bool:
        failure = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            self.fail(os.strerror(failure))
            return False
        if not mask & WRITABLE:
            return False
        self._dialling = False
        self._writable = True
        if self.connected is not None:
            self.connected()
        return not self._closed

    def _close_if_done(self) -> None:
        if self._read_done and self._write_done:
            self._close()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._traffic.closed += 1
        self._loop.unwatch(self._stream.fileno())
        self._stream.close()
        self._left = memoryview(b"")
        self.ended = True
        if self.output is not None and not self._read_done:
            self.output.pull()
        if self.input is not None and not self._write_done:
            self._write_done = True
            self.input.settle(MODIFIED)
        self.output = self.input = None
        self._over()
