"""YAML with positions: the same values as Kubernetes reads, from either scanner, and limits that hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from knetsim.scenario.document import LOADER, MAX_DEPTH, MAX_REPEATED, Document, read_documents

_LOADERS = [LOADER, yaml.SafeLoader]

#: what go-yaml 2, and so kubectl, makes of a word without quotes
_WORDS = [
    ("on", True),
    ("y", True),
    ("No", False),
    ("TRUE", True),
    ("", None),
    ("~", None),
    ("12", 12),
    ("-12", -12),
    ("+7", 7),
    ("010", 8),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b101", 5),
    ("1_000", 1000),
    ("08", 8.0),
    ("1.10", 1.1),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("12:30", "12:30"),
    ("2024-01-01", "2024-01-01"),
    ("1.2.3.4", "1.2.3.4"),
    ("10.1.0.0/24", "10.1.0.0/24"),
    ("1e999", "1e999"),
    ("'12'", "12"),
    ('"on"', "on"),
    ("!!str 12", "12"),
    ("!!int 12", 12),
    ("!!float 12", 12),
    ("yEs", "yEs"),
    ("_1", "_1"),
    ("-", "-"),
]


def only(text: str, loader: Any = LOADER) -> Document:
    """The one document of a text without mistakes."""
    documents, problems = read_documents(text, "x.yaml", loader)
    assert problems == []
    (document,) = documents
    return document


def problems_of(text: str, loader: Any = LOADER) -> list[str]:
    return [str(problem) for problem in read_documents(text, "x.yaml", loader)[1]]


@pytest.mark.parametrize("loader", _LOADERS)
@pytest.mark.parametrize(("word", "value"), _WORDS)
def test_words(word: str, value: Any, loader: Any) -> None:
    text = f"a: {word}\n" if word != "-" else "a: '-'\n"
    read = only(text, loader).value["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("loader", _LOADERS)
def test_positions(loader: Any) -> None:
    document = only("# é\nspec:\n  clusters:\n  - name: C0\n    é: {b: [1,\n      2]}\n", loader)
    assert document.value == {"spec": {"clusters": [{"name": "C0", "é": {"b": [1, 2]}}]}}
    path = ("spec", "clusters", 0)
    assert document.where((*path, "name")) == (4, 11)
    assert document.where((*path, "name"), at_key=True) == (4, 5)
    assert document.where((*path, "é", "b", 1)) == (6, 7)
    assert document.where((*path, "etcd", "members")) == document.where(path) == (4, 5)
    assert document.where(()) == (2, 1)


def test_documents_and_empty_ones() -> None:
    documents, problems = read_documents("---\n# nothing\n---\na: 1\n---\nb: 2\n...\n", "x.yaml")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}]
    assert problems == []


def test_merge_keys() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 0\n'<<': 5\n"
    document = only(text)
    assert document.value["c"] == {"x": 0, "y": 2, "z": 4}
    assert document.value["<<"] == 5, "in quotes it is a key like any other"
    assert problems_of("a: {<<: 3}\n") == [
        "x.yaml:1:5: '<<' merges mappings only (write an alias of a mapping after it, as in '<<: *name')"
    ]


def test_keys_are_text_as_written() -> None:
    assert only("{1: a, on: b, ~: c, 1.10: d}").value == {"1": "a", "on": "b", "~": "c", "1.10": "d"}


@pytest.mark.parametrize("loader", _LOADERS)
def test_limits(loader: Any) -> None:
    assert only("[" * MAX_DEPTH + "]" * MAX_DEPTH, loader).value
    assert "nested deeper" in problems_of("[" * 100_000, loader)[0]
    assert "nested deeper" in problems_of("a: " + "{a: " * 100_000, loader)[0]
    repeated = MAX_REPEATED // 2
    assert len(only(f"a: &a [x]\nb: [{', '.join(['*a'] * repeated)}]\n", loader).value["b"]) == repeated
    assert "repeat more than" in problems_of(f"a: &a [x]\nb: [{', '.join(['*a'] * (repeated + 1))}]\n", loader)[0]


def test_aliases_do_not_nest_deeper_than_anything_else() -> None:
    """Each line is flat enough and small enough, but all of them in each other would be 1170 levels deep."""
    lines = ["a0: &a0 " + "[" * 90 + "]" * 90]
    lines += [f"a{n}: &a{n} {'[' * 90}*a{n - 1}{']' * 90}" for n in range(1, 13)]
    assert problems_of("\n".join(lines)) == ["x.yaml:2:99: nested deeper than 100 levels through '*a0'"]


def test_billions_of_laughs_are_not_laughed() -> None:
    lines = ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 60)]
    assert "repeat more than" in problems_of("\n".join(lines))[0]


@pytest.mark.parametrize("loader", _LOADERS)
@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("a:\n\tb: 1\n", "2:1"),
        ("a: 1\nfoo\nb: 2\n", "2:1"),
        ("a: [1, 2\nb: 3\n", "1:4"),
        ("a: 'x\nb: 3\n", "1:4"),
        ("a: @b\n", "1:4"),
        ("a:\n  - x\n - y\n", "3:2"),
        ("a: 'x' y\n", "1:8"),
        ("a: &a [*a]\n", "1:8"),
        ("a: *b\n", "1:4"),
        ("a: .nan\n", "1:4"),
        ("a: 18446744073709551616\n", "1:4"),
        (f"a: {'9' * 10_000}\n", "1:4"),
        ("a: \ue000\x07\n", "1:5"),
        ("a: 1\nb: 2\na: 3\n", "3:1"),
        ("a: 1\n...\nb\n", "3:1"),
    ],
)
def test_mistakes_have_a_position(text: str, position: str, loader: Any) -> None:
    (problem,) = problems_of(text, loader)
    assert problem.startswith(f"x.yaml:{position}: "), problem
    assert "not YAML" not in problem, "each of these has words of its own"


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co")), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(min_codepoint=97, max_codepoint=122)), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(_JSON)
def test_json_reads_as_json(value: Any) -> None:
    documents, problems = read_documents(json.dumps(value, ensure_ascii=False), "x.json")
    assert problems == []
    assert [document.value for document in documents] == ([] if value is None else [value])


@given(_JSON)
def test_yaml_reads_back_from_either_scanner(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, default_style='"')  # PyYAML would leave Kubernetes' `y` bare
    for loader in _LOADERS:
        documents, problems = read_documents(text, "x.yaml", loader)
        assert problems == []
        assert [document.value for document in documents] == ([] if value is None else [value])


@given(st.text())
def test_any_text(text: str) -> None:
    for loader in _LOADERS:
        documents, problems = read_documents(text, "x.yaml", loader)
        assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
        assert all(json.dumps(document.value, allow_nan=False) for document in documents)
