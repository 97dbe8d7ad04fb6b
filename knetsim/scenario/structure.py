"""Structure: a scenario against the published JSON schema, with the validator's findings put into a learner's words.

The schema is the one place that says which keys exist, their types and their bounds; editors use the same file. What
it cannot say (sums, overlaps, names that clash) is in `checks`. A finding carries the path that it spoils, so that
`checks` can leave alone what is already known to be wrong.
"""

from __future__ import annotations

import functools
import ipaddress
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError

from knetsim.errors import Problem
from knetsim.names import did_you_mean, nearest_word
from knetsim.scenario.document import Document, KeyPath
from knetsim.scenario.spec import AddressPool
from knetsim.scenario.wording import explain_value, quote

#: what is spoilt, and the problem to tell; None when another finding tells it
Finding = tuple[KeyPath, Problem | None]

_TYPES = {
    "object": "a mapping ('key: value')",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


@functools.cache
def _schema_text() -> str:
    return (Path(__file__).parents[1] / "scenario.schema.json").read_text(encoding="utf-8")


def schema() -> dict[str, Any]:
    """The published JSON schema of scenario files, a fresh copy."""
    loaded: dict[str, Any] = json.loads(_schema_text())
    return loaded


_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("ipv4-address", raises=ValueError)
def _is_address(value: object) -> bool:
    return not isinstance(value, str) or ipaddress.IPv4Address(value) is not None


@_FORMATS.checks("ipv4-network", raises=ValueError)
def _is_network(value: object) -> bool:
    return not isinstance(value, str) or ipaddress.IPv4Network(value) is not None


@_FORMATS.checks("ipv4-pool", raises=ValueError)
def _is_pool(value: object) -> bool:
    if isinstance(value, str):
        AddressPool.parse(value)
    return True


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema(), format_checker=_FORMATS)


@dataclass(frozen=True, slots=True)
class _Fault:
    """What the validator found: `value` at `path` does not obey the rule `keyword: limit` of `rules`, its schema."""

    path: KeyPath
    value: Any
    keyword: str
    limit: Any
    rules: dict[str, Any]
    message: str

    @classmethod
    def of(cls, error: ValidationError) -> _Fault:
        """The typed part of a validator's error."""
        rules = error.schema if isinstance(error.schema, dict) else {}
        path = tuple(error.absolute_path)
        return cls(path, error.instance, str(error.validator), error.validator_value, rules, error.message)


def find_structure_problems(document: Document) -> list[Finding]:
    """Every departure of the document from the schema, at most one for each path."""
    findings: dict[KeyPath, Problem | None] = {}
    for error in _validator().iter_errors(document.value):
        fault = _Fault.of(error)
        explain = _EXPLAINED.get(fault.keyword, _explain_other)
        for path, problem in explain(fault, document):
            findings.setdefault(path, problem)
    return list(findings.items())


def _subject(path: KeyPath, value: object = None) -> str:
    """The thing at `path`, as the subject of a sentence: `subnetLen`, `cluster C0`, `workers[2]`, `this file`."""
    if not path:
        return "this file"
    if not isinstance(path[-1], int):
        return path[-1]
    collection = path[-2] if len(path) > 1 else "item"
    name = value.get("name") if isinstance(value, dict) else None
    return f"{str(collection).removesuffix('s')} {name}" if isinstance(name, str) else f"{collection}[{path[-1]}]"


def _explain_type(fault: _Fault, document: Document) -> Iterator[Finding]:
    path, value = fault.path, fault.value
    wanted = [fault.limit] if isinstance(fault.limit, str) else list(fault.limit)
    expected = " or ".join(_TYPES[name] for name in wanted)
    hint = ""
    if "string" in wanted and isinstance(value, bool | int | float):
        word = document.words[path]
        reading = f"YAML reads {word} as {explain_value(value)}; " if word != str(value) else ""
        hint = f'{reading}put it in quotes: "{word}"'
    elif "integer" in wanted and isinstance(value, str) and value.strip().isdecimal():
        hint = f"without the quotes: {value.strip()}"
    elif value is None:
        hint = "give it a value or remove the key; is what belongs to it indented?"
    elif not path and isinstance(value, str) and ":" in value:
        hint = "a space must follow the ':' after a key"
    elif examples := fault.rules.get("examples"):
        hint = f"for example {examples[0]}"
    yield path, document.problem(path, f"{_subject(path)} must be {expected}, but is {explain_value(value)}", hint)


def _explain_unknown_key(fault: _Fault, document: Document) -> Iterator[Finding]:
    path = fault.path
    known = fault.rules.get("properties", {})
    for key in fault.value:
        if key in known:
            continue
        where = "at the top of the file" if not path else f"in {_subject(path, fault.value)}"
        what = f"unknown key {quote(key)} {where}"
        yield (*path, key), document.problem((*path, key), what, _right_key(key, known), at_key=True)


def _right_key(key: str, known: dict[str, Any]) -> str:
    """The hint for an unknown key: one of its neighbours, or one that belongs elsewhere."""
    elsewhere = nearest_word(key, _key_places())
    if nearest_word(key, known) or elsewhere is None:
        return did_you_mean(key, known)
    where = f"it belongs in {' or '.join(sorted(_key_places()[elsewhere]))}"
    return where if elsewhere == key else f"did you mean '{elsewhere}'? {where}"


@functools.cache
def _key_places() -> dict[str, set[str]]:
    """For every key of the schema the mappings that know it, as a user would write them."""
    places: dict[str, set[str]] = {}

    def walk(node: dict[str, Any], path: str) -> None:
        node = {**node, **_definitions().get(node.get("$ref", ""), {})}
        for key, child in node.get("properties", {}).items():
            places.setdefault(key, set()).add(path or "the top of the file")
            walk(child, f"{path}.{key}" if path else key)
        if "items" in node:
            walk(node["items"], f"{path}[]")

    walk(schema(), "")
    return places


@functools.cache
def _definitions() -> dict[str, dict[str, Any]]:
    return {f"#/$defs/{name}": definition for name, definition in schema()["$defs"].items()}


def _explain_missing(fault: _Fault, document: Document) -> Iterator[Finding]:
    path, known = fault.path, fault.rules["properties"]
    misspelt = {nearest_word(key, known) for key in fault.value if key not in known}
    for key in fault.limit:
        if key in fault.value:
            continue
        what = f"{_subject(path, fault.value)} lacks '{key}'"
        problem = document.problem(path, what, f"add '{key}: {_example(fault.rules, key)}'")
        # `wokers: 3` is an unknown key, not also a missing one
        yield (*path, key), None if key in misspelt else problem


def _example(parent: dict[str, Any], key: str) -> str:
    """What could stand after `key:`."""
    node = parent["properties"][key]
    node = {**_definitions().get(node.get("$ref", ""), {}), **node}
    if "const" in node:
        return str(node["const"])
    return str(node["examples"][0]) if "examples" in node else "…"


def _explain_enum(fault: _Fault, document: Document) -> Iterator[Finding]:
    path, value, choices = fault.path, fault.value, [str(choice) for choice in fault.limit]
    if isinstance(value, str):
        yield path, document.problem(path, f"unknown {_subject(path)} {quote(value)}", did_you_mean(value, choices))
    else:
        what = f"{_subject(path)} must be one of {', '.join(choices)}, but is {explain_value(value)}"
        yield path, document.problem(path, what)


def _explain_const(fault: _Fault, document: Document) -> Iterator[Finding]:
    path = fault.path
    what = f"{_subject(path)} must be '{fault.limit}', but is {explain_value(fault.value)}"
    yield path, document.problem(path, what)


def _explain_form(fault: _Fault, document: Document) -> Iterator[Finding]:
    """A text that does not have the form that its `pattern` or `format` asks for."""
    path, value = fault.path, fault.value
    what = f"{_subject(path)}: {quote(value)} is not {fault.rules.get('title', 'well-formed')}"
    yield path, document.problem(path, what, _nearest(fault.rules, value))


def _nearest(form: dict[str, Any], value: str) -> str:
    """The hint for a malformed text: the value that was probably meant, or an example."""
    example = f"for example {form['examples'][0]}" if "examples" in form else ""
    if "$comment" in form:
        return f"{example}; {form['$comment']}"
    if form.get("format") != "ipv4-network":
        return example
    if "/" not in value:
        return f"a network ends with its prefix length, {example}"
    try:
        return f"the network of that address is {ipaddress.IPv4Network(value, strict=False)}"
    except ValueError:
        return example


def _explain_bound(fault: _Fault, document: Document) -> Iterator[Finding]:
    path, rule = fault.path, fault.rules
    what = f"{_subject(path)} must be from {rule['minimum']} to {rule['maximum']}, but is {fault.value}"
    yield path, document.problem(path, what, rule.get("$comment", "") if fault.keyword == "maximum" else "")


def _explain_length(fault: _Fault, document: Document) -> Iterator[Finding]:
    path, count = fault.path, len(fault.value)
    if count == 0:
        yield path, document.problem(path, f"{_subject(path)} is an empty list", "it needs one entry at least")
    else:
        what = f"{_subject(path)} has {count} entries; {fault.limit} is the most"
        yield path, document.problem(path, what)


def _explain_other(fault: _Fault, document: Document) -> Iterator[Finding]:
    yield fault.path, document.problem(fault.path, fault.message)


_EXPLAINED: dict[str, Callable[[_Fault, Document], Iterator[Finding]]] = {
    "type": _explain_type,
    "additionalProperties": _explain_unknown_key,
    "required": _explain_missing,
    "enum": _explain_enum,
    "const": _explain_const,
    "pattern": _explain_form,
    "format": _explain_form,
    "minimum": _explain_bound,
    "maximum": _explain_bound,
    "minItems": _explain_length,
    "maxItems": _explain_length,
}
