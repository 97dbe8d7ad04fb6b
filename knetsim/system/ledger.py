"""What a simulation owns outside its namespaces, written down before it is made, so that it can be undone after any
end.

The kernel ends what lives inside the sandbox. The rest, files mostly, is listed in `ledger.jsonl` of the state
directory, one JSON object a line: {"kind": "file"|"tree", "path": …}. `sweep` undoes the entries, newest first, then
the state directory itself; it serves stop, failed start, Ctrl-C and the next start after a crash alike.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from knetsim.errors import LeftoverError

LEDGER_FILE = "ledger.jsonl"


def _remove_file(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _remove_tree(path: str) -> None:
    if os.path.lexists(path):
        shutil.rmtree(path)


UNDO: dict[str, Callable[[str], None]] = {"file": _remove_file, "tree": _remove_tree}


class Ledger:
    """The ledger of one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.path = state / LEDGER_FILE

    def record(self, kind: str, path: str) -> None:
        """Write down, durably, that `path` is about to be made; `kind` says how it is undone."""
        if kind not in UNDO:
            raise ValueError(f"no undo for {kind!r}")
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, "path": path}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[dict[str, str]]:
        """What is written down, oldest first. A last line cut short by a crash stands for a thing that was not made."""
        if not self.path.exists():
            return []
        entries = []
        for line in self.path.read_text().splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return entries

    def sweep(self) -> None:
        """Undo every entry, newest first, then remove the state directory; LeftoverError at the end if any step
        failed."""
        failures: list[BaseException] = []
        for entry in reversed(self.entries()):
            try:
                UNDO[entry["kind"]](entry["path"])
            except OSError as error:
                failures.append(error)
        if not failures:
            try:
                _remove_tree(str(self.state))
            except OSError as error:
                failures.append(error)
        if failures:
            raise LeftoverError(failures)
