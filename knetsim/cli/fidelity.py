"""`knetsim fidelity`: what is real here, what is embedded or simplified, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from knetsim.cli.fidelity_page import build_page
from knetsim.cli.terminal import Cell, Line, Output, Row, Style, Table, print_json, print_parts
from knetsim.errors import KnetsimError
from knetsim.fidelity import PARTS, Part, Reality, resolve
from knetsim.status import Status

_STYLES: dict[Reality, Style] = {"real": "good", "embedded": "", "simplified": "warn", "absent": "label"}


def fidelity(status: Status | None, output: Output = "table", file: IO[str] | None = None) -> None:
    """Print every part; those of the running simulation when its `status` is given."""
    parts = resolve(status)
    if output == "json":
        simulation = status["name"] if status else None
        print_json({"simulation": simulation, "parts": [asdict(part) for part in parts]}, file)
    else:
        print_parts(build_fidelity(parts, status["name"] if status else None), file)


def write_page(path: Path) -> None:
    """Write every part as a page. KnetsimError when the file cannot be written."""
    try:
        path.write_text(build_page(PARTS))
    except OSError as error:
        raise KnetsimError("the page cannot be written", str(path), error.strerror or str(error)) from error


def build_fidelity(parts: Sequence[Part], simulation: str | None) -> list[Table | Line]:
    """The lines and the table that show `parts`; the column WHERE only with a simulation."""
    rows: list[Row] = []
    for part in parts:
        where = [Cell(part.where or ("" if part.reality == "absent" else "all"))] if simulation else []
        reality = Cell(part.reality, _STYLES[part.reality])
        rows.append([Cell(part.name, "head"), reality, part.variant, *where, part.differs])
    headers = ("PART", "REALITY", "RUNS", *(("WHERE",) if simulation else ()), "WHAT DIFFERS")
    title = f"simulation {simulation}" if simulation else "what simulations are made of; while one runs: what it uses"
    return [
        Line([Cell(title, "label")]),
        Line(),
        Table(headers, rows, wraps=("WHAT DIFFERS", "WHERE")),
    ]
