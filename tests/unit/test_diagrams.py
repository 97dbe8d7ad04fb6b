"""The course's diagrams: the pictures are those of their sources, load nothing, and what does not fit is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.scripts import load_script

FOLDER = Path(__file__).parents[2] / "docs" / "diagrams"
SOURCES = sorted(FOLDER.glob("*.yaml"))


draw = load_script(FOLDER / "draw.py")


def test_there_are_the_diagrams_of_the_course():
    assert {path.stem for path in SOURCES} >= {
        "map", "pod-to-pod", "manifest", "service", "policy", "ingress", "skupper",
    }  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_picture_is_its_source_drawn(source: Path):
    assert source.with_suffix(".svg").read_text() == draw.draw(draw.read(source)), "run docs/diagrams/draw.py"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_picture_loads_nothing_and_has_a_background(source: Path):
    text = source.with_suffix(".svg").read_text()
    root = ElementTree.fromstring(text)
    assert not re.search(r"href|url\(|@import|<image|<script", text)
    background = root.find("{http://www.w3.org/2000/svg}rect")
    assert background is not None and float(background.attrib["width"]) == float(root.attrib["width"]) - 1


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_text_leaves_the_picture(source: Path):
    root = ElementTree.fromstring(source.with_suffix(".svg").read_text())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        length, x = float(text.attrib.get("textLength", 0)), float(text.attrib["x"])
        left = x - length * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
        assert left >= 4 and left + length <= width - 4, text.text
        assert 10 <= float(text.attrib["y"]) <= height - 4, text.text


def _box(**changed: Any) -> dict[str, Any]:
    box = {"id": "a", "at": [10, 10], "size": [100, 40], "kind": "pod", "text": ["short"], **changed}
    return {"title": "t", "size": [200, 100], "boxes": [box]}


def test_box_that_fits_is_drawn():
    assert ">short</text>" in draw.draw(_box())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text": ["far too long for a box of this width"]}, "wide"),
        ({"text": ["one", "two", "three"]}, "high"),
        ({"at": [150, 10]}, "outside"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], words: str):
    with pytest.raises(draw.DrawingError, match=words):
        draw.draw(_box(**changed))


@pytest.mark.parametrize("end", ["b.top", "a", "a.middle"])
def test_link_to_nowhere_is_refused(end: str):
    drawing = {**_box(), "links": [{"from": "a.top", "to": end, "kind": "wire"}]}
    with pytest.raises(draw.DrawingError):
        draw.draw(drawing)
