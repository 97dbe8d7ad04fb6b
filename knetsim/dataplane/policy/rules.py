"""From policies to the chains and sets of a worker; pure.

    chain ingress/default/web                        what the policy default/web allows its pods to receive
        ip saddr @pods/default/app_client tcp dport 80 counter accept
        ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 ip daddr . tcp dport @ports/tcp/http counter accept
    chain to/default/deny_web                        pods that both policies select
        jump ingress/default/deny
        jump ingress/default/web
        counter drop comment "not allowed by deny, web"

Names are those of the objects. nft knows few characters in names, so `_` stands for what Kubernetes' names do not hold:
between the policies of a chain, and between a label and its value. What does not fit is named by a hash, and the
comment says what it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses

from knetsim.dataplane.policy.explain import explain_peer
from knetsim.dataplane.policy.policies import DIRECTIONS, BlockPeer, Direction, PodPeer, Policy, Port, Rule
from knetsim.dataplane.policy.selectors import Selector
from knetsim.dataplane.policy.table import ISOLATED, AddressSet, PolicyTable

#: nft takes 128 bytes of a comment, and names of 255; names stay shorter, to be read
_COMMENT_MAX = 127
_NAME_MAX = 100
_HASH_LENGTH = 8
_ANY_PORT = ""
_ANYBODY = ""


@dataclass(frozen=True, slots=True)
class PolicyChain:
    """One direction of the policy `policy` of a namespace: its chain, and the names of the sets it looks things up
    in."""

    direction: Direction
    namespace: str
    policy: str
    name: str
    rules: tuple[str, ...]
    sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsolatedPod:
    """A pod of the worker: its address, what it is called, and the chains of the policies that select it, sorted by
    name; none for a direction in which it is open."""

    address: str
    path: str
    ingress: tuple[PolicyChain, ...] = ()
    egress: tuple[PolicyChain, ...] = ()

    def chains(self, direction: Direction) -> tuple[PolicyChain, ...]:
        """Those of a direction."""
        return self.ingress if direction == "ingress" else self.egress


# --- names ------------------------------------------------------------------------------------------------------------


def build_peer_name(peer: PodPeer) -> str:
    """The set of a peer's pods: `pods/default/app_web`, `namespaces/team_a/__pods/app_web`."""
    pods = _build_labels(peer.pods)
    if peer.namespaces is None:
        name = f"pods/{peer.namespace}{pods}" if pods is not None else ""
        return _fit(name, f"pods/{peer.namespace}", explain_peer(peer))
    spaces = _build_labels(peer.namespaces)
    name = f"namespaces{spaces}/__pods{pods}" if spaces is not None and pods is not None else ""
    return _fit(name, "namespaces", explain_peer(peer))


def build_port_name(port: Port) -> str:
    """The set of the pods that have a port of this name, with its number: `ports/tcp/http`."""
    return f"ports/{port.protocol}/{port.name}"


def build_chain_name(direction: Direction, policy: Policy) -> str:
    """The chain of one policy: `ingress/default/web`."""
    path = f"{policy.namespace}/{policy.name}"
    return _fit(f"{direction}/{path}", f"{direction}/{policy.namespace}", path)


def build_pods_name(chains: Sequence[PolicyChain]) -> str:
    """The chain of the pods that these policies select, and no others: `to/default/deny_web`."""
    start = f"{'to' if chains[0].direction == 'ingress' else 'from'}/{chains[0].namespace}"
    names = "_".join(chain.policy for chain in chains)
    return _fit(f"{start}/{names}", start, names)


def _build_labels(selector: Selector) -> str | None:
    """`/app_web/tier_db`, or None for a selector that is more than plain labels."""
    parts = []
    for requirement in selector.requirements:
        plain = requirement.operator == "In" and len(requirement.values) == 1
        if not plain or "_" in requirement.key or "_" in requirement.values[0]:
            return None
        parts.append(f"/{requirement.key}_{requirement.values[0]}")
    return "".join(parts)


def _fit(name: str, start: str, meaning: str) -> str:
    """The name, or one with a hash where there is none or it is too long."""
    if name and len(name) <= _NAME_MAX:
        return name
    short = hashlib.sha256(meaning.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{start[:_NAME_MAX]}/_{short}"


def shorten(comment: str) -> str:
    """As much of a comment as nft takes."""
    return comment if len(comment) <= _COMMENT_MAX else f"{comment[: _COMMENT_MAX - 3]}..."


# --- the chain of a policy --------------------------------------------------------------------------------------------


def build_policy(policy: Policy, direction: Direction) -> PolicyChain:
    """One direction of a policy that isolates in it."""
    rules = policy.rules(direction) or ()
    lines = [f"{match} counter accept".lstrip() for rule in rules for match in _build_matches(rule, direction)]
    sets = [build_peer_name(peer) for rule in rules for peer in rule.peers or () if isinstance(peer, PodPeer)]
    sets += [build_port_name(port) for rule in rules for port in rule.ports if port.name]
    return PolicyChain(
        direction,
        policy.namespace,
        policy.name,
        build_chain_name(direction, policy),
        tuple(dict.fromkeys(lines)),
        tuple(dict.fromkeys(sets)),
    )


def _build_matches(rule: Rule, direction: Direction) -> Iterable[str]:
    ports = _build_ports(rule.ports)
    for peer in _build_peers(rule, "saddr" if direction == "ingress" else "daddr"):
        for port in ports:
            yield " ".join(part for part in (peer, port) if part)


def _build_peers(rule: Rule, field: str) -> list[str]:
    """What a packet's other end must be, one match for each peer."""
    if rule.peers is None:
        return [_ANYBODY]
    found = []
    for peer in rule.peers:
        if isinstance(peer, PodPeer):
            found.append(f"ip {field} @{build_peer_name(peer)}")
        elif isinstance(peer.cidr, IPv4Network):  # the pod network has no IPv6
            found.append(_build_block(peer, peer.cidr, field))
    return found


def _build_block(peer: BlockPeer, cidr: IPv4Network, field: str) -> str:
    excepted = list(collapse_addresses(each for each in peer.excepted if isinstance(each, IPv4Network)))
    inside = f"ip {field} {cidr}" if cidr.prefixlen else ""
    outside = f"ip {field} != {_braced([str(each) for each in excepted])}" if excepted else ""
    return f"{inside} {outside}".strip()


def _build_ports(ports: Sequence[Port]) -> list[str]:
    """What the receiving port must be, one match for each protocol and each name."""
    if not ports:
        return [_ANY_PORT]
    found = []
    for protocol in dict.fromkeys(port.protocol for port in ports):
        own = [port for port in ports if port.protocol == protocol]
        if any(not port.first and not port.name for port in own):
            found.append(f"meta l4proto {protocol}")
            continue
        ranges = _merge((port.first, port.last) for port in own if port.first)
        if ranges:
            found.append(f"{protocol} dport {_braced([f'{a}-{b}' if a < b else str(a) for a, b in ranges])}")
        named = dict.fromkeys(build_port_name(port) for port in own if port.name)
        found += [f"ip daddr . {protocol} dport @{name}" for name in named]
    return found


def _merge(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same ports without overlaps, which nft does not take."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _braced(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{{ {', '.join(items)} }}"


# --- the table of a worker --------------------------------------------------------------------------------------------


def build_peer_set(peer: PodPeer, addresses: Iterable[str]) -> AddressSet:
    """The set of a peer's pods."""
    return AddressSet(("ipv4_addr",), shorten(explain_peer(peer)), frozenset(addresses))


def build_port_set(port: Port, ends: Iterable[tuple[str, int]]) -> AddressSet:
    """The set of the pods that have a port of this name, as (address, number)."""
    comment = f"pods with a {port.protocol.upper()} port {port.name}"
    if port.name.isdigit():
        comment = f"what stands in for pods with the {port.protocol.upper()} port {port.name}"
    elements = frozenset(f"{address} . {number}" for address, number in ends)
    return AddressSet(("ipv4_addr", "inet_service"), comment, elements)


def build_table(pods: Iterable[IsolatedPod], sets: Mapping[str, AddressSet]) -> PolicyTable:
    """What a worker shall have for its own pods; `sets` holds at least all that their chains use."""
    chains: dict[str, tuple[str, ...]] = {}
    jumping: dict[str, tuple[str, ...]] = {}
    used: dict[str, AddressSet] = {}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for pod in pods:
        for direction in DIRECTIONS:
            selecting = pod.chains(direction)
            if not selecting:
                found.pop((ISOLATED[direction], pod.address), None)  # the address was another pod's
                continue
            name = build_pods_name(selecting)
            found[ISOLATED[direction], pod.address] = (name, shorten(pod.path))
            if name not in jumping:
                jumping[name] = _build_pods_chain(selecting)
                chains |= {chain.name: chain.rules for chain in selecting}
                used |= {each: sets[each] for chain in selecting for each in chain.sets}
    return PolicyTable(chains | jumping, used, found)


def _build_pods_chain(chains: Sequence[PolicyChain]) -> tuple[str, ...]:
    comment = shorten(f"not allowed by {', '.join(chain.policy for chain in chains)}")
    return (*(f"jump {chain.name}" for chain in chains), f'counter drop comment "{comment}"')
