"""SPDY/3.1 frames as bytes, both ways; pure.

HTTP/2's forerunner lives on in Kubernetes: `kubectl port-forward` carries it in a WebSocket, older clients speak it
directly. Of it Kubernetes uses streams and no flow control: neither SETTINGS nor WINDOW_UPDATE is ever sent. Headers
are compressed with one state per connection and direction, so every header block has to be read, wanted or not, and
written in the order in which it is sent. Source: the SPDY Protocol, draft 3.1 (chromium.org/spdy).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_VERSION = 0x8003
SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY, HEADERS = 1, 2, 3, 6, 7, 8
_FIN = 0x01
_HEADER_BYTES = 8
#: of one frame, decompressed: a few kilobytes that are sent could be gigabytes
_LONGEST_HEADERS = 1 << 20
#: of a RST_STREAM
PROTOCOL_ERROR, CANCEL = 1, 5

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow"
    " authorization cache-control connection content-base content-encoding content-language content-length"
    " content-location content-md5 content-range content-type date etag expect expires from host if-match"
    " if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma"
    " proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get"
)
_VALUES = ("status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
#: what both sides know before the first header: the specification's own text
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in (*_WORDS.split(), *_VALUES)) + _TEXT.encode()
)


class SpdyError(ConnectionError):
    """What came is not SPDY/3.1."""


@dataclass(frozen=True, slots=True)
class Opened:
    """SYN_STREAM: the other side opens a stream. Several values of a header are separated by null characters."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Replied:
    """SYN_REPLY: the other side takes a stream of ours."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Piece:
    """A data frame; with `fin` the stream's last."""

    stream: int
    chunk: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """RST_STREAM: nobody wants the stream any more."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class Ping:
    """PING: to be sent back."""

    number: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """GOAWAY: no more streams."""


Frame = Opened | Replied | Piece | Reset | Ping | GoAway


class Decoder:
    """One direction of a connection, from bytes to frames, however the bytes are cut."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that are whole now. SpdyError."""
        self._rest += chunk
        while len(self._rest) >= _HEADER_BYTES:
            first, second = struct.unpack_from(">II", self._rest)
            end = _HEADER_BYTES + (second & 0xFFFFFF)
            if len(self._rest) < end:
                return
            body, flags = bytes(self._rest[_HEADER_BYTES:end]), second >> 24
            del self._rest[:end]
            frame = self._read(first, flags, body)
            if frame is not None:
                yield frame

    def _read(self, first: int, flags: int, body: bytes) -> Frame | None:
        if not first & 0x8000_0000:
            return Piece(first, body, bool(flags & _FIN))
        if first >> 16 != _VERSION:
            raise SpdyError("not a frame of SPDY/3")
        kind = first & 0xFFFF
        try:
            return self._read_control(kind, flags, body)
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise SpdyError(f"a broken frame of type {kind}: {error}") from error

    def _read_control(self, kind: int, flags: int, body: bytes) -> Frame | None:
        if kind == SYN_STREAM:
            return Opened(_number(body), self._read_headers(body[10:]), bool(flags & _FIN))
        if kind == SYN_REPLY:
            return Replied(_number(body), self._read_headers(body[4:]))
        if kind == RST_STREAM:
            return Reset(_number(body), struct.unpack_from(">I", body, 4)[0])
        if kind == PING:
            return Ping(struct.unpack_from(">I", body)[0])
        if kind == GOAWAY:
            return GoAway()
        if kind == HEADERS:
            self._read_headers(body[4:])
        return None

    def _read_headers(self, block: bytes) -> dict[str, str]:
        text = self._inflate.decompress(block, _LONGEST_HEADERS)
        if len(text) == _LONGEST_HEADERS:
            raise SpdyError("the headers are too long")
        (count,), position, words = struct.unpack_from(">I", text), 4, []
        for _ in range(count * 2):
            (length,) = struct.unpack_from(">I", text, position)
            position += 4 + length
            if position > len(text):
                raise SpdyError("a header is cut off")
            words.append(text[position - length : position].decode())
        return dict(zip(words[::2], words[1::2], strict=True))


def _number(body: bytes) -> int:
    number: int = struct.unpack_from(">I", body)[0]
    return number & 0x7FFF_FFFF


class Encoder:
    """The other direction. Frames with headers must be sent in the order in which they were built."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def open_stream(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        """SYN_STREAM; clients have odd numbers."""
        body = struct.pack(">IIBB", stream, 0, 0, 0) + self._write_headers(headers)
        return _control(SYN_STREAM, body, _FIN if fin else 0)

    def reply(self, stream: int, headers: Mapping[str, str] | None = None) -> bytes:
        """SYN_REPLY, which the client waits for."""
        return _control(SYN_REPLY, struct.pack(">I", stream) + self._write_headers(headers or {}))

    def _write_headers(self, headers: Mapping[str, str]) -> bytes:
        words = [word.encode() for pair in headers.items() for word in pair]
        text = struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(word)) + word for word in words)
        return self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def build_piece(stream: int, chunk: bytes, *, fin: bool = False) -> bytes:
    """A data frame."""
    return struct.pack(">II", stream, (_FIN if fin else 0) << 24 | len(chunk)) + chunk


def build_reset(stream: int, code: int = CANCEL) -> bytes:
    """RST_STREAM."""
    return _control(RST_STREAM, struct.pack(">II", stream, code))


def build_ping(number: int) -> bytes:
    """PING."""
    return _control(PING, struct.pack(">I", number))


def build_go_away() -> bytes:
    """GOAWAY, without having been in the wrong."""
    return _control(GOAWAY, struct.pack(">II", 0, 0))


def _control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", _VERSION, kind, flags << 24 | len(body)) + body
