"""One netfilter socket in one network namespace that asks, of rules or of connections: a request, then its answers.

A dump, and a request that wants an acknowledgement, end with a message that says so; the kernel answers another one
with a single message. Source: linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

from knetsim.errors import KernelError
from knetsim.system.netlink import wire
from knetsim.system.netlink.connection import messages, read_refusal
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.nfnetlink import wire as nf

_ANSWER_SECONDS = 30
_RECEIVE_BYTES = 64 << 10
_SEQUENCE = struct.Struct("=I")


class Questions:
    """Asks one of netfilter's subsystems; used by one thread at a time."""

    def __init__(self, place: Namespaces, subsystem: int = nf.SUBSYSTEM_NFTABLES) -> None:
        self._name, self._subsystem = place.name, subsystem
        self._socket = netns_socket(place, socket.AF_NETLINK, socket.SOCK_RAW, nf.NETLINK_NETFILTER)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._sequence = 0

    def close(self) -> None:
        """Let go of the socket. Twice is once."""
        self._socket.close()

    def ask(self, what: str, kind: int, flags: int, *attributes: bytes, fine: int = 0) -> Iterator[memoryview]:
        """The attributes of each message that answers, as they come. KernelError, which names the request as
        `what`, for every errno but `fine`: with that one there are no answers."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        data = bytearray(nf.message(kind, flags, *attributes, subsystem=self._subsystem))
        _SEQUENCE.pack_into(data, 8, self._sequence)
        self._socket.send(data)
        while True:
            for reply in messages(self._receive(what)):
                if reply.sequence != self._sequence:
                    continue
                if reply.kind in (wire.NLMSG_ERROR, wire.NLMSG_DONE):
                    number, why = read_refusal(reply)
                    if number not in (0, fine):
                        raise KernelError(what, number, why, where=self._name)
                    return
                yield reply.body[nf.HEADER_SIZE :]
                if not flags & (wire.NLM_F_DUMP | wire.NLM_F_ACK):
                    return

    def _receive(self, what: str) -> memoryview:
        try:
            return memoryview(self._socket.recv(_RECEIVE_BYTES))
        except TimeoutError as error:
            raise KernelError(what, errno.EAGAIN, f"no answer in {_ANSWER_SECONDS} s", where=self._name) from error
