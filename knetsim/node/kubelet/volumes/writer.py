"""Files of a volume that change all at once: whoever reads sees the old ones or the new ones, never some of each.

The files lie in a directory named after the moment, `..data` is a link to that directory, and what the user sees are
links through `..data`; a change is a new directory and one rename(2) of the link. A container that was given one file
(`subPath`) keeps the file it got. Source: Kubernetes' pkg/volume/util/atomic_writer.go, whose layout programs rely on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from knetsim.errors import KnetsimError
from knetsim.node.kubelet.volumes.payload import File, Payload

DATA, _NEW_DATA = "..data", "..data_tmp"
_LONGEST_NAME, _LONGEST_PATH = 255, 4096


def write_payload(directory: str, payload: Payload, set_permissions: Callable[[], None]) -> bool:
    """Have `directory` show the files of `payload` and no others; False when it did already.

    `set_permissions` is called for the whole volume before new files are shown. KnetsimError for a path that leads out.
    """
    for path in payload:
        _check_path(path)
    old = _read_link(f"{directory}/{DATA}")
    present = set(_find_files(f"{directory}/{old}")) if old else set()
    changed = (
        not old or present != payload.keys() or any(_differs(f"{directory}/{old}/{p}", payload[p]) for p in payload)
    )
    if changed:
        _switch(directory, payload, set_permissions)
    _show(directory, payload)
    for name in {path.partition("/")[0] for path in present} - {path.partition("/")[0] for path in payload}:
        _remove(f"{directory}/{name}")
    if changed and old:
        shutil.rmtree(f"{directory}/{old}", ignore_errors=True)
    return changed


def _switch(directory: str, payload: Payload, set_permissions: Callable[[], None]) -> None:
    moment = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
    new = tempfile.mkdtemp(prefix=moment, dir=directory)
    try:
        os.chmod(new, 0o755)
        for path, file in payload.items():
            _write(f"{new}/{path}", file)
        set_permissions()
        _remove(f"{directory}/{_NEW_DATA}")
        os.symlink(os.path.basename(new), f"{directory}/{_NEW_DATA}")
        os.rename(f"{directory}/{_NEW_DATA}", f"{directory}/{DATA}")
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _write(path: str, file: File) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as opened:
        opened.write(file.data)
    os.chmod(path, file.mode)
    if file.owner is not None:
        os.chown(path, file.owner, -1)


def _show(directory: str, payload: Payload) -> None:
    """The links that the user sees."""
    for name in {path.partition("/")[0] for path in payload}:
        if not os.path.lexists(f"{directory}/{name}"):
            os.symlink(f"{DATA}/{name}", f"{directory}/{name}")


def _differs(path: str, file: File) -> bool:
    with open(path, "rb") as opened:
        return opened.read() != file.data


def _find_files(root: str) -> Iterator[str]:
    for directory, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(f"{directory}/{name}", root)


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _check_path(path: str) -> None:
    parts = path.split("/")
    if not path or path.startswith("/") or len(path) > _LONGEST_PATH:
        raise KnetsimError(f"invalid path: must be a relative path of at most {_LONGEST_PATH} characters: {path!r}")
    if ".." in parts:
        raise KnetsimError(f"invalid path: must not contain '..': {path}")
    if parts[0].startswith(".."):
        raise KnetsimError(f"invalid path: must not start with '..': {path}")
    if max(map(len, parts)) > _LONGEST_NAME:
        raise KnetsimError(f"invalid path: filenames must be less than or equal to {_LONGEST_NAME} characters")
