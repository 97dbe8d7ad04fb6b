"""How rtnetlink messages are laid out in bytes: headers, attributes, the numbers used here; pure.

A message is `nlmsghdr` (length, type, flags, sequence number, port), a fixed part that depends on the type, then
attributes: length and type as two u16, the value, padding to four bytes. Integers are in the machine's byte order,
addresses and ports in the network's. Source: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h,
linux/veth.h; each number below has its name from there.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from socket import AF_INET as _AF_INET
from socket import inet_ntop, inet_pton
from typing import NamedTuple

BYTE_ORDER = sys.byteorder

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1
NLA_TYPE_MASK = 0x3FFF

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE = 1, 3, 5, 7

AF_INET, AF_BRIDGE = int(_AF_INET), 7
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_TXQLEN, IFLA_OPERSTATE, IFLA_LINKINFO = 13, 16, 18
IFLA_AF_SPEC, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 26, 28, 29, 37
IFLA_INET_CONF, IPV4_DEVCONF_ARP_NOTIFY = 1, 22
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
RTEXT_FILTER_SKIP_STATS = 8
IFLA_BRPORT_STATE, IFLA_BRPORT_MODE, IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD = 1, 4, 8, 9
IFLA_BRPORT_ISOLATED = 33
BR_STATE_FORWARDING = 3
IFLA_VXLAN_ID, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT = 1, 3, 4, 7, 15

IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 3, 4, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
RTNH_F_ONLINK = 4
RT_TABLE_MAIN, RTN_UNICAST = 254, 1
NDA_DST, NDA_LLADDR, NDA_IFINDEX, NDA_MASTER = 1, 2, 8, 9
NTF_SELF, NTF_MASTER, NTF_EXT_LEARNED, NTF_PROXY = 0x02, 0x04, 0x10, 0x08

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
IFINFO = struct.Struct("=BxHiII")  # family, hardware type, index, flags, changed flags
IFADDR = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=HHI")
_FOUR = struct.Struct("=HH4s")
_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
PROTOCOLS = {"unspec": 0, "redirect": 1, "kernel": 2, "boot": 3, "static": 4}
NEIGHBOUR_STATES = {
    "none": 0x00,
    "incomplete": 0x01,
    "reachable": 0x02,
    "stale": 0x04,
    "delay": 0x08,
    "probe": 0x10,
    "failed": 0x20,
    "noarp": 0x40,
    "permanent": 0x80,
}


class Request(NamedTuple):
    """One change asked of the kernel: the message, the same as a command to paste, and the errnos that are fine."""

    data: bytes
    text: Callable[[], str]
    tolerate: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return self.text()


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """A whole message around its fixed part and attributes; the sequence number is filled in when it is sent."""
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = 4 + len(value)
    return ATTRIBUTE.pack(size, kind) + value + _PAD[size & 3]


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number."""
    return _U32.pack(8, kind, value)


def u8(kind: int, value: int) -> bytes:
    """An attribute that holds a byte or a truth value."""
    return attribute(kind, bytes((value,)))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a name, ended by a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def ipv4(kind: int, address: str) -> bytes:
    """An attribute that holds an IPv4 address."""
    return _FOUR.pack(8, kind, packed_ipv4(address))


def mac(kind: int, address: str) -> bytes:
    """An attribute that holds a hardware address."""
    return attribute(kind, packed_mac(address))


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind, b"".join(attributes))


def packed_ipv4(address: str) -> bytes:
    """Four bytes; ValueError for anything but four decimal numbers."""
    try:
        return inet_pton(AF_INET, address)
    except OSError:
        raise ValueError(f"'{address}' is not an IPv4 address") from None


def packed_cidr(cidr: str) -> tuple[bytes, int]:
    """`10.0.0.0/24` → its four bytes and 24; without a slash the length is 32; `default` is 0.0.0.0/0."""
    if cidr == "default":
        return b"\0\0\0\0", 0
    address, slash, length = cidr.partition("/")
    if not slash:
        return packed_ipv4(address), 32
    if not (length.isdecimal() and int(length) <= 32):
        raise ValueError(f"'{cidr}' is not an IPv4 network: the prefix length must be 0 to 32")
    return packed_ipv4(address), int(length)


def packed_mac(address: str) -> bytes:
    """Six bytes; ValueError for anything but six hexadecimal pairs between colons."""
    try:
        value = bytes.fromhex(address.replace(":", ""))
    except ValueError:
        value = b""
    if len(value) != 6:
        raise ValueError(f"'{address}' is not a MAC address")
    return value


def ipv4_text(value: bytes) -> str:
    """Four bytes → `10.0.0.1`."""
    return inet_ntop(AF_INET, value)


def mac_text(value: bytes) -> str:
    """Six bytes → `0a:58:0a:00:00:01`."""
    return value.hex(":")
