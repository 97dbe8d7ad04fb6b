"""SPDY/3.1: frames as bytes and back, however the bytes are cut."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.node.kubelet_api import spdy

#: of the specification's dictionary
LENGTH, ADLER = 1423, 0xE3C6A7C2

_streams = st.integers(1, 0x7FFF_FFFF)
_headers = st.dictionaries(st.text("abcdefgh-", min_size=1), st.text(max_size=40), max_size=5)
_frames = st.one_of(
    st.builds(spdy.Opened, _streams, _headers, st.booleans()),
    st.builds(spdy.Replied, _streams, _headers),
    st.builds(spdy.Piece, _streams, st.binary(max_size=200), st.booleans()),
    st.builds(spdy.Reset, _streams, st.integers(1, 11)),
    st.builds(spdy.Ping, st.integers(0, 0xFFFF_FFFF)),
    st.just(spdy.GoAway()),
)


def write(encoder: spdy.Encoder, frame: spdy.Frame) -> bytes:
    if isinstance(frame, spdy.Opened):
        return encoder.open_stream(frame.stream, frame.headers, fin=frame.fin)
    if isinstance(frame, spdy.Replied):
        return encoder.reply(frame.stream, frame.headers)
    if isinstance(frame, spdy.Piece):
        return spdy.build_piece(frame.stream, frame.chunk, fin=frame.fin)
    if isinstance(frame, spdy.Reset):
        return spdy.build_reset(frame.stream, frame.code)
    return spdy.build_ping(frame.number) if isinstance(frame, spdy.Ping) else spdy.build_go_away()


def test_the_dictionary_is_the_specification_s() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (LENGTH, ADLER)


@given(st.lists(_frames, max_size=12), st.integers(1, 40))
def test_frames_come_back_however_they_are_cut(frames: list[spdy.Frame], size: int) -> None:
    encoder, decoder = spdy.Encoder(), spdy.Decoder()
    sent = b"".join(write(encoder, frame) for frame in frames)
    came = [frame for start in range(0, len(sent), size) for frame in decoder.feed(sent[start : start + size])]
    assert came == frames


def test_headers_that_would_fill_the_memory_are_refused() -> None:
    sent = spdy.Encoder().open_stream(1, {"a": "x" * (64 << 20)})
    assert len(sent) < 100_000
    with pytest.raises(spdy.SpdyError, match="too long"):
        list(spdy.Decoder().feed(sent))


def test_layout() -> None:
    assert spdy.build_piece(5, b"ab", fin=True) == bytes.fromhex("00000005 01000002 6162")
    assert spdy.build_ping(7) == bytes.fromhex("80030006 00000004 00000007")
    assert spdy.build_reset(3, spdy.CANCEL) == bytes.fromhex("80030003 00000008 00000003 00000005")


def test_what_is_never_used_is_passed_over() -> None:
    settings = bytes.fromhex("80030004 00000004 00000000")
    assert list(spdy.Decoder().feed(settings + spdy.build_ping(1))) == [spdy.Ping(1)]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01",  # SPDY/2
        b"\x80\x03\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01",  # a stream without headers
        b"\x80\x03\x00\x02\x00\x00\x00\x08\x00\x00\x00\x01abcd",  # headers that are not compressed
    ],
)
def test_what_is_broken_ends_the_connection(sent: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        list(spdy.Decoder().feed(sent))


def test_a_header_that_is_cut_off_is_refused() -> None:
    deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
    block = deflate.compress(b"\0\0\0\1\0\0\0\x7fname") + deflate.flush(zlib.Z_SYNC_FLUSH)
    frame = b"\x80\x03\x00\x02" + (4 + len(block)).to_bytes(4, "big") + b"\0\0\0\1" + block
    with pytest.raises(spdy.SpdyError):
        list(spdy.Decoder().feed(frame))
