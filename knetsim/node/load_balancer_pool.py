"""Which Service of type LoadBalancer has which address of the pool, and which worker answers for it; pure.

What a Service has it keeps, who is older comes first, and an address that is asked for (`spec.loadBalancerIP`) is that
or none. The worker is chosen as MetalLB does in its layer 2 mode: of those that may, the one whose name, hashed with
the address, comes first, so that addresses are spread, a worker that fails gives away only its own, and all agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from knetsim.api.objects import Object, has_condition, key_of

#: `spec.loadBalancerClass` of what is ours; so is what has none
CLASS = "knetsim.io/layer2"
#: a Node with this label answers for no load balancer
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses from `first` to `last`."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def find_free(self, taken: Mapping[IPv4Address, str]) -> IPv4Address | None:
        """The first address that nobody has."""
        for number in range(int(self.first), int(self.last) + 1):
            if IPv4Address(number) not in taken:
                return IPv4Address(number)
        return None


@dataclass
class Allotment:
    """The addresses of Services, and why others have none."""

    addresses: dict[str, IPv4Address] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def is_ours(service: Object) -> bool:
    """Whether a Service wants an address of this pool."""
    spec = service.get("spec") or {}
    return (
        spec.get("type") == "LoadBalancer"
        and spec.get("loadBalancerClass") in (None, "", CLASS)
        and not service["metadata"].get("deletionTimestamp")
    )


def read_addresses(service: Object) -> list[str]:
    """The addresses in a Service's status."""
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    return [str(each["ip"]) for each in balancer.get("ingress") or () if each.get("ip")]


def allot(services: Iterable[Object], pool: Pool | None) -> Allotment:
    """An address for each Service that is ours."""
    found = Allotment()
    ours = sorted(
        (each for each in services if is_ours(each)),
        key=lambda each: (each["metadata"].get("creationTimestamp") or "", key_of(each)),
    )
    if pool is None:
        what = "the scenario has no addresses for load balancers (services.loadBalancers)"
        found.problems = {key_of(each): what for each in ours}
        return found
    taken: dict[IPv4Address, str] = {}
    for service in ours:
        if (kept := _find_kept(service, pool)) is not None:
            taken.setdefault(kept, key_of(service))
    holders = set(taken.values())
    # what is asked for by name before what may be anything
    for service in sorted(ours, key=lambda each: not _wish(each)):
        key = key_of(service)
        if key in holders:
            continue
        address = IPv4Address(_wish(service)) if _wish(service) else pool.find_free(taken)
        if address is None:
            found.problems[key] = f"no address of {pool} is left (services.loadBalancers of the scenario)"
        elif address not in pool:
            found.problems[key] = f"loadBalancerIP {address} is not in {pool} (services.loadBalancers of the scenario)"
        elif address in taken:
            found.problems[key] = f"loadBalancerIP {address} is the address of Service {taken[address]}"
        else:
            taken[address] = key
    found.addresses = {key: address for address, key in taken.items()}
    return found


def _wish(service: Object) -> str:
    return str(service["spec"].get("loadBalancerIP") or "")


def _find_kept(service: Object, pool: Pool) -> IPv4Address | None:
    for text in read_addresses(service):
        if _wish(service) in ("", text) and IPv4Address(text) in pool:
            return IPv4Address(text)
    return None


def choose_announcer(address: IPv4Address, nodes: Iterable[str]) -> str | None:
    """Which of these Nodes answers for an address; None when there is none."""
    return min(nodes, key=lambda node: hashlib.sha256(f"{node}#{address}".encode()).digest(), default=None)


def may_announce(node: Object) -> bool:
    """Whether a Node is Ready, and not kept out of load balancing."""
    return has_condition(node, "Ready") and EXCLUDED not in (node["metadata"].get("labels") or {})


def find_local_nodes(slices: Iterable[Object]) -> set[str]:
    """The Nodes that have a ready backend of a Service."""
    return {
        str(endpoint["nodeName"])
        for each in slices
        for endpoint in each.get("endpoints") or ()
        if endpoint.get("nodeName") and _serves(endpoint)
    }


def _serves(endpoint: Mapping[str, Any]) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False
