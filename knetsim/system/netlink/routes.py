"""Requests about addresses, routes, neighbours (ARP) and forwarding entries (FDB) of a device; pure, IPv4.

Adding replaces what stands under the same key (`ip … replace`), deleting what is not there is fine, so that twice is
once. Thousands are made at once when an overlay starts: each is packed by hand, in a few microseconds.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial

from knetsim.system.netlink import wire
from knetsim.system.netlink.wire import Request

_REPLACE = wire.NLM_F_CREATE | wire.NLM_F_REPLACE
_CREATE = wire.NLM_F_CREATE | wire.NLM_F_EXCL
_NONE: frozenset[int] = frozenset()
_NO_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
_NO_ROUTE = frozenset({errno.ESRCH, errno.ENODEV})
_NO_NEIGHBOUR = frozenset({errno.ENOENT, errno.ENODEV})


def _address_message(kind: int, flags: int, index: int, cidr: str, scope: str, broadcast: str | None) -> bytes:
    address, length = wire.packed_cidr(cidr)
    parts = [
        wire.IFADDR.pack(wire.AF_INET, length, 0, wire.SCOPES[scope], index),
        wire.attribute(wire.IFA_LOCAL, address),
        wire.attribute(wire.IFA_ADDRESS, address),
    ]
    if broadcast is not None:
        parts.append(wire.ipv4(wire.IFA_BROADCAST, broadcast))
    return wire.message(kind, flags, *parts)


def add_address(index: int, cidr: str, *, broadcast: str | None = None, scope: str = "global") -> Request:
    """Give a device an address such as `10.0.1.1/24`; the kernel adds the route to its network."""
    data = _address_message(wire.RTM_NEWADDR, _REPLACE, index, cidr, scope, broadcast)
    return Request(data, partial(_address_text, "replace", index, cidr, scope, broadcast))


def delete_address(index: int, cidr: str) -> Request:
    """Take an address from a device, and with it the routes that use it."""
    data = _address_message(wire.RTM_DELADDR, 0, index, cidr, "global", None)
    return Request(data, partial(_address_text, "delete", index, cidr, "global", None), _NO_ADDRESS)


def _address_text(verb: str, index: int, cidr: str, scope: str, broadcast: str | None) -> str:
    tail = (f" broadcast {broadcast}" if broadcast else "") + (f" scope {scope}" if scope != "global" else "")
    return f"ip address {verb} {cidr}{tail} dev if{index}"


def add_route(
    dst: str,
    *,
    via: str | None = None,
    index: int = 0,
    onlink: bool = False,
    scope: str | None = None,
    source: str | None = None,
    replace: bool = True,
) -> Request:
    """A unicast route in the main table to `dst` (CIDR or `default`), through `via`, a device's `index`, or both.

    `onlink`: `via` is reached on the device though no route says so. Unless given, `scope` is `link` without a gateway
    and `global` with one. `protocol` is `boot`, as with `ip` and with flanneld.
    """
    address, length = wire.packed_cidr(dst)
    reach = wire.SCOPES[scope] if scope else (wire.SCOPES["link"] if via is None else 0)
    parts = [
        wire.RTMSG.pack(
            wire.AF_INET,
            length,
            0,
            0,
            wire.RT_TABLE_MAIN,
            wire.PROTOCOLS["boot"],
            reach,
            wire.RTN_UNICAST,
            wire.RTNH_F_ONLINK if onlink else 0,
        )
    ]
    parts += _build_way(address if length else b"", via, index)
    if source is not None:
        parts.append(wire.ipv4(wire.RTA_PREFSRC, source))
    data = wire.message(wire.RTM_NEWROUTE, _REPLACE if replace else _CREATE, *parts)
    return Request(data, partial(_route_text, "replace" if replace else "add", dst, via, index, onlink, scope, source))


def delete_route(dst: str, *, via: str | None = None, index: int = 0) -> Request:
    """Take away the first route of the main table to `dst` that matches what is given."""
    address, length = wire.packed_cidr(dst)
    parts = [wire.RTMSG.pack(wire.AF_INET, length, 0, 0, wire.RT_TABLE_MAIN, 0, wire.SCOPES["nowhere"], 0, 0)]
    parts += _build_way(address if length else b"", via, index)
    data = wire.message(wire.RTM_DELROUTE, 0, *parts)
    return Request(data, partial(_route_text, "delete", dst, via, index, False, None, None), _NO_ROUTE)


def _build_way(address: bytes, via: str | None, index: int) -> Iterator[bytes]:
    """Where a route leads to, and how, as far as it is said; no address for the default route."""
    if address:
        yield wire.attribute(wire.RTA_DST, address)
    if via is not None:
        yield wire.ipv4(wire.RTA_GATEWAY, via)
    if index:
        yield wire.u32(wire.RTA_OIF, index)


def _route_text(
    verb: str, dst: str, via: str | None, index: int, onlink: bool, scope: str | None, source: str | None
) -> str:
    words = [f"ip route {verb} {dst}"]
    if via is not None:
        words.append(f"via {via}")
    if index:
        words.append(f"dev if{index}")
    if source is not None:
        words.append(f"src {source}")
    if scope is not None:
        words.append(f"scope {scope}")
    if onlink:
        words.append("onlink")
    return " ".join(words)


def _neighbour_message(
    kind: int, flags: int, family: int, index: int, state: int, ntf: int, dst: str | None, mac: str | None
) -> bytes:
    parts = [wire.NDMSG.pack(family, index, state, ntf, 0)]
    if dst is not None:
        parts.append(wire.ipv4(wire.NDA_DST, dst))
    if mac is not None:
        parts.append(wire.mac(wire.NDA_LLADDR, mac))
    return wire.message(kind, flags, *parts)


def add_neighbour(index: int, address: str, mac: str, *, state: str = "permanent", replace: bool = True) -> Request:
    """An ARP entry: on the device, `address` is at `mac`."""
    flags = _REPLACE if replace else _CREATE
    data = _neighbour_message(
        wire.RTM_NEWNEIGH, flags, wire.AF_INET, index, wire.NEIGHBOUR_STATES[state], 0, address, mac
    )
    verb = "replace" if replace else "add"
    return Request(data, lambda: f"ip neighbour {verb} {address} lladdr {mac} dev if{index} nud {state}")


def delete_neighbour(index: int, address: str) -> Request:
    """Take an ARP entry away. The kernel keeps it listed as `failed` for a moment when something still uses it."""
    data = _neighbour_message(wire.RTM_DELNEIGH, 0, wire.AF_INET, index, 0, 0, address, None)
    return Request(data, lambda: f"ip neighbour delete {address} dev if{index}", _NO_NEIGHBOUR)


def add_fdb(index: int, mac: str, dst: str | None = None, *, replace: bool = True) -> Request:
    """A permanent entry in the device's own table: frames to `mac` go to the VTEP `dst` (as flanneld sets it).

    Without `dst`, a device other than VXLAN takes frames to `mac` for itself.
    """
    flags = _REPLACE if replace else _CREATE
    state = wire.NEIGHBOUR_STATES["permanent"]
    data = _neighbour_message(wire.RTM_NEWNEIGH, flags, wire.AF_BRIDGE, index, state, wire.NTF_SELF, dst, mac)
    verb, to = ("replace" if replace else "add"), (f" dst {dst}" if dst else "")
    return Request(data, lambda: f"bridge fdb {verb} {mac} dev if{index}{to} self permanent")


def delete_fdb(index: int, mac: str, dst: str | None = None) -> Request:
    """Take an entry out of the device's own table; with `dst` only if it leads there."""
    data = _neighbour_message(wire.RTM_DELNEIGH, 0, wire.AF_BRIDGE, index, 0, wire.NTF_SELF, dst, mac)
    to = f" dst {dst}" if dst else ""
    return Request(data, lambda: f"bridge fdb delete {mac} dev if{index}{to} self", _NO_NEIGHBOUR)
