"""How nftables' netlink messages are laid out in bytes: headers, attributes, the numbers used here; pure.

A message is nlmsghdr, `nfgenmsg` (family, version, subsystem's own), then attributes. Unlike rtnetlink's, numbers in
attributes are in the network's byte order; what a register holds is as the packet or the kernel has it. Source:
linux/netfilter/nfnetlink.h and nf_tables.h (each number below has its name from there), libnftnl/udata.h for what nft
keeps beside rules and sets to show them as they were written.
"""

from __future__ import annotations

import struct

from knetsim.system.netlink import wire

NETLINK_NETFILTER = 12
BATCH_BEGIN, BATCH_END = 16, 17
BATCH_GENID = 1
SUBSYSTEM_CONNTRACK, SUBSYSTEM_NFTABLES = 1, 10
NEWCHAIN, DELCHAIN, NEWRULE, DELRULE = 3, 5, 6, 8
NEWSET, DELSET, NEWSETELEM, DELSETELEM = 9, 11, 12, 14
GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM, GETGEN = 1, 4, 7, 10, 13, 16

GEN_ID = 1
TABLE_NAME, TABLE_HANDLE = 1, 4
CHAIN_TABLE, CHAIN_NAME = 1, 3
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA = 1, 2, 4, 7
SET_TABLE, SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_KEY_LEN = 1, 2, 3, 4, 5
SET_ID, SET_TIMEOUT, SET_USERDATA = 10, 11, 13
SET_ANONYMOUS, SET_WITH_TIMEOUT, SET_EVAL = 0x1, 0x10, 0x20
ELEMENTS_TABLE, ELEMENTS_SET, ELEMENTS = 1, 2, 3
ELEMENT_KEY, ELEMENT_DATA, ELEMENT_USERDATA, ELEMENT_EXPR = 1, 2, 6, 7
COUNTER_BYTES, COUNTER_PACKETS = 1, 2
LIST_ELEMENT = 1
DATA_VALUE, DATA_VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
EXPR_NAME, EXPR_DATA = 1, 2
#: what a verdict is called, and its number (linux/netfilter.h for drop and accept)
VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}

_NESTED = 0x8000
_NFGENMSG = struct.Struct("=BBH")
HEADER_SIZE = _NFGENMSG.size  # what precedes the attributes
_BIG_U32 = struct.Struct(">I")
_BIG_U64 = struct.Struct(">Q")
_IPV4 = 2
_RESOURCE = struct.Struct(">H")


def batch_begin(generation: int | None) -> bytes:
    """The message that opens a transaction; refused when `generation` is not the ruleset's (ERESTART)."""
    only = b"" if generation is None else number(BATCH_GENID, generation)
    return wire.message(BATCH_BEGIN, 0, _for_nftables(), only)


def batch_end() -> bytes:
    """The message that has the transaction carried out."""
    return wire.message(BATCH_END, 0, _for_nftables())


def _for_nftables() -> bytes:
    return bytes((0, 0)) + _RESOURCE.pack(SUBSYSTEM_NFTABLES)


def message(kind: int, flags: int, *attributes: bytes, subsystem: int = SUBSYSTEM_NFTABLES) -> bytes:
    """One message of the family ip."""
    return wire.message(subsystem << 8 | kind, flags, _NFGENMSG.pack(_IPV4, 0, 0), *attributes)


def number(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number; a negative one as its two's complement."""
    return wire.attribute(kind, _BIG_U32.pack(value & 0xFFFFFFFF))


def number64(kind: int, value: int) -> bytes:
    """An attribute that holds a 64-bit number."""
    return wire.attribute(kind, _BIG_U64.pack(value))


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes, and says so."""
    return wire.nested(kind | _NESTED, *attributes)


def verdict(kind: int, word: str, chain: str = "") -> bytes:
    """An attribute that holds a verdict: `drop`, or `goto` and where to."""
    to = [wire.text(VERDICT_CHAIN, chain)] if chain else []
    return nested(kind, nested(DATA_VERDICT, number(VERDICT_CODE, VERDICTS[word]), *to))


def value(kind: int, data: bytes) -> bytes:
    """An attribute that holds a value as a register has it."""
    return nested(kind, wire.attribute(DATA_VALUE, data))


def note(kind: int, data: bytes) -> bytes:
    """What nft keeps for itself, in its own form: type and length as one byte each, then the value."""
    return bytes((kind, len(data))) + data


def note_number(kind: int, data: int) -> bytes:
    """The same of a number, in the machine's byte order."""
    return note(kind, data.to_bytes(4, wire.BYTE_ORDER))


def comment(kind: int, text: str) -> bytes:
    """An attribute with a rule's or an element's comment."""
    return wire.attribute(kind, note(0, text.encode() + b"\0"))
