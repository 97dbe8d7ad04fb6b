"""Connections that still lead to a backend which is no more; pure.

UDP, as kube-proxy clears it (pkg/proxy/conntrack/cleanup.go): what goes to an address of a Service and is answered by
none of its serving backends, while it has some. What a policy or a hint would now send elsewhere goes on, as with TCP.

TCP: only what was never answered. kube-proxy leaves that, too; but a client whose SYN went to a pod at its end would
try that pod for two minutes, and so would whoever gets the same source port meanwhile. What was answered drains.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from knetsim.dataplane.services.ports import ServicePort
from knetsim.system.conntrack import TCP, UDP, End, Flow

#: the protocols of which connections are looked at
PROTOCOLS = {"udp": UDP, "tcp": TCP}


def find_stale(flows: Iterable[Flow], ports: Iterable[ServicePort]) -> list[Flow]:
    """Those of the connections `flows` that lead to no serving backend of the port they were sent to."""
    by_end: dict[tuple[int, End], set[End]] = {}
    by_node_port: dict[tuple[int, int], set[End]] = {}
    for port in ports:
        protocol, serving = PROTOCOLS.get(port.protocol), _serving(port)
        if protocol is None or (protocol == UDP and not serving):
            continue
        for address in (port.cluster_ip, *port.outside_ips):
            by_end[protocol, End(address, port.port)] = serving
        if port.node_port:
            by_node_port[protocol, port.node_port] = serving
    stale = []
    for flow in flows:
        wanted = by_end.get((flow.protocol, flow.destination))
        if wanted is None:
            wanted = by_node_port.get((flow.protocol, flow.destination.port))
        if wanted is not None and flow.answering not in wanted and (flow.protocol == UDP or not flow.answered):
            stale.append(flow)
    return stale


def may_be_stale(ports: Iterable[ServicePort], losers: Set[str]) -> list[ServicePort]:
    """Those of a changed Service's ports of which connections are to be looked at: all of UDP, whose clients may have
    been heard by nobody; those of TCP that have lost a backend (`losers`, their paths)."""
    return [port for port in ports if port.protocol == "udp" or (port.protocol == "tcp" and port.path in losers)]


def find_losers(before: Iterable[ServicePort], after: Iterable[ServicePort]) -> set[str]:
    """The paths of a Service's ports that have lost a backend, now that `before` has become `after`."""
    had = {port.path: _serving(port) for port in before}
    return {port.path for port in after if had.get(port.path, set()) - _serving(port)}


def _serving(port: ServicePort) -> set[End]:
    return {End(backend.address, backend.port) for backend in port.backends if backend.serving}
