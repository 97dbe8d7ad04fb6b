"""NetworkPolicies and pods as the rules of a worker want them; pure.

Source: Kubernetes' pkg/apis/networking/types.go. A pod counts while it has an IPv4 address of the pod network: those
with hostNetwork have their node's, and those that have ended have none any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from typing import Any

from knetsim import names
from knetsim.api.objects import Object, describe, key_of, name_of, namespace_of, uid_of
from knetsim.dataplane.policy.policies import BlockPeer, PodPeer, Policy, Port, Protocol, Rule
from knetsim.dataplane.policy.selectors import EVERYTHING, Operator, Requirement, Selector, build_selector
from knetsim.errors import ObjectError

_PROTOCOLS: Mapping[str, Protocol] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_OPERATORS: Mapping[str, Operator] = {each: each for each in ("In", "NotIn", "Exists", "DoesNotExist")}
_ENDED = ("Succeeded", "Failed")
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class PolicyPod:
    """A pod that policies may mean: where it is, what it is labelled, and its containers' named ports as
    (protocol, name, number)."""

    uid: str
    path: str
    namespace: str
    node: str
    address: str
    labels: Mapping[str, str]
    ports: tuple[tuple[Protocol, str, int], ...] = ()


def build_stand_in(path: str, labels: Mapping[str, str], address: str, ports: Mapping[int, int]) -> PolicyPod:
    """What serves in a host in place of the pods that serve elsewhere: policies shall mean it as they mean those.

    `ports` are those of the pods it stands in for → its own, of TCP and UDP. In sets it has a port of that number as a
    name, which no pod can have: a name of Kubernetes has a letter.
    """
    named: list[tuple[Protocol, str, int]] = []
    for number, own in ports.items():
        named += [("udp", str(number), own), ("tcp", str(number), own)]
    return PolicyPod(f"stand-in {path}", path, path.partition("/")[0], "", address, labels, tuple(named))


def reach_stand_ins(policy: Policy, stand_ins: Sequence[PolicyPod]) -> Policy:
    """The policy whose egress rules that allow a port of the pods allow that of what stands in for them."""
    if not stand_ins or not policy.egress:
        return policy
    own = [(protocol, name) for stand_in in stand_ins for protocol, name, _ in stand_in.ports]

    def extend(rule: Rule) -> Rule:
        more = (
            Port(protocol, name=name)
            for protocol, name in own
            if any(port.protocol == protocol and port.first <= int(name) <= port.last for port in rule.ports)
        )
        return replace(rule, ports=(*rule.ports, *more))

    return replace(policy, egress=tuple(extend(rule) for rule in policy.egress))


# --- policies ---------------------------------------------------------------------------------------------------------


def read_policy(obj: Object) -> Policy:
    """The policy that an object is; ObjectError for what a server would not have let in."""
    spec = obj.get("spec") or {}
    try:
        namespace = _word(namespace_of(obj))
        # as the API server fills it in where it is missing
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        return Policy(
            namespace,
            _word(name_of(obj)),
            _read_selector(spec.get("podSelector")),
            _read_rules(spec.get("ingress"), "from", namespace) if "Ingress" in types else None,
            _read_rules(spec.get("egress"), "to", namespace) if "Egress" in types else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ObjectError(f"{describe(obj)} cannot be read", why=f"{type(error).__name__}: {error}") from error


def _word(text: str) -> str:
    """A name as it goes into names of chains; every Kubernetes name fits."""
    if names.DNS_SUBDOMAIN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no name")
    return text


def _read_selector(selector: Any) -> Selector:
    if not selector:
        return EVERYTHING
    found = [
        Requirement(_text(key), "In", (_text(value),)) for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for each in selector.get("matchExpressions") or ():
        values = tuple(_text(value) for value in each.get("values") or ())
        found.append(Requirement(_text(each["key"]), _OPERATORS[each["operator"]], values))
    return build_selector(found)


def _text(value: Any) -> str:
    """A label's key or value as it goes into a comment; every one of Kubernetes' fits."""
    if not isinstance(value, str) or not all(char.isalnum() or char in "-_./" for char in value):
        raise ValueError(f"{value!r} is no part of a label")
    return value


def _read_rules(rules: Any, peers: str, namespace: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            tuple(_read_peer(peer, namespace) for peer in rule[peers]) if rule.get(peers) else None,
            tuple(_read_port(port) for port in rule.get("ports") or ()),
        )
        for rule in rules or ()
    )


def _read_peer(peer: Mapping[str, Any], namespace: str) -> PodPeer | BlockPeer:
    block = peer.get("ipBlock")
    if block is not None:
        excepted = (ip_network(each, strict=False) for each in block.get("except") or ())
        return BlockPeer(ip_network(block["cidr"], strict=False), tuple(excepted))
    pods, namespaces = peer.get("podSelector"), peer.get("namespaceSelector")
    if pods is None and namespaces is None:
        raise ValueError("a peer that names nobody")
    if namespaces is None:
        return PodPeer(namespace, None, _read_selector(pods))
    return PodPeer("", _read_selector(namespaces), _read_selector(pods))


def _read_port(port: Mapping[str, Any]) -> Port:
    protocol = _PROTOCOLS[port.get("protocol") or "TCP"]
    number = port.get("port")
    if number is None:
        return Port(protocol)
    if isinstance(number, str):
        return Port(protocol, name=_word(number))
    first, last = int(number), int(port.get("endPort") or number)
    if not 0 < first <= last <= _PORT_MAX:
        raise ValueError(f"{first}-{last} are no ports")
    return Port(protocol, first, last)


# --- pods -------------------------------------------------------------------------------------------------------------


def read_pod(pod: Object, address: str | None = None) -> PolicyPod | None:
    """A pod with its address, or with another than its status says (what it was wired with); None for one that has
    none of the pod network."""
    spec, status = pod["spec"], pod.get("status") or {}
    found = status.get("podIP", "") if address is None else address
    if not found or spec.get("hostNetwork") or not spec.get("nodeName") or status.get("phase") in _ENDED:
        return None
    try:
        IPv4Address(found)
    except ValueError:
        return None
    labels = pod["metadata"].get("labels") or {}
    return PolicyPod(
        uid_of(pod),
        key_of(pod),
        namespace_of(pod),
        spec["nodeName"],
        found,
        labels,
        _read_named_ports(spec),
    )


def _read_named_ports(spec: Mapping[str, Any]) -> tuple[tuple[Protocol, str, int], ...]:
    """Of containers, and of init containers that go on running beside them."""
    lasting = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return tuple(
        (_PROTOCOLS[port.get("protocol") or "TCP"], port["name"], port["containerPort"])
        for container in (*lasting, *(spec.get("containers") or ()))
        for port in container.get("ports") or ()
        if port.get("name")
    )
