"""One rtnetlink socket in one network namespace: apply many requests at once, read what there is.

The kernel works through all messages of one sendmsg(2) before it returns. So thousands of requests cost a few system
calls; only the last of each send asks for an acknowledgement, which says that all before it are done, since a refusal
is always reported (net/netlink/af_netlink.c: netlink_rcv_skb acknowledges when `NLM_F_ACK || err`). A send is bounded
so that the receive buffer could hold a refusal of every message in it: none can be lost.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from knetsim.errors import KernelError
from knetsim.names import INTERFACE_NAME_MAX
from knetsim.system.netlink import decode, wire
from knetsim.system.netlink.decode import Address, FdbEntry, Link, Neighbour, Route
from knetsim.system.netlink.wire import Request
from knetsim.system.netns import Namespaces, netns_socket

_SOL_NETLINK = 270
_NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK = 11, 10, 12
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 4 << 20
#: an answer that the kernel owes and does not give within this time is a bug of ours, not a slow kernel
_ANSWER_SECONDS = 30
_SEND_BYTES = 48 << 10
#: the most that the kernel puts into one part of a listing (net/netlink/af_netlink.c: netlink_recvmsg)
_RECEIVE_BYTES = 32 << 10
#: what one queued acknowledgement takes of the receive buffer, generously (its skb's truesize)
_ACK_SPACE = 2048
_DUMP_ATTEMPTS = 32
_SIOCGIFINDEX, _SIOCETHTOOL, _ETHTOOL_GLINK = 0x8933, 0x8946, 0x0A
_IFREQ_INDEX = struct.Struct("@16si20x")
_ERRNO = struct.Struct("=i")
_FLAGS, _SEQUENCE = struct.Struct("=H"), struct.Struct("=I")
_INDEX_WORD = re.compile(r"\bif([1-9][0-9]*)\b")
_SKIP_STATS = wire.u32(wire.IFLA_EXT_MASK, wire.RTEXT_FILTER_SKIP_STATS)


class _Refusal(NamedTuple):
    """The kernel's answer to request number `position`: errno and its own words, if it had any."""

    position: int
    errno: int
    why: str


class Message(NamedTuple):
    """One received message: `body` is what follows the header."""

    kind: int
    flags: int
    sequence: int
    body: memoryview


def open_socket(place: Namespaces, buffer: int = _RECEIVE_BUFFER) -> socket.socket:
    """A NETLINK_ROUTE socket in `place` with room for `buffer` bytes of answers, as far as the kernel grants it."""
    sock = netns_socket(place, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            sock.setsockopt(_SOL_NETLINK, option, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def messages(data: memoryview) -> Iterator[Message]:
    """The messages in what one recv(2) returned."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        size, kind, flags, sequence, _ = wire.HEADER.unpack_from(data, offset)
        if size < 16 or offset + size > end:
            return
        yield Message(kind, flags, sequence, data[offset + 16 : offset + size])
        offset += (size + 3) & ~3


def read_refusal(reply: Message) -> tuple[int, str]:
    """errno (0: done) and the kernel's own words of an NLMSG_ERROR."""
    number = -_ERRNO.unpack_from(reply.body)[0]
    if number == 0:
        return 0, ""
    why = os.strerror(number)
    if reply.flags & wire.NLM_F_ACK_TLVS:
        size = 0 if reply.flags & wire.NLM_F_CAPPED else _SEQUENCE.unpack_from(reply.body, 4)[0] - 16
        for kind, value in decode.attributes(reply.body, 20 + size):
            if kind == wire.NLMSGERR_ATTR_MSG:
                words = bytes(value).rstrip(b"\0").decode(errors="replace").rstrip(".")
                why = f"{words} ({why})"
    return number, why


class Netlink:
    """One NETLINK_ROUTE socket in one network namespace; any thread may use it, one at a time gets through."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self._socket = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _ANSWER_SECONDS, 0))
        self._lock = threading.Lock()
        self._sequence = 0
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._batch = max(1, sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // _ACK_SPACE)

    @classmethod
    def in_namespace(cls, place: Namespaces) -> Netlink:
        """A socket inside `place`'s network namespace, which it keeps alive until `close`."""
        return cls(place.name, open_socket(place))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket. Twice is once."""
        with self._lock:
            self._socket.close()

    # --- changes

    def apply(self, requests: Iterable[Request]) -> None:
        """Have the kernel carry out `requests` in order, in few system calls.

        A refused request does not keep those after it from being tried. KernelError names the first one refused with an
        errno that it does not tolerate, and says how many there were.
        """
        todo = list(requests)
        refusals: list[_Refusal] = []
        with self._lock:
            done = 0
            while done < len(todo):
                count = self._send(todo, done)
                refusals += self._read_answers(done, count)
                done += count
        refusals = [refusal for refusal in refusals if refusal.errno not in todo[refusal.position].tolerate]
        if refusals:
            raise self._error(todo[refusals[0].position], refusals[0], len(refusals))

    def _send(self, todo: Sequence[Request], start: int) -> int:
        """Send as many requests as fit from `start` on, in one system call; returns how many."""
        batch = bytearray()
        last, count = 0, 0
        for request in todo[start : start + self._batch]:
            if batch and len(batch) + len(request.data) > _SEND_BYTES:
                break
            last, count = len(batch), count + 1
            batch += request.data
            _SEQUENCE.pack_into(batch, last + 8, (self._sequence + count) & 0xFFFFFFFF)
        _FLAGS.pack_into(batch, last + 6, _FLAGS.unpack_from(batch, last + 6)[0] | wire.NLM_F_ACK)
        self._socket.send(batch)
        return count

    def _read_answers(self, start: int, count: int) -> list[_Refusal]:
        """All answers to the `count` requests just sent; ends with the answer to the last."""
        first, refusals = self._sequence + 1, []
        self._sequence = (self._sequence + count) & 0xFFFFFFFF
        while True:
            for reply in self._receive():
                position = (reply.sequence - first) & 0xFFFFFFFF
                if reply.kind != wire.NLMSG_ERROR or position >= count:
                    continue  # not an answer, or a late one to a request that was given up on
                number, why = read_refusal(reply)
                if number:
                    refusals.append(_Refusal(start + position, number, why))
                if position == count - 1:
                    return refusals

    def _receive(self) -> Iterator[Message]:
        try:
            return messages(self._buffer[: self._socket.recv_into(self._buffer)])
        except BlockingIOError as error:
            why = f"no answer in {_ANSWER_SECONDS} s"
            raise KernelError("a netlink request", errno.EAGAIN, why, where=self.name) from error

    def _error(self, request: Request, refusal: _Refusal, count: int) -> KernelError:
        why = refusal.why if count == 1 else f"{refusal.why}; and {count - 1} more of this batch"
        return KernelError(self._with_names(request.text()), refusal.errno, why, where=self.name)

    def _with_names(self, command: str) -> str:
        """`if7` in a command replaced by the link's name, as far as there is one."""
        if not _INDEX_WORD.search(command):
            return command
        names = {str(link.index): link.name for link in self.links()}
        return _INDEX_WORD.sub(lambda word: names.get(word[1], word[0]), command)

    def settle_carrier(self, name: str) -> bool:
        """Have the kernel act on a changed carrier now: whether the link `name` has one.

        When both ends of a veth pair are up they have a carrier, but the kernel starts the queue of the end that came
        first, and forwards through it as a bridge's port, only when a worker thread of its own gets to it (linkwatch);
        until then packets are dropped. Asking for the link state the way `ethtool` does makes up for it at once
        (net/ethtool/ioctl.c: ethtool_op_get_link calls linkwatch_sync_dev). No netlink message of `ip` does.
        """
        answer = (ctypes.c_uint32 * 2)(_ETHTOOL_GLINK, 0)
        ask = struct.pack("@16sP16x", name.encode(), ctypes.addressof(answer))
        try:
            fcntl.ioctl(self._socket, _SIOCETHTOOL, ask)
        except OSError as error:
            number = error.errno or 0
            raise KernelError(f"ethtool {name}", number, os.strerror(number), where=self.name) from error
        return bool(answer[1])

    # --- reading

    def links(self, *, kind: str | None = None, master: int = 0) -> list[Link]:
        """All interfaces, or those of a kind (`veth`), or the ports of the bridge whose index is `master`."""
        parts = [wire.IFINFO.pack(0, 0, 0, 0, 0), _SKIP_STATS]
        if master:
            parts.append(wire.u32(wire.IFLA_MASTER, master))
        if kind is not None:
            parts.append(wire.nested(wire.IFLA_LINKINFO, wire.text(wire.IFLA_INFO_KIND, kind)))
        return [decode.decode_link(body) for body in self._dump(wire.RTM_GETLINK, *parts)]

    def link(self, key: str | int) -> Link | None:
        """The interface with this name or index, or None."""
        index, name = (0, key) if isinstance(key, str) else (key, None)
        parts = [wire.IFINFO.pack(0, 0, index, 0, 0), _SKIP_STATS]
        if name is not None:
            parts.append(wire.text(wire.IFLA_IFNAME, name))
        with self._lock:
            self._ask(wire.RTM_GETLINK, 0, parts)
            for reply in self._answers():
                if reply.kind == wire.RTM_NEWLINK:
                    return decode.decode_link(reply.body)
                number, why = read_refusal(reply)
                if number == errno.ENODEV:
                    return None
                raise KernelError(f"ip link show dev {key}", number, why, where=self.name)
        raise AssertionError("an iteration over answers ends with one")

    def index(self, name: str) -> int | None:
        """The index of the interface `name`, or None; an ioctl, twenty times as fast as `link`."""
        if len(name) > INTERFACE_NAME_MAX:
            return None
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFINDEX, _IFREQ_INDEX.pack(name.encode(), 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return int(_IFREQ_INDEX.unpack(answer)[1])

    def addresses(self, index: int = 0) -> list[Address]:
        """The IPv4 addresses of all devices, or of one."""
        ask = wire.IFADDR.pack(wire.AF_INET, 0, 0, 0, index)
        return [decode.decode_address(body) for body in self._dump(wire.RTM_GETADDR, ask)]

    def routes(self, table: int = wire.RT_TABLE_MAIN) -> list[Route]:
        """The IPv4 routes of a table, the main one unless told otherwise."""
        ask = wire.RTMSG.pack(wire.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        bodies = self._dump(wire.RTM_GETROUTE, ask, wire.u32(wire.RTA_TABLE, table), no_such_thing=errno.ENOENT)
        return [decode.decode_route(body) for body in bodies]

    def neighbours(self, index: int = 0) -> list[Neighbour]:
        """The ARP entries of all devices, or of one, in every state."""
        parts = [wire.NDMSG.pack(wire.AF_INET, 0, 0, 0, 0)] + ([wire.u32(wire.NDA_IFINDEX, index)] if index else [])
        found = (decode.decode_neighbour(body) for body in self._dump(wire.RTM_GETNEIGH, *parts))
        return [entry for entry in found if isinstance(entry, Neighbour)]

    def fdb(self, index: int = 0) -> list[FdbEntry]:
        """The forwarding entries of all bridges' ports and VXLAN devices, or of one device."""
        parts = [wire.NDMSG.pack(wire.AF_BRIDGE, 0, 0, 0, 0)] + ([wire.u32(wire.NDA_IFINDEX, index)] if index else [])
        found = (decode.decode_neighbour(body) for body in self._dump(wire.RTM_GETNEIGH, *parts))
        return [entry for entry in found if isinstance(entry, FdbEntry)]

    def _dump(self, kind: int, *parts: bytes, no_such_thing: int = 0) -> list[memoryview]:
        """The bodies of all messages that answer a dump; asked again when the list changed while it was read."""
        with self._lock:
            for _ in range(_DUMP_ATTEMPTS):
                self._ask(kind, wire.NLM_F_DUMP, parts)
                bodies: list[memoryview] = []
                whole = True
                for reply in self._answers():
                    whole = whole and not reply.flags & wire.NLM_F_DUMP_INTR
                    if reply.kind in (wire.NLMSG_ERROR, wire.NLMSG_DONE):
                        number, why = read_refusal(reply)
                        if number and number != no_such_thing:
                            raise KernelError(_DUMP_TEXT[kind], number, why, where=self.name)
                        break
                    bodies.append(memoryview(bytes(reply.body)))
                if whole:
                    return bodies
        raise KernelError(
            _DUMP_TEXT[kind], errno.EAGAIN, f"changed under each of {_DUMP_ATTEMPTS} readings", where=self.name
        )

    def _ask(self, kind: int, flags: int, parts: Sequence[bytes]) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        data = bytearray(wire.message(kind, flags, *parts))
        _SEQUENCE.pack_into(data, 8, self._sequence)
        self._socket.send(data)

    def _answers(self) -> Iterator[Message]:
        """The messages that answer the last question, for as long as the caller wants more."""
        while True:
            for reply in self._receive():
                if reply.sequence == self._sequence:
                    yield reply


_DUMP_TEXT = {
    wire.RTM_GETLINK: "ip link show",
    wire.RTM_GETADDR: "ip address show",
    wire.RTM_GETROUTE: "ip route show",
    wire.RTM_GETNEIGH: "ip neighbour show / bridge fdb show",
}
