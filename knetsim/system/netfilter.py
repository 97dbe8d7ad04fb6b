"""What netfilter of a network namespace says by netlink, beside rules: how often the rules were changed.

libnftables and `nft` have no command for it. Source: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Self

from knetsim.errors import KernelError
from knetsim.system.netlink import decode, wire
from knetsim.system.netns import Namespaces, netns_socket

_NETLINK_NETFILTER = 12
_SUBSYSTEM_NFTABLES = 10
_GETGEN, _NEWGEN = _SUBSYSTEM_NFTABLES << 8 | 16, _SUBSYSTEM_NFTABLES << 8 | 15
_GEN_ID = 1
_NFGENMSG = struct.Struct("=BBH")
_ANSWER_SECONDS = 30


class RuleGeneration:
    """Reads the number of nft transactions that the namespace has seen, whoever made them."""

    def __init__(self, place: Namespaces) -> None:
        self._name = place.name
        self._socket = netns_socket(place, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.settimeout(_ANSWER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket. Twice is once."""
        self._socket.close()

    def read(self) -> int:
        """The number; each transaction that changes something adds one."""
        self._socket.send(wire.message(_GETGEN, 0, _NFGENMSG.pack(0, 0, 0)))
        try:
            answer = memoryview(self._socket.recv(4096))
        except TimeoutError as error:
            raise self._error(errno.EAGAIN) from error
        kind = wire.HEADER.unpack_from(answer)[1]
        if kind != _NEWGEN:
            raise self._error(-struct.unpack_from("=i", answer, wire.HEADER.size)[0])
        for attribute, value in decode.attributes(answer, wire.HEADER.size + _NFGENMSG.size):
            if attribute == _GEN_ID:
                return int.from_bytes(value, "big")
        raise self._error(errno.EBADMSG)

    def _error(self, number: int) -> KernelError:
        return KernelError("nft: the generation of the ruleset", number, os.strerror(number), where=self._name)
