"""Changes of a worker's table as requests to the kernel: what `table.build_changes` says, in the same order; pure.

A pod that comes or goes is elements, and perhaps a chain that jumps to others: all of that has messages, whose cost
does not grow with the table (nft's own commands read it first: 5 to 16 ms to delete an element where sets hold 2 000).
A new selector or policy has not, and is text (`UnknownForm`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from knetsim.dataplane.policy.table import ISOLATED, PAIR_TYPES, SELF, TABLE, VERDICT_TYPES, PolicyTable
from knetsim.system.netlink.wire import Request
from knetsim.system.nfnetlink import UnknownForm
from knetsim.system.nfnetlink.commands import (
    add_chain,
    add_elements,
    add_rule,
    delete_chain,
    delete_elements,
    delete_set,
    flush_chain,
)

#: so many elements are in one message, whose length has 16 bits
_ELEMENTS_MAX = 500


def encode_changes(before: PolicyTable, after: PolicyTable) -> list[Request]:
    """The requests that lead from one table that is there to another; UnknownForm when nft has to say it."""
    if new := after.sets.keys() - before.sets.keys():
        raise UnknownForm(f"add set {min(new)}")
    return [*_encode_removals(before, after), *_encode_additions(before, after)]


def encode_deletion(chains: Iterable[str]) -> list[Request]:
    """What deletes retired chains."""
    return [delete_chain(TABLE, name) for name in chains]


def _encode_removals(before: PolicyTable, after: PolicyTable) -> Iterator[Request]:
    for name in ISOLATED.values():
        gone = [key[1] for key, value in before.pods.items() if key[0] == name and after.pods.get(key) != value]
        yield from _delete(name, VERDICT_TYPES, gone)
    yield from _delete(SELF, PAIR_TYPES, sorted(before.pairs() - after.pairs()))
    for name, rules in before.chains.items():
        if after.chains.get(name) != rules and rules:
            yield flush_chain(TABLE, name)
    for name, old in before.sets.items():
        new = after.sets.get(name)
        if new is None:
            yield delete_set(TABLE, name)
        elif new is not old:
            yield from _delete(name, old.types, sorted(old.elements - new.elements))


def _encode_additions(before: PolicyTable, after: PolicyTable) -> Iterator[Request]:
    for name, new in after.sets.items():
        old = before.sets[name]
        if new is not old:
            yield from _add(name, new.types, dict.fromkeys(sorted(new.elements - old.elements), ("", "")))
    for name, rules in after.chains.items():
        if before.chains.get(name) != rules:
            yield add_chain(TABLE, name)
            yield from (add_rule(TABLE, name, rule) for rule in rules)
    for name in ISOLATED.values():
        pods = {
            address: (f"goto {chain}", comment)
            for (where, address), (chain, comment) in after.pods.items()
            if where == name and before.pods.get((where, address)) != (chain, comment)
        }
        yield from _add(name, VERDICT_TYPES, pods)
    yield from _add(SELF, PAIR_TYPES, dict.fromkeys(sorted(after.pairs() - before.pairs()), ("", "")))


def _delete(name: str, types: tuple[str, ...], keys: list[str]) -> Iterator[Request]:
    for start in range(0, len(keys), _ELEMENTS_MAX):
        yield delete_elements(TABLE, name, types, keys[start : start + _ELEMENTS_MAX])


def _add(name: str, types: tuple[str, ...], elements: Mapping[str, tuple[str, str]]) -> Iterator[Request]:
    items = list(elements.items())
    for start in range(0, len(items), _ELEMENTS_MAX):
        yield add_elements(TABLE, name, types, dict(items[start : start + _ELEMENTS_MAX]))
