"""ARP for addresses that no interface has: answered, and announced when they move, by sockets instead of the kernel.

The kernel answers for its own addresses (and by proxy only for what it would route elsewhere). An address of a load
balancer is nobody's own: a worker takes its packets and its rules rewrite them. So a packet socket hears the requests,
as MetalLB's speaker does, and only on workers that have such an address. Whoever has an old answer in its cache learns
the new one from a gratuitous request, broadcast. Source: RFC 826, RFC 5227, linux/if_packet.h, net/ipv4/arp.c.

`C0e1 ip neigh` shows what a neighbour has learned, `C0w1 tcpdump -eni C0w1-eth0 arp` what is said.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple

from knetsim.system.netlink import Monitor
from knetsim.system.netns import Namespaces, entered

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_KIND = (1, 0x0800, 6, 4)  # of an Ethernet's and an IPv4 address, of 6 and 4 bytes


class Request(NamedTuple):
    """Who asks for which address."""

    mac: bytes
    address: IPv4Address
    wanted: IPv4Address


def parse_request(frame: bytes) -> Request | None:
    """The ARP request in an Ethernet frame; None for anything else."""
    if len(frame) < _ETHERNET.size + _ARP.size or _ETHERNET.unpack_from(frame)[2] != _ETH_P_ARP:
        return None
    *kind, operation, mac, address, _, wanted = _ARP.unpack_from(frame, _ETHERNET.size)
    if tuple(kind) != _KIND or operation != _REQUEST:
        return None
    return Request(mac, IPv4Address(address), IPv4Address(wanted))


def build_reply(mac: bytes, request: Request) -> bytes:
    """The frame that says to who asked: the address is at `mac`."""
    body = _ARP.pack(*_KIND, _REPLY, mac, request.wanted.packed, request.mac, request.address.packed)
    return _ETHERNET.pack(request.mac, mac, _ETH_P_ARP) + body


def build_announcement(mac: bytes, address: IPv4Address) -> bytes:
    """The frame that tells everybody: the address is at `mac` from now on."""
    body = _ARP.pack(*_KIND, _REQUEST, mac, address.packed, b"\0" * 6, address.packed)
    return _ETHERNET.pack(_BROADCAST, mac, _ETH_P_ARP) + body


@dataclass
class _Speaker:
    """A host's socket and its watch over links; `mac` is its interface's."""

    socket: socket.socket
    monitor: Monitor
    mac: bytes
    addresses: set[IPv4Address] = field(default_factory=set)


class Announcer:
    """Answers for addresses on many hosts, in one thread; `link_changed(host)` is called there."""

    def __init__(self, name: str, link_changed: Callable[[str], None]) -> None:
        self._link_changed = link_changed
        self._speakers: dict[str, _Speaker] = {}
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name=f"arp {name}", daemon=True)
        self._thread.start()

    def announce(self, host: str, place: Namespaces, interface: str, addresses: set[IPv4Address]) -> set[IPv4Address]:
        """Have `host` answer for exactly these addresses, on `interface`; those that are new there, of which all
        neighbours were told. OSError when the interface is gone."""
        with self._lock:
            speaker = self._speakers.get(host)
            if not addresses:
                if speaker is not None:
                    self._forget(host, speaker)
                return set()
            if speaker is None:
                speaker = self._speakers[host] = _open(place, interface)
            new, speaker.addresses = addresses - speaker.addresses, set(addresses)
            for address in sorted(new):
                _send(speaker, build_announcement(speaker.mac, address))
        os.eventfd_write(self._wake, 1)
        return new

    def addresses(self, host: str) -> set[IPv4Address]:
        """What a host answers for."""
        with self._lock:
            speaker = self._speakers.get(host)
            return set(speaker.addresses) if speaker is not None else set()

    def close(self) -> None:
        """Answer no more. Twice is once."""
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for host, speaker in list(self._speakers.items()):
            self._forget(host, speaker)
        os.close(self._wake)

    def _forget(self, host: str, speaker: _Speaker) -> None:
        del self._speakers[host]
        speaker.socket.close()
        speaker.monitor.close()

    def _listen(self) -> None:
        while not self._closing:
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            with self._lock:
                speakers = dict(self._speakers)
                for speaker in speakers.values():
                    poll.register(speaker.socket, select.POLLIN)
                    poll.register(speaker.monitor, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self._wake in ready:
                os.eventfd_read(self._wake)
            for host, speaker in speakers.items():
                self._look(host, speaker)

    def _look(self, host: str, speaker: _Speaker) -> None:
        with self._lock:
            if self._speakers.get(host) is not speaker:
                return  # closed meanwhile
            changed = bool(speaker.monitor.read())
            while (frame := _receive(speaker)) is not None:
                request = parse_request(frame)
                if request is not None and request.wanted in speaker.addresses:
                    _send(speaker, build_reply(speaker.mac, request))
        if changed:
            self._link_changed(host)


def _open(place: Namespaces, interface: str) -> _Speaker:
    monitor = Monitor.in_namespace(place, ["link"])
    try:
        with entered(place):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ARP))
            try:
                sock.bind((interface, _ETH_P_ARP))
            except BaseException:
                sock.close()
                raise
    except BaseException:
        monitor.close()
        raise
    return _Speaker(sock, monitor, sock.getsockname()[4])


def _receive(speaker: _Speaker) -> bytes | None:
    """The next frame that waits; None when there is none, or the link is down."""
    try:
        return speaker.socket.recv(2048)
    except OSError:
        return None


def _send(speaker: _Speaker, frame: bytes) -> None:
    try:
        speaker.socket.send(frame)
    except OSError:
        return  # the link is down: whoever would hear it hears who takes over
