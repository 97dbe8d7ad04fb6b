"""The recorded session: the picture is its recording drawn, that is of its page, what cannot be drawn is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from knetsim.lessons.lesson import read_lesson
from tests.scripts import load_script

FOLDER = Path(__file__).parents[2] / "docs" / "recording"
CAST = FOLDER / "session.cast"
SVG = "{http://www.w3.org/2000/svg}"


draw, record = load_script(FOLDER / "draw.py"), load_script(FOLDER / "record.py")


def cast(*events: tuple[float, str], width: int = 20, height: int = 3) -> Any:
    """A recording of that."""
    header = {"version": 2, "width": width, "height": height, "title": "<t>"}
    return draw.read("\n".join(map(json.dumps, [header, *([when, "o", text] for when, text in events)])))


def texts(picture: str) -> list[ElementTree.Element]:
    """The texts of the screen."""
    return [one for one in ElementTree.fromstring(picture).iter(f"{SVG}text") if "textLength" in one.attrib]


# --- what is in the repository


def test_picture_is_the_recording_drawn() -> None:
    assert (FOLDER / "session.svg").read_text() == draw.draw(draw.read(CAST.read_text())), "run docs/recording/draw.py"


def test_recording_has_the_commands_of_its_page_and_no_other() -> None:
    """Typed is what stands between a prompt and the end of its line."""
    printed = "".join(json.loads(line)[2] for line in CAST.read_text().splitlines()[1:])
    lines = [line for line in printed.split("\r\n") if line.startswith(record.PROMPT)]
    typed = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    blocks = [block for block in read_lesson(FOLDER / "session.md").blocks if not block.hidden]
    assert typed == [*(f"{block.prompt}{step.text}" for block in blocks for step in block.steps), "$ "]


def test_picture_loads_nothing_and_no_text_leaves_it() -> None:
    picture = (FOLDER / "session.svg").read_text()
    root = ElementTree.fromstring(picture)
    assert not re.search(r"href|url\(|@import|<image|<script", picture)
    screen = root.find(f"{SVG}svg")
    assert screen is not None
    ends = [float(text.attrib["x"]) + float(text.attrib["textLength"]) for text in texts(picture)]
    assert max(ends) <= float(screen.attrib["width"])
    assert float(screen.attrib["width"]) < float(root.attrib["width"])


# --- drawing


def test_texts_have_their_line_column_style_and_time() -> None:
    picture = draw.draw(cast((0.0, "\x1b[1;32m$ \x1b[0m"), (0.5, "\x1b[1ma <b>\x1b[0m"), (1.0, "\r\n  c\r\n")))
    first, second, third = texts(picture)
    assert [one.text for one in (first, second, third)] == ["$", "a <b>", "c"]
    assert (first.attrib["class"], second.attrib["class"], third.attrib["class"]) == ("p k0", "c k1", "k2")
    assert float(second.attrib["x"]) == 2 * draw.WIDE == float(third.attrib["x"])
    assert float(third.attrib["y"]) - float(second.attrib["y"]) == draw.HIGH
    share = re.search(r"@keyframes k1\{0%\{visibility:hidden\}([\d.]+)%\{visibility:visible\}\}", picture)
    assert share is not None and float(share[1]) == pytest.approx(100 * 0.5 / (1.0 + draw.REST), abs=0.01)


def test_a_full_screen_moves_up_and_the_last_one_stays_where_nothing_moves() -> None:
    picture = draw.draw(cast((0.0, "1\r\n2\r\n"), (1.0, "3\r\n"), (2.0, "4\r\n5")))
    up = re.findall(r"translate\(0,-?([\d.]+)px\)", picture)
    assert [float(one) / draw.HIGH for one in up] == [0, 1, 2]
    assert f'<g class="s" transform="translate(0,{-2 * draw.HIGH:g})">' in picture
    assert "prefers-reduced-motion" in picture


@pytest.mark.parametrize("text", ["\x1b[31mred", "\x1b[2K", "a\rb", "a\tb", "\x07"])
def test_what_is_more_than_lines_of_text_is_refused(text: str) -> None:
    with pytest.raises(draw.CastError, match="more than lines of text"):
        cast((0.0, text))


def test_a_line_that_is_too_wide_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(draw.CastError, match="wider than 20 columns"):
        cast((0.0, "0123456789"), (0.1, "0123456789x"))
    file = tmp_path / "wide.cast"
    file.write_text('{"version": 2, "width": 1, "height": 1, "title": ""}\n[0, "o", "ab"]\n')
    assert draw.main([str(file)]) == 1
    assert "wide.cast: at 0 s: a line is wider" in capsys.readouterr().err


# --- recording


def test_typed_words_come_one_after_the_other_and_remarks_look_like_remarks() -> None:
    made = record.Cast()
    made.type("$ ", "ls  -l   # all of it")
    shown = [text for _, text in made.events]
    assert [re.sub(r"\x1b\[[0-9;]*m", "", text) for text in shown] == [
        "$ ", "ls  ", "-l   ", "# ", "all ", "of ", "it", "\r\n",
    ]  # fmt: skip
    assert shown[1].startswith(record.COMMAND) and all(text.startswith(record.REMARK) for text in shown[3:7])
    times = [when for when, _ in made.events]
    assert times == sorted(times) and len(set(times)) == len(times)


def test_lines_come_when_they_came_but_nobody_waits_long_and_long_ones_are_folded() -> None:
    made = record.Cast()
    (block,) = [one for one in read_lesson(FOLDER / "session.md").blocks if one.kind == "start"]
    heard = [(100.5, "at once"), (200.0, "much later"), (200.1, "x" * (record.COLUMNS + 1)), (200.2, "")]
    record.show_block(made, block, 100.0, heard)
    printed = made.events[-5:]
    assert [text for _, text in printed] == [
        "at once\r\n", "much later\r\n", "x" * record.COLUMNS + "\r\n", "x\r\n", "\r\n",
    ]  # fmt: skip
    waits = [after - before for (before, _), (after, _) in zip(made.events[-6:-1], printed, strict=True)]
    assert waits == pytest.approx([0.5, record.PAUSE, 0.1, 0.0, 0.1], abs=0.011)
    assert draw.read(made.write()).end == made.events[-1][0]


def test_a_command_wider_than_the_screen_is_told_before_anything_starts(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# T\n\n<!-- run: mininet -->\n```console\nmininet> {'x' * record.COLUMNS}\n```\n")
    with pytest.raises(record.KnetsimError, match="the command is too long"):
        record.record(page)
