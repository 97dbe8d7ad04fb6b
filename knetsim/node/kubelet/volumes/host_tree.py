"""What pods see as their worker's own files (`hostPath`): a tree per worker, and never the machine's own to be written.

On a real node hostPath is the node's file system. Here all workers share one machine, so each has a tree of its own,
`/tmp/knetsim/C0w1/host`, where the directories that every Linux machine has are made with the first pod that asks, and
files that a pod leaves for another on the same worker are found. What of a machine pods only read (its time zone, its
certificates, /proc and /sys) is shown read-only. Sources: Kubernetes' pkg/volume/hostpath, and its messages.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from knetsim.errors import KnetsimError

#: what a machine has; /var/run is a link to /run
_DIRECTORIES = (
    "boot", "etc", "etc/kubernetes/manifests", "etc/cni/net.d", "home", "media", "mnt", "opt/cni/bin", "root",
    "run/lock", "srv", "tmp", "usr/bin", "usr/lib", "usr/local/bin", "usr/share", "var/cache", "var/lib/kubelet/pods",
    "var/lib/kubelet/plugins", "var/log/containers", "var/log/pods", "var/spool", "var/tmp",
)  # fmt: skip
#: what is the machine's, read-only
_SHOWN = (
    "/proc", "/sys", "/lib/modules", "/usr/lib/modules", "/usr/src", "/usr/share/zoneinfo",
    "/usr/share/ca-certificates", "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/localtime", "/etc/timezone",
    "/etc/os-release", "/usr/lib/os-release", "/etc/machine-id",
)  # fmt: skip
_MOST_LINKS = 40

_KINDS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


@dataclass(frozen=True, slots=True)
class HostSource:
    """The path that stands for a worker's; `read_only` when it is the machine's own, `owned` when it is a disk, all of
    which is given to a pod's `fsGroup`."""

    path: str
    read_only: bool = False
    owned: bool = False


def find_host_path(tree: str, path: str, kind: str) -> HostSource:
    """What a worker has at `path`, of the type `kind` ("" for any); KnetsimError in the kubelet's words."""
    if path == "/dev" or path.startswith("/dev/"):
        raise KnetsimError(f"knetsim's kubelet does not simulate a hostPath of devices: {path} is the machine's own")
    _ensure_tree(tree)
    shown = _find_shown(tree, path)
    if shown is not None:
        _check_kind(shown, path, kind.removesuffix("OrCreate"))
        return HostSource(shown, read_only=True)
    own = resolve_inside(tree, path)
    if not os.path.lexists(own):
        _create(own, path, kind)
    _check_kind(own, path, kind.removesuffix("OrCreate"))
    return HostSource(own)


def _find_shown(tree: str, path: str) -> str | None:
    """The machine's own file or directory, when it may be shown and no pod has put anything in its place."""
    clean = os.path.normpath(path)
    allowed = any(clean == shown or clean.startswith(f"{shown}/") for shown in _SHOWN)
    if not allowed or not os.path.exists(clean) or os.path.lexists(resolve_inside(tree, clean)):
        return None
    return os.path.realpath(clean)


def _ensure_tree(tree: str) -> None:
    if os.path.isdir(tree):
        return
    for directory in _DIRECTORIES:
        os.makedirs(f"{tree}/{directory}", exist_ok=True)
    for open_to_all in ("tmp", "var/tmp"):
        os.chmod(f"{tree}/{open_to_all}", 0o1777)
    if not os.path.lexists(f"{tree}/var/run"):
        os.symlink("/run", f"{tree}/var/run")


def _create(own: str, path: str, kind: str) -> None:
    """What is not there: a directory is made for a type that says so, and by the runtime when none is said."""
    if kind in ("DirectoryOrCreate", ""):
        os.makedirs(own, 0o755, exist_ok=True)
    elif kind == "FileOrCreate":
        try:
            os.close(os.open(own, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        except OSError as error:
            raise KnetsimError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from error


def _check_kind(own: str, path: str, kind: str) -> None:
    if not kind:
        return
    if kind not in _KINDS:
        raise KnetsimError(f"{kind} is an invalid volume type")
    holds, words = _KINDS[kind]
    if not os.path.exists(own) or not holds(os.stat(own).st_mode):
        raise KnetsimError(f"hostPath type check failed: {path} is not a {words}")


def resolve_inside(root: str, path: str) -> str:
    """`path` below `root`, links followed as if `root` were the root directory: none leads out.

    Containers write into the tree; a link of theirs to /etc must not be the machine's /etc.
    """
    rest, inside, links = [part for part in path.split("/") if part], "", 0
    while rest:
        part = rest.pop(0)
        if part == ".":
            continue
        if part == "..":
            inside = inside.rpartition("/")[0]
            continue
        step = f"{inside}/{part}"
        if not os.path.islink(root + step):
            inside = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise KnetsimError(f"{path}: too many levels of symbolic links")
        target = os.readlink(root + step)
        if target.startswith("/"):
            inside = ""
        rest = [part for part in target.split("/") if part] + rest
    return root + inside
