"""What a simulation owns outside its namespaces, written down before it is made, so that it can be undone after any
end.

The kernel ends what lives inside the sandbox. The rest, files and control groups, is listed in `ledger.jsonl` of the
state directory, one JSON object a line: {"kind": "file"|"tree"|"contexts"|"cgroup", "path": …, "names": […]}. `sweep`
undoes the entries, newest first, then the state directory itself; it serves stop, failed start, Ctrl-C and the next
start after a crash alike.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from knetsim.errors import KnetsimError, LeftoverError
from knetsim.system.cgroup import remove_cgroup_tree
from knetsim.system.kubeconfig_merge import remove_contexts

LEDGER_FILE = "ledger.jsonl"


def _remove_file(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _remove_tree(path: str) -> None:
    if os.path.lexists(path):
        shutil.rmtree(path)


#: how an entry is undone, by its kind: called with the path and the names that were written down
UNDO: dict[str, Callable[[str, list[str]], None]] = {
    "file": lambda path, names: _remove_file(path),
    "tree": lambda path, names: _remove_tree(path),
    "cgroup": lambda path, names: remove_cgroup_tree(path),
    "contexts": lambda path, names: remove_contexts(Path(path), names),
}


class Ledger:
    """The ledger of one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.path = state / LEDGER_FILE

    def record(self, kind: str, path: str, names: Sequence[str] = ()) -> None:
        """Write down, durably, that `path`, or what is called `names` in it, is about to be made; `kind` says how it is
        undone."""
        if kind not in UNDO:
            raise ValueError(f"no undo for {kind!r}")
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, "path": path, "names": list(names)}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[dict[str, Any]]:
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
                UNDO[entry["kind"]](entry["path"], entry.get("names", []))
            except (OSError, KnetsimError) as error:
                failures.append(error)
        if not failures:
            try:
                _remove_tree(str(self.state))
            except OSError as error:
                failures.append(error)
        if failures:
            raise LeftoverError(failures)
