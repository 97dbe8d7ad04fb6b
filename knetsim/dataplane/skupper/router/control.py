"""What routers tell each other about the network: HELLO, RA, LSR, LSU, MAR and MAU, as values and as maps.

    HELLO to the neighbour, every second: who I am, whom I hear      RA   to all: how new my links and addresses are
    LSR   to one: tell me your links      LSU  … here they are       MAR  to one: tell me your addresses
    MAU   to one or all: my addresses, all of them or what has changed

A reader takes texts and symbols as keys, any integer, and leaves out what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knetsim.dataplane.skupper.router.codec import Symbol
from knetsim.dataplane.skupper.router.errors import DecodeError
from knetsim.dataplane.skupper.router.message import text_keys

#: version of the protocol: of links, and of addresses
LINKS_VERSION, ADDRESSES_VERSION = 1, 2
_KNOWN = {"HELLO": 1, "RA": 1, "LSR": 1, "LSU": 1, "MAR": 2, "MAU": 2}
#: keys of addresses that go from router to router: services, networks, edges
_SHARED = ("M", "N", "H")

TO_NEIGHBOUR = "amqp:/_local/qdhello"
TO_ALL = "amqp:/_topo/0/all/qdrouter"
TO_ALL_ADDRESSES = "amqp:/_topo/0/all/qdrouter.ma"


@dataclass(frozen=True, slots=True)
class Hello:
    """A neighbour is there."""

    router: str
    #: when it started, in seconds since 1970
    instance: int
    #: the routers that it heard within the last seconds
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advertisement:
    """RA: how new what somebody has to tell is."""

    router: str
    instance: int
    links_version: int
    addresses_version: int


@dataclass(frozen=True, slots=True)
class LinksRequest:
    """LSR."""

    router: str


@dataclass(frozen=True, slots=True)
class LinksUpdate:
    """LSU: a router's neighbours, with the cost of the way to each."""

    router: str
    instance: int
    version: int
    peers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AddressesRequest:
    """MAR."""

    router: str
    known_version: int


@dataclass(frozen=True, slots=True)
class AddressesUpdate:
    """MAU: either `exist`, or `added` and `removed`."""

    router: str
    version: int
    exist: Mapping[str, int] | None = None
    added: Mapping[str, int] | None = None
    removed: tuple[str, ...] | None = None


Control = Hello | Advertisement | LinksRequest | LinksUpdate | AddressesRequest | AddressesUpdate


class UnknownVersion(DecodeError):
    """A router speaks a later version of the protocol."""

    def __init__(self, router: str, opcode: str, version: int) -> None:
        super().__init__(
            f"{opcode} of router {router} has version {version} of the protocol; {_KNOWN[opcode]} is known"
        )
        self.router = router


# --- read -------------------------------------------------------------------------------------------------------------


def read_control(opcode: Any, body: Any) -> Control | None:
    """A control message; None if its opcode is unknown. DecodeError when something is missing or has the wrong type."""
    if not isinstance(opcode, str) or opcode not in _KNOWN:
        return None
    fields = text_keys(body)
    router = _text(fields, "id")
    if not router:
        raise DecodeError(f"{opcode} of a router without a name")
    version = _number(fields, "pv", default=0)
    if version > _KNOWN[opcode]:
        raise UnknownVersion(router, opcode, version)
    if opcode == "HELLO":
        return Hello(router, _number(fields, "instance"), _texts(fields.get("seen"), "seen"))
    if opcode == "RA":
        numbers = [_number(fields, key, default=0) for key in ("ls_seq", "mobile_seq")]
        return Advertisement(router, _number(fields, "instance"), *numbers)
    if opcode == "LSR":
        return LinksRequest(router)
    if opcode == "LSU":
        return _read_links(router, fields)
    if opcode == "MAR":
        return AddressesRequest(router, _number(fields, "have_seq", default=0))
    return _read_addresses(router, fields)


def _read_links(router: str, fields: Mapping[str, Any]) -> LinksUpdate:
    links = text_keys(fields.get("ls"))
    peers = text_keys(links.get("peers", {}))
    for peer, cost in peers.items():
        if not _is_number(cost) or cost < 1:
            raise DecodeError(f"LSU of {router}: the cost of {peer} is no number from 1")
    return LinksUpdate(router, _number(fields, "instance"), _number(links, "ls_seq"), peers)


def _read_addresses(router: str, fields: Mapping[str, Any]) -> AddressesUpdate:
    version = _number(fields, "mobile_seq")
    exist, added, removed = (fields.get(key) for key in ("exist", "add", "del"))
    if exist is not None and added is None and removed is None:
        return AddressesUpdate(router, version, exist=_read_entries(exist))
    if exist is None and added is not None and removed is not None:
        gone = tuple(_read_entries(removed))
        return AddressesUpdate(router, version, added=_read_entries(added), removed=gone)
    raise DecodeError(f"MAU of {router}: either `exist`, or `add` and `del`")


def _read_entries(value: Any) -> dict[str, int]:
    """`[[key, treatment, …], …]` as key → treatment; keys that are not exchanged are left out."""
    if not isinstance(value, list):
        raise DecodeError("MAU: addresses that are no list")
    entries = {}
    for entry in value:
        if not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
            raise DecodeError("MAU: an address that is no list with its key first")
        treatment = entry[1] if len(entry) > 1 else 3
        if not _is_number(treatment):
            raise DecodeError(f"MAU: the treatment of {entry[0]} is no number")
        if entry[0].startswith(_SHARED) and len(entry[0]) > 1:
            entries[str(entry[0])] = int(treatment)
    return entries


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(fields: Mapping[str, Any], key: str, *, default: int | None = None) -> int:
    value = fields.get(key, default)
    if not _is_number(value) or value < 0:
        raise DecodeError(f"`{key}` is no number from 0")
    return int(value)


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise DecodeError(f"`{key}` is no text")
    return str(value)


def _texts(value: Any, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise DecodeError(f"`{key}` is no list of texts")
    return tuple(str(one) for one in value)


# --- write ------------------------------------------------------------------------------------------------------------


def write_control(message: Control) -> tuple[str, dict[str, Any]]:
    """Opcode and body."""
    fields: dict[str, Any] = {"id": message.router, "pv": LINKS_VERSION, "area": "0"}
    if isinstance(message, Hello):
        return "HELLO", {**fields, "instance": message.instance, "seen": list(message.seen)}
    if isinstance(message, Advertisement):
        versions = {"ls_seq": message.links_version, "mobile_seq": message.addresses_version}
        return "RA", {**fields, "instance": message.instance, **versions}
    if isinstance(message, LinksRequest):
        return "LSR", fields
    if isinstance(message, LinksUpdate):
        links = {"id": message.router, "area": "0", "ls_seq": message.version, "peers": dict(message.peers)}
        return "LSU", {**fields, "instance": message.instance, "ls_seq": message.version, "ls": links}
    return _write_addresses(message)


def _write_addresses(message: AddressesRequest | AddressesUpdate) -> tuple[str, dict[str, Any]]:
    fields: dict[str, Any] = {"id": message.router, "pv": ADDRESSES_VERSION, "area": "0"}
    if isinstance(message, AddressesRequest):
        opcode, fields["have_seq"] = "MAR", message.known_version
    else:
        opcode, fields["mobile_seq"] = "MAU", message.version
        if message.exist is not None:
            fields["exist"] = [[key, treatment, 0] for key, treatment in message.exist.items()]
        else:
            fields["add"] = [[key, treatment, 0] for key, treatment in (message.added or {}).items()]
            fields["del"] = [[key] for key in message.removed or ()]
    return opcode, {Symbol(key): value for key, value in fields.items()}


def to_router(router: str, *, addresses: bool = False) -> str:
    """Where a request or answer to one router goes."""
    return f"amqp:/_topo/0/{router}/qdrouter{'.ma' if addresses else ''}"
