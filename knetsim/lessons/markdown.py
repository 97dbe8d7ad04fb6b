"""A page's text as what a lesson is made of, with lines (from 1): headings, ends of slides, comments, fenced blocks.

Markdown is read by markdown-it, as CommonMark has it. A front matter (YAML between two lines of `---` on top) is taken
off before, and every line keeps its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from knetsim.lessons.remark import Mistake

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_COMMENT = re.compile(r"\s*<!--(?P<text>.*?)-->\s*", re.DOTALL)
_FRONT = re.compile(r"\A---[ \t]*\n(?P<text>.*?\n)?---[ \t]*(?:\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading's text, without its marks, and level."""

    line: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line; in Marp's Markdown a slide ends there."""

    line: int


@dataclass(frozen=True, slots=True)
class Comment:
    """An HTML comment's inner text."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: its first line, language, and text; whether its end is there."""

    line: int
    language: str
    text: str
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Indented:
    """A block that is code since it is indented: it cannot say what it is."""

    line: int


@dataclass(frozen=True, slots=True)
class Prose:
    """Anything else: it stands between a comment and a block."""

    line: int


Element = Heading | Rule | Comment | Fence | Indented | Prose


@dataclass(frozen=True, slots=True)
class Page:
    """What was read: the front matter's values, the elements, and what could not be read."""

    front: dict[str, Any]
    elements: tuple[Element, ...]
    mistakes: tuple[Mistake, ...]


def read_page(text: str) -> Page:
    """A page's elements. Nothing is raised: what is wrong is among the mistakes."""
    mistakes: list[Mistake] = []
    front, text = _take_front(text.replace("\r\n", "\n"), mistakes)
    tokens = _parser().parse(text)
    elements = tuple(_read_tokens(tokens, text.split("\n"), mistakes))
    return Page(front, elements, tuple(mistakes))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _take_front(text: str, mistakes: list[Mistake]) -> tuple[dict[str, Any], str]:
    """The front matter's values, and the text with blank lines in its place."""
    front = _FRONT.match(text)
    if front is None:
        return {}, text
    rest = "\n" * front[0].count("\n") + text[front.end() :]
    try:
        values = yaml.safe_load(front["text"] or "")
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0)
        mistakes.append(Mistake(line + 2, "the front matter is no YAML", getattr(error, "problem", None) or ""))
        return {}, rest
    return values if isinstance(values, dict) else {}, rest


def _read_tokens(tokens: Sequence[Token], lines: Sequence[str], mistakes: list[Mistake]) -> Iterator[Element]:
    for token, following in zip(tokens, [*tokens, None][1:], strict=True):
        if token.map is None:
            continue
        line = token.map[0] + 1
        if token.type == "heading_open":
            yield Heading(line, int(token.tag[1:]), _plain_text(following))
        elif token.type == "hr":
            yield Rule(line)
        elif token.type == "code_block":
            yield Indented(line)
        elif token.type == "fence":
            yield Fence(line, (token.info.split() or [""])[0], token.content, _is_closed(token, lines))
        elif token.type == "html_block":
            yield from _read_html(token.content, line, mistakes)
        elif token.type == "paragraph_open":
            yield Prose(line)


def _plain_text(inline: Token | None) -> str:
    """A heading's words."""
    parts = (inline.children or []) if inline is not None else []
    return "".join(part.content or " " * (part.type == "softbreak") for part in parts).strip()


def _is_closed(fence: Token, lines: Sequence[str]) -> bool:
    """Whether the fence's last line ends it: CommonMark lets one without end go on to the end of its container."""
    assert fence.map is not None
    first, end = fence.map
    last = lines[end - 1].strip().lstrip("> ") if end - 1 > first else ""
    return bool(last) and set(last) == {fence.markup[0]} and len(last) >= len(fence.markup)


def _read_html(html: str, line: int, mistakes: list[Mistake]) -> Iterator[Element]:
    """Comments that stand for themselves; other HTML is prose."""
    at = 0
    while comment := _COMMENT.match(html, at):
        before = html[: comment.start("text")]
        text = comment["text"]
        skipped = len(text) - len(text.lstrip())
        yield Comment(line + before.count("\n") + text[:skipped].count("\n"), text.strip())
        at = comment.end()
    if html[at:].strip():
        if html[at:].lstrip().startswith("<!--"):
            where = line + html[:at].count("\n")
            mistakes.append(Mistake(where, "the comment has no end", "it ends with -->"))
        yield Prose(line)
