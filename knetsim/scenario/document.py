"""YAML (and JSON, which is nearly YAML) with positions: text in, plain JSON values and where each was written out.

The reader consumes the events of PyYAML's scanner instead of calling `yaml.safe_load`, for four reasons. Positions:
every value and key keeps its line and column. Mistakes: `safe_load` lets the last of two equal keys win in silence.
Safety: deep nesting crashes the C composer (it recurses in C), and a few aliases of aliases expand to gigabytes; here
depth and repetition have limits. Meaning: a plain word means what it means to Kubernetes (sigs.k8s.io/yaml, which is
go-yaml 2: `on` and `y` are true, but 12:30 and 2024-01-01 are text), so a manifest reads the same here and in kubectl.

A syntax error ends the reading, since nothing after it can be trusted; all other mistakes are collected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from knetsim.errors import Problem
from knetsim.scenario.syntax import explain_syntax
from knetsim.scenario.wording import quote

KeyPath = tuple[str | int, ...]

#: nesting that no sane file needs; the reader recurses once per level
MAX_DEPTH = 100
#: how many values aliases may repeat in one file
MAX_REPEATED = 10_000

#: libyaml's scanner where PyYAML was built with it, else PyYAML's own, some ten times slower
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# YAML's printable characters (5.1); the scanner would report others without a usable position
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|0[oO]?[0-7]+|0[xX][0-9a-fA-F]+|0[bB][01]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, tuple[type, ...]] = {
    f"{_TAG}null": (type(None),),
    f"{_TAG}bool": (bool,),
    f"{_TAG}int": (int,),
    f"{_TAG}float": (int, float),
}


class Mark(NamedTuple):
    """A position in a file, both counted from 1 as editors do."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: `value` is what JSON can hold; `marks` and `key_marks` say where each path was written.

    A path is the keys and list indices that lead to a value: ("spec", "clusters", 0, "name"). `words` keeps how values
    that are not text were written (1.10, on), for messages.
    """

    file: str
    value: Any
    marks: dict[KeyPath, Mark]
    key_marks: dict[KeyPath, Mark]
    words: dict[KeyPath, str]

    def where(self, path: KeyPath, *, at_key: bool = False) -> Mark:
        """Where the value (or its key) was written; for what was not written, where the nearest thing around it was."""
        if at_key and path in self.key_marks:
            return self.key_marks[path]
        while path not in self.marks:
            path = path[:-1]
        return self.marks[path]

    def problem(self, path: KeyPath, what: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """A mistake at `path`."""
        return Problem(self.file, *self.where(path, at_key=at_key), what, hint)


def read_documents(text: str, file: str, loader: Any = LOADER) -> tuple[list[Document], list[Problem]]:
    """All documents of a YAML text and all mistakes in its form; empty documents are left out. Never raises."""
    composer = _Composer(file, loader)
    documents: list[Document] = []
    try:
        documents.extend(_expand(file, node) for node in composer.read_roots(text) if not _is_empty(node))
    except _Unreadable as stop:
        composer.problems.append(stop.problem)
    return documents, composer.problems


class _Unreadable(Exception):
    """The rest of the text cannot be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class _Scalar:
    mark: Mark
    value: Any
    word: str
    size: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True)
class _Sequence:
    mark: Mark
    items: list[_Node]
    size: int
    height: int


@dataclass(frozen=True, slots=True)
class _Mapping:
    mark: Mark
    entries: dict[str, tuple[Mark, _Node]]
    size: int
    height: int


_Node = _Scalar | _Sequence | _Mapping


def _is_empty(node: _Node) -> bool:
    return isinstance(node, _Scalar) and node.value is None


def _mark(event: yaml.Event) -> Mark:
    assert event.start_mark is not None
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _height(inner: Iterable[_Node]) -> int:
    return 1 + max((node.height for node in inner), default=0)


class _Composer:
    """Events to nodes. A node's `size` and `height` are those with all aliases written out, known before any is."""

    def __init__(self, file: str, loader: Any) -> None:
        self.file, self.loader = file, loader
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Node | None] = {}
        self.repeated = 0
        self.events: Iterator[yaml.Event] = iter(())

    def read_roots(self, text: str) -> Iterator[_Node]:
        """The root node of each document."""
        bad = _UNPRINTABLE.search(text)
        if bad:
            before = text[: bad.start()]
            mark = Mark(before.count("\n") + 1, bad.start() - before.rfind("\n"))
            what = f"the character U+{ord(bad[0]):04X} cannot stand in a text file"
            raise _Unreadable(Problem(self.file, *mark, what, "is this really a YAML file?"))
        self.events = yaml.parse(text, Loader=self.loader)
        try:
            for event in self.events:
                if isinstance(event, yaml.DocumentStartEvent):
                    self.anchors = {}
                    yield self._compose(next(self.events), 0)
        except yaml.MarkedYAMLError as error:
            raise _Unreadable(explain_syntax(error, text, self.file)) from error

    def _problem(self, event: yaml.Event, what: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, *_mark(event), what, hint))

    def _unreadable(self, event: yaml.Event, what: str, hint: str = "") -> _Unreadable:
        return _Unreadable(Problem(self.file, *_mark(event), what, hint))

    def _compose(self, event: yaml.Event, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._unreadable(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event, depth)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self.anchors[anchor] = None  # open: it may not refer to itself
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node = _Scalar(_mark(event), self._scalar(event), event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            assert isinstance(event, yaml.MappingStartEvent)
            node = self._mapping(event, depth)
        if anchor:
            self.anchors[anchor] = node
        return node

    def _repeat(self, event: yaml.AliasEvent, depth: int) -> _Node:
        name = event.anchor
        if name not in self.anchors:
            raise self._unreadable(event, f"no anchor '&{name}' for '*{name}'", "an anchor must stand before its alias")
        node = self.anchors[name]
        if node is None:
            raise self._unreadable(event, f"'*{name}' stands inside '&{name}', which would never end")
        self.repeated += node.size
        if self.repeated > MAX_REPEATED:
            raise self._unreadable(event, f"the aliases of this file repeat more than {MAX_REPEATED} values")
        if depth + node.height > MAX_DEPTH:
            raise self._unreadable(event, f"nested deeper than {MAX_DEPTH} levels through '*{name}'")
        return node

    def _sequence(self, start: yaml.SequenceStartEvent, depth: int) -> _Sequence:
        self._check_tag(start, start.tag, "seq")
        items: list[_Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._compose(event, depth + 1))
        return _Sequence(_mark(start), items, 1 + sum(item.size for item in items), _height(items))

    def _mapping(self, start: yaml.MappingStartEvent, depth: int) -> _Mapping:
        self._check_tag(start, start.tag, "map")
        entries: dict[str, tuple[Mark, _Node]] = {}
        merged: list[_Mapping] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            merge = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
            key = self._compose(event, depth + 1)
            value = self._compose(next(self.events), depth + 1)
            if merge:
                merged += self._merged(event, value)
            elif not isinstance(key, _Scalar) or not isinstance(event, yaml.ScalarEvent):
                self._problem(event, "a key must be a single word or text")
            elif event.value in entries:
                first = entries[event.value][0].line
                self._problem(
                    event, f"key {quote(event.value)} stands here twice (first in line {first})", "remove one"
                )
            else:
                entries[event.value] = (key.mark, value)
        for mapping in merged:
            entries = {**mapping.entries, **entries}
        inner = [node for _, node in entries.values()]
        return _Mapping(_mark(start), entries, 1 + sum(node.size for node in inner), _height(inner))

    def _merged(self, event: yaml.Event, value: _Node) -> list[_Mapping]:
        """What `<<:` takes in; an earlier mapping wins over a later one, and the mapping's own keys over all."""
        nodes = value.items if isinstance(value, _Sequence) else [value]
        mappings = [node for node in nodes if isinstance(node, _Mapping)]
        if len(mappings) < len(nodes):
            self._problem(event, "'<<' merges mappings only", "write an alias of a mapping after it, as in '<<: *name'")
        return mappings

    def _check_tag(self, event: yaml.Event, tag: str | None, expected: str) -> None:
        if tag not in (None, "!", _TAG + expected):
            self._problem(event, f"unknown tag {_short(tag)}", "remove it")

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        """The value of a scalar; a tag such as !!int is honoured, quotes make text."""
        tag = event.tag
        if not event.implicit[0] and tag in (None, "!", f"{_TAG}str"):
            return self._text(event)
        if not event.implicit[0] and tag not in _SCALAR_TAGS:
            self._problem(event, f"unknown tag {_short(tag)}", "remove it")
            return event.value
        value = self._plain(event)
        if tag in _SCALAR_TAGS and not isinstance(value, _SCALAR_TAGS[tag]):
            self._problem(event, f"{quote(event.value)} is not what its tag {_short(tag)} says", "remove the tag")
        return value

    def _text(self, event: yaml.ScalarEvent) -> str:
        if re.search("[\ud800-\udfff]", event.value):  # from an escape such as "\ud800"; cannot be encoded
            self._problem(event, "half a character (a lone surrogate)", "write the character itself instead of \\u…")
            return ""
        return str(event.value)

    def _plain(self, event: yaml.ScalarEvent) -> Any:
        """What a word without quotes means to Kubernetes."""
        text = event.value
        if text in _WORDS:
            return _WORDS[text]
        digits = text.replace("_", "") if text[0] in "+-.0123456789" else ""
        if _INTEGER.fullmatch(digits):
            octal = re.fullmatch(r"([-+]?)0([0-7]+)", digits)
            return self._bounded(event, f"{octal[1]}0o{octal[2]}" if octal else digits)
        if _FLOAT.fullmatch(digits):
            value = float(digits)
            return text if value in (float("inf"), float("-inf")) else value
        if _NOT_FINITE.fullmatch(text):
            self._problem(event, f"{text} is not a number that JSON can hold", "put it in quotes if it is text")
        return text

    def _bounded(self, event: yaml.ScalarEvent, digits: str) -> int:
        value = int(digits, 0) if len(digits) <= 70 else 1 << 64  # 0b and 64 digits; int() refuses thousands of digits
        if not -(1 << 63) <= value < (1 << 64):
            self._problem(event, "the number does not fit in 64 bits", "put it in quotes if it is text")
            return 0
        return value


def _short(tag: str | None) -> str:
    return quote((tag or "").replace(_TAG, "!!"))


def _expand(file: str, root: _Node) -> Document:
    """Nodes to plain values and the position of each path; what an alias repeats keeps the position of its original."""
    marks: dict[KeyPath, Mark] = {}
    key_marks: dict[KeyPath, Mark] = {}
    words: dict[KeyPath, str] = {}

    def plain(node: _Node, path: KeyPath) -> Any:
        marks[path] = node.mark
        if isinstance(node, _Scalar):
            if not isinstance(node.value, str):
                words[path] = node.word
            return node.value
        if isinstance(node, _Sequence):
            return [plain(item, (*path, index)) for index, item in enumerate(node.items)]
        value = {}
        for key, (mark, child) in node.entries.items():
            inner = (*path, key)
            key_marks[inner] = mark
            value[key] = plain(child, inner)
        return value

    return Document(file, plain(root, ()), marks, key_marks, words)
