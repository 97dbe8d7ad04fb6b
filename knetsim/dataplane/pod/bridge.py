"""The bridge `cni0` that joins the pods of a worker: as CNI's bridge plugin makes it, and repaired when it drifts.

What the plugin does (plugins/main/bridge): makes the bridge with the MTU of the pod network when the first pod comes,
gives it the first address of the worker's subnet, fixes its MAC (a bridge without one of its own takes the lowest of
its ports and changes it as they come and go), turns on IPv4 forwarding; per pod a port with `hairpin` on, so that a pod
may reach itself through a Service. It looks at a bridge only when the next pod comes, and never at the other ports.
Ours: the same bridge. Its MAC is `0a:58:` and the gateway's address, so a bridge that was deleted and made again is the
same to the pods that have its MAC in their ARP tables. A deleted bridge leaves its ports behind, without a master: they
are attached again.

Commands: `C0w1 ip -d link show cni0`, `C0w1 bridge -d link`, `C0w1 ip neighbour show dev cni0`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address
from typing import NamedTuple

from knetsim.dataplane.pod.wiring import BRIDGE, WorkerPlace
from knetsim.errors import NotFound
from knetsim.system import netlink
from knetsim.system.netlink import Link, Request
from knetsim.system.sysctl import read_sysctl, write_sysctl

_FORWARDING = "net.ipv4.ip_forward"


class Repair(NamedTuple):
    """What was wrong, and the requests that mend it."""

    what: str
    requests: tuple[Request, ...]


def build_mac(address: IPv4Address) -> str:
    """`11.15.64.1` → `0a:58:0b:0f:40:01`: who has the address has the MAC, so no ARP entry is ever out of date."""
    return "0a:58:" + address.packed.hex(":")


def build_bridge_repairs(
    worker: WorkerPlace, bridge: Link, addresses: Iterable[str], mac: str | None = None
) -> list[Repair]:
    """What the bridge differs in from what the worker's lease asks for; `addresses` are those that it has; pure."""
    index, gateway, mtu = bridge.index, str(worker.lease.gateway), worker.lease.mtu
    found = list(addresses)
    repairs = []
    if bridge.mtu != mtu:
        repairs.append(Repair(f"its MTU was {bridge.mtu}", (netlink.set_link(index, mtu=mtu),)))
    if mac is not None and bridge.mac != mac:
        repairs.append(Repair(f"its MAC was {bridge.mac}", (netlink.set_link(index, mac=mac),)))
    wrong = [cidr for cidr in found if cidr != gateway]
    repairs += [Repair(f"it had the address {cidr}", (netlink.delete_address(index, cidr),)) for cidr in wrong]
    if gateway not in found:
        broadcast = str(worker.lease.subnet.broadcast_address)
        repairs.append(Repair(f"it had no {gateway}", (netlink.add_address(index, gateway, broadcast=broadcast),)))
    if not bridge.up:
        repairs.append(Repair("it was down", (netlink.set_link(index, up=True),)))
    return repairs


def build_port_repairs(bridge: Link, ports: Iterable[Link]) -> list[Repair]:
    """What the pods' ends on the worker differ in from ports of the bridge; pure."""
    repairs = []
    for port in ports:
        hairpin = netlink.set_bridge_port(port.index, hairpin=True)
        if port.master != bridge.index:
            attach = netlink.set_link(port.index, master=bridge.index, up=True)
            repairs.append(Repair(f"{port.name} was not attached", (attach, hairpin)))
            continue
        if not port.up:
            repairs.append(Repair(f"{port.name} was down", (netlink.set_link(port.index, up=True),)))
        if port.port is not None and not port.port.hairpin:
            repairs.append(Repair(f"{port.name} had hairpin off", (hairpin,)))
    return repairs


def ensure_bridge(worker: WorkerPlace, ports: Collection[str] = (), mac: str | None = None) -> list[str]:
    """Have the bridge as the lease asks for, and the pods' ends `ports` in it; what had to be done, in words.

    `mac` None: an existing bridge keeps its MAC, a new one gets the one that goes with its address.
    """
    bridge, done = _ensure_device(worker, mac or build_mac(worker.lease.gateway.ip))
    addresses = [entry.cidr for entry in worker.netlink.addresses(bridge.index)]
    repairs = build_bridge_repairs(worker, bridge, addresses, mac)
    done = done or [repair.what for repair in repairs]
    if ports:
        links = worker.netlink.links(kind="veth")
        port_repairs = build_port_repairs(bridge, [link for link in links if link.name in ports])
        repairs += port_repairs
        done += [repair.what for repair in port_repairs]
    worker.netlink.apply(request for repair in repairs for request in repair.requests)
    if read_sysctl(worker.namespaces, _FORWARDING)[_FORWARDING] != "1":
        write_sysctl(worker.namespaces, {_FORWARDING: "1"})
        done.append("IPv4 forwarding was off")
    return [f"{BRIDGE}: {what}" for what in done]


def _ensure_device(worker: WorkerPlace, mac: str) -> tuple[Link, list[str]]:
    """The bridge, made if need be, and then what was there instead of it."""
    found = worker.netlink.link(BRIDGE)
    if found is not None and found.kind == "bridge":
        return found, []
    if found is not None:
        worker.netlink.apply([netlink.delete_link(found.index)])
    return _add_bridge(worker, mac), [f"it was a {found.kind or 'device'}" if found else "it was missing"]


def _add_bridge(worker: WorkerPlace, mac: str) -> Link:
    worker.netlink.apply([netlink.add_bridge(BRIDGE, mtu=worker.lease.mtu, mac=mac, up=False)])
    # Neither the bridge nor its ports shall take routes from neighbours. The plugin writes this for each before it goes
    # up; the default, for those that are made from now on, spares a write per pod.
    names = (f"net/ipv6/conf/{BRIDGE}/accept_ra", "net/ipv6/conf/default/accept_ra")
    write_sysctl(worker.namespaces, dict.fromkeys(names, "0"), missing_ok=True)
    bridge = worker.netlink.link(BRIDGE)
    if bridge is None:
        raise NotFound(f"the bridge {BRIDGE} vanished as soon as it was made", worker.name)
    return bridge
