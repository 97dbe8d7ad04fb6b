"""rtnetlink's bytes without a kernel: attributes come back as they were packed, damaged ones end quietly."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.system.netlink import add_address, add_fdb, add_neighbour, add_route, decode, wire
from knetsim.system.netlink.connection import messages

ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
NETWORKS = st.tuples(ADDRESSES, st.integers(1, 32)).map(lambda pair: IPv4Network(pair, strict=False))
MACS = st.binary(min_size=6, max_size=6).map(lambda value: value.hex(":"))
INDEXES = st.integers(1, 2**31 - 1)


def body(data: bytes) -> memoryview:
    """A message without its header; the header says its length."""
    (message,) = messages(memoryview(data))
    return message.body


@given(st.lists(st.tuples(st.integers(0, wire.NLA_TYPE_MASK), st.binary(max_size=30))))
def test_attributes_come_back(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(wire.attribute(kind, value) for kind, value in pairs)
    assert [(kind, bytes(value)) for kind, value in decode.attributes(data)] == pairs


@given(st.binary(max_size=200))
def test_any_bytes_can_be_looked_through(data: bytes) -> None:
    assert sum(len(value) for _, value in decode.attributes(data)) <= len(data)
    assert sum(len(message.body) for message in messages(memoryview(data))) <= len(data)


@given(NETWORKS, ADDRESSES, INDEXES, st.booleans())
def test_a_route_comes_back(dst: IPv4Network, via: IPv4Address, index: int, onlink: bool) -> None:
    route = decode.decode_route(body(add_route(str(dst), via=str(via), index=index, onlink=onlink).data))
    assert (route.dst, route.via, route.index, route.onlink) == (str(dst), str(via), index, onlink)
    assert (route.scope, route.protocol, route.table) == ("global", "boot", wire.RT_TABLE_MAIN)


def test_the_default_route_has_no_destination() -> None:
    for dst in ("default", "0.0.0.0/0"):
        assert decode.decode_route(body(add_route(dst, via="10.0.0.1").data)).dst == "default"


@given(ADDRESSES, st.integers(0, 32), INDEXES)
def test_an_address_comes_back(address: IPv4Address, length: int, index: int) -> None:
    found = decode.decode_address(body(add_address(index, f"{address}/{length}", broadcast="10.0.0.255").data))
    assert (found.cidr, found.index, found.broadcast) == (f"{address}/{length}", index, "10.0.0.255")


@given(ADDRESSES, MACS, INDEXES)
def test_neighbours_and_forwarding_entries_come_back(address: IPv4Address, mac: str, index: int) -> None:
    neighbour = decode.decode_neighbour(body(add_neighbour(index, str(address), mac).data))
    assert neighbour == decode.Neighbour(index, str(address), mac, "permanent")
    entry = decode.decode_neighbour(body(add_fdb(index, mac, str(address)).data))
    assert entry == decode.FdbEntry(index, mac, str(address), 0, own=True, permanent=True)


@pytest.mark.parametrize("wrong", ["", "10", "10.0.0", "10.0.0.0.0", "010.0.0.1", "::1", "10.0.0.0/33", "10.0.0.0/x"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an IPv4"):
        wire.packed_cidr(wrong)


def test_a_request_is_shown_as_its_command() -> None:
    assert str(add_route("11.15.80.0/20", via="11.15.80.0", index=3, onlink=True)) == (
        "ip route replace 11.15.80.0/20 via 11.15.80.0 dev if3 onlink"
    )
    assert str(add_fdb(3, "02:42:ac:11:00:09", "10.1.1.2")) == (
        "bridge fdb replace 02:42:ac:11:00:09 dev if3 dst 10.1.1.2 self permanent"
    )


def test_a_message_says_its_length() -> None:
    data = add_route("10.0.0.0/8", index=1).data
    assert struct.unpack_from("=I", data)[0] == len(data)
