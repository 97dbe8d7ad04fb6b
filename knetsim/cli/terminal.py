"""Text on a terminal, or into a pipe: tables, lines, JSON, colours.

On a terminal: colours (unless NO_COLOR is set), and tables that fit its width. Into a pipe: plain text, columns as wide
as their content, nothing wrapped or cut, so that grep and awk work. Rich is imported when a table is drawn and not
before: `knetsim version` and every error do without it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

Output = Literal["table", "wide", "json"]
OUTPUTS: tuple[Output, ...] = ("table", "wide", "json")
Style = Literal["", "good", "bad", "warn", "label", "head"]

_UNLIMITED = 100_000
_RICH_STYLES: dict[Style, str] = {
    "": "", "good": "green", "bad": "bold red", "warn": "yellow", "label": "dim", "head": "bold"
}  # fmt: skip
_ANSI = {"": "0", "good": "32", "bad": "1;31", "warn": "33", "label": "2", "head": "1"}
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def ensure_standard_files() -> None:
    """Open what the caller closed (`knetsim ls >&-`): else a pipe or a socket of ours would get number 0, 1 or 2."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def is_terminal(file: IO[str]) -> bool:
    """Whether a terminal is there that can move its cursor."""
    return file.isatty() and os.environ.get("TERM") != "dumb"


def has_color(file: IO[str]) -> bool:
    """Whether colours are wanted there: a terminal, and no NO_COLOR (no-color.org)."""
    return is_terminal(file) and not os.environ.get("NO_COLOR")


def paint(text: str, style: Style, color: bool) -> str:
    """`text` in a style, when `color` is set."""
    return f"\x1b[{_ANSI[style]}m{text}\x1b[0m" if color and text else text


def strip_controls(text: str) -> str:
    """Without the escape sequences and control characters that a program's output may hold."""
    return _CONTROLS.sub("", text)


def print_json(value: Any, file: IO[str] | None = None) -> None:
    """`value` as indented JSON; never wrapped, never coloured."""
    print(json.dumps(value, indent=2, ensure_ascii=False), file=file or sys.stdout)


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in a table, or a piece of a line, in a style. An empty one stays empty, where plain text becomes `-`."""

    text: str
    style: Style = ""


Row = Sequence[str | int | Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headers. The columns named in `wraps` may take several lines, those in `numbers` are flush right."""

    headers: Sequence[str]
    rows: Sequence[Row]
    wraps: Sequence[str] = ()
    numbers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text made of cells, put together without spaces; an empty one is a blank line."""

    cells: Sequence[str | Cell] = ()


def print_parts(parts: Iterable[Table | Line], file: IO[str] | None = None, width: int | None = None) -> None:
    """Draw tables and lines on `file`; `width` is the terminal's, and without limit where there is none."""
    file = file or sys.stdout
    console = _console(file, width)
    with console.capture() as capture:
        for part in parts:
            console.print(_rich_table(part) if isinstance(part, Table) else _rich_line(part))
    text = "\n".join(line.rstrip() for line in capture.get().split("\n"))
    file.write(text)
    file.flush()


def _console(file: IO[str], width: int | None) -> Console:
    from rich.console import Console

    if width is None and not file.isatty():
        width = _UNLIMITED
    return Console(
        file=file,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        color_system="auto" if has_color(file) else None,
    )


def _rich_cell(cell: str | int | Cell) -> Any:
    from rich.text import Text

    if isinstance(cell, Cell):
        return Text(strip_controls(cell.text), style=_RICH_STYLES[cell.style])
    return Text(strip_controls(str(cell)) or "-")


def _rich_line(line: Line) -> Any:
    from rich.text import Text

    text = Text()
    for cell in line.cells:
        if isinstance(cell, Cell):
            text.append(cell.text, style=_RICH_STYLES[cell.style])
        else:
            text.append(cell)
    return text


def _rich_table(table: Table) -> Any:
    from rich.table import Table as RichTable

    drawn = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in table.headers:
        side: Literal["left", "right"] = "right" if header in table.numbers else "left"
        drawn.add_column(header, justify=side, no_wrap=header not in table.wraps, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_rich_cell(cell) for cell in row))
    return drawn
