"""Flannel's vxlan backend: one VTEP per worker, one route, one ARP and one FDB entry for every other worker; pure.

What flannel does. A packet to a pod of another worker, 11.15.64.7 say, takes three look-ups, each answered by one
entry:

    ip route        11.15.64.0/20 via 11.15.64.0 dev flannel.100 onlink      the gateway is the other worker's VTEP
    ip neighbour    11.15.64.0 lladdr 9a:…:07 dev flannel.100 PERMANENT       its MAC, so nobody has to ask by ARP
    bridge fdb      9a:…:07 dev flannel.100 dst 10.1.1.2 self permanent       the worker at which that VTEP is

and leaves as UDP to port 8472 of 10.1.1.2, 50 bytes longer (inner Ethernet 14, VXLAN 8, UDP 8, IP 20), which is why the
VTEP's MTU is 1450 where the underlay's is 1500. The VTEP has the subnet's first address as a /32: the source of what
the worker itself sends to pods. No route leads to the gateways, hence `onlink`. Nothing is learned from traffic,
nothing is flooded. Source: flannel v0.28, pkg/backend/vxlan.

What ours does: the same device, address and entries, field by field (`tests/kernel/test_overlay_agents.py`).
How it differs: flanneld looks at the kernel when it starts and when its VTEP is deleted, and otherwise trusts it; the
FDB entry of a replaced VTEP and the entries of a lease that ended while it was away stay. Ours compares and repairs.
Commands: `C0w1 ip -d link show flannel.100`, `C0w1 ip route`, `C0w1 ip neighbour show dev flannel.100`,
`C0w1 bridge fdb show dev flannel.100`.
Cost: for each other worker three entries and three netlink messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from knetsim.dataplane.overlay.lease import VXLAN, Backend, Lease
from knetsim.dataplane.overlay.state import Desired, Device, Entries, Underlay

#: inner Ethernet header, VXLAN, UDP and outer IPv4
OVERHEAD = 50


@dataclass(frozen=True, slots=True)
class Vxlan:
    """The vxlan backend with the options of the network configuration."""

    options: Backend

    def interface(self, underlay: str) -> str:
        """The VTEP: `flannel.100`."""
        return f"flannel.{self.options.vni}"

    def mtu(self, underlay: Underlay) -> int:
        """What is left of the underlay's MTU, for which one in the configuration may stand."""
        return (self.options.mtu or underlay.mtu) - OVERHEAD

    def build_lease(self, subnet: IPv4Network, public_ip: IPv4Address, mac: str) -> Lease:
        """The lease of the worker whose VTEP has `mac`."""
        return Lease(subnet, public_ip, VXLAN, self.options.vni, mac)

    def build_entries(self, lease: Lease) -> Entries:
        """Route, ARP entry and FDB entry. As with flanneld the lease's VNI is not looked at."""
        if lease.backend != VXLAN or lease.vtep_mac is None:
            return Entries()
        gateway = str(lease.subnet.network_address)
        return Entries({str(lease.subnet): gateway}, {gateway: lease.vtep_mac}, {lease.vtep_mac: str(lease.public_ip)})

    def build_desired(self, own: Lease, entries: Entries, underlay: Underlay) -> Desired:
        """The VTEP of `own`, its address, and the entries."""
        if own.vtep_mac is None:
            raise ValueError(f"{own.name} is a lease without a VTEP")
        device = Device(
            name=self.interface(underlay.interface),
            vni=self.options.vni,
            local=str(own.public_ip),
            port=self.options.port,
            underlay_index=underlay.index,
            mac=own.vtep_mac,
            mtu=self.mtu(underlay),
            learning=self.options.learning,
        )
        return Desired(entries, device, f"{own.subnet.network_address}/32")
