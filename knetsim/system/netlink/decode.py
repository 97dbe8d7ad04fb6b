"""What the kernel tells about links, addresses, routes, neighbours and forwarding entries, as frozen dataclasses; pure.

Only what knetsim looks at is decoded. Each `decode_…` takes one message without its 16-byte header.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from knetsim.system.netlink import wire

_OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
_SCOPE_NAMES = {number: name for name, number in wire.SCOPES.items()}
_PROTOCOL_NAMES = {number: name for name, number in wire.PROTOCOLS.items()}
_STATE_NAMES = {number: name for name, number in wire.NEIGHBOUR_STATES.items()}


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What makes a link a VXLAN device; `device_index` 0 and `local` None when not set."""

    vni: int
    local: str | None
    device_index: int
    port: int
    learning: bool


@dataclass(frozen=True, slots=True)
class BridgePort:
    """The options of a link as the port of a bridge."""

    forwarding: bool
    hairpin: bool
    learning: bool
    flood: bool
    isolated: bool


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. `kind` is `veth`, `bridge`, `vxlan` … or empty (hardware, lo); `master` is a bridge's index or 0.

    `link` is the index of a veth's peer (or of the device below), in namespace `link_netnsid` unless that is None.
    """

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    operstate: str
    master: int
    link: int
    link_netnsid: int | None
    flags: int
    queue_length: int
    port: BridgePort | None = None
    vxlan: Vxlan | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """One IPv4 address of a device: `cidr` is `10.0.1.1/24`."""

    index: int
    cidr: str
    scope: str
    broadcast: str | None
    label: str


@dataclass(frozen=True, slots=True)
class Route:
    """One IPv4 route: `dst` is `10.0.0.0/16` or `default`. `index` 0: no device (several next hops, blackhole)."""

    dst: str
    via: str | None
    index: int
    onlink: bool
    scope: str
    protocol: str
    source: str | None
    metric: int
    table: int
    kind: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One ARP entry; `mac` is None while it is being asked for or has failed."""

    index: int
    address: str
    mac: str | None
    state: str


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """Where frames to `mac` go: to the VTEP `dst`, or to the port `index` of the bridge `master`.

    `own`: the entry is in the device's own table (`self`), as VXLAN's are, not in that of its bridge.
    """

    index: int
    mac: str
    dst: str | None
    master: int
    own: bool
    permanent: bool


def attributes(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, memoryview]]:
    """Type and value of each attribute from `offset` on; stops at one that does not fit."""
    view, end = memoryview(data), len(data)
    unpack = wire.ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        size, kind = unpack(view, offset)
        if size < 4 or offset + size > end:
            return
        yield kind & wire.NLA_TYPE_MASK, view[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def _number(value: memoryview) -> int:
    return int.from_bytes(value, wire.BYTE_ORDER)


def _name(value: memoryview) -> str:
    return bytes(value).rstrip(b"\0").decode(errors="replace")


def _ipv4(value: memoryview | None) -> str | None:
    return wire.ipv4_text(bytes(value)) if value is not None and len(value) == 4 else None


def decode_link(data: memoryview) -> Link:
    """RTM_NEWLINK or RTM_DELLINK."""
    _, _, index, flags, _ = wire.IFINFO.unpack_from(data)
    found = dict(attributes(data, 16))
    info = dict(attributes(found.get(wire.IFLA_LINKINFO, b"")))
    kind = _name(info.get(wire.IFLA_INFO_KIND, memoryview(b"")))
    slave = info.get(wire.IFLA_INFO_SLAVE_DATA)
    is_port = slave is not None and _name(info[wire.IFLA_INFO_SLAVE_KIND]) == "bridge"
    operstate = _number(found.get(wire.IFLA_OPERSTATE, memoryview(b"\0")))
    mac = found.get(wire.IFLA_ADDRESS)
    netnsid = found.get(wire.IFLA_LINK_NETNSID)
    return Link(
        index=index,
        name=_name(found.get(wire.IFLA_IFNAME, memoryview(b""))),
        kind=kind,
        mac=wire.mac_text(bytes(mac)) if mac is not None else "",
        mtu=_number(found.get(wire.IFLA_MTU, memoryview(b""))),
        up=bool(flags & wire.IFF_UP),
        carrier=bool(flags & wire.IFF_LOWER_UP),
        operstate=_OPERSTATES[operstate] if operstate < len(_OPERSTATES) else str(operstate),
        master=_number(found.get(wire.IFLA_MASTER, memoryview(b""))),
        link=_number(found.get(wire.IFLA_LINK, memoryview(b""))),
        link_netnsid=None if netnsid is None else _number(netnsid),
        flags=flags,
        queue_length=_number(found.get(wire.IFLA_TXQLEN, memoryview(b""))),
        port=_decode_port(slave) if slave is not None and is_port else None,
        vxlan=_decode_vxlan(info[wire.IFLA_INFO_DATA]) if kind == "vxlan" and wire.IFLA_INFO_DATA in info else None,
    )


def _decode_port(data: memoryview) -> BridgePort:
    found = {kind: _number(value) for kind, value in attributes(data)}
    return BridgePort(
        forwarding=found.get(wire.IFLA_BRPORT_STATE) == wire.BR_STATE_FORWARDING,
        hairpin=bool(found.get(wire.IFLA_BRPORT_MODE)),
        learning=bool(found.get(wire.IFLA_BRPORT_LEARNING)),
        flood=bool(found.get(wire.IFLA_BRPORT_UNICAST_FLOOD)),
        isolated=bool(found.get(wire.IFLA_BRPORT_ISOLATED)),
    )


def _decode_vxlan(data: memoryview) -> Vxlan:
    found = dict(attributes(data))
    none = memoryview(b"")
    return Vxlan(
        vni=_number(found.get(wire.IFLA_VXLAN_ID, none)),
        local=_ipv4(found.get(wire.IFLA_VXLAN_LOCAL)),
        device_index=_number(found.get(wire.IFLA_VXLAN_LINK, none)),
        port=int.from_bytes(found.get(wire.IFLA_VXLAN_PORT, none), "big"),
        learning=bool(_number(found.get(wire.IFLA_VXLAN_LEARNING, none))),
    )


def decode_address(data: memoryview) -> Address:
    """RTM_NEWADDR or RTM_DELADDR of IPv4."""
    _, length, _, scope, index = wire.IFADDR.unpack_from(data)
    found = dict(attributes(data, 8))
    local = found.get(wire.IFA_LOCAL, found.get(wire.IFA_ADDRESS, memoryview(b"")))
    return Address(
        index=index,
        cidr=f"{_ipv4(local)}/{length}",
        scope=_SCOPE_NAMES.get(scope, str(scope)),
        broadcast=_ipv4(found.get(wire.IFA_BROADCAST)),
        label=_name(found.get(wire.IFA_LABEL, memoryview(b""))),
    )


def decode_route(data: memoryview) -> Route:
    """RTM_NEWROUTE or RTM_DELROUTE of IPv4."""
    _, length, _, _, table, protocol, scope, kind, flags = wire.RTMSG.unpack_from(data)
    found = dict(attributes(data, 12))
    none = memoryview(b"")
    dst = f"{_ipv4(found[wire.RTA_DST])}/{length}" if wire.RTA_DST in found else "default"
    return Route(
        dst=dst,
        via=_ipv4(found.get(wire.RTA_GATEWAY)),
        index=_number(found.get(wire.RTA_OIF, none)),
        onlink=bool(flags & wire.RTNH_F_ONLINK),
        scope=_SCOPE_NAMES.get(scope, str(scope)),
        protocol=_PROTOCOL_NAMES.get(protocol, str(protocol)),
        source=_ipv4(found.get(wire.RTA_PREFSRC)),
        metric=_number(found.get(wire.RTA_PRIORITY, none)),
        table=_number(found[wire.RTA_TABLE]) if wire.RTA_TABLE in found else table,
        kind=kind,
    )


def decode_neighbour(data: memoryview) -> Neighbour | FdbEntry | None:
    """RTM_NEWNEIGH or RTM_DELNEIGH: an ARP entry, a forwarding entry, or None for other families."""
    family, index, state, flags, _ = wire.NDMSG.unpack_from(data)
    found = dict(attributes(data, 12))
    mac = found.get(wire.NDA_LLADDR)
    mac_text = wire.mac_text(bytes(mac)) if mac is not None else None
    dst = _ipv4(found.get(wire.NDA_DST))
    if family == wire.AF_BRIDGE:
        return FdbEntry(
            index=index,
            mac=mac_text or "",
            dst=dst,
            master=_number(found.get(wire.NDA_MASTER, memoryview(b""))),
            own=bool(flags & wire.NTF_SELF),
            permanent=bool(state & wire.NEIGHBOUR_STATES["permanent"]),
        )
    if family != wire.AF_INET:
        return None
    return Neighbour(index, dst or "", mac_text, _STATE_NAMES.get(state, str(state)))
