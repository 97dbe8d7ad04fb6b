"""Reads tables of images, the data in `docs/images.md` and in files of users; pure.

Every Markdown table whose first column is called `image` counts, with the columns that it has; the rest of the file is
prose. What a column holds is written down in `docs/images.md`. All mistakes of a file are found at once, each with its
line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knetsim.errors import Problem, ScenarioError
from knetsim.names import did_you_mean, nearest_word
from knetsim.node.images.reference import normalise_name

#: whose files a container sees beside those of its image: the machine's, but of its programs only busybox's, or both;
#: `none`: no process, the pod's network is held by its sandbox
ROOTS = ("machine", "busybox", "both", "none")

_FENCE = "```"
_RULER = re.compile(r"\s*:?-+:?\s*")
_CODE = re.compile(r"`([^`]+)`")
_CELL_END = re.compile(r"(?<!\\)\|")
_NAME = re.compile(r"[\w./:*\[\]-]+", re.ASCII)
_TAG = re.compile(r"[\w.*-]+", re.ASCII)
_ENV_NAME = re.compile(r"[^=\s]+=.*", re.DOTALL)
_USER = re.compile(r"[\w.-]+(:[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The images that a row is for: a name in full, in which `*` stands for anything, and a tag likewise; an empty tag
    is any."""

    name: str
    tag: str

    @property
    def weight(self) -> tuple[bool, int]:
        """The more it says, the more it weighs."""
        return bool(self.tag), len(self.name.replace("*", "")) + len(self.tag.replace("*", ""))


@dataclass(frozen=True, slots=True)
class ShownProgram:
    """A program of this machine, and where the image has it; empty: where the machine has it. Without an `optional` one
    the image is what it is, too."""

    name: str
    path: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row: which images, and what a container of them is. `files` are directories, the first over the others."""

    patterns: tuple[Pattern, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    programs: tuple[ShownProgram, ...] = ()
    package: str = ""
    root: str = "machine"
    files: tuple[Path, ...] = ()
    user: str = ""
    workdir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    where: str = ""


class _Mistake(Exception):
    """What is wrong with a cell."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


def parse_table(text: str, file: str, files: Path) -> list[Row]:
    """The rows of a file called `file`, whose directories of files are below `files`; ScenarioError with all mistakes.

    A file without any table is a mistake: it was meant to have one.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    found = False
    for header_line, header, lines in _find_tables(text.splitlines()):
        found = True
        columns = _read_header(header, file, header_line, problems)
        rows += filter(None, (_read_row(line, number, columns, file, files, problems) for number, line in lines))
    if not found:
        hint = "begin one with the line `| image | entrypoint | command |` and, below it, `|---|---|---|`"
        problems.append(Problem(file, 0, 0, "there is no table of images", hint))
    if problems:
        raise ScenarioError(problems)
    return rows


def _find_tables(lines: list[str]) -> Iterator[tuple[int, list[str], list[tuple[int, str]]]]:
    """Every table of images: its header's line number, its header, and its numbered lines. Blocks of code hold none."""
    number, in_code = 0, False
    while number < len(lines) - 1:
        in_code ^= lines[number].lstrip().startswith(_FENCE)
        header = [] if in_code else _split_cells(lines[number])
        ruler = _split_cells(lines[number + 1])
        number += 1
        if not header or not ruler or not all(_RULER.fullmatch(cell) for cell in ruler):
            continue
        first = number + 1
        number = first
        while number < len(lines) and lines[number].lstrip().startswith("|"):
            number += 1
        if header[0].lower() == "image":
            yield first - 1, header, [(index + 1, lines[index]) for index in range(first, number)]


def _split_cells(line: str) -> list[str]:
    """The cells of a line of a table; none when it is no such line. `\\|` stands for `|`."""
    line = line.strip()
    if not line.startswith("|"):
        return []
    cells = _CELL_END.split(line)[1:]
    if cells and not cells[-1].strip():
        cells.pop()
    return [cell.strip().replace("\\|", "|") for cell in cells]


def _read_header(header: list[str], file: str, line: int, problems: list[Problem]) -> list[str]:
    columns = []
    for cell in header:
        column = cell.lower()
        if column not in _COLUMNS and column != "remarks":
            known = [*_COLUMNS, "remarks"]
            near = nearest_word(column, known)
            hint = f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
            problems.append(Problem(file, line, 1, f"unknown column '{cell}'", hint))
        elif column in columns:
            problems.append(Problem(file, line, 1, f"the column '{cell}' is there twice"))
        columns.append(column)
    return columns


def _read_row(
    line: str, number: int, columns: list[str], file: str, files: Path, problems: list[Problem]
) -> Row | None:
    """One row; None, and the mistakes added to `problems`, when there are any."""
    cells = _split_cells(line)
    before = len(problems)
    if len(cells) > len(columns):
        what = f"the row has {len(cells)} cells, the table {len(columns)} columns"
        problems.append(Problem(file, number, 1, what, r"write a | inside a cell as \|"))
    read: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=False):
        if column in _COLUMNS and (cell or column == "image"):
            name, reader = _COLUMNS[column]
            try:
                read[name] = reader(cell, files)
            except _Mistake as mistake:
                position = line.find(cell) + 1 if cell else 1
                problems.append(Problem(file, number, position, f"{column}: {mistake}", mistake.hint))
    if len(problems) > before:
        return None
    return Row(**read, where=f"{file}:{number}")


# --- cells


def _read_plain(cell: str) -> str:
    """A cell with one text, as code or not."""
    codes = _CODE.findall(cell)
    if len(codes) > 1:
        raise _Mistake("there are several texts where one is wanted")
    return codes[0].strip() if codes else cell


def _read_list(cell: str) -> list[str]:
    """A cell with several texts: each as code, or with commas or spaces between them."""
    return [code.strip() for code in _CODE.findall(cell)] or re.split(r"[,\s]+", cell.strip(", "))


def _read_patterns(cell: str, files: Path) -> tuple[Pattern, ...]:
    patterns = []
    for text in _read_list(cell):
        slash = text.rfind("/") + 1
        last, colon, tag = text[slash:].partition(":")
        name = text[:slash] + last
        if not _NAME.fullmatch(name) or (colon and not _TAG.fullmatch(tag)):
            raise _Mistake(f"'{text}' is no name of an image", "as in `nginx`, `nginx:1.*` or `registry.k8s.io/pause`")
        patterns.append(Pattern(name if name.startswith("*") else normalise_name(name), tag))
    return tuple(patterns)


def _read_words(cell: str, files: Path) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(_read_plain(cell)))
    except ValueError as error:
        raise _Mistake(f"these are no words of a command: {error}", "quote as for a shell") from error


def _read_programs(cell: str, files: Path) -> tuple[ShownProgram, ...]:
    programs = []
    for text in _read_list(cell):
        path, equals, name = text.removesuffix("?").rpartition("=")
        if not name or "/" in name or (equals and not path.startswith("/")):
            hint = "a program's name, `nginx`, or with the place where the image has it, `/agnhost=agnhost`"
            raise _Mistake(f"'{text}' is no program", hint)
        programs.append(ShownProgram(name, path, text.endswith("?")))
    return tuple(programs)


def _read_root(cell: str, files: Path) -> str:
    root = _read_plain(cell)
    if root not in ROOTS:
        raise _Mistake(f"there is no root '{root}'", did_you_mean(root, ROOTS))
    return root


def _read_files(cell: str, files: Path) -> tuple[Path, ...]:
    directories = [files / text for text in _read_list(cell)]
    for directory in directories:
        if not directory.is_dir():
            raise _Mistake(f"there is no directory {directory}", "it is looked for beside the table")
    return tuple(directories)


def _read_user(cell: str, files: Path) -> str:
    user = _read_plain(cell)
    if not _USER.fullmatch(user):
        raise _Mistake(f"'{user}' is no user", "as in `101`, `nginx` or `101:101`")
    return user


def _read_workdir(cell: str, files: Path) -> str:
    directory = _read_plain(cell)
    if not directory.startswith("/"):
        raise _Mistake(f"'{directory}' does not begin with /")
    return directory


def _read_env(cell: str, files: Path) -> dict[str, str]:
    words = [word for text in _CODE.findall(cell) or [cell] for word in _read_words(text, files)]
    for word in words:
        if not _ENV_NAME.fullmatch(word):
            raise _Mistake(f"'{word}' is no variable", "as in `PORT=8080`")
    return dict(word.split("=", 1) for word in words)


def _read_ports(cell: str, files: Path) -> tuple[int, ...]:
    ports = []
    for text in _read_list(cell):
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise _Mistake(f"'{text}' is no port")
        ports.append(int(text))
    return tuple(ports)


#: column → the field of Row, and who reads its cells
_COLUMNS: Mapping[str, tuple[str, Callable[[str, Path], Any]]] = {
    "image": ("patterns", _read_patterns),
    "entrypoint": ("entrypoint", _read_words),
    "command": ("command", _read_words),
    "program": ("programs", _read_programs),
    "package": ("package", lambda cell, files: _read_plain(cell)),
    "root": ("root", _read_root),
    "files": ("files", _read_files),
    "user": ("user", _read_user),
    "workdir": ("workdir", _read_workdir),
    "env": ("env", _read_env),
    "ports": ("ports", _read_ports),
}
