"""What a real skrouterd said: messages of runs of our own with one in a line A — B — C, byte for byte."""

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
from knetsim.dataplane.skupper.router.message import (
    BODY_NULL,
    STREAMING,
    WITHOUT_BRAKE,
    Annotations,
    Properties,
    build_message,
    read_body,
    read_head,
)

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
    assert SEEN.keys() == {*MEANINGS, "F", "R"}


def test_its_streams_are_understood() -> None:
    """A's client asked for `far`, which C serves; A's own backend said `front` to a client of C."""
    forward = read_head(SEEN["F"], complete=False)
    assert forward.annotations == Annotations(STREAMING | WITHOUT_BRAKE, None, "0/A", ("0/A",))
    assert forward.properties == Properties(
        to="far",
        reply_to="amqp:/_topo/0/A/temp.miIzQYpbThi6V6S",
        correlation="OWaUQ:5",
        content_type="application/octet-stream",
    )
    assert forward.application == {"V": 1} and forward.null_body
    assert SEEN["F"][forward.body_at :] == BODY_NULL
    reverse = read_head(SEEN["R"], complete=False)
    assert reverse.to == "amqp:/_topo/0/C/temp.ft2zLM2R+JRoFxf" and reverse.properties.reply_to is None
    assert reverse.annotations == forward.annotations and reverse.application == forward.application
    assert SEEN["R"][reverse.body_at :] == BODY_NULL + b"front"


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
