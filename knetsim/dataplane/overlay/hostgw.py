"""Flannel's host-gw backend: the other workers are gateways, packets travel as they are; pure.

What flannel does: one route for every other worker, `11.15.64.0/20 via 10.1.1.2 dev C0w1-eth0`. No VTEP, no header, the
underlay's whole MTU; but all workers must be neighbours on one link, since a router between them would have to know the
pod network. Source: flannel v0.28, pkg/backend/hostgw and route_network.go.

What ours does: the same routes. How it differs: flanneld adds missing routes again every 10 s and leaves wrong ones;
ours repairs both, and takes away routes of leases that ended while it was not running. On the underlay's interface
every route with a gateway into the pod network counts as the overlay's.
Commands: `C0w1 ip route`, `C0w1 traceroute <pod>`. Cost: for each other worker one route and one netlink message.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from knetsim.dataplane.overlay.lease import HOST_GW, Lease
from knetsim.dataplane.overlay.state import Desired, Entries, Underlay


@dataclass(frozen=True, slots=True)
class HostGateway:
    """The host-gw backend; it has no options."""

    def interface(self, underlay: str) -> str:
        """The underlay's own."""
        return underlay

    def mtu(self, underlay: Underlay) -> int:
        """The underlay's."""
        return underlay.mtu

    def build_lease(self, subnet: IPv4Network, public_ip: IPv4Address, mac: str) -> Lease:
        """The lease of the worker at `public_ip`."""
        return Lease(subnet, public_ip, HOST_GW)

    def build_entries(self, lease: Lease) -> Entries:
        """One route."""
        if lease.backend != HOST_GW:
            return Entries()
        return Entries({str(lease.subnet): str(lease.public_ip)})

    def build_desired(self, own: Lease, entries: Entries, underlay: Underlay) -> Desired:
        """The entries and nothing else."""
        return Desired(entries)
