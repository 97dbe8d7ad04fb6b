"""A page as a lesson: its chapters, and the blocks that are run, in order; every mistake of the page at once.

What a page says of its blocks stands in `remark.py`. A chapter begins at every heading of the first level; on a page
that has only one of these, its title, at every heading of the second. The slides of a Marp deck end at `---`, and
before headings where its front matter says so (`headingDivider`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knetsim.errors import NotFound, Problem, ScenarioError
from knetsim.lessons.block import FRONT, Block, Chapter, read_number
from knetsim.lessons.markdown import Element, Heading, Rule, read_page
from knetsim.lessons.reading import Reading, Where
from knetsim.lessons.remark import EXAMPLES, Mistake

DEFAULT_SCENARIO = "default"
#: what a page says that needs no simulation
NO_SCENARIO = "none"


@dataclass(frozen=True, slots=True)
class Lesson:
    """A page that was read. `only_shown` counts blocks that are not run."""

    file: str
    scenario: str
    options: str
    chapters: tuple[Chapter, ...]
    blocks: tuple[Block, ...]
    slides: int
    only_shown: int

    @property
    def starts_itself(self) -> bool:
        """Whether one of its blocks starts the simulation."""
        return any(block.kind == "start" for block in self.blocks)

    def find_chapter(self, word: str) -> Chapter:
        """A chapter by the number that its title has, or counted where no title has one, or by words of its title.
        NotFound."""
        wanted = word.strip().lower()
        tests: tuple[Callable[[Chapter], bool], ...] = (
            lambda chapter: chapter.own_number == wanted,
            lambda chapter: str(chapter.number) == wanted and chapter.is_counted,
            lambda chapter: wanted in chapter.title.lower() and not wanted.isdigit(),
        )
        for test in tests if wanted else ():
            if found := [chapter for chapter in self.chapters if test(chapter)]:
                return found[0]
        known = "; ".join(map(str, self.chapters))
        raise NotFound(f"no chapter '{word}' in {self.file}", hint=f"there are: {known}" if known else "it has none")


def read_lesson(path: Path) -> Lesson:
    """The lesson in the file `path`. ScenarioError with every mistake of the page."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors of Windows begin a file with a mark
    except FileNotFoundError:
        hint = "a page is a Markdown file, as README.md is"
        raise ScenarioError([Problem(str(path), 0, 0, "there is no such file", hint)]) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ScenarioError([Problem(str(path), 0, 0, f"cannot be read: {why}")]) from error
    return parse_lesson(text, str(path))


def parse_lesson(text: str, file: str) -> Lesson:
    """As `read_lesson`, of a page's text."""
    page = read_page(text)
    reading = Reading([*page.mistakes, *_find_front_mistakes(page.front)])
    places = list(_find_places(page.elements, page.front))
    for element, where in zip(page.elements, places, strict=True):
        reading.take(element, where)
    reading.finish()
    if reading.mistakes:
        raise ScenarioError([Problem(file, one.line, 1, one.what, one.hint) for one in reading.mistakes])
    scenario, options = reading.scenario or (str(page.front.get(key) or "") for key in ("scenario", "options"))
    return Lesson(
        file=file,
        scenario=scenario or DEFAULT_SCENARIO,
        options=options,
        chapters=tuple(dict.fromkeys(where.chapter for where in places if where.chapter is not FRONT)),
        blocks=tuple(reading.blocks),
        slides=max((where.slide for where in places), default=0),
        only_shown=reading.only_shown,
    )


def _find_front_mistakes(front: dict[str, Any]) -> Iterator[Mistake]:
    for key in ("scenario", "options"):
        if isinstance(front.get(key), (list, dict)):
            yield Mistake(1, f"'{key}' of the front matter is no text", f"as in: {EXAMPLES[key]}")


def _find_places(elements: Sequence[Element], front: dict[str, Any]) -> Iterator[Where]:
    """For each element the chapter, the slide and the heading that it stands under."""
    headings = [element for element in elements if isinstance(element, Heading)]
    chapter_level = 1 if sum(heading.level == 1 for heading in headings) > 1 else 2
    is_counted = not any(heading.level == chapter_level and read_number(heading.text) for heading in headings)
    is_deck, dividers = bool(front.get("marp")), _read_dividers(front)
    chapter, slide, title, is_empty = FRONT, int(is_deck), "", True
    for element in elements:
        if isinstance(element, Rule) and is_deck:
            slide, is_empty = slide + 1, True
        elif isinstance(element, Heading):
            if is_deck and element.level in dividers and not is_empty:
                slide += 1
            title = element.text
            if element.level == chapter_level:
                chapter = Chapter(chapter.number + 1, title, element.line, is_counted)
        is_empty = is_empty and isinstance(element, Rule)
        yield Where(chapter, slide, title)


def _read_dividers(front: dict[str, Any]) -> frozenset[int]:
    """The levels of headings before which Marp begins a slide."""
    said = front.get("headingDivider")
    if isinstance(said, int):
        return frozenset(range(1, said + 1))
    return frozenset(said) if isinstance(said, list) else frozenset()
