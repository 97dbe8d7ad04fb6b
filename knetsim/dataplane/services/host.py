"""What a worker's kernel needs beside rules so that Services work: bridged frames in the packet filter, a route.

**Bridged frames.** A pod sends to a VIP, the worker turns the address into that of a pod on the same bridge, and that
pod answers straight across the bridge: unless the bridge shows its frames to the packet filter
(net.bridge.bridge-nf-call-iptables=1, of br_netfilter), nobody turns the address back, and the client drops the answer.
So it is 1 in every worker, as on a node that kubeadm accepts. It also shows pods' frames within a worker to
NetworkPolicies. A frame that a pod sends to itself by a VIP must then leave by the port it came in: every pod's port
has hairpin mode (dataplane/pod/bridge.py). The setting belongs to the network namespace (since Linux 5.3); the one that
holds the underlay's switches has 0 (dataplane/underlay.py).
A kernel without br_netfilter: what goes from a pod to a pod of the same worker through a VIP is masqueraded, so that
the answer comes to the worker first. The backend then sees the bridge's address instead of the client's.

**A route.** The worker's own processes reach VIPs only if a route to them exists when they connect, since the rules are
asked after it was looked up. A machine has a default route; a host of the underlay has none, so one to the Services'
network leads out by the underlay, where the rules drop what no Service has.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from knetsim.errors import KernelError
from knetsim.system.netlink import Netlink, add_route
from knetsim.system.netns import Namespaces
from knetsim.system.sysctl import read_sysctl, write_sysctl

_BRIDGE_FILTER = "net.bridge.bridge-nf-call-iptables"


def has_bridge_filter(namespaces: Namespaces) -> bool:
    """Whether this kernel can show bridged frames to the packet filter."""
    try:
        read_sysctl(namespaces, _BRIDGE_FILTER)
    except KernelError:
        return False
    return True


def shows_bridged_frames(namespaces: Namespaces) -> bool:
    """Whether bridged frames are shown to the packet filter now."""
    return has_bridge_filter(namespaces) and read_sysctl(namespaces, _BRIDGE_FILTER)[_BRIDGE_FILTER] == "1"


def ensure_bridge_filter(namespaces: Namespaces) -> bool:
    """Show bridged frames to the packet filter, where the kernel can; whether it was off."""
    if not has_bridge_filter(namespaces) or read_sysctl(namespaces, _BRIDGE_FILTER)[_BRIDGE_FILTER] == "1":
        return False
    write_sysctl(namespaces, {_BRIDGE_FILTER: "1"})
    return True


def ensure_service_route(netlink: Netlink, interface: str, address: IPv4Address, network: IPv4Network) -> bool:
    """Have the route to the Services' network; whether it was missing. Without the interface there is none to have."""
    index = netlink.index(interface)
    if index is None:
        return False
    wanted = str(network)
    if any(route.dst in (wanted, "default", "0.0.0.0/0") for route in netlink.routes()):
        return False
    link = netlink.link(index)
    if link is None or not link.up:
        return False
    netlink.apply([add_route(wanted, index=index, source=str(address))])
    return True
