"""Draws a recorded terminal session, `session.cast` (asciicast v2), as a moving picture, `session.svg`.

    .venv/bin/python docs/recording/draw.py [FILE.cast]

The picture loads nothing and has a background of its own, so it can be read on a white and on a dark page. Who wants
less motion, and a program that does not move pictures, sees the last screen. It knows what `record.py` writes: lines
that are printed one below the other, in a few styles; anything else that a terminal can be told is an error.

How it moves: each piece of text is hidden until its time comes, and all lines move up by one when the screen is full.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

FOLDER = Path(__file__).parent
#: pixels: size of the letters, of a character, of a line, around the screen, above it
SIZE, WIDE, HIGH, EDGE, TITLE = 14.0, 8.4, 19.0, 14.0, 34.0
#: seconds for which the last screen stays, before all begins again
REST = 8.0
STYLES = {"0": "", "1": "c", "2": "r", "1;32": "p"}
STYLE_SHEET = """\
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;\
fill:#cdd6e0;white-space:pre}
.c{fill:#fff;font-weight:bold}.r{fill:#98a5b3}.p{fill:#7ee787;font-weight:bold}.t{fill:#98a5b3;font-size:13px}"""
FRAME, PAPER, BAR = "#5b6876", "#10161d", "#222b36"
_TOKENS = re.compile(r"\x1b\[([0-9;]*)m|(\r\n)|([^\x00-\x1f\x7f]+)|(.)", re.DOTALL)


class CastError(Exception):
    """The recording holds what cannot be drawn."""


class Piece(NamedTuple):
    """A text that appears at once: when, in which line from the first on, at which column, in which style."""

    when: float
    line: int
    column: int
    style: str
    text: str


class Cast(NamedTuple):
    """A recording as it will be seen; `lines` is when each line is begun."""

    width: int
    height: int
    title: str
    pieces: tuple[Piece, ...]
    lines: tuple[float, ...]
    end: float


def read(text: str) -> Cast:
    """A recording. CastError."""
    first, *rest = text.splitlines()
    header = json.loads(first)
    pieces: list[Piece] = []
    lines, column, style, when = [0.0], 0, "", 0.0
    for event in rest:
        when, _, data = json.loads(event)
        for code, is_end, shown, other in _TOKENS.findall(data):
            if other or (code and code not in STYLES):
                raise CastError(f"at {when} s: {data!r} is more than lines of text")
            if is_end:
                lines.append(when)
                column = 0
            elif shown:
                pieces.append(Piece(when, len(lines) - 1, column, style, shown))
                column += len(shown)
                if column > header["width"]:
                    raise CastError(f"at {when} s: a line is wider than {header['width']} columns: {shown}")
            else:
                style = STYLES[code or "0"]
    return Cast(header["width"], header["height"], header["title"], tuple(pieces), tuple(lines), when)


def draw(cast: Cast) -> str:
    """The text of the SVG file; pure."""
    inner_width, inner_height = cast.width * WIDE, cast.height * HIGH
    width, height = inner_width + 2 * EDGE, inner_height + TITLE + EDGE
    size, seconds = f'width="{width:g}" height="{height:g}"', cast.end + REST
    shown = [piece for piece in cast.pieces if piece.text.strip()]
    times = {when: f"k{number}" for number, when in enumerate(sorted({piece.when for piece in shown}))}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {size} role="img">',
        f"<title>{escape(cast.title)}</title>",
        f"<style>\n{STYLE_SHEET}",
        *(f".{name}{{animation:{name} {seconds:g}s step-end infinite}}" for name in [*times.values(), "s"]),
        *(f"@keyframes {name}{{0%{{visibility:hidden}}{_share(when, seconds)}{{visibility:visible}}}}"
          for when, name in times.items()),
        f"@keyframes s{{{''.join(_moves(cast, seconds))}}}",
        "@media (prefers-reduced-motion:reduce){*{animation:none!important}}",
        "</style>",
        f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="9" fill="{PAPER}" stroke="{FRAME}"/>',
        f'<path d="M1 {TITLE - 8:g}V10a9 9 0 0 1 9-9H{width - 10:g}a9 9 0 0 1 9 9V{TITLE - 8:g}z" fill="{BAR}"/>',
        *(f'<circle cx="{x}" cy="13" r="5" fill="{FRAME}"/>' for x in (16, 33, 50)),
        f'<text class="t" x="{width / 2:g}" y="18" text-anchor="middle">{escape(cast.title)}</text>',
        f'<svg x="{EDGE:g}" y="{TITLE:g}" width="{inner_width:g}" height="{inner_height:g}">',
        f'<g class="s" transform="translate(0,{-HIGH * _hidden_lines(cast, len(cast.lines)):g})">',
        *(_draw_piece(piece, times[piece.when]) for piece in shown),
        "</g></svg></svg>",
        "",
    ]  # fmt: skip
    return "\n".join(parts)


def _draw_piece(piece: Piece, name: str) -> str:
    text = piece.text.rstrip()
    indent = len(text) - len(text.lstrip())
    text = text.strip()
    return (
        f'<text class="{" ".join(filter(None, [piece.style, name]))}" x="{(piece.column + indent) * WIDE:g}" '
        f'y="{piece.line * HIGH + SIZE:g}" textLength="{len(text) * WIDE:g}" lengthAdjust="spacingAndGlyphs" '
        f'xml:space="preserve">{escape(text)}</text>'
    )


def _moves(cast: Cast, seconds: float) -> Iterator[str]:
    """How far up all lines are, from when on; of lines that come at the same time the last counts."""
    moves = {when: _hidden_lines(cast, number) for number, when in enumerate(cast.lines, 1)}
    for when, lines in moves.items():
        yield f"{_share(when, seconds)}{{transform:translate(0,{-HIGH * lines:g}px)}}"


def _hidden_lines(cast: Cast, count: int) -> int:
    """How many of so many lines have left the screen."""
    return max(0, count - cast.height)


def _share(when: float, seconds: float) -> str:
    return f"{100 * when / seconds:.2f}%"


def main(arguments: Sequence[str]) -> int:
    """Write the pictures."""
    for path in map(Path, arguments) if arguments else [FOLDER / "session.cast"]:
        try:
            path.with_suffix(".svg").write_text(draw(read(path.read_text())))
        except CastError as error:
            sys.stderr.write(f"{path}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
