"""AMQP's types: what is written is read again, and nothing that comes in breaks the reader."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.dataplane.skupper.router.codec import Described, Symbol, UInt, ULong, decode, encode
from knetsim.dataplane.skupper.router.errors import DecodeError, Incomplete

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, (1 << 32) - 1).map(UInt),
    st.integers(0, (1 << 64) - 1).map(ULong),
    TEXTS,
    st.text("abcXYZ.-_$", max_size=300).map(Symbol),
    st.binary(max_size=300),
    st.uuids(),
)
VALUES = st.recursive(
    st.one_of(KEYS, st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(KEYS, inner, max_size=8),
        st.builds(Described, st.integers(0, 1 << 32).map(ULong), inner),
    ),
    max_leaves=30,
)


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    octets = encode(value)
    assert decode(octets) == (value, len(octets))


@given(VALUES, st.data())
def test_what_is_cut_off_is_incomplete(value: Any, data: st.DataObject) -> None:
    octets = encode(value)
    cut = data.draw(st.integers(0, len(octets) - 1))
    with pytest.raises(Incomplete):
        decode(octets[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(octets: bytes) -> None:
    try:
        _, end = decode(octets)
    except DecodeError:
        return
    assert 0 < end <= len(octets)


@given(VALUES, st.data())
def test_a_value_with_a_wrong_byte_is_a_value_or_an_error(value: Any, data: st.DataObject) -> None:
    octets = bytearray(encode(value))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(octets)
    except DecodeError:
        pass


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (None, b"\x40"),
        (True, b"\x41"),
        (UInt(0), b"\x43"),
        (UInt(5), b"\x52\x05"),
        (UInt(256), b"\x70\x00\x00\x01\x00"),
        (ULong(0), b"\x44"),
        (ULong(0x77), b"\x53\x77"),
        (-1, b"\x55\xff"),
        (200, b"\x81\x00\x00\x00\x00\x00\x00\x00\xc8"),
        ("", b"\xa1\x00"),
        ("web", b"\xa1\x03web"),
        (Symbol("qd.router"), b"\xa3\x09qd.router"),
        (b"\xff", b"\xa0\x01\xff"),
        ([], b"\x45"),
        (["a"], b"\xc0\x04\x01\xa1\x01a"),
        ({"a": None}, b"\xc1\x05\x02\xa1\x01a\x40"),
        (UUID(int=1), b"\x98" + b"\x00" * 15 + b"\x01"),
    ],
)
def test_the_shortest_form(value: Any, octets: bytes) -> None:
    assert encode(value) == octets
    assert decode(octets) == (value, len(octets))


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        (b"\x50\xff", 255),
        (b"\x51\xff", -1),
        (b"\x54\xff", -1),
        (b"\x56\x01", True),
        (b"\x60\x01\x00", 256),
        (b"\x61\xff\xff", -1),
        (b"\x71\xff\xff\xff\xff", -1),
        (b"\x72\x3f\x80\x00\x00", 1.0),
        (b"\x73\x00\x00\x00\x41", "A"),
        (b"\x83" + b"\x00" * 8, 0),
        (b"\xb1\x00\x00\x00\x01x", "x"),
        (b"\xd0\x00\x00\x00\x06\x00\x00\x00\x01\x52\x07", [7]),
        (b"\xe0\x04\x02\xa1\x01a"[:2] + b"\x02\xa3\x01", None),
        (b"\xe0\x06\x02\xa3\x01a\x01b", ["a", "b"]),
        (b"\xf0\x00\x00\x00\x0a\x00\x00\x00\x02\x70\x00\x00\x00\x01", None),
    ],
)
def test_other_forms_are_read(octets: bytes, value: Any) -> None:
    if value is None:
        with pytest.raises(DecodeError):
            decode(octets)
    else:
        assert decode(octets)[0] == value


def test_a_number_keeps_its_type() -> None:
    for value in (UInt(7), ULong(7), UInt(0), ULong(0)):
        assert type(decode(encode(value))[0]) is type(value)
    assert type(decode(encode(Symbol("x")))[0]) is Symbol


@pytest.mark.parametrize(
    "octets",
    [
        b"\x01",
        b"\x56\x02",
        b"\xa1\x01\xff",
        b"\xa3\x01\xff",
        b"\x73\xff\xff\xff\xff",
        b"\xc1\x02\x01\x40",
        b"\xc1\x04\x02\x45\x40\x40",
        b"\xc0\x02\xff\x40",
        b"\xc0\x03\x01\xa1\x05",
        b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40",
        b"\x00" * 100 + b"\x40",
        b"\xc0\xff\x01" * 60 + b"\x40" * 300,
    ],
)
def test_nonsense_is_an_error(octets: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(octets)
    assert not isinstance(caught.value, Incomplete)


def test_what_has_no_type_is_not_written() -> None:
    with pytest.raises(TypeError):
        encode(object())
    with pytest.raises(OverflowError):
        encode(1 << 64)
    assert math.isnan(decode(encode(math.nan))[0])
