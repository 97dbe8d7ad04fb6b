"""The connections that a network namespace tracks, by netlink: read and forgotten without the program `conntrack`.

An entry keeps what NAT decided for its first packet, for as long as packets come: a UDP client that never falls silent
goes on sending to a pod that is gone. Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import NamedTuple, Self

from knetsim.system.netlink import decode, wire
from knetsim.system.netns import Namespaces
from knetsim.system.nfnetlink.questions import Questions
from knetsim.system.nfnetlink.wire import SUBSYSTEM_CONNTRACK

UDP, TCP = socket.IPPROTO_UDP, socket.IPPROTO_TCP

_GET, _DELETE, _GET_STATS = 1, 2, 5
_STATS_ENTRIES = 1
_TUPLE_ORIGINAL, _TUPLE_REPLY, _STATUS = 1, 2, 3
_SEEN_REPLY = 1 << 1
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SOURCE, _IP_DESTINATION = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE_PORT, _PROTO_DESTINATION_PORT = 1, 2, 3
_NESTED = 0x8000


class End(NamedTuple):
    """An address and a port."""

    address: IPv4Address
    port: int


class Flow(NamedTuple):
    """One tracked connection: where its client sends to, who is to answer, the kernel's own name of it, and whether
    that one ever did."""

    protocol: int
    destination: End
    answering: End
    original: bytes
    answered: bool = True


class Conntrack:
    """The tracked IPv4 connections of one network namespace; used by one thread at a time."""

    def __init__(self, place: Namespaces) -> None:
        self._questions = Questions(place, SUBSYSTEM_CONNTRACK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket. Twice is once."""
        self._questions.close()

    def read(self, *protocols: int) -> list[Flow]:
        """The connections of these protocols, those of which both directions have an address and a port."""
        if not self._count():
            return []
        found = map(_read_flow, self._questions.ask("conntrack -L", _GET, wire.NLM_F_DUMP))
        return [flow for flow in found if flow is not None and flow.protocol in protocols]

    def forget(self, flows: Iterable[Flow]) -> None:
        """Have the next packet of each be judged anew. One that is gone by itself is fine."""
        for flow in flows:
            only = wire.attribute(_TUPLE_ORIGINAL | _NESTED, flow.original)
            list(self._questions.ask("conntrack -D", _DELETE, wire.NLM_F_ACK, only, fine=errno.ENOENT))

    def _count(self) -> int:
        """How many there are, of all protocols. To list them, the kernel walks through one table of all namespaces,
        which takes 15 ms on a machine with its usual 262 144 buckets; the number it has at hand."""
        for answer in self._questions.ask("conntrack -C", _GET_STATS, 0):
            return int.from_bytes(dict(decode.attributes(answer))[_STATS_ENTRIES], "big")
        return 0


def _read_flow(body: memoryview) -> Flow | None:
    parts = {kind: value for kind, value in decode.attributes(body) if kind in (_TUPLE_ORIGINAL, _TUPLE_REPLY, _STATUS)}
    if len(parts) != 3:
        return None
    original, reply = parts[_TUPLE_ORIGINAL], parts[_TUPLE_REPLY]
    answered = bool(int.from_bytes(parts[_STATUS], "big") & _SEEN_REPLY)
    destination = _read_end(original, _IP_DESTINATION, _PROTO_DESTINATION_PORT)
    answering = _read_end(reply, _IP_SOURCE, _PROTO_SOURCE_PORT)
    if destination is None or answering is None:
        return None
    return Flow(destination[0], destination[1], answering[1], bytes(original), answered)


def _read_end(entry: memoryview, address_kind: int, port_kind: int) -> tuple[int, End] | None:
    parts = dict(decode.attributes(entry))
    addresses, protocol = dict(decode.attributes(parts[_TUPLE_IP])), dict(decode.attributes(parts[_TUPLE_PROTO]))
    if address_kind not in addresses or port_kind not in protocol:
        return None
    end = End(IPv4Address(bytes(addresses[address_kind])), int.from_bytes(protocol[port_kind], "big"))
    return protocol[_PROTO_NUMBER][0], end
