"""Whether a worker's table still is what was put there: chains, the number of their rules, sets, elements; pure.

Looked at only when somebody has changed rules in the worker's network namespace, since the whole table has to be read
for it. A rule that was replaced by another one is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from knetsim.dataplane.policy.table import ISOLATED, PAIR_TYPES, SELF, VERDICT_TYPES, PolicyTable, build_base_chains
from knetsim.system.nfnetlink import TableContent
from knetsim.system.nfnetlink.language import show_key


def list_sets(wanted: PolicyTable) -> dict[str, tuple[tuple[str, ...], frozenset[str]]]:
    """Every set and map of a table: name → (of what its keys consist, the keys)."""
    sets = {name: (each.types, each.elements) for name, each in wanted.sets.items()}
    sets[SELF] = (PAIR_TYPES, frozenset(wanted.pairs()))
    for name in ISOLATED.values():
        sets[name] = (VERDICT_TYPES, frozenset(address for where, address in wanted.pods if where == name))
    return sets


def compare_table(found: TableContent, wanted: PolicyTable, retired: Iterable[str]) -> str:
    """What a worker's table has otherwise than it ought to, in words; empty when nothing differs."""
    chains = {name: len(rules) - 1 for name, rules in build_base_chains().items()}
    chains |= dict.fromkeys(retired, 0) | {name: len(rules) for name, rules in wanted.chains.items()}
    sets = list_sets(wanted)
    if problem := _compare(found.chains, chains) or _compare_names("set", found.sets, sets.keys()):
        return problem
    there: dict[str, set[str]] = {name: set() for name in sets}
    for name, key in found.elements:
        there[name].add(show_key(sets[name][0], key))
    found_wrong = (_compare_elements(name, there[name], keys) for name, (_, keys) in sets.items())
    return next((what for what in found_wrong if what), "")


def _compare(found: dict[str, int], wanted: dict[str, int]) -> str:
    if problem := _compare_names("chain", found.keys(), wanted.keys()):
        return problem
    for name, count in wanted.items():
        if found[name] != count:
            return f"chain {name} has {found[name]} rules instead of {count}"
    return ""


def _compare_elements(name: str, found: set[str], wanted: frozenset[str]) -> str:
    problem = _compare_names("element", found, wanted)
    return f"set {name}: {problem}" if problem else ""


def _compare_names(what: str, found: Any, wanted: Any) -> str:
    for word, names in (("is gone", wanted - found), ("is not ours", found - wanted)):
        if names:
            return f"{what} {min(names)} {word}" + (f", and {len(names) - 1} more" if len(names) > 1 else "")
    return ""
