"""The few system calls that Python 3.11 does not offer: namespaces, mounts, parent-death signal.

Each raises OSError with errno and the call's name. Sources: unshare(2), setns(2), mount(2), umount(2), pivot_root(2),
prctl(2), close_range(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Sequence

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
CLOSE_RANGE_CLOEXEC = 0x4

#: numbers of system calls whose functions in glibc change all threads of a process; here only the calling one is meant
_SETGROUPS, _SETRESGID, _SETRESUID = (159, 149, 147) if platform.machine() == "aarch64" else (116, 119, 117)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces (or, with CLONE_FS, a root and working directory of its own)."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the open namespace `fd`, which must be of `kind` (a CLONE_NEW… flag)."""
    _checked(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2) in the calling thread's mount namespace."""
    result = _libc.mount(source.encode(), target.encode(), fstype.encode() or None, flags, options.encode() or None)
    _checked(result, f"mount {source} on {target}")


def bind_mount(source: str, target: str) -> None:
    """Show `source` (file or directory) at `target` too."""
    mount(source, target, flags=MS_BIND)


def make_mounts_private(root: str = "/") -> None:
    """Stop mounts made here from appearing elsewhere, and the other way round."""
    mount("none", root, flags=MS_REC | MS_PRIVATE)


def unmount(target: str) -> None:
    """Take away what is mounted at `target`; what still uses it keeps it until it ends."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root`, a mount point, the root of the calling thread's mount namespace, and show the old one at
    `put_old`.

    glibc has the call in its library, though in none of its headers.
    """
    _checked(_libc.pivot_root(new_root.encode(), put_old.encode()), f"pivot_root {new_root}")


def close_on_exec_all() -> None:
    """Have no open file of this process but the three standard ones inherited by programs that it starts."""
    _checked(_libc.close_range(3, ctypes.c_uint(-1), CLOSE_RANGE_CLOEXEC), "close_range")


def set_parent_death_signal(signal: int) -> None:
    """Have the kernel send `signal` to this process when the thread that forked it ends."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def set_thread_user(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Make the calling thread, and programs that it starts, that user's for good."""
    numbers = (ctypes.c_uint32 * len(groups))(*groups)
    _checked(_libc.syscall(_SETGROUPS, len(groups), numbers), "setgroups")
    _checked(_libc.syscall(_SETRESGID, gid, gid, gid), "setresgid")
    _checked(_libc.syscall(_SETRESUID, uid, uid, uid), "setresuid")


def drop_bounding_capability(number: int) -> None:
    """Have no program that the calling thread starts gain a capability; one that the kernel does not know is fine."""
    if _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:
        _checked(-1, "prctl")


def set_no_new_privileges() -> None:
    """Have no program that the calling thread starts gain privileges, as by a set-user-ID bit."""
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
