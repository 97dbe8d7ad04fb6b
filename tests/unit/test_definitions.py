"""Skupper's kinds as knetsim defines them: the definitions, and what they refuse and fill in where no API server is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from knetsim.api.checks import Problems
from knetsim.api.definitions import build_definitions, schema_of
from knetsim.api.objects import KINDS
from knetsim.api.schemas import build_check, fill

_CUSTOM = [kind for kind in KINDS.values() if kind.custom]
#: all words of a schema that are written down
_WORDS = frozenset(
    ("type", "description", "default", "format", "items", "minimum", "maximum", "properties", "additionalProperties")
) | {"required", "oneOf", "enum", "pattern", "minLength", "maxLength"}
_LIST_WORDS = frozenset(("x-kubernetes-list-type", "x-kubernetes-list-map-keys"))


def mistakes(schema: dict[str, Any], value: Any, *, complete: bool = True) -> list[str]:
    problems = Problems("it")
    build_check(schema, complete=complete)(value, "", problems)
    return [f"{path}: {text}" for path, text in problems.found]


def schemas_in(schema: Any) -> Iterator[Any]:
    yield schema
    for part in (schema.get("properties") or {}).values():
        yield from schemas_in(part)
    for field in ("items", "additionalProperties"):
        if field in schema:
            yield from schemas_in(schema[field])


class TestDefinitions:
    def test_one_for_each_row(self) -> None:
        defined = {item["spec"]["names"]["kind"]: item for item in build_definitions()}
        assert defined.keys() == {kind.name for kind in _CUSTOM}
        for kind in _CUSTOM:
            spec = defined[kind.name]["spec"]
            assert kind.api_version == f"{spec['group']}/{spec['versions'][0]['name']}"
            assert kind.plural == spec["names"]["plural"]
            assert kind.prefix == f"{spec['group']}/{kind.plural}"
            assert defined[kind.name]["metadata"]["name"] == f"{kind.plural}.{spec['group']}"

    def test_names_are_apart(self) -> None:
        called = [item["spec"]["names"] for item in build_definitions()]
        words = [
            word for names in called for word in (names["plural"], names["singular"], *names.get("shortNames", ()))
        ]
        assert len(words) == len(set(words))

    @pytest.mark.parametrize("kind", _CUSTOM, ids=lambda kind: kind.name)
    def test_every_field_is_told_and_every_word_is_known(self, kind: Any) -> None:
        whole = schema_of(kind.name)
        assert whole is not None
        for schema in schemas_in(whole):
            assert schema.keys() <= _WORDS | _LIST_WORDS
            for field, part in (schema.get("properties") or {}).items():
                assert part["description"].endswith("."), field
        build_check(whole)

    def test_columns_show_what_is_there(self) -> None:
        [listener] = [item for item in build_definitions() if item["spec"]["names"]["kind"] == "Listener"]
        columns = listener["spec"]["versions"][0]["additionalPrinterColumns"]
        assert [(column["name"], column["type"], column["jsonPath"]) for column in columns] == [
            ("Routing Key", "string", ".spec.routingKey"),
            ("Port", "integer", ".spec.port"),
            ("Host", "string", ".spec.host"),
            ("Status", "string", ".status.status"),
            ("Has Matching Connector", "boolean", ".status.hasMatchingConnector"),
            ("Message", "string", ".status.message"),
        ]

    def test_kinds_of_others(self) -> None:
        assert schema_of("Pod") is schema_of("PodStatus") is schema_of("Widget") is schema_of("WidgetStatus") is None


class TestSchemas:
    def test_a_word_that_nobody_enforces(self) -> None:
        with pytest.raises(AssertionError, match="maxItems"):
            build_check({"type": "array", "items": {"type": "string"}, "maxItems": 3})

    @pytest.mark.parametrize(
        ("schema", "right", "wrong", "words"),
        [
            ({"type": "string"}, "", 1, "must be text"),
            ({"type": "string", "minLength": 1}, "a", "", "must not be empty"),
            ({"type": "string", "minLength": 2}, "ab", "a", "must have 2 letters or more"),
            ({"type": "string", "maxLength": 2}, "ab", "abc", "must have 2 letters at most, not 3"),
            ({"type": "string", "pattern": "^a", "description": "An a."}, "ab", "ba", r"does not match ^a (An a)"),
            ({"type": "string", "enum": ["a", "b"]}, "a", "", "must be one of a, b"),
            ({"type": "string", "format": "date-time"}, "2025-01-31T10:00:00Z", "today", "is no time"),
            ({"type": "integer", "minimum": 1}, 1, 0, "must be 1 or more"),
            ({"type": "integer", "maximum": 1}, 1, 2, "must be 1 or less"),
            ({"type": "boolean"}, False, "false", "must be true or false"),
            ({"type": "array", "items": {"type": "integer"}}, [1], ["1"], "[0]: must be a whole number"),
            ({"type": "object"}, {"a": 1}, [], "must be a mapping"),
            ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "b"}, {"a": 1}, "must be text"),
            ({"type": "object", "properties": {"a": {"type": "boolean"}}}, {"a": True}, {"b": 1}, "b: is unknown"),
        ],
    )
    def test_a_rule(self, schema: dict[str, Any], right: Any, wrong: Any, words: str) -> None:
        assert mistakes(schema, right) == []
        [told] = mistakes(schema, wrong)
        assert words in told

    def test_one_thing_of_a_name(self) -> None:
        items = {"type": "object", "properties": {"type": {"type": "string"}}}
        schema = {
            "type": "array",
            "items": items,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }
        assert mistakes(schema, [{"type": "a"}, {"type": "b"}]) == []
        assert mistakes(schema, [{"type": "a"}, {"type": "a"}]) == ["[1].type: 'a' is there twice"]

    def test_what_may_be_missing(self) -> None:
        schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}
        assert mistakes(schema, {}) == ["a: is missing"]
        assert mistakes(schema, {"a": None}) == ["a: is missing"]
        assert mistakes(schema, {}, complete=False) == []

    def test_defaults(self) -> None:
        inner = {"type": "object", "default": {}, "properties": {"cost": {"type": "integer", "default": 1}}}
        schema = {"type": "object", "properties": {"spec": inner, "list": {"type": "array", "items": inner}}}
        assert fill(schema, {}) == {"spec": {"cost": 1}}
        assert fill(schema, {"spec": None, "list": [{}, {"cost": 2}]}) == {
            "spec": {"cost": 1},
            "list": [{"cost": 1}, {"cost": 2}],
        }

    def test_what_is_given_stays_as_it_is(self) -> None:
        schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}}}
        given = {"a": {"b": None}, "c": None}
        assert fill(schema, given) == {"a": {}}
        assert given == {"a": {"b": None}, "c": None}
