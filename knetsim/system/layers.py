"""Layers of images: directories that are laid over the machine's root directory in containers (`rootfs`).

They are made once per simulation, in a file system in memory of their own: its attributes say to overlayfs that a
directory hides what is below it, which a directory on another overlayfs could not, and no layer may be inside another.
What a layer hides is written down as in layers of the Open Container Initiative: an empty file `.wh.NAME` hides NAME,
`.wh..wh..opq` hides all of its directory that is in lower layers (image-spec, layer.md).
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

from knetsim.system import linux
from knetsim.system.netns import Namespaces, entered
from knetsim.system.run import run

#: where a layer's programs are searched, beside the machine's own; hidden as a whole where a layer has its own
PROGRAM_DIRECTORIES = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "usr/games")
_SEARCHED = ":".join([*(f"/{directory}" for directory in PROGRAM_DIRECTORIES), "/bin", "/sbin"])
_HIDE, _HIDE_ALL = ".wh.", ".wh..wh..opq"
_OPAQUE = "trusted.overlay.opaque"


def mount_layers(directory: str) -> None:
    """Have a file system in memory at `directory`, made if need be, that can hold layers."""
    os.makedirs(directory, exist_ok=True)
    linux.mount("tmpfs", directory, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")


class Layers:
    """Makes layers in `directory`, each once; any thread may ask."""

    def __init__(self, directory: str, place: Namespaces | None = None) -> None:
        """`place` is where the directory is mounted, if not here."""
        self._directory, self._place = directory, place
        self._made: dict[tuple[object, ...], str] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def of_files(self, source: Path) -> str:
        """The layer that `source` describes, a directory of files and of marks for what is hidden."""
        return self._make(source.name, ("files", source), lambda layer: _copy(source, layer))

    def of_points(self, paths: Iterable[str]) -> str:
        """The layer with empty executable files at `paths`, for programs to be mounted there."""
        wanted = tuple(sorted(paths))
        return self._make("programs", ("points", *wanted), lambda layer: _create_points(layer, wanted))

    def of_applets(self, busybox: Path, *, alone: bool) -> str:
        """The layer with busybox's commands: instead of the machine's programs, or (not `alone`) where it has none."""
        name = "busybox" if alone else "applets"
        return self._make(name, (name, busybox), lambda layer: _create_applets(layer, busybox, alone))

    def _make(self, name: str, key: tuple[object, ...], fill: Callable[[Path], None]) -> str:
        with self._lock, entered(self._place) if self._place else nullcontext():
            if key not in self._made:
                layer = self._create(name)
                fill(Path(layer))
                self._made[key] = layer
            return self._made[key]

    def _create(self, name: str) -> str:
        plain = "".join(letter if letter.isalnum() else "-" for letter in name)
        layer = f"{self._directory}/{next(self._numbers)}-{plain}"
        os.mkdir(layer)
        os.chmod(layer, 0o755)
        return layer


def hide_lower(directory: str) -> None:
    """Have overlayfs show nothing of lower layers in `directory`."""
    os.setxattr(directory, _OPAQUE, b"y")


def is_hiding(directory: str) -> bool:
    """Whether a layer's directory hides what is below it."""
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False


def is_hidden(path: str) -> bool:
    """Whether a layer's file stands for a name that is hidden."""
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _copy(source: Path, target: Path) -> None:
    """Copy a directory's content as root's, whoever owns the checkout; marks become what overlayfs knows."""
    for entry in os.scandir(source):
        path = target / entry.name
        if entry.name == _HIDE_ALL:
            hide_lower(str(target))
        elif entry.name.startswith(_HIDE):
            os.mknod(target / entry.name.removeprefix(_HIDE), stat.S_IFCHR, os.makedev(0, 0))
        elif entry.is_symlink():
            path.symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            path.mkdir()
            path.chmod(0o755)
            _copy(Path(entry.path), path)
        else:
            shutil.copyfile(entry.path, path)
            path.chmod(0o755 if os.access(entry.path, os.X_OK) else 0o644)


def _create_points(layer: Path, paths: Iterable[str]) -> None:
    for path in paths:
        point = layer / path.lstrip("/")
        point.parent.mkdir(parents=True, exist_ok=True)
        point.touch(mode=0o755)


def _create_applets(layer: Path, busybox: Path, alone: bool) -> None:
    target = layer / "usr/bin"
    for directory in PROGRAM_DIRECTORIES if alone else ("usr/bin",):
        (layer / directory).mkdir(parents=True)
        if alone:
            hide_lower(f"{layer}/{directory}")
    if alone:
        shutil.copy2(busybox, target / "busybox")
    for name in run([str(busybox), "--list"]).output.split():
        if name != "busybox" and (alone or shutil.which(name, path=_SEARCHED) is None):
            (target / name).symlink_to("busybox" if alone else busybox)
