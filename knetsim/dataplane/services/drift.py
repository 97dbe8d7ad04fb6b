"""Whether a worker's table still is what was put there: chains, the number of their rules, elements, affinity sets.

Looked at only when somebody else has changed rules in the worker's network namespace, since the whole table has to be
read for it (60 ms with 1000 Services). A rule that was replaced by another one is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from knetsim.dataplane.services.ports import ServicePlace
from knetsim.dataplane.services.table import KEYS, SETS, Element, Rules, build_base_chains, build_pick, pick_chain
from knetsim.system.nfnetlink import TableContent
from knetsim.system.nfnetlink.language import show_key


def compare_table(
    found: TableContent, place: ServicePlace, services: Iterable[Rules], picks: Iterable[int], retired: Iterable[str]
) -> str:
    """What a worker's table has otherwise than it ought to, in words; empty when nothing differs. `picks`: the numbers
    of backends of which there is a chain. Pure."""
    chains = {
        name: len(rules) - rules[0].startswith("type ") for name, rules in build_base_chains(place).items()
    } | dict.fromkeys(retired, 0)
    elements: set[Element] = set()
    chains.update((pick_chain(number), len(build_pick(number))) for number in picks)
    sets = {*SETS, "nodeport-ips"}
    for rules in services:
        chains.update((name, len(lines)) for name, lines in rules.chains.items())
        elements.update(rules.elements)  # `|=` with keys() would copy the whole set
        sets.update(rules.sets)
    return (
        _compare("chain", found.chains, chains)
        or _compare_names("set", found.sets, sets)
        or _compare_names(
            "element", {Element(name, show_key(KEYS[name], key)) for name, key in found.elements}, elements
        )
    )


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
