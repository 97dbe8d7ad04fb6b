"""The connections that a network namespace tracks, by netlink: read and forgotten without the program `conntrack`.

An entry keeps what NAT decided for its first packet, for as long as packets come: a UDP client that never falls silent
goes on sending to a pod that is gone. Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import NamedTuple, Self

from knetsim.errors import KernelError
from knetsim.system.netlink import decode, wire
from knetsim.system.netlink.connection import messages
from knetsim.system.netns import Namespaces, netns_socket

UDP = socket.IPPROTO_UDP

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8
_NEW, _GET, _DELETE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NFGENMSG = struct.Struct("=BBH")
_TUPLE_ORIGINAL, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SOURCE, _IP_DESTINATION = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE_PORT, _PROTO_DESTINATION_PORT = 1, 2, 3
_NESTED = 0x8000
_RECEIVE_BYTES = 64 << 10
_ANSWER_SECONDS = 30


class End(NamedTuple):
    """An address and a port."""

    address: IPv4Address
    port: int


class Flow(NamedTuple):
    """One tracked connection: where its client sends to, who answers, and the kernel's own name of it."""

    protocol: int
    destination: End
    answering: End
    original: bytes


class Conntrack:
    """The tracked IPv4 connections of one network namespace; used by one thread at a time."""

    def __init__(self, place: Namespaces) -> None:
        self._name = place.name
        self._socket = netns_socket(place, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket. Twice is once."""
        self._socket.close()

    def read(self, protocol: int = UDP) -> list[Flow]:
        """The connections of a protocol, those of which both directions have an address and a port."""
        self._send(_GET, wire.NLM_F_DUMP, b"")
        found = (_read_flow(body) for body in self._answers("conntrack -L"))
        return [flow for flow in found if flow is not None and flow.protocol == protocol]

    def forget(self, flows: Iterable[Flow]) -> None:
        """Have the next packet of each be judged anew. One that is gone by itself is fine."""
        for flow in flows:
            self._send(_DELETE, wire.NLM_F_ACK, wire.attribute(_TUPLE_ORIGINAL | _NESTED, flow.original))
            list(self._answers("conntrack -D", fine=errno.ENOENT))

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        data = bytearray(wire.message(kind, flags, _NFGENMSG.pack(socket.AF_INET, 0, 0), body))
        struct.pack_into("=I", data, 8, self._sequence)
        self._socket.send(data)

    def _answers(self, what: str, fine: int = 0) -> Iterator[memoryview]:
        while True:
            try:
                received = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError as error:
                raise KernelError(what, errno.EAGAIN, "no answer", where=self._name) from error
            for reply in messages(memoryview(received)):
                if reply.sequence != self._sequence:
                    continue
                if reply.kind == wire.NLMSG_DONE:
                    return
                if reply.kind == wire.NLMSG_ERROR:
                    number = -struct.unpack_from("=i", reply.body)[0]
                    if number not in (0, fine):
                        raise KernelError(what, number, os.strerror(number), where=self._name)
                    return
                if reply.kind == _NEW:
                    yield reply.body[_NFGENMSG.size :]


def _read_flow(body: memoryview) -> Flow | None:
    tuples = {kind: value for kind, value in decode.attributes(body) if kind in (_TUPLE_ORIGINAL, _TUPLE_REPLY)}
    if len(tuples) != 2:
        return None
    original, reply = tuples[_TUPLE_ORIGINAL], tuples[_TUPLE_REPLY]
    destination = _read_end(original, _IP_DESTINATION, _PROTO_DESTINATION_PORT)
    answering = _read_end(reply, _IP_SOURCE, _PROTO_SOURCE_PORT)
    if destination is None or answering is None:
        return None
    return Flow(destination[0], destination[1], answering[1], bytes(original))


def _read_end(entry: memoryview, address_kind: int, port_kind: int) -> tuple[int, End] | None:
    parts = dict(decode.attributes(entry))
    addresses, protocol = dict(decode.attributes(parts[_TUPLE_IP])), dict(decode.attributes(parts[_TUPLE_PROTO]))
    if address_kind not in addresses or port_kind not in protocol:
        return None
    end = End(IPv4Address(bytes(addresses[address_kind])), int.from_bytes(protocol[port_kind], "big"))
    return protocol[_PROTO_NUMBER][0], end
