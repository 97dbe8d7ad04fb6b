"""Who may read and write a volume: the group that a pod's `fsGroup` names.

Source: Kubernetes' pkg/volume/volume_linux.go (changeFilePermission, skipPermissionChange).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

_READ_WRITE, _READ, _EXECUTE = 0o660, 0o440, 0o110


def give_to_group(directory: str, group: int, *, read_only: bool) -> None:
    """Have all of a volume belong to `group`, which may read it, and write it unless `read_only`."""
    for path in _walk(directory):
        info = os.lstat(path)
        os.lchown(path, -1, group)
        if stat.S_ISLNK(info.st_mode):
            continue  # its mode is that of the file it names, which has its own turn
        mask = _READ if read_only else _READ_WRITE
        if stat.S_ISDIR(info.st_mode):
            mask |= stat.S_ISGID | _EXECUTE
        os.chmod(path, stat.S_IMODE(info.st_mode) | mask)


def _walk(directory: str) -> Iterator[str]:
    yield directory
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            yield f"{parent}/{name}"
