"""Changes of a table of the family ip as requests to the kernel, each with nft's own command for it; pure.

`UnknownForm` where the text of a rule, a set or an element is one that `language.py` does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from knetsim.system.netlink.wire import NLM_F_APPEND, NLM_F_CREATE, Request, text
from knetsim.system.nfnetlink import wire as nf
from knetsim.system.nfnetlink.language import Count, read_element, read_key, read_rule, read_set

NO_COUNTS: Mapping[str, Count] = {}


def _request(kind: int, flags: int, attributes: Sequence[bytes], command: str) -> Request:
    return Request(nf.message(kind, flags, *attributes), lambda: f"nft {command}")


def add_chain(table: str, name: str) -> Request:
    """Have a chain that no hook calls; fine when it is there."""
    attributes = [text(nf.CHAIN_TABLE, table), text(nf.CHAIN_NAME, name)]
    return _request(nf.NEWCHAIN, NLM_F_CREATE, attributes, f"add chain ip {table} {name}")


def delete_chain(table: str, name: str) -> Request:
    """Take a chain away that nothing leads to, with its rules."""
    attributes = [text(nf.CHAIN_TABLE, table), text(nf.CHAIN_NAME, name)]
    return _request(nf.DELCHAIN, 0, attributes, f"delete chain ip {table} {name}")


def flush_chain(table: str, name: str) -> Request:
    """Take all rules out of a chain."""
    attributes = [text(nf.RULE_TABLE, table), text(nf.RULE_CHAIN, name)]
    return _request(nf.DELRULE, 0, attributes, f"flush chain ip {table} {name}")


def add_rule(table: str, chain: str, rule: str) -> Request:
    """Append a rule to a chain."""
    found = read_rule(rule)
    attributes = [
        text(nf.RULE_TABLE, table),
        text(nf.RULE_CHAIN, chain),
        nf.nested(nf.RULE_EXPRESSIONS, *found.expressions),
    ]
    if found.comment:
        attributes.append(nf.comment(nf.RULE_USERDATA, found.comment))
    return _request(nf.NEWRULE, NLM_F_CREATE | NLM_F_APPEND, attributes, f"add rule ip {table} {chain} {rule}")


def add_set(table: str, name: str, definition: str) -> Request:
    """Have a set as `definition` says: `type ipv4_addr; flags dynamic,timeout; timeout 60s;`."""
    attributes = [text(nf.SET_TABLE, table), text(nf.SET_NAME, name), *read_set(definition)]
    return _request(nf.NEWSET, NLM_F_CREATE, attributes, f"add set ip {table} {name} {{ {definition} }}")


def delete_set(table: str, name: str) -> Request:
    """Take a set away that no rule uses."""
    attributes = [text(nf.SET_TABLE, table), text(nf.SET_NAME, name)]
    return _request(nf.DELSET, 0, attributes, f"delete set ip {table} {name}")


def add_elements(
    table: str,
    name: str,
    types: Sequence[str],
    elements: Mapping[str, tuple[str, str]],
    data_types: Sequence[str] = (),
    counts: Mapping[str, Count] = NO_COUNTS,
) -> Request:
    """Put elements into a set, or a map: key → (what it leads to, comment), either may be empty.

    `types` are those of the key's parts: `ipv4_addr`, `inet_proto`, `inet_service`, `integer`; `data_types` those of
    what it leads to, none for a verdict. `counts`: what elements have counted already, by key.
    """
    found = [
        read_element(types, key, data, comment, data_types, counts.get(key))
        for key, (data, comment) in elements.items()
    ]
    return _elements(nf.NEWSETELEM, NLM_F_CREATE, table, name, found, f"add element ip {table} {name}", elements)


def delete_elements(table: str, name: str, types: Sequence[str], keys: Sequence[str]) -> Request:
    """Take elements out of a set or map."""
    found = [read_key(types, key) for key in keys]
    return _elements(nf.DELSETELEM, 0, table, name, found, f"delete element ip {table} {name}", keys)


def _elements(
    kind: int, flags: int, table: str, name: str, elements: Sequence[bytes], command: str, keys: Iterable[str]
) -> Request:
    attributes = [text(nf.ELEMENTS_TABLE, table), text(nf.ELEMENTS_SET, name), nf.nested(nf.ELEMENTS, *elements)]
    return _request(kind, flags, attributes, f"{command} {{ {', '.join(keys)} }}")
