"""A NetworkPolicy as the rules of a worker want it; pure.

The words are Kubernetes': a rule allows what comes from (or goes to) any of its peers, on any of its ports; without
peers everybody, without ports every port and protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from knetsim.dataplane.policy.selectors import EVERYTHING, Selector

Protocol = Literal["tcp", "udp", "sctp"]
Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class PodPeer:
    """Pods of the whole cluster: in one `namespace`, or in those that `namespaces` means."""

    namespace: str = ""
    namespaces: Selector | None = None
    pods: Selector = EVERYTHING


@dataclass(frozen=True, slots=True)
class BlockPeer:
    """Addresses: `cidr` without the parts `excepted` of it."""

    cidr: Network
    excepted: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the receiving end: `first` to `last`, or by the `name` that the receiving pod's containers give it;
    neither: all ports of the protocol."""

    protocol: Protocol
    first: int = 0
    last: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed: any of `peers` on any of `ports`; None for the peers: everybody."""

    peers: tuple[PodPeer | BlockPeer, ...] | None = None
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of one namespace. A direction that is None is left as it is; an empty one allows nothing."""

    namespace: str
    name: str
    selector: Selector
    ingress: tuple[Rule, ...] | None = None
    egress: tuple[Rule, ...] | None = None

    def rules(self, direction: Direction) -> tuple[Rule, ...] | None:
        """The rules of a direction, or None where the policy does not isolate."""
        return self.ingress if direction == "ingress" else self.egress

    def isolates(self, direction: Direction) -> bool:
        """Whether the pods that it selects are isolated in a direction."""
        return self.rules(direction) is not None

    def pod_peers(self) -> Iterator[PodPeer]:
        """Every pod peer that it names."""
        for direction in DIRECTIONS:
            for rule in self.rules(direction) or ():
                yield from (peer for peer in rule.peers or () if isinstance(peer, PodPeer))

    def named_ports(self) -> Iterator[Port]:
        """Every port that it calls by a name."""
        for direction in DIRECTIONS:
            for rule in self.rules(direction) or ():
                yield from (port for port in rule.ports if port.name)
