"""AMQP as far as a management client needs it: one connection, requests one after the other, an answer to each.

The router's own codec reads and writes the frames, and a plain socket carries them: proton, which is slow to import and
may not be installed where only skrouterd is, is not needed for this. One link leads to `$management`, another one has
an address of the router's choice to which it sends answers (OASIS AMQP 1.0, parts 2 and 5).
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

from knetsim.dataplane.skupper.router.codec import Described, Symbol, UInt, ULong, decode, encode
from knetsim.dataplane.skupper.router.errors import RouterError

Dial = Callable[[float], socket.socket]

_AMQP, _SASL = b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"
_OPEN, _BEGIN, _ATTACH, _FLOW, _TRANSFER, _DISPOSITION = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
_DETACH, _END, _CLOSE = 0x16, 0x17, 0x18
_MECHANISMS, _INIT, _OUTCOME = 0x40, 0x41, 0x44
_SOURCE, _TARGET, _ACCEPTED = 0x28, 0x29, 0x24
#: numbers of the two links: requests go out by one, answers come by the other
_REQUESTS, _ANSWERS = 0, 1
#: frames that may come before anything is said about it: more than ever will
_WINDOW = 0x7FFFFFFF
_CREDIT = 100
_FRAME, _FRAME_HEAD = 65536, 8
#: an answer that is longer is a mistake of whoever sends it
_LONGEST = 256 << 20
#: room in a frame for what stands before the bytes of a message
_TRANSFER_HEAD = 64


class ConnectionLost(Exception):
    """The connection cannot be used any more, or never could; why in words."""


class AmqpRequests:
    """A connection with its two links, open as long as nothing goes wrong; whatever does is ConnectionLost."""

    def __init__(self, dial: Dial, timeout: float) -> None:
        #: where answers go, and the version that the router says it has
        self.reply_to = self.version = ""
        self._input = bytearray()
        self._credit = self._sent = self._received = self._frame = 0
        #: seconds after which the router gives up who says nothing; when that will be, 0 for never
        self._silence = self._idle = 0.0
        self._end = time.monotonic() + timeout
        try:
            self._socket = dial(timeout)
        except OSError as error:
            raise ConnectionLost(error.strerror or str(error)) from error
        try:
            if self._socket.family in (socket.AF_INET, socket.AF_INET6):
                # several small frames go out before an answer: none is to wait until the last one is confirmed
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._log_in()
            self._attach()
        except BaseException:
            self.close()
            raise

    @property
    def is_usable(self) -> bool:
        """Whether it has not been ended meanwhile, by the router or for being silent for long."""
        if self._idle and time.monotonic() > self._idle:
            return False
        try:
            self._end = 0.0
            for performative, fields, _ in self._frames(wait=False):
                self._look(performative, fields)
        except ConnectionLost:
            return False
        return True

    def close(self) -> None:
        """End it; the router is not waited for."""
        self._socket.close()

    def request(self, message: bytes, timeout: float) -> bytes:
        """Send a whole message; the whole message that comes back."""
        self._end = time.monotonic() + timeout
        self._send_message(message)
        answer = bytearray()
        for performative, fields, payload in self._frames():
            self._look(performative, fields)
            if performative != _TRANSFER:
                continue
            answer += payload
            if len(answer) > _LONGEST:
                raise ConnectionLost("its answer is too long")
            if not _field(fields, 5):
                self._settle(fields)
                return bytes(answer)
        raise AssertionError("frames come until the connection is lost")

    # --- begin --------------------------------------------------------------------------------------------------------

    def _log_in(self) -> None:
        self._write(_SASL)
        self._read_head(_SASL)
        mechanisms = _field(self._expect(_MECHANISMS), 0) or []
        known = [name for name in ("EXTERNAL", "ANONYMOUS") if name in mechanisms]
        if not known:
            raise ConnectionLost(f"it knows nobody without {', '.join(mechanisms) or 'a secret'}")
        self._write(_frame(_INIT, [Symbol(known[0]), b""], kind=1))
        outcome = _field(self._expect(_OUTCOME), 0)
        if outcome != 0:
            raise ConnectionLost(f"it does not let knetsim in ({known[0]}, outcome {outcome})")
        self._write(_AMQP)
        self._read_head(_AMQP)

    def _attach(self) -> None:
        self._send(_OPEN, ["knetsim", None, UInt(_FRAME)])
        fields = self._expect(_OPEN)
        self._frame = min(_FRAME, _field(fields, 2) or _FRAME)
        self._silence = (_field(fields, 4) or 0) / 1000
        properties = _field(fields, 9)
        self.version = str(properties.get("version", "")) if isinstance(properties, dict) else ""
        self._send(_BEGIN, [None, UInt(0), UInt(_WINDOW), UInt(_WINDOW)])
        source, target = Described(ULong(_SOURCE), []), Described(ULong(_TARGET), ["$management"])
        self._send(_ATTACH, ["requests", UInt(_REQUESTS), False, None, None, source, target, None, None, UInt(0)])
        source = Described(ULong(_SOURCE), [None, None, None, None, True])
        self._send(_ATTACH, ["answers", UInt(_ANSWERS), True, None, None, source, Described(ULong(_TARGET), [])])
        self._give_credit()
        for performative, fields, _ in self._frames():
            self._look(performative, fields)
            if performative == _ATTACH and _field(fields, 0) == "answers":
                source = _field(fields, 5)
                self.reply_to = str(_field(source.value, 0) or "") if isinstance(source, Described) else ""
            if self.reply_to and self._credit:
                return

    # --- say ----------------------------------------------------------------------------------------------------------

    def _send(self, performative: int, fields: list[Any], payload: bytes = b"") -> None:
        self._write(_frame(performative, fields, payload))

    def _send_message(self, message: bytes) -> None:
        if self._credit <= 0:
            for performative, fields, _ in self._frames():
                self._look(performative, fields)
                if self._credit > 0:
                    break
        number, room = UInt(self._sent), self._frame - _TRANSFER_HEAD
        pieces = [message[at : at + room] for at in range(0, len(message), room)]
        for at, piece in enumerate(pieces):
            more = at < len(pieces) - 1
            tag = int(number).to_bytes(4, "big")
            self._send(_TRANSFER, [UInt(_REQUESTS), number, tag, UInt(0), True, more], piece)
        self._sent += 1
        self._credit -= 1

    def _settle(self, transfer: list[Any]) -> None:
        """An answer has come: the router need not remember it, and may send another."""
        self._received += 1
        if not _field(transfer, 4):
            number = UInt(_field(transfer, 1) or 0)
            self._send(_DISPOSITION, [True, number, number, True, Described(ULong(_ACCEPTED), [])])
        self._give_credit()

    def _give_credit(self) -> None:
        count = UInt(self._received)
        self._send(_FLOW, [UInt(0), UInt(_WINDOW), UInt(0), UInt(_WINDOW), UInt(_ANSWERS), count, UInt(_CREDIT)])

    def _write(self, octets: bytes) -> None:
        try:
            self._socket.settimeout(max(0.001, self._end - time.monotonic()))
            self._socket.sendall(octets)
        except OSError as error:
            raise ConnectionLost(_words(error)) from error
        # a fourth is left for what is under way
        self._idle = time.monotonic() + 0.75 * self._silence if self._silence else 0.0

    # --- hear ---------------------------------------------------------------------------------------------------------

    def _expect(self, performative: int) -> list[Any]:
        """The fields of a frame that must come next."""
        for said, fields, _ in self._frames():
            if said == performative:
                return fields
            if said == _CLOSE:
                raise ConnectionLost(_reason(fields, 0))
            break
        raise ConnectionLost(f"it does not say what AMQP wants it to ({performative:#x})")

    def _look(self, performative: int, fields: list[Any]) -> None:
        """What every frame is looked at for, whatever is waited for."""
        if performative == _FLOW and _field(fields, 4) == _REQUESTS:
            self._credit = (_field(fields, 5) or 0) + (_field(fields, 6) or 0) - self._sent
        elif performative == _DETACH:
            raise ConnectionLost(_reason(fields, 2))
        elif performative in (_END, _CLOSE):
            raise ConnectionLost(_reason(fields, 0))

    def _frames(self, *, wait: bool = True) -> Iterator[tuple[int, list[Any], bytes]]:
        """Performative, fields and payload of each frame; for ever, or what is there if it shall not `wait`."""
        while True:
            while len(self._input) >= _FRAME_HEAD:
                size = int.from_bytes(self._input[:4], "big")
                offset, kind = 4 * self._input[4], self._input[5]
                if not _FRAME_HEAD <= offset <= size or size > _FRAME or kind > 1:
                    raise ConnectionLost("what it says is no AMQP")
                if len(self._input) < size:
                    break
                body = bytes(self._input[offset:size])
                del self._input[:size]
                if body:  # else it says that it is still there
                    yield _read_body(body)
            if not self._read(wait=wait):
                return

    def _read_head(self, expected: bytes) -> None:
        while len(self._input) < len(expected):
            self._read(wait=True)
        said = bytes(self._input[: len(expected)])
        del self._input[: len(expected)]
        if said != expected:
            raise ConnectionLost("it does not speak AMQP")

    def _read(self, *, wait: bool) -> bool:
        """More bytes; False if there are none and none are waited for."""
        try:
            self._socket.settimeout(max(0.001, self._end - time.monotonic()) if wait else 0.0)
            octets = self._socket.recv(_FRAME)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError as error:
            raise ConnectionLost(_words(error)) from error
        if not octets:
            raise ConnectionLost("it has ended the connection")
        self._input += octets
        return True


def _frame(performative: int, fields: list[Any], payload: bytes = b"", kind: int = 0) -> bytes:
    body = encode(Described(ULong(performative), fields)) + payload
    return (len(body) + _FRAME_HEAD).to_bytes(4, "big") + bytes((2, kind, 0, 0)) + body


def _read_body(body: bytes) -> tuple[int, list[Any], bytes]:
    try:
        said, at = decode(body)
    except RouterError as error:
        raise ConnectionLost(f"what it says is no AMQP: {error}") from error
    if not isinstance(said, Described) or not isinstance(said.descriptor, int) or not isinstance(said.value, list):
        raise ConnectionLost("what it says is no AMQP")
    return int(said.descriptor), said.value, body[at:]


def _field(fields: list[Any], number: int) -> Any:
    """Fields at the end may be left out."""
    return fields[number] if number < len(fields) else None


def _reason(fields: list[Any], number: int) -> str:
    error = _field(fields, number)
    if not isinstance(error, Described) or not isinstance(error.value, list):
        return "it has ended the connection"
    condition, description = _field(error.value, 0), _field(error.value, 1)
    return f"{condition}: {description}" if description else str(condition)


def _words(error: OSError) -> str:
    return "it says nothing" if isinstance(error, TimeoutError) else error.strerror or str(error)
