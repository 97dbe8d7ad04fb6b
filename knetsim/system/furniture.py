"""Mounts of a sandbox that show it instead of the host: its root, /sys, /run, and a place in memory for stores."""

from __future__ import annotations

import os

from knetsim.names import MEMORY_DISK
from knetsim.system import linux


def own_mounts() -> None:
    """Part the mounts of the calling process from all others, and make its root directory that of its mounts.

    It must have a mount namespace of its own, and no other threads. Within chroot(2) the root directory is some
    directory in the namespace, and setns(2), by which threads come home, would lead outside, to the namespace's root
    (fs/namespace.c, mntns_install). So go there once, to see whether it is another one, and put the directory in its
    place.
    """
    root, directory, process = os.open("/", os.O_PATH), os.open(".", os.O_PATH), os.pidfd_open(os.getpid())
    linux.setns(process, linux.CLONE_NEWNS)
    linux.make_mounts_private()
    os.fchdir(directory)
    if not os.path.samestat(os.fstat(root), os.stat("/")):
        place = os.getcwd()
        os.fchdir(root)
        prefix = os.getcwd()
        linux.mount(prefix, prefix, flags=linux.MS_BIND | linux.MS_REC)  # what takes the root's place must be a mount
        os.chdir(prefix)
        linux.pivot_root(".", ".")
        linux.unmount(".")  # the old root lies upon the new one
        os.chdir(place.removeprefix(prefix) or "/")
    for fd in (root, directory, process):
        os.close(fd)


def mount_sys(flags: int) -> None:
    """A /sys that shows the sandbox's network; in it control groups at the host's own paths, as the ledger has them."""
    try:
        groups = os.open("/sys/fs/cgroup", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        groups = None  # a kernel without them
    linux.mount("sysfs", "/sys", "sysfs", flags)
    if groups is not None:
        if os.path.isdir("/sys/fs/cgroup"):
            linux.mount(f"/proc/self/fd/{groups}", "/sys/fs/cgroup", flags=linux.MS_BIND | linux.MS_REC)
        os.close(groups)


def mount_memory_disk() -> None:
    """A file system in memory for the stores' files. ramfs, not tmpfs: etcd preallocates 128 MB a member, which tmpfs
    takes at its word; ramfs cannot, so etcd writes sparse files of a few MB. And no disk that others use delays it.
    """
    os.mkdir(MEMORY_DISK, 0o700)
    linux.mount("ramfs", MEMORY_DISK, "ramfs", linux.MS_NOSUID | linux.MS_NODEV)


def make_private_run() -> None:
    """An own /run, with room for /run/netns: the host's entries are links to where its /run is shown, /run/host."""
    old = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    entries = [entry for entry in os.listdir(old) if entry not in ("netns", "host")]
    linux.mount("tmpfs", "/run", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    os.mkdir("/run/host")
    os.mkdir("/run/netns")
    linux.mount(f"/proc/self/fd/{old}", "/run/host", flags=linux.MS_BIND | linux.MS_REC)
    os.close(old)
    for entry in entries:
        os.symlink(f"host/{entry}", f"/run/{entry}")
