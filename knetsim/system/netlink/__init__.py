"""rtnetlink without forking `ip`: links, addresses, routes, neighbours and forwarding entries of a namespace.

What `ip` and `bridge` do, they do by messages to the kernel; so does this package, in this process, for any network
namespace. A message costs a few microseconds here and in the kernel, a fork of `ip` one to two milliseconds, and
hundreds of workers need tens of thousands.

    links.py, routes.py     pure: what to change, as requests (`add_veth(…)`, `add_route(…)`)
    connection.py           `Netlink`: one socket in one namespace; applies requests in batches, lists what there is
    decode.py               pure: what the kernel answers, as dataclasses
    monitor.py              `Monitor`: be told of changes
    wire.py                 pure: bytes

    with Netlink.in_namespace(place) as netlink:
        netlink.apply([add_bridge("cni0", mtu=1450), add_veth("veth1", "eth0", peer_netns_fd=pod.net)])
        bridge = netlink.link("cni0")

- A socket belongs to the namespace in which it was made, whichever thread uses it. So a thread enters a namespace once,
  to make the socket, and never again; a socket also keeps its namespace alive until it is closed.
- Messages are packed by hand, in 2 to 8 µs each. Numbers and layouts are in `wire.py`, with their source.
- An error shows the request as the `ip` or `bridge` command that does the same, with the kernel's own words (extended
  acknowledgement): what a learner can paste is what was done.
- Requests that add an address, a route, a neighbour or a forwarding entry replace what is there; requests that delete
  are content when it is gone: twice is once. Links are only added when there is none of the name. Which errors are fine
  is said by `Request.tolerate`; `request._replace(tolerate=…)` changes it.
- To see what is done here: `ip -d link`, `ip route`, `ip neighbour`, `bridge fdb`, `ip monitor`, `strace -e sendto`.
"""

from __future__ import annotations

from knetsim.system.netlink.connection import Netlink
from knetsim.system.netlink.decode import Address, BridgePort, FdbEntry, Link, Neighbour, Route, Vxlan
from knetsim.system.netlink.links import (
    add_bridge,
    add_veth,
    add_vxlan,
    delete_link,
    set_arp_notify,
    set_bridge_port,
    set_link,
)
from knetsim.system.netlink.monitor import Change, Changes, Monitor
from knetsim.system.netlink.routes import (
    add_address,
    add_fdb,
    add_neighbour,
    add_route,
    delete_address,
    delete_fdb,
    delete_neighbour,
    delete_route,
)
from knetsim.system.netlink.wire import Request

__all__ = [
    "Address",
    "BridgePort",
    "Change",
    "Changes",
    "FdbEntry",
    "Link",
    "Monitor",
    "Neighbour",
    "Netlink",
    "Request",
    "Route",
    "Vxlan",
    "add_address",
    "add_bridge",
    "add_fdb",
    "add_neighbour",
    "add_route",
    "add_veth",
    "add_vxlan",
    "delete_address",
    "delete_fdb",
    "delete_link",
    "delete_neighbour",
    "delete_route",
    "set_arp_notify",
    "set_bridge_port",
    "set_link",
]
