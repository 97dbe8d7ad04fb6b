"""Whether a worker's table still is what was put there: chains, the number of their rules, elements, affinity sets.

Looked at only when somebody else has changed rules in the worker's network namespace, since the whole table has to be
listed for it (a third of a second with 1000 Services). A rule that was replaced by another one is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from knetsim.dataplane.services.ports import ServicePlace
from knetsim.dataplane.services.table import SETS, TABLE, Element, Rules, build_base_chains
from knetsim.errors import CommandError
from knetsim.system.nft import Nft

_LIST = f"list table ip {TABLE}"


def find_drift(nft: Nft, place: ServicePlace, services: Iterable[Rules], retired: Iterable[str]) -> str:
    """What differs, in words; empty when nothing does."""
    if ("ip", TABLE) not in nft.read_tables():
        return "the table is gone"
    try:
        found = nft.read_json(_LIST)
    except CommandError:
        return "the table is gone"
    return compare_table(found, place, services, retired)


def compare_table(
    found: list[dict[str, Any]], place: ServicePlace, services: Iterable[Rules], retired: Iterable[str]
) -> str:
    """What `nft -j list table` shows otherwise than it ought to; pure."""
    chains = {
        name: len(rules) - rules[0].startswith("type ") for name, rules in build_base_chains(place).items()
    } | dict.fromkeys(retired, 0)
    elements: set[Element] = set()
    sets = {*SETS, "nodeport-ips"}
    for rules in services:
        chains |= {name: len(lines) for name, lines in rules.chains.items()}
        elements |= rules.elements.keys()
        sets |= rules.sets.keys()
    return (
        _compare("chain", _count_rules(found), chains)
        or _compare_names("set", _set_names(found), sets)
        or _compare_names("element", _read_elements(found), elements)
    )


def _count_rules(found: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(entry["rule"]["chain"] for entry in found if "rule" in entry)
    return {entry["chain"]["name"]: counts[entry["chain"]["name"]] for entry in found if "chain" in entry}


def _set_names(found: list[dict[str, Any]]) -> set[str]:
    return {entry[kind]["name"] for entry in found for kind in ("set", "map") if kind in entry}


def _read_elements(found: list[dict[str, Any]]) -> set[Element]:
    elements = set()
    for entry in found:
        stored = entry.get("set") or entry.get("map")
        if stored and stored["name"] in SETS:
            elements |= {Element(stored["name"], read_key(element)) for element in stored.get("elem", ())}
    return elements


def read_key(element: Any) -> str:
    """The key of a set's or map's element in nft's JSON, as it is written: `100.64.0.1 . tcp . 443`."""
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


def _compare_names(what: str, found: Any, wanted: Any) -> str:
    for word, names in (("is gone", wanted - found), ("is not ours", found - wanted)):
        if names:
            first = sorted(map(str, names))[0] if what != "element" else " ".join(sorted(names)[0])
            return f"{what} {first} {word}" + (f", and {len(names) - 1} more" if len(names) > 1 else "")
    return ""
