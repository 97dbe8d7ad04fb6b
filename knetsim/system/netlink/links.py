"""Requests about links: veth pairs, bridges and their ports, VXLAN devices; pure.

A link is named by its index or, where that is not known yet (made in the same batch), by its name. Namespaces are named
by open descriptors, which must stay open until the request was applied.

Of a veth's peer the kernel honours in VETH_INFO_PEER: name, address, MTU, namespace, transmit queue length; its index
only when the first end's is given too; no master; and it cannot be made up: it would be opened before it has a peer,
which is ENOTCONN (drivers/net/veth.c: veth_newlink, veth_open). The first end may be up and in a bridge at once.
"""

from __future__ import annotations

import errno
import os
import struct

from knetsim.system.netlink import wire
from knetsim.system.netlink.wire import Request

_GONE = frozenset({errno.ENODEV})
_CREATE = wire.NLM_F_CREATE | wire.NLM_F_EXCL


def _ifinfo(index: int = 0, up: bool | None = None, family: int = 0) -> bytes:
    flags, change = (wire.IFF_UP if up else 0), (0 if up is None else wire.IFF_UP)
    return wire.IFINFO.pack(family, 0, index, flags, change)


def _addressed(link: int | str, up: bool | None = None) -> list[bytes]:
    """The fixed part and, for a link given by name, the name."""
    if isinstance(link, int):
        return [_ifinfo(link, up)]
    return [_ifinfo(0, up), wire.text(wire.IFLA_IFNAME, link)]


def _attributes(
    name: str | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    master: int | None = None,
    netns_fd: int | None = None,
    queue_length: int | None = None,
) -> list[bytes]:
    parts = []
    if name is not None:
        parts.append(wire.text(wire.IFLA_IFNAME, name))
    if mtu is not None:
        parts.append(wire.u32(wire.IFLA_MTU, mtu))
    if mac is not None:
        parts.append(wire.mac(wire.IFLA_ADDRESS, mac))
    if master is not None:
        parts.append(wire.u32(wire.IFLA_MASTER, master))
    if netns_fd is not None:
        parts.append(wire.u32(wire.IFLA_NET_NS_FD, netns_fd))
    if queue_length is not None:
        parts.append(wire.u32(wire.IFLA_TXQLEN, queue_length))
    return parts


def _words(**options: object) -> str:
    """` mtu 1450 address 02:…` of the options that are given."""
    return "".join(f" {word} {value}" for word, value in options.items() if value is not None)


def _device(link: int | str) -> str:
    """How a link is written in a command; `ip` has no word for an index, `ip` and `bridge` take `if7` for one."""
    return f"if{link}" if isinstance(link, int) else link


def _up(up: bool) -> str:
    return " up" if up else ""


def _netns_path(fd: int | None) -> str | None:
    return None if fd is None else f"/proc/{os.getpid()}/fd/{fd}"


def _kind(kind: str, *data: bytes) -> bytes:
    parts = [wire.text(wire.IFLA_INFO_KIND, kind)]
    if data:
        parts.append(wire.nested(wire.IFLA_INFO_DATA, *data))
    return wire.nested(wire.IFLA_LINKINFO, *parts)


def add_veth(
    name: str,
    peer: str,
    *,
    index: int = 0,
    peer_index: int = 0,
    peer_netns_fd: int | None = None,
    mtu: int | None = None,
    peer_mtu: int | None = None,
    master: int = 0,
    up: bool = True,
    mac: str | None = None,
    peer_mac: str | None = None,
    queue_length: int | None = None,
) -> Request:
    """A veth pair: `name` here, `peer` here or straight in the namespace `peer_netns_fd`. `peer_index` needs `index`.

    The peer is down: `set_link(peer, up=True)`, in its namespace. `queue_length` is for both ends.
    """
    if peer_index and not index:
        raise ValueError("the kernel takes the peer's index only together with the first end's")
    peer_info = wire.nested(
        wire.VETH_INFO_PEER,
        _ifinfo(peer_index),
        *_attributes(name=peer, mtu=peer_mtu, mac=peer_mac, netns_fd=peer_netns_fd, queue_length=queue_length),
    )
    data = wire.message(
        wire.RTM_NEWLINK,
        _CREATE,
        _ifinfo(index, up),
        *_attributes(name=name, mtu=mtu, mac=mac, master=master or None, queue_length=queue_length),
        _kind("veth", peer_info),
    )

    def text() -> str:
        bridge, netns = (_device(master) if master else None), _netns_path(peer_netns_fd)
        here = _words(index=index or None, mtu=mtu, address=mac, txqueuelen=queue_length, master=bridge) + _up(up)
        there = _words(index=peer_index or None, mtu=peer_mtu, address=peer_mac, txqueuelen=queue_length, netns=netns)
        return f"ip link add name {name}{here} type veth peer name {peer}{there}"

    return Request(data, text)


def add_bridge(
    name: str, *, mtu: int | None = None, mac: str | None = None, up: bool = True, index: int = 0
) -> Request:
    """A Linux bridge. With a `mac` of its own it keeps it when ports come and go."""
    data = wire.message(
        wire.RTM_NEWLINK, _CREATE, _ifinfo(index, up), *_attributes(name=name, mtu=mtu, mac=mac), _kind("bridge")
    )
    return Request(
        data, lambda: f"ip link add name {name}{_words(index=index or None, mtu=mtu, address=mac)}{_up(up)} type bridge"
    )


def add_vxlan(
    name: str,
    *,
    vni: int,
    local: str,
    device_index: int,
    port: int,
    mac: str | None = None,
    mtu: int | None = None,
    up: bool = True,
    learning: bool = False,
    index: int = 0,
) -> Request:
    """A VXLAN device as flanneld makes it (flannel pkg/backend/vxlan/device.go): unicast, no learning, no queue."""
    data = wire.message(
        wire.RTM_NEWLINK,
        _CREATE,
        _ifinfo(index, up),
        *_attributes(name=name, mtu=mtu, mac=mac, queue_length=0),
        _kind(
            "vxlan",
            wire.u32(wire.IFLA_VXLAN_ID, vni),
            wire.u32(wire.IFLA_VXLAN_LINK, device_index),
            wire.ipv4(wire.IFLA_VXLAN_LOCAL, local),
            wire.u8(wire.IFLA_VXLAN_LEARNING, learning),
            wire.attribute(wire.IFLA_VXLAN_PORT, struct.pack("!H", port)),
        ),
    )

    def text() -> str:
        here = _words(index=index or None, mtu=mtu, address=mac) + " txqueuelen 0" + _up(up)
        below = f"dev {_device(device_index)} local {local} dstport {port}"
        return f"ip link add name {name}{here} type vxlan id {vni} {below} {'learning' if learning else 'nolearning'}"

    return Request(data, text)


def set_link(
    link: int | str,
    *,
    up: bool | None = None,
    mtu: int | None = None,
    master: int | None = None,
    mac: str | None = None,
    name: str | None = None,
    netns_fd: int | None = None,
) -> Request:
    """Change what is given and leave the rest; `master` 0 takes the link out of its bridge.

    A link given by name cannot be renamed in the same request.
    """
    if isinstance(link, str) and name is not None:
        raise ValueError("to rename a link, give its index")
    parts = _addressed(link, up) + _attributes(name=name, mtu=mtu, mac=mac, master=master, netns_fd=netns_fd)

    def text() -> str:
        state = "" if up is None else (" up" if up else " down")
        bridge = "" if master is None else (f" master {_device(master)}" if master else " nomaster")
        rest = _words(mtu=mtu, address=mac, name=name, netns=_netns_path(netns_fd))
        return f"ip link set dev {_device(link)}{state}{bridge}{rest}"

    return Request(wire.message(wire.RTM_NEWLINK, 0, *parts), text)


def delete_link(link: int | str) -> Request:
    """Take a link away, and with a veth its peer; a link that is gone is fine."""
    return Request(
        wire.message(wire.RTM_DELLINK, 0, *_addressed(link)), lambda: f"ip link delete dev {_device(link)}", _GONE
    )


def set_bridge_port(
    link: int | str,
    *,
    hairpin: bool | None = None,
    learning: bool | None = None,
    flood: bool | None = None,
    isolated: bool | None = None,
) -> Request:
    """Options of a link as the port of its bridge; `hairpin` lets a frame leave by the port it came in."""
    options = (
        (wire.IFLA_BRPORT_MODE, "hairpin", hairpin),
        (wire.IFLA_BRPORT_LEARNING, "learning", learning),
        (wire.IFLA_BRPORT_UNICAST_FLOOD, "flood", flood),
        (wire.IFLA_BRPORT_ISOLATED, "isolated", isolated),
    )
    data = [wire.u8(kind, value) for kind, _, value in options if value is not None]
    info = wire.nested(
        wire.IFLA_LINKINFO,
        wire.text(wire.IFLA_INFO_SLAVE_KIND, "bridge"),
        wire.nested(wire.IFLA_INFO_SLAVE_DATA, *data),
    )

    def text() -> str:
        words = "".join(f" {word} {'on' if value else 'off'}" for _, word, value in options if value is not None)
        return f"ip link set dev {_device(link)} type bridge_slave{words}"

    return Request(wire.message(wire.RTM_NEWLINK, 0, *_addressed(link), info), text)


def set_arp_notify(link: int | str, *, on: bool = True) -> Request:
    """Whether the device announces its addresses by ARP when it goes up; the sysctl, without opening a file for it."""
    setting = wire.nested(wire.IFLA_INET_CONF, wire.u32(wire.IPV4_DEVCONF_ARP_NOTIFY, on))
    data = wire.message(
        wire.RTM_SETLINK, 0, *_addressed(link), wire.nested(wire.IFLA_AF_SPEC, wire.nested(wire.AF_INET, setting))
    )
    return Request(data, lambda: f"sysctl -w net/ipv4/conf/{_device(link)}/arp_notify={int(on)}")
