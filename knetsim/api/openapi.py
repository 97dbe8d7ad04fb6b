"""The structure of Kubernetes' objects, as its own API server publishes it: names, types, required fields, enums.

openapi.json is made by tools/openapi/build.py from `/openapi/v3` of the release that it names, and read when first
needed (a millisecond). One value that Kubernetes' types cannot hold, a number where text is wanted, a time without its
zone, and a kube-apiserver on the same etcd fails every list of that kind: so everything that is stored is checked.

What the server takes as not given is not given here: null, and "" where one of a few words is wanted. In a status,
which programs write, a required field may be missing: the server then stores its zero.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from knetsim.api.checks import (
    Check,
    Problems,
    base64_text,
    boolean,
    fields,
    integer,
    integer_or_text,
    list_of,
    map_of,
    mapping,
    matching,
    number,
    one_of,
    quantity,
    text,
)
from knetsim.api.definitions import schema_of
from knetsim.api.schemas import Schema, build_check

_DAY_AND_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
_ZONE = r"(Z|[-+]\d\d:\d\d)"

_VALUES: dict[str, Check] = {
    "boolean": boolean,
    "byte": base64_text,
    "int-or-string": integer_or_text,
    "int32": integer(-(2**31), 2**31 - 1),
    "int64": integer(-(2**63), 2**63 - 1),
    "integer": integer(),
    "micro-time": matching(re.compile(rf"{_DAY_AND_TIME}\.\d{{6}}{_ZONE}"), "time, as 2025-01-31T10:00:00.000000Z"),
    "number": number,
    "object": mapping,
    "quantity": quantity,
    "string": text,
    "time": matching(re.compile(rf"{_DAY_AND_TIME}(\.\d+)?{_ZONE}"), "time, as 2025-01-31T10:00:00Z"),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a type beside its structure: `fields` by name, `whole` once all of an object's fields are right;
    `required` beside what Kubernetes' structure requires."""

    fields: Mapping[str, Check] = field(default_factory=dict)
    whole: Check | None = None
    required: Collection[str] = ()


class Structure:
    """Checks of types by their names, made when they are first used: `Structure(rules).check("PodSpec")`.

    Not `complete`: required fields may be missing.
    """

    def __init__(self, rules: Mapping[str, Rules] | None = None, *, complete: bool = True) -> None:
        self._rules, self._complete = dict(rules or {}), complete
        self._made: dict[str, Check] = {}

    def check(self, name: str) -> Check:
        """The check of a type: (value, its path, problems)."""
        if name in _VALUES:
            return _VALUES[name]
        if name not in self._made:
            self._made[name] = self._build(name)
        return self._made[name]

    def _build(self, name: str) -> Check:
        schema = schema_of(name)
        if schema is not None:
            return self._build_custom(schema)
        written, rules = _read()["types"][name], self._rules.get(name, Rules())
        table = {field.rstrip("!"): self._check_of(kind) for field, kind in written.items()}
        for field_name, rule in rules.fields.items():
            table[field_name] = _then(table[field_name], rule)
        required = [field.rstrip("!") for field in written if field.endswith("!")] if self._complete else []
        structure = fields(table, required=[*required, *rules.required])
        return _then(structure, rules.whole) if rules.whole else structure

    def _build_custom(self, schema: Schema) -> Check:
        """A kind of which knetsim itself says what it is; `metadata` is as in all objects."""
        if "spec" not in schema["properties"]:
            return build_check(schema, complete=self._complete)
        parts = {field: build_check(part, complete=self._complete) for field, part in schema["properties"].items()}
        table = {"apiVersion": text, "kind": text, "metadata": self.check("ObjectMeta"), **parts}
        return fields(table, required=schema["required"] if self._complete else ())

    def _check_of(self, kind: Any) -> Check:
        if isinstance(kind, list):
            return _optional(one_of(*kind))
        if isinstance(kind, dict):
            if "list" in kind:
                return list_of(self._check_of(kind["list"]))
            return map_of(self._check_of(kind["map"]))
        if kind in _VALUES:
            return _VALUES[kind]

        def check(value: Any, path: str, problems: Problems) -> None:
            self.check(kind)(value, path, problems)

        return check


def _then(structure: Check, rule: Check) -> Check:
    """A rule for what has the right structure."""

    def check(value: Any, path: str, problems: Problems) -> None:
        known = len(problems.found)
        structure(value, path, problems)
        if len(problems.found) == known:
            rule(value, path, problems)

    return check


def _optional(check_word: Check) -> Check:
    def check(value: Any, path: str, problems: Problems) -> None:
        if value != "":
            check_word(value, path, problems)

    return check


def field_types(name: str) -> dict[str, Any]:
    """The fields of a type with their types as in openapi.json: `field_types("VolumeMount")`."""
    return {field.rstrip("!"): kind for field, kind in _read()["types"][name].items()}


def release() -> str:
    """The release of Kubernetes whose structure this is: `v1.36.3`."""
    return str(_read()["release"])


@functools.cache
def _read() -> dict[str, Any]:
    structure: dict[str, Any] = json.loads(resources.files(__package__).joinpath("openapi.json").read_bytes())
    return structure
