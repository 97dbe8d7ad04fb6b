"""Every page of this repository: its blocks say what they are, and no reader sees how they say it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

from knetsim.cli.bench import bench
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
    """As forges show it: what is left of the HTML without comments and marks. A deck's front matter is Marp's."""
    body = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(), flags=re.DOTALL)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    shown = re.sub(r"<(pre|code)\b.*?</\1>", "", html, flags=re.DOTALL)
    text = _HIDDEN.sub("", shown)
    said = [line for line in text.splitlines() if re.match(rf"\s*(<!--|({'|'.join(KEYS)}):\s)", line)]
    assert not said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_its_links_and_pictures_lead_to_files(page: Path) -> None:
    text = re.sub(r"^````?.*?^````?$|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    files = [target for target in targets if target and not target.startswith(("http://", "https://"))]
    assert [file for file in files if not (page.parent / file).exists()] == []


def _rows(title: str) -> list[str]:
    """The rows of the table under one of the README's headings."""
    section = (ROOT / "README.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_what_the_readme_says_of_where_things_are_is_true() -> None:
    rows = _rows("Where is …?")
    assert len(rows) >= 25
    for row in rows:
        paths = re.findall(r"`(\w[\w./-]*)`", row.split("|")[2]) + re.findall(r"\]\(([^)]+)\)", row.split("|")[2])
        assert paths, row
        assert [path for path in paths if not (ROOT / path).exists()] == [], row


def test_every_figure_of_the_readme_names_the_measurement_that_yields_it() -> None:
    (what,) = [param for param in bench.params if param.name == "what"]
    assert isinstance(what.type, click.Choice)
    rows = _rows("Figures")
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"`(\w+)`", row.split("|")[-2])
        assert named, row
        assert set(named) <= set(what.type.choices), row


def test_the_readme_is_run() -> None:
    (readme,) = read_lessons([ROOT / "README.md"], None)
    assert ROOT / "README.md" in PAGES
    assert len(readme.blocks) >= 15
