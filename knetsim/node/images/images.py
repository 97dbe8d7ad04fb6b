"""The images that there are: rows of tables, and what containers need of them, made when they are wanted first."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from knetsim.errors import InputError, Problem, ScenarioError
from knetsim.node.images.image import ERR_PULL, INVALID_NAME, Image, ImageError
from knetsim.node.images.reference import DEFAULT_TAG, Reference, parse_reference
from knetsim.node.images.table import Row, ShownProgram, parse_table
from knetsim.system.invocation import as_typed
from knetsim.system.layers import Layers
from knetsim.system.programs import find_program
from knetsim.system.rootfs import Mount

#: a link to docs/images.md
TABLE = Path(__file__).parent / "table.md"
#: what the column `files` of that table speaks of
FILES = Path(__file__).parent / "files"
#: where else a user's own table is looked for, and how it is named in the environment
VARIABLE, USER_TABLE = "KNETSIM_IMAGES", "~/.config/knetsim/images.md"


def read_tables(paths: Iterable[Path] = ()) -> list[list[Row]]:
    """The rows of users' tables at `paths` and of our own, those that count first first; ScenarioError with all
    mistakes of all of them. Directories of files are looked for beside a user's table."""
    tables: list[list[Row]] = []
    problems: list[Problem] = []
    for path, files in [*((path, path.parent) for path in paths), (TABLE, FILES)]:
        shown = "docs/images.md" if path == TABLE else str(path)
        try:
            tables.append(parse_table(path.read_text(encoding="utf-8"), shown, files))
        except ScenarioError as error:
            problems += error.problems
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            problems.append(Problem(shown, 0, 0, f"the table of images cannot be read: {why}"))
    if problems:
        raise ScenarioError(problems)
    return tables


def find_user_tables(named: Sequence[Path] = ()) -> list[Path]:
    """The users' tables: those that are named, then those of $KNETSIM_IMAGES (with : between them) or, without it, the
    one in the configuration of the user, who may have called sudo, if it is there."""
    variable = os.environ.get(VARIABLE)
    if variable is not None:
        return [*named, *(Path(entry) for entry in variable.split(os.pathsep) if entry)]
    own = Path(os.path.expanduser(USER_TABLE.replace("~", f"~{os.environ.get('SUDO_USER', '')}")))
    return [*named, *([own] if own.is_file() else [])]


class Images:
    """Finds images by name. Any thread may ask."""

    def __init__(self, tables: Sequence[Sequence[Row]], layers: Layers) -> None:
        """A row of an earlier table counts before those of later ones; in one table, the one that says most."""
        self._tables, self._layers = tables, layers
        self._found: dict[str, Image] = {}
        self._lock = threading.Lock()

    def find(self, asked: str) -> Image:
        """The image of that name; ImageError when the name is none, nobody knows it, or a program is not here."""
        with self._lock:
            if asked not in self._found:
                reference = read_reference(asked)
                self._found[asked] = self._build(reference, self._find_row(reference, asked))
            return self._found[asked]

    def _find_row(self, reference: Reference, asked: str) -> Row:
        for table in self._tables:
            matching = [
                (pattern.weight, row)
                for row in table
                for pattern in row.patterns
                if fnmatchcase(reference.name, pattern.name)
                and (not pattern.tag or fnmatchcase(reference.tag or DEFAULT_TAG, pattern.tag))
            ]
            if matching:
                return max(matching, key=lambda found: found[0])[1]
        raise ImageError(
            ERR_PULL,
            f'failed to resolve image "{reference}": no row of docs/images.md names it, and a simulation reaches no '
            f"registry; an image here is a program of this machine: add a row `| {asked} | PROGRAM |` to a table of "
            f"your own, {USER_TABLE} or `{as_typed('up --images FILE')}` (docs/images.md tells how)",
        )

    def _build(self, reference: Reference, row: Row) -> Image:
        wanted = [program for program in row.programs if not program.optional or find_program(program.name)]
        programs = [(program, _locate(program, row, reference)) for program in wanted]
        shown = {path: source for program, source in programs if (path := _shown_at(program, row))}
        layers = [self._layers.of_files(files) for files in row.files]
        if shown:
            layers.append(self._layers.of_points(shown))
        if row.root in ("busybox", "both"):
            busybox = _locate(ShownProgram("busybox"), row, reference)
            layers.append(self._layers.of_applets(busybox, alone=row.root == "busybox"))
        return Image(
            reference,
            row.entrypoint,
            row.command,
            row.env,
            row.workdir or "/",
            row.user,
            row.ports,
            tuple(layers),
            tuple(Mount(str(source), path, read_only=True) for path, source in shown.items()),
            hold=row.root == "none",
        )


def read_reference(asked: str) -> Reference:
    """The reference that a container's `image` is; ImageError in the kubelet's words when it is none."""
    try:
        return parse_reference(asked)
    except InputError as error:
        raise ImageError(INVALID_NAME, f'Failed to apply default image tag "{asked}": {error}') from error


def _shown_at(program: ShownProgram, row: Row) -> str:
    """Where a program has to be mounted; empty when it is there anyway."""
    return program.path or (f"/usr/bin/{program.name}" if row.root == "busybox" else "")


def _locate(program: ShownProgram, row: Row, reference: Reference) -> Path:
    found = find_program(program.name)
    if found is None:
        remedy = f"sudo apt-get install {row.package}" if row.package else "./utils/setup"
        raise ImageError(
            ERR_PULL,
            f'failed to resolve image "{reference}": it stands for the program `{program.name}` ({row.where}), which '
            f"is not installed on this machine: {remedy}",
        )
    return found.resolve()
