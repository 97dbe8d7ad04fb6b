"""ICMP echo from inside a place, to many addresses at once and without a process: who answers, and how soon.

Source: RFC 792. A raw socket sees every ICMP packet of its namespace, so replies are told apart by identifier and
number.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Sequence

from knetsim.system.netns import Namespaces, netns_socket

_ECHO_REQUEST = 8
_ECHO_REPLY = 0
_HEADER = struct.Struct("!BBHHH")


def ping(
    place: Namespaces, addresses: Sequence[str], timeout: float = 1.0, attempts: int = 2
) -> dict[str, float | None]:
    """Seconds until each address answered, None for those that did not within `timeout` seconds after the last
    attempt."""
    times: dict[str, float | None] = dict.fromkeys(addresses)
    with netns_socket(place, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        identifier = int.from_bytes(os.urandom(2), "big")
        for attempt in range(attempts):
            open_addresses = [address for address in addresses if times[address] is None]
            if not open_addresses:
                break
            _ask(raw, identifier, attempt, open_addresses, times, timeout)
    return times


def _ask(
    raw: socket.socket,
    identifier: int,
    attempt: int,
    addresses: Sequence[str],
    times: dict[str, float | None],
    timeout: float,
) -> None:
    """One echo request to each address; the answers until all are there or the time is over."""
    sent: dict[str, float] = {}
    for address in addresses:
        try:
            raw.sendto(_packet(identifier, attempt), (address, 0))
        except OSError:
            continue  # no route, or the peer is known to be unreachable: it does not answer
        sent[address] = time.monotonic()
        _receive(raw, identifier, attempt, sent, times)
    end = time.monotonic() + timeout
    answers = select.poll()  # select.select fails in a process with many open descriptors, which holds many pods
    answers.register(raw, select.POLLIN)
    while any(times[address] is None for address in sent):
        left = end - time.monotonic()
        if left <= 0 or not answers.poll(left * 1000):
            return
        _receive(raw, identifier, attempt, sent, times)


def _receive(
    raw: socket.socket, identifier: int, attempt: int, sent: dict[str, float], times: dict[str, float | None]
) -> None:
    while True:
        try:
            packet, (address, _) = raw.recvfrom(2048)
        except BlockingIOError:
            return
        header = (packet[0] & 0x0F) * 4
        kind, _, _, their_identifier, number = _HEADER.unpack_from(packet, header)
        if (kind, their_identifier, number) == (_ECHO_REPLY, identifier, attempt) and address in sent:
            times[address] = time.monotonic() - sent[address]


def _packet(identifier: int, number: int) -> bytes:
    body = b"knetsim!"
    unsummed = _HEADER.pack(_ECHO_REQUEST, 0, 0, identifier, number) + body
    return _HEADER.pack(_ECHO_REQUEST, 0, _checksum(unsummed), identifier, number) + body


def _checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071, of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
