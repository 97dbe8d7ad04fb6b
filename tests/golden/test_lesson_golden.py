"""What authors of pages see: every mistake of a page at once, and differences side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from knetsim.cli.lesson import read_lessons
from knetsim.errors import ScenarioError
from knetsim.lessons.checks import Checks, Pattern
from knetsim.lessons.lesson import parse_lesson
from knetsim.lessons.player import Difference, Outcome
from knetsim.lessons.report import build_report, build_summary

_HERE = Path(__file__).parent
_PAGES = sorted((_HERE / "lesson_errors").glob("*.md"))
DECK = """\
---
marp: true
---

# Pod to pod

---

## Across workers

<!-- run: mininet | expect: 0% packet loss -->
```console
mininet> C0w1 ping -c 2 C0w2
```
"""


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_mistakes(page: Path, golden: Callable[[Path, str], None]) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_lessons([page], None)
    text = "".join(f"{problem}\n" for problem in caught.value.problems).replace(f"{page.parent}/", "")
    golden(page.with_suffix(".txt"), text)


def test_there_are_cases() -> None:
    assert len(_PAGES) >= 8


def test_report(golden: Callable[[Path, str], None]) -> None:
    lesson = parse_lesson(DECK, "presentation.md")
    (block,) = lesson.blocks
    checks = Checks(expect=(Pattern("0% packet loss", 11),))
    seen = "PING 10.1.1.2 (10.1.1.2) 56(84) bytes of data.\n\n--- 10.1.1.2 ping statistics ---\n"
    seen += "2 packets transmitted, 0 received, 100% packet loss, time 1013ms"
    what = tuple(checks.explain(seen, 1))
    difference = Difference(13, what, tuple(checks.describe()), seen, "mininet> C0w1 ping -c 2 C0w2")
    long = Difference(13, ("it printed something else",), ("one",), "\n".join(map(str, range(100))), "$ seq 0 99")
    outcomes = [
        Outcome(block, 1.0, seen, difference),
        Outcome(block, 1.0, difference=long),
        Outcome(block, 0.0, missing="no simulation runs"),
        Outcome(block, 1.0),
    ]
    lines = [line for outcome in outcomes for line in [*build_report(lesson, outcome, 80), ""]]
    golden(_HERE / "lesson_reports" / "report.txt", "\n".join([*lines, build_summary(lesson, outcomes, 4.0), ""]))
