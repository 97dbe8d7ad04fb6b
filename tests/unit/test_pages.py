"""Every page of this repository: its blocks say what they are, and no reader sees how they say it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from knetsim.cli.lesson import read_lessons
from knetsim.lessons.remark import KEYS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "bench").glob("*.md")])
_HIDDEN = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_its_blocks_say_what_they_are(page: Path) -> None:
    (lesson,) = read_lessons([page], None)
    assert lesson.chapters


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_nobody_sees_how_they_say_it(page: Path) -> None:
    """As forges show it: what is left of the HTML without comments and marks."""
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(page.read_text())
    shown = re.sub(r"<(pre|code)\b.*?</\1>", "", html, flags=re.DOTALL)
    text = _HIDDEN.sub("", shown)
    said = [line for line in text.splitlines() if re.match(rf"\s*(<!--|({'|'.join(KEYS)}):\s)", line)]
    assert not said


def test_the_readme_is_run() -> None:
    (readme,) = read_lessons([ROOT / "README.md"], None)
    assert ROOT / "README.md" in PAGES
    assert len(readme.blocks) >= 15
