"""Policies in words, for comments of sets and for `knetsim status policies`; pure."""

from __future__ import annotations

from knetsim.dataplane.policy.policies import BlockPeer, PodPeer, Port, Rule
from knetsim.dataplane.policy.selectors import Selector


def explain_selector(selector: Selector) -> str:
    """`pods app=web`, or `all pods`."""
    return f"pods {selector}" if selector.requirements else "all pods"


def explain_peer(peer: PodPeer | BlockPeer) -> str:
    """`pods app=web in namespace default`, `10.0.0.0/8 but not 10.1.0.0/16`."""
    if isinstance(peer, BlockPeer):
        excepted = f" but not {', '.join(map(str, peer.excepted))}" if peer.excepted else ""
        return f"{peer.cidr}{excepted}"
    pods = explain_selector(peer.pods)
    if peer.namespaces is None:
        return f"{pods} in namespace {peer.namespace}"
    if peer.namespaces.requirements:
        return f"{pods} in namespaces {peer.namespaces}"
    return f"{pods} in all namespaces"


def explain_port(port: Port) -> str:
    """`80/tcp`, `8000-8010/tcp`, `http/tcp`, `udp`."""
    if port.name:
        return f"{port.name}/{port.protocol}"
    if not port.first:
        return port.protocol
    number = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    return f"{number}/{port.protocol}"


def explain_rule(rule: Rule) -> str:
    """`pods app=web in namespace default; 10.0.0.0/8: 80/tcp, 53/udp`; `everybody: everything`."""
    peers = "; ".join(explain_peer(peer) for peer in rule.peers) if rule.peers is not None else "everybody"
    return f"{peers}: {', '.join(dict.fromkeys(map(explain_port, rule.ports))) or 'everything'}"
