"""Commands of nft's language as messages for the kernel; pure.

Of the language only what is said often: of rules the forms in `_FORMS`, each with the expressions nft makes of it.
Whoever meets `UnknownForm` has libnftables carry out the text instead.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from knetsim.system.netlink import wire
from knetsim.system.netlink.wire import BYTE_ORDER, ipv4_text, packed_cidr, packed_ipv4
from knetsim.system.nfnetlink import expressions as ex
from knetsim.system.nfnetlink import wire as nf

_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
#: nft's own numbers of types (nftables include/datatype.h): only nft looks at them
_TYPE_IPV4 = 7
_NETWORK_ORDER = 2
_LOCAL_ADDRESS = 2  # linux/rtnetlink.h: RTN_LOCAL
#: what nft notes of sets (libnftnl/udata.h): the byte order of the key
_NOTE_KEY_ORDER = 0
_MILLISECONDS = 1000
#: a set that rules fill, each element for a time of its own
_SET = "type ipv4_addr; flags dynamic,timeout;"

#: tells the sets of one transaction apart; none is used twice by this process
_set_ids = count(1)


class Count(NamedTuple):
    """What an element has counted."""

    packets: int
    bytes: int


class UnknownForm(ValueError):
    """What is not said often enough to be here."""


@dataclass
class Rule:
    """A rule as the kernel has it: its expressions, and its comment."""

    expressions: list[bytes] = field(default_factory=list)
    comment: str = ""


# --- the forms of a rule


def _address(rule: Rule, field_name: str, negation: str, cidr: str) -> None:
    packed, length = packed_cidr(cidr)
    offset = ex.SOURCE if field_name == "saddr" else ex.DESTINATION
    relation = ex.NOT_EQUAL if negation else ex.EQUAL
    size, rest = divmod(length, 8)
    if length == 0:
        raise UnknownForm(cidr)
    if rest:  # nft masks what does not end with a byte, and else reads only the bytes it compares
        keep = (0xFFFFFFFF << (32 - length) & 0xFFFFFFFF).to_bytes(4, "big")
        rule.expressions += [ex.load_address(offset), ex.mask(keep, bytes(4), with_operation=False)]
        rule.expressions.append(ex.compare(relation, packed))
    else:
        rule.expressions += [ex.load_address(offset, size), ex.compare(relation, packed[:size])]


def _address_in_set(rule: Rule, field_name: str, name: str) -> None:
    offset = ex.SOURCE if field_name == "saddr" else ex.DESTINATION
    rule.expressions += [ex.load_address(offset), ex.look_up(name)]


def _protocol(rule: Rule, name: str) -> None:
    rule.expressions += [ex.load_l4proto(), ex.compare(ex.EQUAL, bytes((_PROTOCOLS[name],)))]


def _mark(rule: Rule, bits: str) -> None:
    flip = int(bits, 16)
    keep = (~flip & 0xFFFFFFFF).to_bytes(4, BYTE_ORDER)
    rule.expressions += [
        ex.load_mark(),
        ex.mask(keep, flip.to_bytes(4, BYTE_ORDER), with_operation=True),
        ex.set_mark(),
    ]


def _from_this_machine(rule: Rule) -> None:
    rule.expressions += [ex.load_source_type(), ex.compare(ex.EQUAL, _LOCAL_ADDRESS.to_bytes(4, BYTE_ORDER))]


def _count(rule: Rule) -> None:
    rule.expressions.append(ex.count())


def _update(rule: Rule, name: str, seconds: str) -> None:
    rule.expressions += [ex.load_address(ex.SOURCE), ex.update(name, int(seconds) * _MILLISECONDS)]


def _dnat(rule: Rule, address: str, port: str) -> None:
    rule.expressions.append(ex.translate(packed_ipv4(address), int(port)))


def _decide(rule: Rule, word: str, chain: str | None) -> None:
    rule.expressions.append(ex.decide(word, chain or ""))


def _draw_lot(rule: Rule, modulus: str, number: str) -> None:
    rule.expressions += [ex.load_random(int(modulus)), ex.compare(ex.EQUAL, int(number).to_bytes(4, BYTE_ORDER))]


def _dnat_by_lot(rule: Rule, modulus: str, name: str) -> None:
    rule.expressions.append(ex.translate_by_lot(int(modulus), name))


def _comment(rule: Rule, text: str) -> None:
    rule.comment = text


_NAME = r"([\w./-]+)"
_FORMS: tuple[tuple[re.Pattern[str], Callable[..., None]], ...] = tuple(
    (re.compile(f"(?:{pattern})(?: |$)"), build)
    for pattern, build in (
        (r"ip (saddr|daddr) (!= )?(\d[\d./]*)", _address),
        (rf"ip (saddr|daddr) @{_NAME}", _address_in_set),
        (r"meta l4proto (tcp|udp|sctp)", _protocol),
        (r"meta mark set meta mark \| (0x[0-9a-f]{1,8})", _mark),
        (r"fib saddr type local", _from_this_machine),
        (r"counter", _count),
        (rf"update @{_NAME} \{{ ip saddr timeout (\d+)s \}}", _update),
        (r"dnat to (\d[\d.]*):(\d+)", _dnat),
        (r"numgen random mod (\d+) (\d+)", _draw_lot),
        (
            r"dnat ip to ip daddr \. meta l4proto \. th dport \. numgen random mod (\d+) map @" + _NAME,
            _dnat_by_lot,
        ),
        (rf"(goto|jump) {_NAME}", _decide),
        (r"(drop|accept|return)()", _decide),
        (r'comment "([^"]*)"', _comment),
    )
)


def read_rule(text: str) -> Rule:
    """What a rule consists of; UnknownForm."""
    rule, position = Rule(), 0
    while position < len(text):
        for pattern, build in _FORMS:
            if match := pattern.match(text, position):
                _build(build, rule, match)
                position = match.end()
                break
        else:
            raise UnknownForm(text[position:])
    return rule


def _build(build: Callable[..., None], rule: Rule, match: re.Match[str]) -> None:
    try:
        build(rule, *match.groups())
    except (ValueError, OverflowError) as error:  # no address, too large a number: nft has the words for it
        raise UnknownForm(match[0]) from error


def _read_verdict(text: str) -> tuple[str, str]:
    word, _, chain = text.partition(" ")
    if word not in nf.VERDICTS or bool(chain) != (word in ("goto", "jump")) or " " in chain:
        raise UnknownForm(text)
    return word, chain


# --- sets and their elements


def read_set(definition: str) -> list[bytes]:
    """The attributes of a set of addresses whose elements end by themselves, as rules fill it; UnknownForm."""
    if definition != _SET:
        raise UnknownForm(definition)
    notes = nf.note_number(_NOTE_KEY_ORDER, _NETWORK_ORDER)
    return [
        nf.number(nf.SET_FLAGS, nf.SET_WITH_TIMEOUT | nf.SET_EVAL),
        nf.number(nf.SET_KEY_TYPE, _TYPE_IPV4),
        nf.number(nf.SET_KEY_LEN, 4),
        nf.number(nf.SET_ID, next(_set_ids) & 0xFFFFFFFF),
        wire.attribute(nf.SET_USERDATA, notes),
    ]


def read_key(types: Sequence[str], text: str) -> bytes:
    """An element by its key: `100.64.0.1 . tcp . 443`; UnknownForm."""
    return nf.nested(nf.LIST_ELEMENT, _read_key(types, text))


def read_element(
    types: Sequence[str],
    key: str,
    data: str,
    comment: str,
    data_types: Sequence[str] = (),
    counted: Count | None = None,
) -> bytes:
    """An element with what it leads to, if it is one of a map (a verdict, or values of `data_types`), its comment, if
    it has one, and what it has counted, if it does not begin at 0; UnknownForm."""
    parts = [_read_key(types, key)]
    if data_types:
        parts.append(nf.value(nf.ELEMENT_DATA, _read_parts(data_types, data)))
    elif data:
        parts.append(nf.verdict(nf.ELEMENT_DATA, *_read_verdict(data)))
    if comment:
        parts.append(nf.comment(nf.ELEMENT_USERDATA, comment))
    if counted:
        parts.append(ex.counted(counted.packets, counted.bytes))
    return nf.nested(nf.LIST_ELEMENT, *parts)


def _read_key(types: Sequence[str], text: str) -> bytes:
    return nf.value(nf.ELEMENT_KEY, _read_parts(types, text))


def _read_parts(types: Sequence[str], text: str) -> bytes:
    """Each part begins with a register of its own: four bytes."""
    try:
        return b"".join([_PARTS[kind](part) for kind, part in zip(types, text.split(" . "), strict=True)])
    except (KeyError, ValueError, OverflowError) as error:
        raise UnknownForm(text) from error


_PARTS: Mapping[str, Callable[[str], bytes]] = {
    "ipv4_addr": packed_ipv4,
    "inet_proto": lambda name: bytes((_PROTOCOLS[name], 0, 0, 0)),
    "inet_service": lambda port: int(port).to_bytes(2, "big") + b"\0\0",
    "integer": lambda number: int(number).to_bytes(4, BYTE_ORDER),
}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_WORDS: Mapping[str, Callable[[bytes], str]] = {
    "ipv4_addr": ipv4_text,
    "inet_proto": lambda part: _NAMES.get(part[0], str(part[0])),
    "inet_service": lambda part: str(int.from_bytes(part[:2], "big")),
    "integer": lambda part: str(int.from_bytes(part, BYTE_ORDER)),
}


def show_key(types: Sequence[str], key: bytes) -> str:
    """A key as nft writes it: `100.64.0.1 . tcp . 443`."""
    parts = (key[place : place + 4] for place in range(0, len(key), 4))
    return " . ".join(_WORDS[kind](part) for kind, part in zip(types, parts, strict=True))
