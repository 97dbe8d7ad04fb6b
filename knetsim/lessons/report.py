"""What differs, for people: where it is, what is wrong, and expected and seen side by side; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knetsim.lessons.block import Block
from knetsim.lessons.lesson import Lesson
from knetsim.lessons.player import Difference, Outcome

#: of longer output the beginning and the end are shown
_LINES_MAX = 40
_BETWEEN = " │ "


def explain_place(lesson: Lesson, block: Block, line: int) -> str:
    """`presentation.md:412: slide 37, Pod to pod`."""
    slide = f"slide {block.slide}" if block.slide else ""
    return ": ".join(filter(None, [f"{lesson.file}:{line}", ", ".join(filter(None, [slide, block.title]))]))


def build_report(lesson: Lesson, outcome: Outcome, width: int) -> list[str]:
    """The lines of one difference."""
    block, difference = outcome.block, outcome.difference
    if difference is None:
        return [f"{explain_place(lesson, block, block.line)}: not run: {outcome.missing}"] if outcome.missing else []
    head = f"{explain_place(lesson, block, difference.line)}: {difference.typed.strip()}"
    return [head, *(f"  {what}" for what in difference.what), *_build_sides(difference, width - 2)]


def _build_sides(difference: Difference, width: int) -> list[str]:
    if not difference.expected and not difference.seen:
        return []
    seen = _shorten(difference.seen.split("\n")) if difference.seen else ["(nothing)"]
    expected = list(difference.expected) or ["(success)"]
    return [f"  {line}".rstrip() for line in lay_side_by_side(["expected", *expected], ["seen", *seen], width)]


def _shorten(lines: Sequence[str]) -> list[str]:
    if len(lines) <= _LINES_MAX:
        return list(lines)
    half = _LINES_MAX // 2
    return [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]


def lay_side_by_side(left: Sequence[str], right: Sequence[str], width: int) -> list[str]:
    """Two columns of text, the left one no wider than it needs to be; lines that are too long go on below."""
    widest = max((len(line) for line in left), default=0)
    first = max(8, min(widest, (width - len(_BETWEEN)) // 2))
    second = max(8, width - len(_BETWEEN) - first)
    ours = [part for line in left for part in _fold(line, first)]
    theirs = [part for line in right for part in _fold(line, second)]
    height = max(len(ours), len(theirs))
    ours += [""] * (height - len(ours))
    theirs += [""] * (height - len(theirs))
    return [f"{a:{first}}{_BETWEEN}{b}".rstrip() for a, b in zip(ours, theirs, strict=True)]


def _fold(line: str, width: int) -> list[str]:
    text = line.expandtabs()
    return [text[start : start + width] for start in range(0, len(text), width)] or [""]


def build_summary(lesson: Lesson, outcomes: Sequence[Outcome], seconds: float) -> str:
    """A line about a page that was run."""
    good = sum(outcome.is_good for outcome in outcomes)
    shown = f"; {lesson.only_shown} only shown" if lesson.only_shown else ""
    return f"{lesson.file}: {good} of {len(outcomes)} blocks as expected in {seconds:.0f} s{shown}"


def outcome_to_json(lesson: Lesson, outcome: Outcome) -> dict[str, Any]:
    """For programs."""
    block, difference = outcome.block, outcome.difference
    return {
        "file": lesson.file,
        "line": difference.line if difference else block.line,
        "slide": block.slide or None,
        "chapter": str(block.chapter) or None,
        "kind": block.kind,
        "place": block.place or None,
        "seconds": round(outcome.seconds, 2),
        "good": outcome.is_good,
        "typed": [step.text for step in block.steps],
        "output": outcome.output,
        "missing": outcome.missing,
        "differs": list(difference.what) if difference else [],
        "expected": list(difference.expected) if difference else [],
        "seen": difference.seen if difference else "",
    }
