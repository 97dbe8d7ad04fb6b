"""AMQP's types as bytes, both ways (OASIS AMQP 1.0, part 1). Pure: no socket, no proton.

proton has a codec of its own, but its messages neither show nor carry the router annotations that come before all
other sections, and a stream's head must be read before the rest has arrived: this one tells `Incomplete` from
`DecodeError`.

    null None · boolean bool · ubyte … long int · uint UInt · ulong ULong · float, double float · string, char str
    symbol Symbol · binary, decimals bytes · timestamp int (ms) · uuid UUID · list, array list · map dict

What is decoded is encoded to the same type again where that matters: numbers, texts and identifiers of messages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from knetsim.dataplane.skupper.router.errors import DecodeError, Incomplete

#: how deep values may be nested, and how many elements without a byte of their own an array may have
_DEEPEST, _MOST_EMPTY = 32, 4096


class UInt(int):
    """An unsigned number of 32 bits."""


class ULong(int):
    """An unsigned number of 64 bits."""


class Symbol(str):
    """A text of ASCII out of a set that both sides know."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor that says what it is."""

    descriptor: Any
    value: Any


def decode(octets: bytes | bytearray | memoryview, at: int = 0) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends. Incomplete when it does not, DecodeError when it is none."""
    return _decode(octets, at, len(octets), 0)


def encode(value: Any) -> bytes:
    """A value's bytes, in the shortest form. TypeError for what AMQP has no type for, OverflowError beyond 64 bits."""
    for kind, encoder in _ENCODERS:
        if isinstance(value, kind):
            return encoder(value)
    raise TypeError(f"AMQP has no type for {type(value).__name__}")


# --- decode -----------------------------------------------------------------------------------------------------------


def _decode(octets: bytes | bytearray | memoryview, at: int, end: int, depth: int) -> tuple[Any, int]:
    if at >= end:
        raise Incomplete("a value is missing")
    if depth > _DEEPEST:
        raise DecodeError("values are nested too deeply")
    code = octets[at]
    if code == 0:
        descriptor, at = _decode(octets, at + 1, end, depth + 1)
        value, at = _decode(octets, at, end, depth + 1)
        return Described(descriptor, value), at
    return _decode_plain(octets, code, at + 1, end, depth)


def _decode_plain(octets: bytes | bytearray | memoryview, code: int, at: int, end: int, depth: int) -> tuple[Any, int]:
    """The value of a constructor's code whose bytes begin at `at`."""
    fixed = _FIXED.get(code)
    if fixed is not None:
        width, read = fixed
        if at + width > end:
            raise Incomplete("a value is cut off")
        return read(bytes(octets[at : at + width])), at + width
    kind = code >> 4
    if kind in (0xA, 0xB):
        start, stop = _extent(octets, at, end, 1 if kind == 0xA else 4)
        return _decode_text(code & 0xF, bytes(octets[start:stop])), stop
    if kind in (0xC, 0xD, 0xE, 0xF):
        width = 1 if kind in (0xC, 0xE) else 4
        start, stop = _extent(octets, at, end, width)
        try:
            return _decode_compound(octets, code, start, stop, width, depth), stop
        except Incomplete as error:
            raise DecodeError("a list, map or array is longer than it says") from error
    raise DecodeError(f"0x{code:02x} is no type of AMQP")


def _extent(octets: bytes | bytearray | memoryview, at: int, end: int, width: int) -> tuple[int, int]:
    """Where the bytes begin and end whose number stands at `at`."""
    if at + width > end:
        raise Incomplete("a length is cut off")
    start = at + width
    stop = start + int.from_bytes(octets[at:start], "big")
    if stop > end:
        raise Incomplete("a value is cut off")
    return start, stop


def _decode_text(kind: int, octets: bytes) -> Any:
    try:
        if kind == 0x0:
            return octets
        if kind == 0x1:
            return octets.decode()
        if kind == 0x3:
            return Symbol(octets.decode("ascii"))
    except UnicodeDecodeError as error:
        raise DecodeError(f"a text that is none: {error.reason}") from error
    raise DecodeError(f"no type of AMQP ends in {kind:x}")


def _decode_compound(
    octets: bytes | bytearray | memoryview, code: int, at: int, end: int, width: int, depth: int
) -> Any:
    if at + width > end:
        raise Incomplete("a count is cut off")
    count = int.from_bytes(octets[at : at + width], "big")
    at += width
    if code in (0xE0, 0xF0):
        return _decode_array(octets, count, at, end, depth)
    if count > end - at:
        raise DecodeError("more elements than bytes")
    elements = []
    for _ in range(count):
        value, at = _decode(octets, at, end, depth + 1)
        elements.append(value)
    if code in (0xC0, 0xD0):
        return elements
    if code in (0xC1, 0xD1):
        return _build_map(elements)
    raise DecodeError(f"0x{code:02x} is no type of AMQP")


def _decode_array(octets: bytes | bytearray | memoryview, count: int, at: int, end: int, depth: int) -> list[Any]:
    if at >= end:
        raise Incomplete("an array's type is missing")
    descriptor: tuple[Any] | None = None
    if octets[at] == 0:
        value, at = _decode(octets, at + 1, end, depth + 1)
        descriptor = (value,)
        if at >= end:
            raise Incomplete("an array's type is missing")
    code = octets[at]
    at += 1
    if count > (_MOST_EMPTY if code >> 4 == 0x4 else end - at):
        raise DecodeError("more elements than bytes")
    if depth >= _DEEPEST or code == 0:
        raise DecodeError("values are nested too deeply")
    elements = []
    for _ in range(count):
        value, at = _decode_plain(octets, code, at, end, depth + 1)
        elements.append(value if descriptor is None else Described(descriptor[0], value))
    return elements


def _build_map(elements: list[Any]) -> dict[Any, Any]:
    if len(elements) % 2:
        raise DecodeError("a map with a key and no value")
    try:
        return dict(zip(elements[::2], elements[1::2], strict=True))
    except TypeError as error:
        raise DecodeError("a map whose key is a list or a map") from error


def _read_boolean(octets: bytes) -> bool:
    if octets[0] > 1:
        raise DecodeError("a boolean that is neither true nor false")
    return octets[0] == 1


def _read_character(octets: bytes) -> str:
    try:
        return chr(int.from_bytes(octets, "big"))
    except (ValueError, OverflowError) as error:
        raise DecodeError("no character has this number") from error


def _signed(octets: bytes) -> int:
    return int.from_bytes(octets, "big", signed=True)


def _unsigned(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _small(kind: type[int]) -> Callable[[bytes], int]:
    return lambda octets: kind(int.from_bytes(octets, "big"))


def _real(layout: str) -> Callable[[bytes], float]:
    return lambda octets: struct.unpack(layout, octets)[0]


#: code → (bytes of the value, how they are read)
_FIXED: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0x40: (0, lambda _: None),
    0x41: (0, lambda _: True),
    0x42: (0, lambda _: False),
    0x43: (0, lambda _: UInt(0)),
    0x44: (0, lambda _: ULong(0)),
    0x45: (0, lambda _: []),
    0x50: (1, _unsigned),
    0x51: (1, _signed),
    0x52: (1, _small(UInt)),
    0x53: (1, _small(ULong)),
    0x54: (1, _signed),
    0x55: (1, _signed),
    0x56: (1, _read_boolean),
    0x60: (2, _unsigned),
    0x61: (2, _signed),
    0x70: (4, _small(UInt)),
    0x71: (4, _signed),
    0x72: (4, _real("!f")),
    0x73: (4, _read_character),
    0x74: (4, bytes),
    0x80: (8, _small(ULong)),
    0x81: (8, _signed),
    0x82: (8, _real("!d")),
    0x83: (8, _signed),
    0x84: (8, bytes),
    0x94: (16, bytes),
    0x98: (16, lambda octets: UUID(bytes=octets)),
}


# --- encode -----------------------------------------------------------------------------------------------------------


def _encode_unsigned(value: int, codes: tuple[int, int, int], width: int) -> bytes:
    """Nothing for 0, one byte below 256, else all of them."""
    zero, small, full = codes
    if value == 0:
        return bytes((zero,))
    return bytes((small, value)) if 0 < value < 256 else bytes((full,)) + int(value).to_bytes(width, "big")


def _encode_long(value: int) -> bytes:
    if -128 <= value < 128:
        return b"\x55" + value.to_bytes(1, "big", signed=True)
    return b"\x81" + value.to_bytes(8, "big", signed=True)


def _encode_sized(kind: int, octets: bytes) -> bytes:
    if len(octets) < 256:
        return bytes((0xA0 | kind, len(octets))) + octets
    return bytes((0xB0 | kind,)) + len(octets).to_bytes(4, "big") + octets


def _encode_list(elements: list[Any] | tuple[Any, ...]) -> bytes:
    if not elements:
        return b"\x45"
    return _encode_compound(0x0, b"".join(map(encode, elements)), len(elements))


def _encode_map(value: dict[Any, Any]) -> bytes:
    pairs = b"".join(encode(key) + encode(element) for key, element in value.items())
    return _encode_compound(0x1, pairs, 2 * len(value))


def _encode_compound(kind: int, octets: bytes, count: int) -> bytes:
    if len(octets) < 255 and count < 256:
        return bytes((0xC0 | kind, len(octets) + 1, count)) + octets
    return bytes((0xD0 | kind,)) + (len(octets) + 4).to_bytes(4, "big") + count.to_bytes(4, "big") + octets


#: in the order in which they are tried: a Symbol is a str too, a bool an int
_ENCODERS: tuple[tuple[type, Callable[[Any], bytes]], ...] = (
    (type(None), lambda _: b"\x40"),
    (bool, lambda value: b"\x41" if value else b"\x42"),
    (UInt, lambda value: _encode_unsigned(value, (0x43, 0x52, 0x70), 4)),
    (ULong, lambda value: _encode_unsigned(value, (0x44, 0x53, 0x80), 8)),
    (int, _encode_long),
    (float, lambda value: b"\x82" + struct.pack("!d", value)),
    (Symbol, lambda value: _encode_sized(0x3, value.encode("ascii"))),
    (str, lambda value: _encode_sized(0x1, value.encode())),
    (bytes, lambda value: _encode_sized(0x0, value)),
    (UUID, lambda value: b"\x98" + value.bytes),
    (list, _encode_list),
    (tuple, _encode_list),
    (dict, _encode_map),
    (Described, lambda value: b"\x00" + encode(value.descriptor) + encode(value.value)),
)
