"""Whether a worker's table still is what was put there: chains, the number of their rules, sets, elements.

Looked at only when somebody has changed rules in the worker's network namespace, since the whole table has to be listed
for it. A rule that was replaced by another one is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from knetsim.dataplane.policy.table import ISOLATED, SELF, TABLE, PolicyTable, build_base_chains
from knetsim.errors import CommandError
from knetsim.system.nft import Nft


def find_drift(nft: Nft, wanted: PolicyTable, retired: Iterable[str]) -> str:
    """What differs, in words; empty when nothing does."""
    present = ("ip", TABLE) in nft.read_tables()
    if not wanted:
        return "a table is there that holds no policy" if present else ""
    if not present:
        return "the table is gone"
    try:
        found = nft.read_json(f"list table ip {TABLE}")
    except CommandError:
        return "the table is gone"
    return compare_table(found, wanted, retired)


def compare_table(found: list[dict[str, Any]], wanted: PolicyTable, retired: Iterable[str]) -> str:
    """What `nft -j list table` shows otherwise than it ought to; pure."""
    chains = {name: len(rules) - 1 for name, rules in build_base_chains().items()}
    chains |= dict.fromkeys(retired, 0) | {name: len(rules) for name, rules in wanted.chains.items()}
    sets = {name: each.elements for name, each in wanted.sets.items()}
    sets[SELF] = frozenset(f"{address} . {address}" for address in wanted.addresses())
    for name in ISOLATED.values():
        sets[name] = frozenset(address for where, address in wanted.pods if where == name)
    there = _read_sets(found)
    return (
        _compare("chain", _count_rules(found), chains)
        or _compare_names("set", there.keys(), sets.keys())
        or next((what for name in sets if (what := _compare_elements(name, there[name], sets[name]))), "")
    )


def _count_rules(found: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(entry["rule"]["chain"] for entry in found if "rule" in entry)
    return {entry["chain"]["name"]: counts[entry["chain"]["name"]] for entry in found if "chain" in entry}


def _read_sets(found: list[dict[str, Any]]) -> dict[str, frozenset[str]]:
    stored = [each for entry in found if (each := entry.get("set") or entry.get("map"))]
    return {each["name"]: frozenset(_read_key(element) for element in each.get("elem", ())) for each in stored}


def _read_key(element: Any) -> str:
    """The key of a set's or map's element in nft's JSON, as it is written: `11.15.64.2 . 8080`."""
    key = element[0] if isinstance(element, list) else element
    if isinstance(key, dict) and "elem" in key:
        key = key["elem"]["val"]
    return " . ".join(map(str, key["concat"])) if isinstance(key, dict) else str(key)


def _compare(what: str, found: dict[str, int], wanted: dict[str, int]) -> str:
    if problem := _compare_names(what, found.keys(), wanted.keys()):
        return problem
    for name, count in wanted.items():
        if found[name] != count:
            return f"{what} {name} has {found[name]} rules instead of {count}"
    return ""


def _compare_elements(name: str, found: frozenset[str], wanted: frozenset[str]) -> str:
    problem = _compare_names("element", found, wanted)
    return f"set {name}: {problem}" if problem else ""


def _compare_names(what: str, found: Any, wanted: Any) -> str:
    for word, names in (("is gone", wanted - found), ("is not ours", found - wanted)):
        if names:
            return f"{what} {min(names)} {word}" + (f", and {len(names) - 1} more" if len(names) > 1 else "")
    return ""
