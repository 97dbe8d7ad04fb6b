"""The kernel's part of an overlay as plain values: what is wanted, what there is, and the requests in between.

A backend (`vxlan.py`, `hostgw.py`) builds the state that a worker shall have, `read_state` looks at the one it has, and
`diff` turns the difference into netlink requests. Both agents are judged by the same functions: when nothing is left to
do, flanneld, too, is through with its work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from knetsim.dataplane.overlay.lease import Lease
from knetsim.system.netlink import (
    Link,
    Netlink,
    Request,
    add_address,
    add_fdb,
    add_neighbour,
    add_route,
    add_vxlan,
    delete_address,
    delete_fdb,
    delete_link,
    delete_neighbour,
    delete_route,
    set_link,
)


@dataclass(frozen=True, slots=True)
class Underlay:
    """The interface by which a worker reaches the others."""

    interface: str
    index: int
    mtu: int


@dataclass(frozen=True, slots=True)
class Device:
    """A worker's VTEP: `flannel.<vni>`, whose packets leave through the interface `underlay_index` from `local`."""

    name: str
    vni: int
    local: str
    port: int
    underlay_index: int
    mac: str
    mtu: int
    learning: bool = False


@dataclass(frozen=True, slots=True)
class Entries:
    """What leads to other workers: one route for each, and with vxlan an ARP and an FDB entry.

    `routes` has the gateway of each subnet (None: a route without one, which is never ours), `neighbours` the MAC of
    each gateway, `fdb` the underlay address of each MAC.
    """

    routes: Mapping[str, str | None] = field(default_factory=dict)
    neighbours: Mapping[str, str] = field(default_factory=dict)
    fdb: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desired:
    """What a worker shall have: its VTEP with one address (neither with host-gw), and the entries for the others."""

    entries: Entries
    device: Device | None = None
    address: str | None = None


class OverlayBackend(Protocol):
    """How packets reach other workers: turns leases into kernel state; pure."""

    def interface(self, underlay: str) -> str:
        """The name of the interface that the entries are on, given that of the underlay's."""

    def mtu(self, underlay: Underlay) -> int:
        """How large a pod's packet may be."""

    def build_lease(self, subnet: IPv4Network, public_ip: IPv4Address, mac: str) -> Lease:
        """The lease by which others learn of a worker; `mac` is its VTEP's, where there is one."""

    def build_entries(self, lease: Lease) -> Entries:
        """What every other worker needs to reach this one; nothing for a lease of another backend."""

    def build_desired(self, own: Lease, entries: Entries, underlay: Underlay) -> Desired:
        """All that the worker with the lease `own` shall have, given the entries for all the others."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a worker has. `index` is the interface that the entries are on; 0 where it does not exist."""

    index: int = 0
    entries: Entries = Entries()
    device: Link | None = None
    addresses: tuple[str, ...] = ()


def read_state(netlink: Netlink, interface: str, network: IPv4Network) -> Observed:
    """What a worker has on `interface`, its VTEP or (host-gw) the underlay's, that concerns the pod `network`."""
    link = netlink.link(interface)
    if link is None:
        return Observed()
    routes = {
        route.dst: route.via
        for route in netlink.routes()
        if route.index == link.index and route.metric == 0 and _is_overlay_route(route.dst, route.via, link, network)
    }
    if link.kind != "vxlan":
        return Observed(link.index, Entries(routes), link)
    neighbours = {
        entry.address: entry.mac
        for entry in netlink.neighbours(link.index)
        if entry.state == "permanent" and entry.mac is not None
    }
    fdb = {
        entry.mac: entry.dst
        for entry in netlink.fdb(link.index)
        if entry.own and entry.permanent and entry.dst is not None
    }
    addresses = tuple(
        address.cidr
        for address in netlink.addresses(link.index)
        if IPv4Network(address.cidr, strict=False).subnet_of(network)
    )
    return Observed(link.index, Entries(routes, neighbours, fdb), link, addresses)


def _is_overlay_route(dst: str, via: str | None, link: Link, network: IPv4Network) -> bool:
    """On a VTEP every route is the overlay's; on the underlay's interface those by a gateway into the pod network."""
    if link.kind == "vxlan":
        return True
    return via is not None and dst != "default" and IPv4Network(dst).subnet_of(network)


# --- the difference -------------------------------------------------------------------------------


def explain_mismatch(link: Link, device: Device) -> str:
    """Why an existing interface cannot become `device` by changes (`vni 1 instead of 100`); empty when it can.

    MTU, MAC and up or down can be changed on a living VTEP. As in flannel's vxlanLinksIncompat.
    """
    found = link.vxlan
    if link.kind != "vxlan" or found is None:
        return f"a {link.kind or 'hardware'} interface instead of vxlan"
    for word, have, want in (
        ("vni", found.vni, device.vni),
        ("local address", found.local, device.local),
        ("underlay interface", found.device_index, device.underlay_index),
        ("port", found.port, device.port),
        ("learning", found.learning, device.learning),
    ):
        if have != want:
            return f"{word} {have} instead of {want}"
    return ""


def diff_device(observed: Observed, desired: Desired) -> list[Request]:
    """The requests that make the VTEP, anew where it cannot be changed, or change it. Nothing with host-gw."""
    device, link = desired.device, observed.device
    if device is None:
        return []
    make = add_vxlan(
        device.name,
        vni=device.vni,
        local=device.local,
        device_index=device.underlay_index,
        port=device.port,
        mac=device.mac,
        mtu=device.mtu,
        learning=device.learning,
    )
    if link is None:
        return [make]
    if explain_mismatch(link, device):
        return [delete_link(device.name), make]
    if (link.mac, link.mtu, link.up) == (device.mac, device.mtu, True):
        return []
    return [
        set_link(
            link.index,
            up=None if link.up else True,
            mtu=None if link.mtu == device.mtu else device.mtu,
            mac=None if link.mac == device.mac else device.mac,
        )
    ]


def diff_address(observed: Observed, desired: Desired) -> list[Request]:
    """The requests that leave the VTEP with its one address of the pod network."""
    if desired.address is None:
        return []
    stale = [delete_address(observed.index, cidr) for cidr in observed.addresses if cidr != desired.address]
    if desired.address in observed.addresses:
        return stale
    return [*stale, add_address(observed.index, desired.address)]


def diff_entries(observed: Entries, desired: Entries, index: int, *, onlink: bool) -> list[Request]:
    """The requests that lead from one set of entries to another, on the interface `index`; empty when they are equal.

    A route comes after the ARP and FDB entries it needs, since the kernel would ask for its gateway's MAC otherwise,
    and goes before them.
    """
    requests = [
        _neighbour(index, ip, mac) for ip, mac in desired.neighbours.items() if observed.neighbours.get(ip) != mac
    ]
    requests += [_fdb(index, mac, ip) for mac, ip in desired.fdb.items() if observed.fdb.get(mac) != ip]
    requests += [
        _route(index, dst, via, onlink)
        for dst, via in desired.routes.items()
        if dst not in observed.routes or observed.routes[dst] != via
    ]
    requests += [
        delete_route(dst, via=via, index=index) for dst, via in observed.routes.items() if dst not in desired.routes
    ]
    requests += [delete_neighbour(index, ip) for ip in observed.neighbours if ip not in desired.neighbours]
    requests += [delete_fdb(index, mac, ip) for mac, ip in observed.fdb.items() if mac not in desired.fdb]
    return requests


def diff(observed: Observed, desired: Desired) -> list[Request]:
    """What is to be done next: the VTEP itself, or, where that is as it shall be, all that is on it.

    Making a VTEP gives it a new index, changing its MAC drops its ARP entries (net/ipv4/arp.c: arp_netdev_event),
    taking it up finds its routes gone: so after requests for the VTEP the state must be read again.
    """
    requests = diff_device(observed, desired)
    if requests:
        return requests
    onlink = desired.device is not None
    return diff_address(observed, desired) + diff_entries(
        observed.entries, desired.entries, observed.index, onlink=onlink
    )


# Most workers have their VTEP at the same index, so the same request serves them all and is packed once.
_neighbour = lru_cache(maxsize=4096)(add_neighbour)
_fdb = lru_cache(maxsize=4096)(add_fdb)


@lru_cache(maxsize=4096)
def _route(index: int, dst: str, via: str | None, onlink: bool) -> Request:
    return add_route(dst, via=via, index=index, onlink=onlink)
