"""The nft table of a worker's NetworkPolicies: the part that is always there, and the text of a change; pure.

`PolicyTable` is what a worker shall have. The text that leads from one to another is one transaction, which holds only
what differs. Where libnftables need not read the whole table first, the form of a command is chosen so that it does
not (see services/table.py): `add chain` with its rules, `add set` with its elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from knetsim.dataplane.policy.policies import DIRECTIONS, Direction

TABLE = "knetsim-policy"
#: the map of the worker's pods that are isolated in a direction
ISOLATED: Mapping[Direction, str] = {"ingress": "ingress-pods", "egress": "egress-pods"}
#: the pairs of an isolated pod and itself
SELF = "pods-themselves"
#: what keys consist of
VERDICT_TYPES = ("ipv4_addr",)
PAIR_TYPES = ("ipv4_addr", "ipv4_addr")
_VERDICTS = f"type {' . '.join(VERDICT_TYPES)} : verdict;"
_PAIRS = f"type {' . '.join(PAIR_TYPES)};"


@dataclass(frozen=True, slots=True)
class AddressSet:
    """A set of addresses, or of addresses and ports: of what its keys consist, and the keys as nft writes them. Most
    workers share one object."""

    types: tuple[str, ...]
    comment: str
    elements: frozenset[str]

    @property
    def definition(self) -> str:
        """In nft's words."""
        return f"type {' . '.join(self.types)};"


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """What one worker has: `chains` name → rules, those that are jumped to first; `sets` by name; `pods`
    (map, address) → (chain, comment). Empty: the worker has no table."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, AddressSet] = field(default_factory=dict)
    pods: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.pods)

    def addresses(self) -> set[str]:
        """Those of its isolated pods."""
        return {address for _, address in self.pods}

    def pairs(self) -> set[str]:
        """Each of these and itself."""
        return {f"{address} . {address}" for address in self.addresses()}


NOTHING = PolicyTable()


def build_base_chains() -> dict[str, tuple[str, ...]]:
    """The chains of every table, name → lines; the first line is the hook."""
    hooks: tuple[tuple[Direction, str, int], ...] = (("egress", "saddr", 10), ("ingress", "daddr", 11))
    return {
        f"forward-{direction}": (
            f"type filter hook forward priority filter + {priority}; policy accept;",
            'ct direction reply accept comment "answers to what was let through"',
            'ct state related accept comment "errors about it"',
            f'ip saddr . ip daddr @{SELF} accept comment "a pod that reaches itself by a VIP"',
            f"ip {end} vmap @{ISOLATED[direction]}",
        )
        for direction, end, priority in hooks
    }


def build_base() -> str:
    """The text of a table without pods."""
    lines = [f"table ip {TABLE} {{", '\tcomment "NetworkPolicies: what pods may send and receive"']
    for direction in DIRECTIONS:
        comment = f'comment "pods isolated for {direction}, to the chain of their policies"'
        lines += [f"\tmap {ISOLATED[direction]} {{", f"\t\t{_VERDICTS}", f"\t\t{comment}", "\t}"]
    lines += [f"\tset {SELF} {{", f"\t\t{_PAIRS}", "\t}"]
    for chain, rules in build_base_chains().items():
        lines += [f"\tchain {chain} {{", *(f"\t\t{rule}" for rule in rules), "\t}"]
    return "\n".join([*lines, "}", ""])


def build_no_table() -> str:
    """The text that takes the table away; also where there is none."""
    return f"table ip {TABLE}\ndelete table ip {TABLE}\n"


def build_whole(table: PolicyTable) -> str:
    """The text that makes the whole table, in place of the one that may be there, in one transaction."""
    return build_no_table() + (build_base() + build_changes(NOTHING, table) if table else "")


def build_changes(before: PolicyTable, after: PolicyTable) -> str:
    """The text that leads from one table that is there to another; empty when they are the same.

    Chains that are gone are empty afterwards (see `find_retired`), and deleted later.
    """
    lines = [*_build_removals(before, after), *_build_sets(before, after)]
    lines += [
        f"add chain ip {TABLE} {name} {{ {' '.join(f'{rule};' for rule in rules)} }}"
        for name, rules in after.chains.items()
        if before.chains.get(name) != rules
    ]
    for name in ISOLATED.values():
        added = [
            f'{address} comment "{comment}" : goto {chain}'
            for (where, address), (chain, comment) in after.pods.items()
            if where == name and before.pods.get((where, address)) != (chain, comment)
        ]
        lines += _add_elements("map", name, _VERDICTS, added)
    lines += _add_elements("set", SELF, _PAIRS, sorted(after.pairs() - before.pairs()))
    return "\n".join([*lines, ""]) if lines else ""


def _build_removals(before: PolicyTable, after: PolicyTable) -> Iterable[str]:
    for name in ISOLATED.values():
        gone = [key[1] for key, value in before.pods.items() if key[0] == name and after.pods.get(key) != value]
        yield from _delete_elements(name, gone)
    yield from _delete_elements(SELF, sorted(before.pairs() - after.pairs()))
    for name, rules in before.chains.items():
        if after.chains.get(name) != rules and rules:
            yield f"flush chain ip {TABLE} {name}"
    for name, old in before.sets.items():
        new = after.sets.get(name)
        if new is None:
            yield f"delete set ip {TABLE} {name}"
        elif new is not old:
            yield from _delete_elements(name, sorted(old.elements - new.elements))


def _build_sets(before: PolicyTable, after: PolicyTable) -> Iterable[str]:
    for name, new in after.sets.items():
        old = before.sets.get(name)
        if old is None:
            definition = f'{new.definition} comment "{new.comment}";'
            elements = f" elements = {{ {', '.join(sorted(new.elements))} }};" if new.elements else ""
            yield f"add set ip {TABLE} {name} {{ {definition}{elements} }}"
        elif new is not old:
            yield from _add_elements("set", name, new.definition, sorted(new.elements - old.elements))


def _add_elements(kind: str, name: str, definition: str, elements: list[str]) -> list[str]:
    if not elements:
        return []
    return [f"add {kind} ip {TABLE} {name} {{ {definition} elements = {{ {', '.join(elements)} }}; }}"]


def _delete_elements(name: str, elements: list[str]) -> list[str]:
    return [f"delete element ip {TABLE} {name} {{ {', '.join(elements)} }}"] if elements else []


def find_retired(before: PolicyTable, after: PolicyTable) -> list[str]:
    """The chains that nothing goes to any more, those that jump to others first."""
    return [name for name in reversed(list(before.chains)) if name not in after.chains]
