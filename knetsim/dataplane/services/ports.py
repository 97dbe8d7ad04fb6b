"""What a Service is to the rules of a worker: addresses, a port, backends; and what a worker is to them. Pure.

The words are Kubernetes': a backend is one address of an EndpointSlice with the port that belongs to the Service's.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

Protocol = Literal["tcp", "udp", "sctp"]


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """One address and port that may answer for a Service, with what its EndpointSlice says of it.

    `node` is the Node it is on, or empty. `zones` and `nodes` are hints: for whom it is meant, empty for everybody.
    """

    address: IPv4Address
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a Service with all addresses that lead to it.

    `external_ips` are the Service's externalIPs, `balancer_ips` those of its load balancer, which take clients from
    `source_ranges` only (empty: from everywhere; the ranges do not overlap). `affinity_seconds` is how long a client
    stays with its backend, None for ever another. The two policies say whether only backends on the worker itself are
    used; `health_port` is where a load balancer asks a worker whether it has any (0: it does not ask).
    """

    namespace: str
    service: str
    name: str = ""
    protocol: Protocol
    port: int
    cluster_ip: IPv4Address
    node_port: int = 0
    external_ips: tuple[IPv4Address, ...] = ()
    balancer_ips: tuple[IPv4Address, ...] = ()
    source_ranges: tuple[IPv4Network, ...] = ()
    health_port: int = 0
    affinity_seconds: int | None = None
    internal_local: bool = False
    external_local: bool = False
    backends: tuple[Backend, ...] = ()

    @property
    def path(self) -> str:
        """What the port is called in chains and comments: `default/web/tcp/80`."""
        return f"{self.namespace}/{self.service}/{self.protocol}/{self.port}"

    @property
    def outside_ips(self) -> tuple[IPv4Address, ...]:
        """Its addresses beside the ClusterIP, each once."""
        return tuple(dict.fromkeys((*self.external_ips, *self.balancer_ips)))

    @property
    def is_external(self) -> bool:
        """Whether anything but the ClusterIP leads to it."""
        return bool(self.node_port or self.external_ips or self.balancer_ips)

    @property
    def is_walled(self) -> bool:
        """Whether its load balancer's addresses take some clients and drop others."""
        return bool(self.balancer_ips and self.source_ranges)

    @property
    def uses_cluster(self) -> bool:
        """Whether any traffic may go to backends on other workers. Pods and the worker itself may in any case reach
        all backends through external addresses."""
        return not self.internal_local or self.is_external

    @property
    def uses_local(self) -> bool:
        """Whether any traffic goes to the worker's own backends only."""
        return self.internal_local or (self.external_local and self.is_external)


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """A worker, or the control plane's host, as the rules see it.

    `address` takes NodePorts. `routed` is the worker's own subnet where this kernel does not show bridged frames to
    the packet filter (no br_netfilter), None where it does.
    """

    node: str
    address: IPv4Address
    pod_network: IPv4Network
    service_network: IPv4Network
    zone: str = ""
    routed: IPv4Network | None = None
