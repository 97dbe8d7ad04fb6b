"""What a real skrouterd said: messages of a run of our own with one, byte for byte (router B of the line A — B — C)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knetsim.dataplane.skupper.router.codec import Symbol
from knetsim.dataplane.skupper.router.control import (
    AddressesRequest,
    AddressesUpdate,
    Advertisement,
    Control,
    Hello,
    LinksRequest,
    LinksUpdate,
    read_control,
    write_control,
)
from knetsim.dataplane.skupper.router.message import Annotations, Properties, build_message, read_body, read_head

SEEN = {
    name: bytes.fromhex(octets)
    for name, octets in json.loads(Path(__file__).with_name("seen.json").read_text()).items()
}
STARTED = 1795294084
MEANINGS: dict[str, tuple[str, Control]] = {
    "HELLO": ("amqp:/_local/qdhello", Hello("B", STARTED, ("A", "C"))),
    "RA": ("amqp:/_topo/0/all/qdrouter", Advertisement("B", STARTED, 1, 1)),
    "LSR": ("amqp:/_topo/0/A/qdrouter", LinksRequest("B")),
    "LSU": ("amqp:/_topo/0/A/qdrouter", LinksUpdate("B", STARTED, 1, {"A": 1, "C": 1})),
    "MAR": ("amqp:/_topo/0/A/qdrouter.ma", AddressesRequest("B", 0)),
    # its own addresses for observers, which this router never asks for
    "MAU": ("amqp:/_topo/0/A/qdrouter.ma", AddressesUpdate("B", 1, exist={"Msfe.8ylWt:0": 2, "Mvfcr.8ylWt:0": 2})),
}


def test_all_kinds_were_seen() -> None:
    assert SEEN.keys() == MEANINGS.keys()


@pytest.mark.parametrize("opcode", MEANINGS)
def test_what_was_said_is_understood(opcode: str) -> None:
    octets, (address, message) = SEEN[opcode], MEANINGS[opcode]
    head = read_head(octets, complete=True)
    assert head.annotations == Annotations(0, None, "0/B", ("0/B",))
    assert (head.to, head.application) == (address, {"opcode": opcode})
    assert read_control(opcode, read_body(octets, head)) == message


@pytest.mark.parametrize("opcode", MEANINGS)
def test_the_same_is_said_in_the_same_fields(opcode: str) -> None:
    """Lengths and widths of numbers are a writer's choice; names, kinds of keys and their order are not."""
    octets, (address, message) = SEEN[opcode], MEANINGS[opcode]
    theirs = read_head(octets, complete=True)
    _, fields = write_control(message)
    assert theirs.annotations is not None
    ours = build_message(theirs.annotations, Properties(to=address), {"opcode": opcode}, fields)
    own, body = read_head(ours, complete=True), read_body(octets, theirs)
    assert own.annotations == theirs.annotations and own.properties == theirs.properties
    read = read_body(ours, own)
    assert set(body) <= set(read)
    assert {type(key) for key in read} == {type(key) for key in body} == {Symbol if opcode[0] == "M" else str}
