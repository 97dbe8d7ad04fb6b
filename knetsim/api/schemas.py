"""Schemas of custom resources in the words of checks.py: what a value must be, and what it is unless said. Pure.

So much of a CustomResourceDefinition's schema as knetsim's own definitions use; another word of it is an error, so that
no rule is written down that nobody enforces. As in a kube-apiserver, null is not given, and a default is filled in
where its mapping is there (apiextensions' pkg/apiserver/schema/defaulting).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from knetsim.api import words
from knetsim.api.checks import (
    Check,
    Problems,
    boolean,
    fields,
    integer,
    list_of,
    map_of,
    mapping,
    matching,
    one_of,
    text,
)

Schema = Mapping[str, Any]

#: words of a schema that are not about what a value must be
_SAID = frozenset(("type", "description", "default", "x-kubernetes-list-type", "format"))
#: and those that are, by type
_ENFORCED = {
    "array": frozenset(("items", "x-kubernetes-list-map-keys")),
    "boolean": frozenset[str](),
    "integer": frozenset(("minimum", "maximum")),
    "object": frozenset(("properties", "additionalProperties", "required", "oneOf")),
    "string": frozenset(("enum", "pattern", "minLength", "maxLength")),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)")


def build_check(schema: Schema, *, complete: bool = True) -> Check:
    """The check of a value with this schema. Not `complete`: required fields may be missing."""
    kind = schema["type"]
    unknown = schema.keys() - _SAID - _ENFORCED[kind]
    assert not unknown, f"{sorted(unknown)} of a schema would not be enforced"
    if kind == "object":
        return _build_mapping(schema, complete)
    if kind == "array":
        unique = "".join(schema.get("x-kubernetes-list-map-keys", ())[:1])
        return list_of(build_check(schema["items"], complete=complete), unique=unique)
    if kind == "integer":
        return integer(schema.get("minimum"), schema.get("maximum"))
    return boolean if kind == "boolean" else _build_text(schema)


def _build_mapping(schema: Schema, complete: bool) -> Check:
    if "additionalProperties" in schema:
        return map_of(build_check(schema["additionalProperties"], complete=complete))
    if "properties" not in schema:
        return mapping
    table = {field: build_check(part, complete=complete) for field, part in schema["properties"].items()}
    structure = fields(table, required=schema.get("required", ()) if complete else ())
    choices = [field for choice in schema.get("oneOf", ()) for field in choice["required"]] if complete else []
    return _all_of(structure, words.exactly_one(choices, "one of")) if choices else structure


def _build_text(schema: Schema) -> Check:
    if "enum" in schema:
        return one_of(*schema["enum"])
    if schema.get("format") == "date-time":
        return matching(_TIME, "time, as 2025-01-31T10:00:00Z")
    checks: list[Check] = [text]
    if "minLength" in schema or "maxLength" in schema:
        checks.append(_length(schema.get("minLength", 0), schema.get("maxLength")))
    if "pattern" in schema:
        checks.append(_pattern(re.compile(schema["pattern"]), schema.get("description", "").rstrip(".")))
    return _all_of(*checks)


def _length(shortest: int, longest: int | None) -> Check:
    def check(value: Any, path: str, problems: Problems) -> None:
        if len(value) < shortest:
            problems.add(path, "must not be empty" if shortest == 1 else f"must have {shortest} letters or more")
        elif longest is not None and len(value) > longest:
            problems.add(path, f"must have {longest} letters at most, not {len(value)}")

    return check


def _pattern(pattern: re.Pattern[str], meaning: str) -> Check:
    def check(value: Any, path: str, problems: Problems) -> None:
        if not pattern.search(value):
            problems.add(path, f"{value!r} does not match {pattern.pattern} ({meaning})")

    return check


def _all_of(*checks: Check) -> Check:
    """One after the other, until one finds a mistake."""

    def check(value: Any, path: str, problems: Problems) -> None:
        known = len(problems.found)
        for each in checks:
            each(value, path, problems)
            if len(problems.found) != known:
                return

    return check


def fill(schema: Schema, value: Any) -> Any:
    """The value without what is null, and with what is not given; a new one, whatever of it changed."""
    if isinstance(value, Mapping) and "properties" in schema:
        filled = {field: item for field, item in value.items() if item is not None}
        for field, part in schema["properties"].items():
            if field not in filled and "default" in part:
                filled[field] = part["default"]
            if field in filled:
                filled[field] = fill(part, filled[field])
        return filled
    if isinstance(value, Mapping) and "additionalProperties" in schema:
        return {field: item for field, item in value.items() if item is not None}
    if isinstance(value, list):
        return [fill(schema["items"], item) for item in value]
    return value
