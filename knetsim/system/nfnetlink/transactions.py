"""One netfilter socket in one network namespace: requests in, one transaction, and which of them the kernel refused.

What libnftables does with a text, without its language and without what it reads of the kernel beforehand: so the cost
follows the change and not the table. A transaction is one message that begins it, the requests, one that ends it; the
kernel works through all of them before send(2) returns, and changes either everything or nothing
(net/netfilter/nfnetlink.c: nfnetlink_rcv_batch). It answers each request that it refuses; the last one asks for an
answer in any case, so that silence is never taken for consent.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Self

from knetsim.errors import KernelError
from knetsim.system.netlink import wire
from knetsim.system.netlink.connection import Message, messages, read_refusal
from knetsim.system.netlink.wire import Request
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.nfnetlink.wire import NETLINK_NETFILTER, batch_begin, batch_end

_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_CAP_ACK = 270, 11, 10
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_RECEIVE_BUFFER = 4 << 20
_RECEIVE_BYTES = 64 << 10
_SEQUENCE, _FLAGS = struct.Struct("=I"), struct.Struct("=H")
_SEQUENCE_MASK = 0xFFFFFFFF
_GENERATIONS = 1 << 32


def next_generation(generation: int) -> int:
    """The ruleset's generation after one more transaction: 32 bits, never 0 (nf_tables_api.c: nf_tables_commit)."""
    return (generation + 1) % _GENERATIONS or 1


def _build_batch(requests: Sequence[Request], first: int, generation: int | None) -> bytearray:
    """The whole transaction, its messages numbered from `first` on."""
    batch, last = bytearray(batch_begin(generation)), 0
    _SEQUENCE.pack_into(batch, 8, first)
    for number, request in enumerate(requests, start=1):
        last = len(batch)
        batch += request.data
        _SEQUENCE.pack_into(batch, last + 8, (first + number) & _SEQUENCE_MASK)
    _FLAGS.pack_into(batch, last + 6, _FLAGS.unpack_from(batch, last + 6)[0] | wire.NLM_F_ACK)
    return batch + batch_end()


class Transactions:
    """Changes rules of a network namespace; any thread may use it, one at a time gets through."""

    def __init__(self, place: Namespaces) -> None:
        self._name = place.name
        self._lock = threading.Lock()
        self._socket = netns_socket(place, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._room = self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket; the rules stay. Twice is once."""
        with self._lock:
            self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def commit(self, requests: Sequence[Request], generation: int | None = None) -> bool:
        """Have the kernel carry out all `requests`, or none of them.

        False, and nothing was done, when the ruleset is not at `generation` any more: somebody else has changed rules.
        KernelError names the first request that was refused and says how many there were.
        """
        if not requests:
            return True
        with self._lock:
            first = self._sequence
            self._sequence = (first + len(requests) + 2) & _SEQUENCE_MASK
            batch = _build_batch(requests, first, generation)
            self._make_room(len(batch))
            self._send(batch)
            return self._read_answers(requests, first)

    def _make_room(self, size: int) -> None:
        if size > self._room:
            self._room = max(size, 256 << 10)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, self._room)

    def _send(self, batch: bytearray) -> None:
        try:
            self._socket.send(batch)
        except OSError as error:
            raise self._error("an nft transaction", error.errno or errno.EIO) from error

    def _read_answers(self, requests: Sequence[Request], first: int) -> bool:
        refusals, answered = [], False
        for reply in self._receive():
            position = (reply.sequence - first) & _SEQUENCE_MASK
            if reply.kind != wire.NLMSG_ERROR or position > len(requests):
                continue  # not an answer, or a late one to what was given up on
            number, why = read_refusal(reply)
            if number == errno.ERESTART and position == 0:
                return False
            if number:
                refusals.append((position, number, why))
            answered = answered or position == len(requests)
        if refusals:
            raise self._refused(requests, refusals)
        if not answered:
            raise self._error("an nft transaction", errno.EBADMSG)
        return True

    def _receive(self) -> Iterator[Message]:
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._error("an nft transaction", error.errno or errno.EIO) from error
            yield from messages(memoryview(data))

    def _refused(self, requests: Sequence[Request], refusals: list[tuple[int, int, str]]) -> KernelError:
        position, number, why = refusals[0]
        # position 0 is the whole transaction, refused as it was to be carried out
        what = requests[position - 1].text() if position else "an nft transaction"
        more = f"; and {len(refusals) - 1} more of this transaction" if len(refusals) > 1 else ""
        return KernelError(what, number, why + more, where=self._name)

    def _error(self, what: str, number: int) -> KernelError:
        return KernelError(what, number, os.strerror(number), where=self._name)
