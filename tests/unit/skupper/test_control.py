"""Control messages: maps to values and back, and everything that is wrong with a map."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.dataplane.skupper.router.codec import Symbol, decode, encode
from knetsim.dataplane.skupper.router.control import (
    AddressesRequest,
    AddressesUpdate,
    Advertisement,
    Control,
    Hello,
    LinksRequest,
    LinksUpdate,
    UnknownVersion,
    read_control,
    to_router,
    write_control,
)
from knetsim.dataplane.skupper.router.errors import DecodeError

MESSAGES: list[Control] = [
    Hello("A", 1763750000, ("B", "C")),
    Hello("A", 0),
    Advertisement("A", 1763750000, 3, 4),
    LinksRequest("A"),
    LinksUpdate("A", 1763750000, 3, {"B": 1, "C": 10}),
    AddressesRequest("A", 0),
    AddressesUpdate("A", 1, exist={}),
    AddressesUpdate("A", 2, exist={"Mweb:8080": 3, "Mmc/x": 1}),
    AddressesUpdate("A", 3, added={"Mweb:8080": 3}, removed=("Mold",)),
    AddressesUpdate("A", 3, added={}, removed=()),
]


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_what_is_written_is_read(message: Control) -> None:
    opcode, body = write_control(message)
    assert read_control(opcode, decode(encode(body))[0]) == message
    # texts or symbols as keys
    assert read_control(opcode, {Symbol(key): value for key, value in body.items()}) == message
    assert read_control(opcode, {str(key): value for key, value in body.items()}) == message


def test_the_wire_is_skrouterds() -> None:
    assert write_control(Hello("A", 7, ("B",))) == (
        "HELLO",
        {"id": "A", "pv": 1, "area": "0", "instance": 7, "seen": ["B"]},
    )
    opcode, body = write_control(AddressesUpdate("A", 3, added={"Mweb": 3}, removed=("Mold",)))
    assert opcode == "MAU"
    assert body == {"id": "A", "pv": 2, "area": "0", "mobile_seq": 3, "add": [["Mweb", 3, 0]], "del": [["Mold"]]}
    assert all(isinstance(key, Symbol) for key in body)
    assert to_router("B") == "amqp:/_topo/0/B/qdrouter"
    assert to_router("B", addresses=True) == "amqp:/_topo/0/B/qdrouter.ma"


def test_entries_of_skrouterd_with_more_and_other_classes() -> None:
    entries = [["Mweb", 3, 0, None, "mesh1"], ["Lown", 3, 0], ["H", 3, 0], ["Hedge", 3, 0], ["Nnet"]]
    message = read_control("MAU", {"id": "A", "pv": 2, "mobile_seq": 1, "exist": entries})
    assert message == AddressesUpdate("A", 1, exist={"Mweb": 3, "Hedge": 3, "Nnet": 3})


def test_unknown_opcodes_are_nothing() -> None:
    assert read_control("RECORD", {"id": "A"}) is None
    assert read_control(None, {}) is None
    assert read_control(7, {}) is None


def test_versions() -> None:
    assert read_control("HELLO", {"id": "A", "instance": 1}) == Hello("A", 1)
    with pytest.raises(UnknownVersion) as caught:
        read_control("MAR", {"id": "A", "pv": 3})
    assert caught.value.router == "A"
    assert read_control("MAR", {"id": "A", "pv": 2}) == AddressesRequest("A", 0)


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        ("HELLO", None),
        ("HELLO", {}),
        ("HELLO", {"id": ""}),
        ("HELLO", {"id": "A"}),
        ("HELLO", {"id": "A", "instance": 1, "seen": "B"}),
        ("HELLO", {"id": "A", "instance": True}),
        ("RA", {"id": "A", "instance": 1, "ls_seq": -1}),
        ("RA", {"id": "A", "instance": 1, "ls_seq": "1"}),
        ("LSU", {"id": "A", "instance": 1}),
        ("LSU", {"id": "A", "instance": 1, "ls": {"ls_seq": 1, "peers": {"B": 0}}}),
        ("LSU", {"id": "A", "instance": 1, "ls": {"ls_seq": 1, "peers": {"B": "1"}}}),
        ("LSU", {"id": "A", "instance": 1, "ls": {"ls_seq": 1, "peers": []}}),
        ("MAU", {"id": "A", "mobile_seq": 1}),
        ("MAU", {"id": "A", "mobile_seq": 1, "add": []}),
        ("MAU", {"id": "A", "mobile_seq": 1, "del": []}),
        ("MAU", {"id": "A", "mobile_seq": 1, "exist": [], "add": [], "del": []}),
        ("MAU", {"id": "A", "mobile_seq": 1, "exist": {}}),
        ("MAU", {"id": "A", "mobile_seq": 1, "exist": ["Mweb"]}),
        ("MAU", {"id": "A", "mobile_seq": 1, "exist": [[]]}),
        ("MAU", {"id": "A", "mobile_seq": 1, "exist": [["Mweb", "3"]]}),
    ],
)
def test_what_is_wrong_is_an_error(opcode: str, body: Any) -> None:
    with pytest.raises(DecodeError):
        read_control(opcode, body)


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text("ABM", max_size=3), st.binary(max_size=3))
KEYS = [*("id", "pv", "instance", "seen", "ls_seq", "mobile_seq"), *("ls", "peers", "exist", "add", "del", "have_seq")]
BODIES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "pv",
                    "instance",
                    "seen",
                    "ls_seq",
                    "mobile_seq",
                    "ls",
                    "peers",
                    "exist",
                    "add",
                    "del",
                    "have_seq",
                ]
            ),
            inner,
        ),
    ),
    max_leaves=20,
)


@given(st.sampled_from(["HELLO", "RA", "LSR", "LSU", "MAR", "MAU"]), BODIES)
def test_any_map_is_a_message_or_an_error(opcode: str, body: Any) -> None:
    try:
        read_control(opcode, body)
    except DecodeError:
        pass
