"""What can be read off the machine without trying anything: privileges, size, limits, modules, cgroups."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

from knetsim.system.features.feature import BETTER_KERNEL, RUN_AS_ROOT, Feature
from knetsim.system.features.modules import find_module

_MIB = 1 << 20
#: the default scenario with its real parts: six etcd (45 MiB), six flanneld (45 MiB), the engine, the pods
_MEMORY = 1024 * _MIB
#: etcd allocates its log of 62 MiB in advance, twice; the default scenario has six members
_RUN_SPACE = 750 * _MIB
#: a worker holds about ten descriptors, a pod three
_DESCRIPTORS = 4096
_INOTIFY = 128

# include/uapi/linux/capability.h: bit, name, what it is for
_CAPABILITIES = (
    (1, "DAC_OVERRIDE", "files of daemons that run as other users"),
    (5, "KILL", "ending processes of other users"),
    (7, "SETUID", "programs in pods that change their user"),
    (12, "NET_ADMIN", "devices, routes, nftables"),
    (13, "NET_RAW", "ping, tcpdump"),
    (18, "SYS_CHROOT", "entering the mounts of a worker"),
    (21, "SYS_ADMIN", "namespaces and mounts"),
)


def read_privileges() -> list[Feature]:
    """Root and each capability that a simulation needs."""
    effective = _effective_capabilities(Path("/proc/self/status").read_text())
    root = os.geteuid() == 0
    detail = "" if root else f"you are user {os.geteuid()}"
    features = [
        Feature("root", "machine", "required", root, detail, "nothing can be started", RUN_AS_ROOT),
    ]
    for bit, name, purpose in _CAPABILITIES:
        present = bool(effective >> bit & 1) or (False if root else None)  # sudo brings it, or a container lacks it
        detail = "only root has it" if present is None else ""
        features.append(Feature(f"CAP_{name}", "machine", "required", present, detail, f"no {purpose}", RUN_AS_ROOT))
    return features


def _effective_capabilities(status: str) -> int:
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match[1], 16) if match else 0


def read_machine() -> list[Feature]:
    """Size and limits."""
    return [*read_privileges(), _memory(), _cores(), _descriptors(), _inotify(), _run_space(), _cgroups()]


def read_modules() -> list[Feature]:
    """Parts of the kernel that are not tried, since that would load them, or has no meaning in a namespace."""
    bridge_filter = Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
    features = [
        Feature(
            "br_netfilter", "kernel", "optional", bridge_filter, "" if bridge_filter else find_module("br_netfilter"),
            "a Service's backend on the client's own worker sees the worker's address instead of the client's",
            "sudo modprobe br_netfilter",
        )
    ]  # fmt: skip
    for name, module, cost in (
        ("Open vSwitch", "openvswitch", "no Open vSwitch switches; Linux bridges take their place"),
        ("IPVS", "ip_vs", "no kube-proxy in mode ipvs"),
    ):
        state = find_module(module)
        detail = f"module {module}, {state}" if state else f"no module {module} to be seen from here"
        features.append(Feature(name, "kernel", "later", bool(state), detail, cost, BETTER_KERNEL))
    return features


def _memory() -> Feature:
    amounts = read_meminfo(Path("/proc/meminfo").read_text())
    total, available = amounts["MemTotal"], amounts.get("MemAvailable", amounts["MemFree"])
    limit = _memory_limit()
    if limit is not None and limit < total:
        total, available = limit, min(limit, available)
    detail = f"{_size(available)} of {_size(total)}"
    return Feature(
        "memory", "machine", "optional", available >= _MEMORY, detail,
        f"the default scenario with its real parts needs {_size(_MEMORY)}",
        "use agent: embedded, etcd: {members: 1} or fewer clusters; or end other programs",
    )  # fmt: skip


def read_meminfo(text: str) -> dict[str, int]:
    """The amounts in /proc/meminfo, in bytes."""
    return {match[1]: int(match[2]) * 1024 for match in re.finditer(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def _memory_limit() -> int | None:
    """What a container may use, as its own cgroup file system says; None when nobody set a limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):
            continue  # not this version of cgroups, or the word "max"
    return None


def _size(amount: int) -> str:
    return f"{amount / (1 << 30):.1f} GiB" if amount >= 1 << 30 else f"{amount // _MIB} MiB"


def _cores() -> Feature:
    cores = len(os.sched_getaffinity(0))
    return Feature(
        "cores", "machine", "optional", cores >= 2, str(cores), "everything takes longer", "give the machine two cores"
    )


def _descriptors() -> Feature:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = hard in (resource.RLIM_INFINITY,) or hard >= _DESCRIPTORS
    return Feature(
        "file descriptors", "machine", "optional", enough, "unlimited" if hard < 0 else str(hard),
        "fewer than a thousand pods", f"ulimit -Hn {16 * _DESCRIPTORS}; docker run --ulimit nofile={16 * _DESCRIPTORS}",
    )  # fmt: skip


def _inotify() -> Feature:
    instances = _read_number("/proc/sys/fs/inotify/max_user_instances")
    watches = _read_number("/proc/sys/fs/inotify/max_user_watches")
    return Feature(
        "inotify", "machine", "later", instances >= _INOTIFY, f"{instances} instances, {watches} watches",
        "'too many open files' from daemons that watch files", "sudo sysctl fs.inotify.max_user_instances=1024",
    )  # fmt: skip


def _read_number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return 0


def _run_space() -> Feature:
    usage = os.statvfs("/run")
    free = usage.f_bavail * usage.f_frsize
    return Feature(
        "space in /run", "machine", "optional", free >= _RUN_SPACE, f"{_size(free)} free",
        f"etcd's logs need {_size(_RUN_SPACE)} in the default scenario",
        "free space there; where /run is a tmpfs: sudo mount -o remount,size=2G /run",
    )  # fmt: skip


def _cgroups() -> Feature:
    version, writable = read_cgroups(Path("/proc/self/mountinfo").read_text())
    detail = f"{version}, {'writable' if writable else 'read-only'}" if version else "not mounted"
    return Feature(
        "cgroups", "machine", "optional", writable, detail, "containers' limits on memory and CPU are not enforced",
        "mount cgroup2; in a container: docker run --privileged",
    )  # fmt: skip


def read_cgroups(mountinfo: str) -> tuple[str, bool]:
    """The version of cgroups mounted (`v1`, `v2`, `v1 and v2`, or empty), and whether groups can be made in it."""
    found: dict[str, bool] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind = right.split()[0] if right else ""
        if kind in ("cgroup", "cgroup2"):
            version = "v2" if kind == "cgroup2" else "v1"
            found[version] = found.get(version, False) or "rw" in left.split()[5].split(",")
    return " and ".join(sorted(found)), any(found.values())
