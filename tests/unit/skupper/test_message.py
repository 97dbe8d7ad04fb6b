"""Messages: router annotations, heads of streams that come in pieces, bodies."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.dataplane.skupper.router.codec import Described, Symbol, UInt, ULong, encode
from knetsim.dataplane.skupper.router.errors import DecodeError, Incomplete
from knetsim.dataplane.skupper.router.message import (
    BODY_NULL,
    STREAMING,
    WITHOUT_BRAKE,
    Annotations,
    Properties,
    build_head,
    build_message,
    read_body,
    read_head,
    text_keys,
)

OWN = Annotations(STREAMING | WITHOUT_BRAKE, None, "0/A", ("0/A",))
PROPERTIES = Properties("web:8080", None, "amqp:/_topo/0/A/temp.1", "f:1", "application/octet-stream")
#: as skrouterd's first stream began: seen on the wire
SEEN = bytes.fromhex("0080534b50522d2d5241 c01104 5205 40 a103302f41 c00601a103302f41")


def test_annotations_are_as_on_the_wire() -> None:
    assert OWN.encode() == SEEN
    assert read_head(SEEN + b"\x00\x53\x73\x45" + BODY_NULL, complete=False).annotations == OWN


def test_a_router_adds_itself_and_passes_on_what_it_does_not_know() -> None:
    annotations = Annotations(0xF5, "over", None, ("0/A",), ("mesh1", 7))
    passed = annotations.seen_by("B")
    assert passed == Annotations(0xF5, "over", None, ("0/A", "0/B"), ("mesh1", 7))
    assert read_head(passed.encode() + b"\x00\x53\x73\x45" + BODY_NULL, complete=False).annotations == passed


def test_the_head_of_a_stream_ends_where_its_bytes_begin() -> None:
    octets = build_head(OWN, PROPERTIES, {"V": UInt(1)}) + BODY_NULL
    head = read_head(octets + b"GET / HTTP/1.1", complete=False)
    assert head.annotations == OWN
    assert head.properties == PROPERTIES
    assert head.application == {"V": 1}
    assert head.null_body
    assert (octets + b"GET")[head.body_at + len(BODY_NULL) :] == b"GET"
    assert octets[head.rest_at :].startswith(b"\x00\x53\x73")


def test_a_head_that_comes_in_pieces_is_incomplete_until_it_is_there() -> None:
    octets = build_head(OWN, PROPERTIES, {"V": UInt(1)}) + BODY_NULL
    for length in range(len(octets)):
        with pytest.raises(Incomplete):
            read_head(octets[:length], complete=False)
    assert read_head(octets, complete=False).null_body


def test_a_whole_message_that_is_cut_off_is_wrong() -> None:
    octets = build_message(OWN, PROPERTIES, {"opcode": "RA"}, {"id": "A"})
    for length in range(1, len(octets)):
        assert read_whole(octets[:length]) in ("nothing", "wrong")


def read_whole(octets: bytes) -> str:
    try:
        return "nothing" if read_body(octets, read_head(octets, complete=True)) is None else "something"
    except Incomplete:
        return "incomplete"
    except DecodeError:
        return "wrong"


@pytest.mark.parametrize("correlation", ["text", ULong(7), UUID(int=9), b"\xff\x00", None])
def test_a_correlation_comes_back_as_it_was(correlation: object) -> None:
    octets = build_message(None, Properties(to="x", correlation=correlation), {}, None)
    found = read_head(octets, complete=True).properties.correlation
    assert found == correlation and type(found) is type(correlation)


def test_bodies() -> None:
    def body(octets: bytes) -> object:
        return read_body(octets, read_head(octets, complete=True))

    start = b"\x00\x53\x73\x45"
    assert body(build_message(None, Properties(), {}, {"a": [1]})) == {"a": [1]}
    assert body(start) is None
    assert body(start + b"\x00\x53\x75\xa0\x02ab" + b"\x00\x53\x75\xa0\x01c") == b"abc"
    assert body(start + b"\x00\x53\x76\xc0\x03\x01\x52\x05") == [[5]]
    assert body(start + b"\x00\x53\x77\x40" + b"\x00\x53\x78\xc1\x01\x00") is None


def test_sections_of_others_are_skipped() -> None:
    before = b"\x00\x53\x70\xc0\x02\x01\x42" + b"\x00\x53\x71\xc1\x01\x00" + b"\x00\x53\x72\xc1\x01\x00"
    head = read_head(SEEN + before + b"\x00\x53\x73" + encode([None, None, "to"]) + BODY_NULL, complete=False)
    assert head.to == "to" and head.rest_at == len(SEEN)


def test_an_override_wins() -> None:
    head = read_head(Annotations(0, "there").encode() + Properties(to="here").encode() + BODY_NULL, complete=False)
    assert head.to == "there"


@pytest.mark.parametrize(
    "fields",
    [
        [UInt(0), None, None],
        ["0", None, None, []],
        [UInt(0), 5, None, []],
        [UInt(0), None, b"0/A", []],
        [UInt(0), None, None, None],
        [UInt(0), None, None, ["0/A", 5]],
        [UInt(0), None, None, [], None],
        [True, None, None, []],
        {"flags": 0},
    ],
)
def test_annotations_that_are_none_are_refused(fields: object) -> None:
    octets = b"\x00\x80SKPR--RA" + encode(fields)
    with pytest.raises(DecodeError) as caught:
        read_head(octets + b"\x00\x53\x73\x45" + BODY_NULL, complete=False)
    assert not isinstance(caught.value, Incomplete)


@pytest.mark.parametrize(
    "octets",
    [
        b"hello world",
        b"\x00\x53\x99\x45" + BODY_NULL,
        b"\x00\x53\x73\x40" + BODY_NULL,
        b"\x00\x53\x73" + encode([None, None, 5]) + BODY_NULL,
        b"\x00\x53\x74\x45" + BODY_NULL,
        b"\x00\x53\x73\x45\x00\x53\x73\x45" + BODY_NULL,
        b"\x00\x53\x74\xc1\x01\x00\x00\x53\x73\x45" + BODY_NULL,
        b"\x00" + encode(Symbol("amqp:properties:list")) + b"\x45" + BODY_NULL,
    ],
)
def test_messages_that_are_none_are_refused(octets: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        read_head(octets, complete=False)
    assert not isinstance(caught.value, Incomplete)


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_a_head_or_an_error(octets: bytes, complete: bool) -> None:
    for start in (b"", b"\x00\x80SKPR--RA", SEEN, SEEN + b"\x00\x53\x73"):
        try:
            head = read_head(start + octets, complete=complete)
            read_body(start + octets, head)
        except DecodeError:
            pass


def test_maps_of_texts() -> None:
    assert text_keys({Symbol("a"): 1, "b": 2}) == {"a": 1, "b": 2}
    for value in (None, [], {5: 1}, Described(1, {})):
        with pytest.raises(DecodeError):
            text_keys(value)
