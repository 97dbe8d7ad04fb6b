"""Messages as routers exchange them: sections, router annotations first, and streams whose body is never framed.

A message is, in this order: router annotations (only between routers) · header · delivery annotations · message
annotations · properties · application properties · body. `read_head` needs the bytes up to the body and no further: a
stream of TCP has a body of null, and whatever follows it in the delivery are a connection's own bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from knetsim.dataplane.skupper.router.codec import Described, UInt, ULong, decode, encode
from knetsim.dataplane.skupper.router.errors import DecodeError, Incomplete

#: the descriptor of router annotations: "SKPR--RA"
ANNOTATIONS = ULong(0x534B50522D2D5241)
_HEADER, _PROPERTIES, _APPLICATION = ULong(0x70), ULong(0x73), ULong(0x74)
_DATA, _SEQUENCE, _VALUE = ULong(0x75), ULong(0x76), ULong(0x77)
_BODY = (_DATA, _SEQUENCE, _VALUE)
#: the sections before a body
_BEFORE_BODY = (_HEADER, ULong(0x71), ULong(0x72), _PROPERTIES, _APPLICATION)
#: a body that says: a stream follows
BODY_NULL = b"\x00\x53\x77\x40"
#: bits of the annotations' flags
STREAMING, RESEND_RELEASED, WITHOUT_BRAKE = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Annotations:
    """What routers tell each other about a message."""

    flags: int = 0
    to_override: str | None = None
    #: the router at which it came in, `0/<id>`; None from an edge router
    ingress: str | None = None
    #: all routers that it went through, the first one first
    trace: tuple[str, ...] = ()
    #: what later versions may add; passed on as it came
    more: tuple[Any, ...] = ()

    @property
    def is_stream(self) -> bool:
        """Whether it is forwarded before it has ended."""
        return bool(self.flags & STREAMING)

    def seen_by(self, router: str) -> Annotations:
        """As `router` forwards them: it is the last of the trace."""
        return replace(self, trace=(*self.trace, f"0/{router}"))

    def encode(self) -> bytes:
        """The section."""
        fields = [UInt(self.flags), self.to_override, self.ingress, list(self.trace), *self.more]
        return b"\x00\x80" + int(ANNOTATIONS).to_bytes(8, "big") + encode(fields)


@dataclass(frozen=True, slots=True)
class Properties:
    """Those properties that routers look at."""

    to: str | None = None
    subject: str | None = None
    reply_to: str | None = None
    #: text, number, UUID or bytes: goes back as it came
    correlation: Any = None
    content_type: str | None = None
    message_id: Any = None

    def encode(self) -> bytes:
        """The section, as short as it can be."""
        fields = [self.message_id, None, self.to, self.subject, self.reply_to, self.correlation, self.content_type]
        while fields and fields[-1] is None:
            fields.pop()
        return b"\x00\x53\x73" + encode(fields)


@dataclass(frozen=True, slots=True)
class Head:
    """Everything of a message before its body."""

    annotations: Annotations | None
    properties: Properties
    application: Mapping[Any, Any] = field(default_factory=dict)
    #: where the first section after the router annotations begins, and where the body does
    rest_at: int = 0
    body_at: int = 0
    #: whether the body is null, and the four bytes of it have come
    null_body: bool = False

    @property
    def to(self) -> str | None:
        """Where it shall go."""
        override = self.annotations.to_override if self.annotations else None
        return override or self.properties.to


def build_head(annotations: Annotations | None, properties: Properties, application: Mapping[str, Any]) -> bytes:
    """The sections before a body."""
    parts = [annotations.encode()] if annotations else []
    parts.append(properties.encode())
    if application:
        parts.append(b"\x00\x53\x74" + encode(dict(application)))
    return b"".join(parts)


def build_message(
    annotations: Annotations | None, properties: Properties, application: Mapping[str, Any], body: Any
) -> bytes:
    """A whole message whose body is one value."""
    return build_head(annotations, properties, application) + b"\x00\x53\x77" + encode(body)


def read_head(octets: bytes | bytearray, *, complete: bool) -> Head:
    """What comes before the body. `complete`: no more bytes will come, so what is cut off is wrong.

    Incomplete or DecodeError as in the codec.
    """
    try:
        return _read_head(octets, complete)
    except Incomplete as error:
        if complete:
            raise DecodeError(f"the message is cut off: {error}") from error
        raise


def _read_head(octets: bytes | bytearray, complete: bool) -> Head:
    annotations, at = _read_annotations(octets)
    rest_at, last = at, 0
    properties = Properties()
    application: dict[Any, Any] = {}
    while True:
        if complete and at == len(octets):
            return Head(annotations, properties, application, rest_at, at)
        section = _section_at(octets, at)
        if section in _BODY:
            break
        if section not in _BEFORE_BODY or section <= last:
            raise DecodeError(f"section 0x{section:x} has no place here")
        last = section
        value, at = decode(octets, at)
        if section == _PROPERTIES:
            properties = _read_properties(value.value)
        elif section == _APPLICATION:
            application = _read_map(value.value)
    if len(octets) < at + 4 and not complete:
        raise Incomplete("the body's type is missing")
    return Head(annotations, properties, application, rest_at, at, _is_null(octets, at))


def _is_null(octets: bytes | bytearray, at: int) -> bool:
    return bytes(octets[at : at + 4]) == BODY_NULL


def _section_at(octets: bytes | bytearray, at: int) -> int:
    if at >= len(octets):
        raise Incomplete("a section is missing")
    if octets[at] != 0:
        raise DecodeError("a section without a descriptor")
    section, _ = decode(octets, at + 1)
    if not isinstance(section, ULong):
        raise DecodeError("a section whose descriptor is no number")
    return section


def _read_annotations(octets: bytes | bytearray) -> tuple[Annotations | None, int]:
    if _section_at(octets, 0) != ANNOTATIONS:
        return None, 0
    section, at = decode(octets)
    fields = section.value
    if not isinstance(fields, list) or len(fields) < 4:
        raise DecodeError("router annotations of less than four fields")
    flags, override, ingress, trace, *more = fields
    if not isinstance(flags, int) or isinstance(flags, bool) or not 0 <= flags < 1 << 32:
        raise DecodeError("router annotations: the flags are no number")
    if not isinstance(trace, list) or not all(isinstance(one, str) for one in trace):
        raise DecodeError("router annotations: the trace is no list of texts")
    if not all(one is None or isinstance(one, str) for one in (override, ingress)):
        raise DecodeError("router annotations: an address is no text")
    if more and not isinstance(more[0], str):
        raise DecodeError("router annotations: the mesh is no text")
    return Annotations(flags, override, ingress, tuple(trace), tuple(more)), at


def _read_properties(fields: Any) -> Properties:
    if not isinstance(fields, list):
        raise DecodeError("properties that are no list")
    fields = fields + [None] * 7
    texts = (fields[2], fields[3], fields[4], fields[6])
    if not all(text is None or isinstance(text, str) for text in texts):
        raise DecodeError("properties: an address, subject or content-type that is no text")
    return Properties(fields[2], fields[3], fields[4], fields[5], fields[6], fields[0])


def _read_map(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise DecodeError("application properties that are no map")
    return value


def read_body(octets: bytes | bytearray, head: Head) -> Any:
    """A whole message's body: its value; the bytes of data sections; None when there is none. DecodeError."""
    at, pieces = head.body_at, []
    if at == len(octets):
        return None
    try:
        while at < len(octets):
            section, at = decode(octets, at)
            if not isinstance(section, Described) or section.descriptor not in _BODY:
                break  # a footer
            if section.descriptor == _VALUE:
                return section.value
            pieces.append(section.value)
    except Incomplete as error:
        raise DecodeError(f"the body is cut off: {error}") from error
    if pieces and all(isinstance(piece, bytes) for piece in pieces):
        return b"".join(pieces)
    return pieces


def text_keys(value: Any) -> dict[str, Any]:
    """A map whose keys are texts or symbols, as texts. DecodeError for anything else."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise DecodeError("a map with texts as keys was expected")
    return {str(key): element for key, element in value.items()}
