"""Contexts in a user's kubeconfig file: merged in, and taken out again at the simulation's end.

The file is the user's, whoever runs this: it is locked as kubectl locks it (FILE.lock), replaced whole, keeps its owner
and mode, stays where a link leads to it, and what is not of the given names stays as it is. Comments do not survive, as
they do not when kubectl itself writes the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from knetsim.errors import KnetsimError, ObjectError

_LISTS = ("clusters", "users", "contexts")


def merge_contexts(path: Path, config: Mapping[str, Any]) -> None:
    """Add the clusters, users and contexts of `config`, in place of those of the same names; the first of them becomes
    the current context where there is none. ObjectError when the file is no kubeconfig."""

    def merge(present: dict[str, Any]) -> dict[str, Any] | None:
        for field in _LISTS:
            added = {entry["name"] for entry in config[field]}
            kept = [entry for entry in present.get(field) or () if entry.get("name") not in added]
            present[field] = [*kept, *config[field]]
        present["current-context"] = present.get("current-context") or config["current-context"]
        return present

    _change(path, merge)


def remove_contexts(path: Path, names: Sequence[str]) -> None:
    """Take clusters, users and contexts of these names out; a file with nothing left in it is removed, one that is not
    there or is no kubeconfig any more is left alone.

    URLs among the names say where the clusters are: one that is elsewhere by now was merged by another simulation, and
    stays.
    """

    def remove(present: dict[str, Any]) -> dict[str, Any] | None:
        gone = set(names) - _find_elsewhere(present, [name for name in names if "://" in name])
        for field in _LISTS:
            present[field] = [entry for entry in present.get(field) or () if entry.get("name") not in gone]
        if present.get("current-context") in gone:
            present["current-context"] = ""
        return present if any(present[field] for field in _LISTS) else None

    if path.exists():
        try:
            _change(path, remove)
        except ObjectError:
            pass  # somebody has made something else of it


def _find_elsewhere(config: Mapping[str, Any], servers: Sequence[str]) -> set[str]:
    """The names of clusters that are at none of these URLs, if there are any."""
    clusters = config.get("clusters") or () if servers else ()
    return {entry.get("name", "") for entry in clusters if (entry.get("cluster") or {}).get("server") not in servers}


def _change(path: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    _make_directory(path.parent)
    with _locked(path):
        path = Path(os.path.realpath(path))
        changed = change(_read(path))
        if changed is None:
            path.unlink()
            return
        fresh = path.with_name(f"{path.name}.knetsim")
        owner = os.stat(path if path.exists() else path.parent)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            yaml.safe_dump(changed, file, sort_keys=False)
        os.chown(fresh, owner.st_uid, owner.st_gid)
        if path.exists():
            os.chmod(fresh, owner.st_mode & 0o7777)
        os.replace(fresh, path)


def _make_directory(path: Path) -> None:
    """Make it if it is not there, for who owns the directory above."""
    if not path.exists():
        _make_directory(path.parent)
        path.mkdir()
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"apiVersion": "v1", "kind": "Config"}
    try:
        config = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ObjectError("this is no YAML", str(path), " ".join(str(error).split())) from error
    if not isinstance(config, dict) or config.get("kind", "Config") != "Config":
        raise ObjectError("this is no kubeconfig", str(path), hint="name another file: --file")
    if not all(isinstance(entry, dict) for field in _LISTS for entry in config.get(field) or ()):
        what = f"this is no kubeconfig: {', '.join(_LISTS)} must be lists of mappings"
        raise ObjectError(what, str(path), hint="name another file: --file")
    return {"apiVersion": "v1", "kind": "Config", **config}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        hint = f"try again; if nothing runs that writes it: rm {lock}"
        raise KnetsimError(f"{path} is being written by another program", why=f"{lock} exists", hint=hint) from error
    try:
        yield
    finally:
        lock.unlink()
