"""Draws the diagrams of the course: each YAML file of this folder becomes the SVG file of the same name.

    .venv/bin/python docs/diagrams/draw.py [FILE.yaml]…      (all of them, when none is named)

A picture has a background of its own, so it can be read on paper, on a white and on a dark page; it loads nothing, and
no font decides where its text ends: every line of text says how wide it is, as Helvetica or Courier would have it.
What does not fit is an error: text wider than its box, a box outside of the picture.

A file holds `title`, `size` and these lists, which are drawn in this order; coordinates are pixels from the upper left:

    boxes:  {id: c1, at: [x, y], size: [w, h], kind: pod, text: [line, …]}    `label:` instead of `text:` stands on top
    links:  {from: c1.bottom, to: cni0.top, kind: packet, text: a word, step: 1, via: [[x, y], …], shift: [dx, dy]}
    notes:  {at: [x, y], text: [line, …], anchor: start|middle|end, step: 1}

An end of a link is a box and a side, and perhaps how far from the middle of that side it is: `c1.right+20`. A line of
text that begins with `*` is bold, one with a backtick is code, one with `_` is small. Same file, same picture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import yaml

FOLDER = Path(__file__).parent
#: kind of box → fill, border, dash
BOXES = {
    "cluster": ("#eef2f6", "#8a97a6", ""),
    "host": ("#ffffff", "#4a5a6a", ""),
    "pod": ("#dff2e1", "#2b7a3b", ""),
    "kernel": ("#fdebd3", "#b5651d", ""),
    "program": ("#e6e2f6", "#5b4a9c", ""),
    "store": ("#fff6c4", "#8f7a00", ""),
    "wire": ("#dde3ea", "#4a5a6a", ""),
    "words": ("#ffffff", "#8a97a6", "5 4"),
    "lost": ("#fbe3e3", "#b02a2a", ""),
}
#: kind of link → colour, width, dash, arrow heads at start and end
LINKS = {
    "wire": ("#4a5a6a", 2.0, "", (False, False)),
    "packet": ("#1257a8", 3.0, "", (False, True)),
    "answer": ("#1257a8", 2.0, "7 5", (False, True)),
    "watch": ("#5b4a9c", 2.0, "3 4", (False, True)),
    "write": ("#5b4a9c", 2.5, "", (False, True)),
    "both": ("#1257a8", 3.0, "", (True, True)),
    "lost": ("#b02a2a", 3.0, "2 4", (False, True)),
}
INK, SOFT, PAPER, FRAME = "#16202b", "#4a5a6a", "#fbfbf7", "#c9d0d8"
SANS, MONO = "Helvetica, Arial, 'Liberation Sans', sans-serif", "'Courier New', 'Liberation Mono', monospace"
LINE, PADDING = 1.3, 6
#: advance of the characters of Helvetica, in thousandths of the size, from the space on
_ADVANCES = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 278 "
    "584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 667 944 "
    "667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 556 333 500 "
    "278 556 500 722 500 500 500 334 260 334 584"
)
ADVANCES = dict(zip(map(chr, range(32, 127)), map(int, _ADVANCES.split()), strict=True))


class DrawingError(Exception):
    """The file asks for what cannot be drawn."""


class Point(NamedTuple):
    """Pixels from the upper left corner."""

    x: float
    y: float


class Words(NamedTuple):
    """A line of text and how it is set."""

    text: str
    size: float = 17
    bold: bool = False
    mono: bool = False
    soft: bool = False

    @property
    def width(self) -> float:
        """In pixels."""
        if self.mono:
            return 0.6 * self.size * len(self.text)
        wider = 1.06 if self.bold else 1.0
        return wider * self.size * sum(ADVANCES.get(char, 600) for char in self.text) / 1000


class Box(NamedTuple):
    """A rectangle with text."""

    id: str
    at: Point
    size: Point
    kind: str
    lines: tuple[Words, ...]
    is_labelled: bool

    def side(self, word: str) -> Point:
        """A point of its border: `right`, `bottom-30`."""
        for name in ("top", "bottom", "left", "right"):
            if word.startswith(name):
                shift = float(word.removeprefix(name) or 0)
                middle = Point(self.at.x + self.size.x / 2, self.at.y + self.size.y / 2)
                if name in ("top", "bottom"):
                    return Point(middle.x + shift, self.at.y + (self.size.y if name == "bottom" else 0))
                return Point(self.at.x + (self.size.x if name == "right" else 0), middle.y + shift)
        raise DrawingError(f"{self.id} has no side '{word}'")


def draw(drawing: Mapping[str, Any]) -> str:
    """A file's content as the text of an SVG file; pure. DrawingError."""
    width, height = drawing["size"]
    boxes = [read_box(entry) for entry in drawing.get("boxes", [])]
    for box in boxes:
        check_box(box, Point(width, height))
    known = {box.id: box for box in boxes}
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(drawing['title'])}</title>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10" fill="{PAPER}" stroke="{FRAME}"/>',
    ]
    for box in boxes:
        parts += draw_box(box)
    for entry in drawing.get("links", []):
        parts += draw_link(entry, known)
    for entry in drawing.get("notes", []):
        parts += draw_note(entry)
    return "\n".join([*parts, "</svg>", ""])


def read_words(text: str) -> Words:
    """A line with its marks."""
    if text.startswith("*"):
        return Words(text[1:], bold=True)
    if text.startswith("`"):
        return Words(text[1:], 16, mono=True)
    if text.startswith("_"):
        return Words(text[1:], 15, soft=True)
    return Words(text)


def read_box(entry: Mapping[str, Any]) -> Box:
    """A box of the file."""
    lines = entry.get("label", entry.get("text", []))
    lines = [lines] if isinstance(lines, str) else lines
    words = tuple(read_words(line) for line in lines)
    return Box(entry["id"], Point(*entry["at"]), Point(*entry["size"]), entry["kind"], words, "label" in entry)


def check_box(box: Box, size: Point) -> None:
    """DrawingError when it, or its text, does not fit."""
    if min(box.at) < 0 or box.at.x + box.size.x > size.x or box.at.y + box.size.y > size.y:
        raise DrawingError(f"box {box.id} is outside of the picture")
    room = Point(box.size.x - 2 * PADDING, box.size.y - PADDING)
    for words in box.lines:
        if words.width > room.x:
            raise DrawingError(f"box {box.id}: '{words.text}' is {words.width:.0f} wide, of {room.x:.0f}")
    needed = sum(words.size * LINE for words in box.lines)
    if needed > room.y:
        raise DrawingError(f"box {box.id}: its text is {needed:.0f} high, of {room.y:.0f}")


def draw_words(words: Words, at: Point, anchor: str) -> str:
    """One line of text, its foot at a point."""
    style = f'font-family="{MONO if words.mono else SANS}" font-size="{words.size:g}"'
    weight = ' font-weight="bold"' if words.bold else ""
    return (
        f'<text x="{at.x:.1f}" y="{at.y:.1f}" {style}{weight} fill="{SOFT if words.soft else INK}" '
        f'text-anchor="{anchor}" textLength="{words.width:.1f}" lengthAdjust="spacingAndGlyphs" '
        f'xml:space="preserve">{escape(words.text)}</text>'
    )


def draw_box(box: Box) -> Iterator[str]:
    """A box and its text: in its middle, or as a label in its upper left corner."""
    fill, border, dash = BOXES[box.kind]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    yield (
        f'<rect x="{box.at.x:g}" y="{box.at.y:g}" width="{box.size.x:g}" height="{box.size.y:g}" rx="7" fill="{fill}" '
        f'stroke="{border}" stroke-width="1.5"{dashes}/>'
    )
    height = sum(words.size * LINE for words in box.lines)
    y = box.at.y + (PADDING if box.is_labelled else (box.size.y - height) / 2)
    x = box.at.x + (PADDING + 4 if box.is_labelled else box.size.x / 2)
    for words in box.lines:
        y += words.size * LINE
        yield draw_words(words, Point(x, y - 0.3 * words.size), "start" if box.is_labelled else "middle")


def draw_link(entry: Mapping[str, Any], known: Mapping[str, Box]) -> Iterator[str]:
    """A line between two boxes, perhaps with corners, arrow heads, a number and a word at its middle."""
    colour, width, dash, heads = LINKS[entry["kind"]]
    corners = [Point(*via) for via in entry.get("via", [])]
    points = [find_end(entry["from"], known), *corners, find_end(entry["to"], known)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    path = " ".join(f"{point.x:g},{point.y:g}" for point in points)
    yield (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes} '
        'stroke-linejoin="round"/>'
    )
    if heads[0]:
        yield draw_head(points[1], points[0], colour)
    if heads[1]:
        yield draw_head(points[-2], points[-1], colour)
    middle = find_middle(points)
    shift = Point(*entry.get("shift", (0, 0)))
    if "text" in entry:
        yield from draw_lines(entry["text"], Point(middle.x + shift.x, middle.y + shift.y), "middle", halo=True)
    if "step" in entry:
        yield from draw_step(entry["step"], middle)


def find_end(word: str, known: Mapping[str, Box]) -> Point:
    """`c1.bottom+20` → a point. DrawingError."""
    name, dot, side = word.rpartition(".")
    if not dot or name not in known:
        raise DrawingError(f"'{word}' is no side of a box")
    return known[name].side(side)


def find_middle(points: Sequence[Point]) -> Point:
    """The middle of the longest piece of a line."""
    pieces = list(pairwise(points))
    a, b = max(pieces, key=lambda piece: abs(piece[1].x - piece[0].x) + abs(piece[1].y - piece[0].y))
    return Point((a.x + b.x) / 2, (a.y + b.y) / 2)


def draw_head(before: Point, tip: Point, colour: str) -> str:
    """An arrow head."""
    length = ((tip.x - before.x) ** 2 + (tip.y - before.y) ** 2) ** 0.5 or 1.0
    along = Point((tip.x - before.x) / length, (tip.y - before.y) / length)
    base = Point(tip.x - 12 * along.x, tip.y - 12 * along.y)
    left = Point(base.x - 6 * along.y, base.y + 6 * along.x)
    right = Point(base.x + 6 * along.y, base.y - 6 * along.x)
    path = " ".join(f"{one.x:.1f},{one.y:.1f}" for one in (tip, left, right))
    return f'<polygon points="{path}" fill="{colour}"/>'


def draw_step(number: Any, at: Point) -> Iterator[str]:
    """A number in a circle."""
    yield f'<circle cx="{at.x:g}" cy="{at.y:g}" r="14" fill="{INK}" stroke="{PAPER}" stroke-width="2"/>'
    yield (
        f'<text x="{at.x:g}" y="{at.y + 6:g}" font-family="{SANS}" font-size="17" font-weight="bold" fill="#ffffff" '
        f'text-anchor="middle">{number}</text>'
    )


def draw_lines(text: str | Sequence[str], at: Point, anchor: str, *, halo: bool = False) -> Iterator[str]:
    """Lines of text around a point; with a halo they can be read on a line."""
    lines = [read_words(line) for line in ([text] if isinstance(text, str) else text)]
    widest, height = max(line.width for line in lines), sum(line.size * LINE for line in lines)
    if halo:
        yield (
            f'<rect x="{at.x - widest / 2 - 4:.1f}" y="{at.y - height / 2 - 2:.1f}" width="{widest + 8:.1f}" '
            f'height="{height + 4:.1f}" rx="4" fill="{PAPER}" fill-opacity="0.93"/>'
        )
    y = at.y - height / 2 if halo else at.y
    for line in lines:
        y += line.size * LINE
        yield draw_words(line, Point(at.x, y - 0.3 * line.size), anchor)


def draw_note(entry: Mapping[str, Any]) -> Iterator[str]:
    """Text that stands by itself, with a number before it if there is one."""
    at = Point(*entry["at"])
    if "step" in entry:
        yield from draw_step(entry["step"], Point(at.x, at.y + 12))
        at = Point(at.x + 24, at.y)
    yield from draw_lines(entry["text"], at, entry.get("anchor", "start"))


def read(path: Path) -> Mapping[str, Any]:
    """A file of this folder."""
    drawing: Mapping[str, Any] = yaml.safe_load(path.read_text())
    return drawing


def main(arguments: Sequence[str]) -> int:
    """Write the pictures."""
    for path in map(Path, arguments) if arguments else sorted(FOLDER.glob("*.yaml")):
        try:
            path.with_suffix(".svg").write_text(draw(read(path)))
        except DrawingError as error:
            sys.stderr.write(f"{path}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
