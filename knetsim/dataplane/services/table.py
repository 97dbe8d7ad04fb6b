"""The nft table of a worker's Services: the part that is always there, and the text of a change; pure.

What every Service adds is a `Rules`: chains, elements of the maps, sets for affinity. A change is the difference of two
of them, and the text of many differences is one transaction. The chains that Services share, one for each number of
backends, come before the first that needs them and stay.

A change goes to the kernel as messages (`encode_changes`), since libnftables lists every chain of the table before it
adds or deletes anything (7 ms with 1000 Services of two backends); the same change as text is what one reads, and what
libnftables carries out where a rule has a form that has no encoding here. There each form of command is the one with
which libnftables 1.0.6 reads least: for `add chain` with its rules in a block and for `add map` with its elements it
does not list, and the kernel takes both also where chain and map exist. Only deleting lists everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from knetsim.dataplane.services.ports import ServicePlace
from knetsim.system.netlink.wire import Request
from knetsim.system.nfnetlink import Count
from knetsim.system.nfnetlink.commands import (
    add_chain,
    add_elements,
    add_rule,
    add_set,
    delete_chain,
    delete_elements,
    delete_set,
    flush_chain,
)

TABLE = "knetsim-services"
#: kube-proxy's, so that whatever knows one knows the other (overlay/masquerade.py does)
MASQUERADE_MARK = 0x4000

#: the named sets and maps in which Services have elements, each with its definition; counters count connections
CLUSTER_IPS = "cluster-ips"
SERVICE_IPS = "service-ips"
SERVICE_NODE_PORTS = "service-nodeports"
BACKENDS = "backends"
HAIRPINS = "hairpin-connections"
NO_ENDPOINT_SERVICES = "no-endpoint-services"
NO_ENDPOINT_NODE_PORTS = "no-endpoint-nodeports"
FIREWALL_IPS = "firewall-ips"
_ADDRESS_KEY = ("ipv4_addr", "inet_proto", "inet_service")
_PORT_KEY = ("inet_proto", "inet_service")
_BACKEND_KEY = "ip daddr . meta l4proto . th dport . numgen random mod {}"
#: the types of their keys' parts; of a lot, the number
KEYS: Mapping[str, tuple[str, ...]] = {
    CLUSTER_IPS: ("ipv4_addr",),
    SERVICE_IPS: _ADDRESS_KEY,
    SERVICE_NODE_PORTS: _PORT_KEY,
    BACKENDS: (*_ADDRESS_KEY, "integer"),
    HAIRPINS: ("ipv4_addr", "ipv4_addr", "ipv4_addr"),
    NO_ENDPOINT_SERVICES: _ADDRESS_KEY,
    NO_ENDPOINT_NODE_PORTS: _PORT_KEY,
    FIREWALL_IPS: _ADDRESS_KEY,
}
#: those of what a key leads to, where that is no verdict
DATA: Mapping[str, tuple[str, ...]] = {BACKENDS: ("ipv4_addr", "inet_service")}
SETS: Mapping[str, tuple[str, str]] = {
    name: ("set", f"type {' . '.join(key)};")
    if name in (CLUSTER_IPS, HAIRPINS)
    else ("map", f"type {' . '.join(key)} : verdict; counter;")
    for name, key in KEYS.items()
} | {BACKENDS: ("map", f"typeof {_BACKEND_KEY.format(2)} : ip daddr . th dport; counter;")}
_SET_COMMENTS = {
    CLUSTER_IPS: "ClusterIPs of all Services",
    SERVICE_IPS: "VIPs and external addresses, to as many lots as they have backends or to a chain of their own",
    SERVICE_NODE_PORTS: "NodePorts, to the chain of their port",
    BACKENDS: "of each VIP, by the lot that was drawn",
    HAIRPINS: "VIP, pod, pod: a pod that reaches itself, masqueraded so that the answer comes back this way",
    NO_ENDPOINT_SERVICES: "addresses of Services without a backend",
    NO_ENDPOINT_NODE_PORTS: "NodePorts of Services without a backend",
    FIREWALL_IPS: "load balancers' addresses that take clients from loadBalancerSourceRanges only",
}
NO_COUNTS: Mapping[Element, Count] = {}
REJECT = "reject-chain"
MARK_RULE = f"meta mark set meta mark | {MASQUERADE_MARK:#x}"


class Element(NamedTuple):
    """A key in one of the SETS: `service-ips`, `100.64.0.1 . tcp . 443`."""

    set: str
    key: str


@dataclass(frozen=True, eq=False)
class Rules:
    """What one Service has in the table. Compared by identity: who makes new ones from the same input has a change.

    `chains`: name → rules, those that are gone to first. `elements`: → (verdict, or of a lot the backend, or nothing in
    a set; comment).
    `sets`: affinity sets, name → definition. `picks`: the numbers of backends of which there must be a chain `pick-N`.
    """

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elements: Mapping[Element, tuple[str, str]] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    picks: frozenset[int] = frozenset()


_NOTHING = Rules()


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """What leads from one `Rules` to another, in the order in which the kernel takes it. `used_sets` are those that
    the rules look into, new or not; `retired` chains are empty afterwards, and to be deleted later. `carried`: elements
    that come, each with the one that goes whose count it goes on with."""

    removed_elements: tuple[Element, ...]
    flushed: tuple[str, ...]
    removed_sets: tuple[str, ...]
    added_sets: Mapping[str, str]
    used_sets: Mapping[str, str]
    added_chains: Mapping[str, tuple[str, ...]]
    added_elements: Mapping[Element, tuple[str, str]]
    carried: Mapping[Element, Element]
    retired: tuple[str, ...]
    chains: tuple[str, ...]


# --- the part that is always there ------------------------------------------------------------------------------------


def _filter_chain(hook: str) -> tuple[str, ...]:
    return (
        f"type filter hook {hook} priority filter; policy accept;",
        "ct state new jump no-endpoints-check",
        "ct state new jump cluster-ips-check",
    )


#: where the kernel comes by, in its order
_HOOKS: dict[str, tuple[str, ...]] = {
    "filter-prerouting-pre-dnat": (
        "type filter hook prerouting priority dstnat - 10; policy accept;",
        "ct state new jump firewall-check",
    ),
    "filter-output-pre-dnat": (
        "type filter hook output priority -110; policy accept;",
        "ct state new jump firewall-check",
    ),
    "nat-prerouting": ("type nat hook prerouting priority dstnat; policy accept;", "jump services"),
    "nat-output": ("type nat hook output priority -100; policy accept;", "jump services"),
    "nat-postrouting": ("type nat hook postrouting priority srcnat; policy accept;", "jump masquerading"),
    "filter-input": (
        "type filter hook input priority filter; policy accept;",
        "ct state new jump nodeports-check",
        "ct state new jump no-endpoints-check",
    ),
    "filter-forward": _filter_chain("forward"),
    "filter-output": _filter_chain("output"),
}


def pick_chain(backends: int) -> str:
    """The chain that draws one of so many lots."""
    return f"pick-{backends}"


def build_pick(backends: int) -> tuple[str, ...]:
    """The rules of that chain.

    A packet may be between the two maps when the number of backends falls, with a lot that is no more: the first
    backend takes it.
    """
    draw = f"dnat ip to {_BACKEND_KEY.format(backends)} map @{BACKENDS}"
    return (draw,) if backends == 1 else (draw, f'goto {pick_chain(1)} comment "a lot that has just gone"')


def build_base_chains(place: ServicePlace) -> dict[str, tuple[str, ...]]:
    """The chains that every worker has, name → lines; a base chain's first line is its hook."""
    services = [
        f'ip daddr @{CLUSTER_IPS} ip saddr != {place.pod_network} {MARK_RULE} comment "from outside the pod network"',
        f"ip daddr . meta l4proto . th dport vmap @{SERVICE_IPS}",
        f"ip daddr @nodeport-ips meta l4proto . th dport vmap @{SERVICE_NODE_PORTS}",
    ]
    masquerading = [
        f"meta mark & {MASQUERADE_MARK:#x} != 0 meta mark set meta mark ^ {MASQUERADE_MARK:#x} masquerade fully-random",
        f"ct status dnat ct original ip daddr . ip saddr . ip daddr @{HAIRPINS} masquerade fully-random",
    ]
    if place.routed is not None:
        masquerading.append(
            f"ct status dnat ip saddr {place.routed} ip daddr {place.routed} masquerade fully-random "
            'comment "no br_netfilter: the answer must come back this way"'
        )
    return {
        "services": tuple(services),
        pick_chain(1): build_pick(1),
        "masquerading": tuple(masquerading),
        REJECT: ("reject",),
        "no-endpoints-check": (f"ip daddr . meta l4proto . th dport vmap @{NO_ENDPOINT_SERVICES}",),
        "nodeports-check": (f"ip daddr @nodeport-ips meta l4proto . th dport vmap @{NO_ENDPOINT_NODE_PORTS}",),
        "cluster-ips-check": (
            f'ip daddr @{CLUSTER_IPS} reject comment "a port that the Service does not have"',
            f'ip daddr {place.service_network} drop comment "no Service has this address"',
        ),
        "firewall-check": (f"ip daddr . meta l4proto . th dport vmap @{FIREWALL_IPS}",),
    } | _HOOKS


def build_base(place: ServicePlace) -> str:
    """The nft text of the table without any Service."""
    lines = [f"table ip {TABLE} {{", '\tcomment "Services: from their addresses to their pods"']
    for name, (kind, definition) in SETS.items():
        lines += [f"\t{kind} {name} {{", f"\t\t{definition}", f'\t\tcomment "{_SET_COMMENTS[name]}"', "\t}"]
    lines += ["\tset nodeport-ips {", "\t\ttype ipv4_addr;", f"\t\telements = {{ {place.address} }}", "\t}"]
    for chain, rules in build_base_chains(place).items():
        lines += [f"\tchain {chain} {{", *(f"\t\t{rule}" for rule in rules), "\t}"]
    return "\n".join([*lines, "}", ""])


def build_no_services() -> str:
    """The nft text that takes the table away; also where there is none."""
    return f"table ip {TABLE}\ndelete table ip {TABLE}\n"


# --- changes ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8192)
def build_difference(before: Rules | None, after: Rules | None) -> Difference:
    """What leads from `before` to `after`; remembered, since most workers have the same."""
    old, new = before or _NOTHING, after or _NOTHING
    changed = {name: rules for name, rules in new.chains.items() if old.chains.get(name) != rules}
    gone = tuple(name for name in old.chains if name not in new.chains)
    removed = tuple(each for each, value in old.elements.items() if new.elements.get(each) != value)
    added = {each: value for each, value in new.elements.items() if old.elements.get(each) != value}
    return Difference(
        removed_elements=removed,
        flushed=(*gone, *(name for name in old.chains if name in changed)),
        removed_sets=tuple(name for name, text in old.sets.items() if new.sets.get(name) != text),
        added_sets={name: text for name, text in new.sets.items() if old.sets.get(name) != text},
        used_sets=new.sets if changed else {},
        added_chains=changed,
        added_elements=added,
        carried=_find_carried({each: old.elements[each] for each in removed}, added),
        retired=gone,
        chains=tuple(new.chains),
    )


def _find_carried(
    removed: Mapping[Element, tuple[str, str]], added: Mapping[Element, tuple[str, str]]
) -> dict[Element, Element]:
    """What comes in place of what goes and counts on: the same key, and of lots those of the same backend."""
    lots = {(_without_lot(each), value): each for each, value in removed.items() if each.set == BACKENDS}
    found = {each: lots.get((_without_lot(each), value)) for each, value in added.items() if each.set == BACKENDS}
    same = {each: each for each in added if each in removed and each.set != BACKENDS}
    return same | {each: old for each, old in found.items() if old is not None}


def _without_lot(element: Element) -> str:
    return element.key.rpartition(" . ")[0]


def _element_text(element: Element, value: tuple[str, str], count: Count | None) -> str:
    data, comment = value
    text = f"{element.key} counter packets {count.packets} bytes {count.bytes}" if count else element.key
    text += f' comment "{comment}"' if comment else ""
    return f"{text} : {data}" if data else text


def find_picks(services: Iterable[Rules]) -> set[int]:
    """The numbers of backends of which these Services need a chain."""
    return {number for rules in services for number in rules.picks}


def build_picks(numbers: Iterable[int]) -> str:
    """The text that makes the chains for so many backends, which must not be there.

    A transaction of its own, before anything leads there: a packet on its way through the rules sees the maps as they
    are at each moment, but the rules as they were when it came. And a text of its own: for one that also deletes, nft
    reads what the table has, and nft 1.0.6 then takes the map for one that no rule can use ("conflicting protocols").
    """
    kind, definition = SETS[BACKENDS]
    chains = "".join(
        f"add chain ip {TABLE} {pick_chain(number)} {{ {'; '.join(build_pick(number))}; }}\n"
        for number in sorted(numbers)
    )
    return f"add {kind} ip {TABLE} {BACKENDS} {{ {definition} }}\n{chains}" if chains else ""


def encode_picks(numbers: Iterable[int]) -> list[Request]:
    """The same as requests to the kernel."""
    chains = {pick_chain(number): build_pick(number) for number in sorted(numbers)}
    return [add_chain(TABLE, name) for name in chains] + [
        add_rule(TABLE, name, rule) for name, rules in chains.items() for rule in rules
    ]


def build_changes(differences: Iterable[Difference], counts: Mapping[Element, Count] = NO_COUNTS) -> str:
    """The text that carries out many differences; empty when they change nothing. `counts`: what elements that come
    have counted already.

    What goes is first, for all Services, so that an address can pass from one to another in one transaction.
    """
    todo = list(differences)
    lines = [
        f"delete element ip {TABLE} {name} {{ {', '.join(keys)} }}"
        for name, keys in _by_set((element.set, element.key) for each in todo for element in each.removed_elements)
    ]
    lines += [f"flush chain ip {TABLE} {name}" for each in todo for name in each.flushed]
    lines += [f"delete set ip {TABLE} {name}" for each in todo for name in each.removed_sets]
    # libnftables, which reads as little as it can, must hear of the sets that rules look into
    sets = {name: text for each in todo for name, text in {**each.used_sets, **each.added_sets}.items()}
    lines += [f"add set ip {TABLE} {name} {{ {text} }}" for name, text in sets.items()]
    lines += [
        f"add chain ip {TABLE} {name} {{ {'; '.join(rules)}; }}"
        for each in todo
        for name, rules in each.added_chains.items()
    ]
    added = (entry for each in todo for entry in each.added_elements.items())
    for name, texts in _by_set((each.set, _element_text(each, value, counts.get(each))) for each, value in added):
        kind, definition = SETS[name]
        lines.append(f"add {kind} ip {TABLE} {name} {{ {definition} elements = {{ {', '.join(texts)} }}; }}")
    return "\n".join([*lines, ""]) if lines else ""


def _by_set(entries: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for name, text in entries:
        found.setdefault(name, []).append(text)
    return list(found.items())


@lru_cache(maxsize=512)  # a few megabytes: all workers ask for the same one soon after one another
def _encode(difference: Difference) -> tuple[tuple[Request, ...], tuple[Request, ...]]:
    """What goes and what comes, as requests; remembered, since most workers have the same. UnknownForm."""
    goes = [delete_elements(TABLE, name, KEYS[name], keys) for name, keys in _by_set(difference.removed_elements)]
    goes += [flush_chain(TABLE, name) for name in difference.flushed]
    goes += [delete_set(TABLE, name) for name in difference.removed_sets]
    return tuple(goes), tuple(_encode_coming(difference, NO_COUNTS))


def _encode_coming(difference: Difference, counts: Mapping[Element, Count]) -> list[Request]:
    comes = [add_set(TABLE, name, text) for name, text in difference.added_sets.items()]
    comes += [add_chain(TABLE, name) for name in difference.added_chains]
    comes += [add_rule(TABLE, name, rule) for name, rules in difference.added_chains.items() for rule in rules]
    for name, keys in _by_set(difference.added_elements):
        elements = {key: difference.added_elements[Element(name, key)] for key in keys}
        counted = {key: counts[Element(name, key)] for key in keys if Element(name, key) in counts}
        comes.append(add_elements(TABLE, name, KEYS[name], elements, DATA.get(name, ()), counted))
    return comes


def encode_changes(differences: Iterable[Difference], counts: Mapping[Element, Count] = NO_COUNTS) -> list[Request]:
    """What `build_changes` says, as requests to the kernel; UnknownForm when a rule has a form that is not encoded."""
    goes: list[Request] = []
    comes: list[Request] = []
    for each in differences:
        parts = _encode(each)
        goes += parts[0]
        comes += parts[1] if counts.keys().isdisjoint(each.carried) else _encode_coming(each, counts)
    return goes + comes


def build_deletion(chains: Iterable[str]) -> str:
    """The text that deletes retired chains."""
    return "".join(f"delete chain ip {TABLE} {name}\n" for name in chains)


def encode_deletion(chains: Iterable[str]) -> list[Request]:
    """What deletes retired chains."""
    return [delete_chain(TABLE, name) for name in chains]


def build_table(place: ServicePlace, services: Iterable[Rules]) -> str:
    """The text that makes the whole table, in place of the one that may be there, in one transaction."""
    known = list(services)
    picks = build_picks(find_picks(known))
    changes = build_changes(build_difference(None, rules) for rules in known)
    return build_no_services() + build_base(place) + picks + changes
