"""UDP connections that still lead to a backend which is no more; pure.

As kube-proxy clears them (pkg/proxy/conntrack/cleanup.go): what goes to an address of a Service and is answered by none
of its serving backends, while it has some. What a policy or a hint would now send elsewhere goes on, as with TCP; TCP
itself notices by its own means.
"""

from __future__ import annotations

from collections.abc import Iterable

from knetsim.dataplane.services.ports import ServicePort
from knetsim.system.conntrack import End, Flow


def find_stale(flows: Iterable[Flow], ports: Iterable[ServicePort]) -> list[Flow]:
    """Those of the UDP connections `flows` that lead to no serving backend of the port they were sent to."""
    by_end: dict[End, set[End]] = {}
    by_node_port: dict[int, set[End]] = {}
    for port in ports:
        serving = {End(backend.address, backend.port) for backend in port.backends if backend.serving}
        if port.protocol != "udp" or not serving:
            continue
        for address in (port.cluster_ip, *port.outside_ips):
            by_end[End(address, port.port)] = serving
        if port.node_port:
            by_node_port[port.node_port] = serving
    return [
        flow
        for flow in flows
        if (wanted := by_end.get(flow.destination) or by_node_port.get(flow.destination.port))
        and flow.answering not in wanted
    ]
