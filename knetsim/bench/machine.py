"""The machine as far as figures depend on it, from /proc: what it is, how busy, what processes and the kernel hold."""

from __future__ import annotations

import os
import platform
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from knetsim.bench.figures import Machine
from knetsim.system.features.machine import read_meminfo

_KB = 1024
_MB = 1_000_000
#: kernel memory that /proc/meminfo tells apart: objects, page tables, per-processor areas, vmalloc (stacks are in it)
KERNEL_KINDS = ("SUnreclaim", "PageTables", "SecPageTables", "Percpu", "VmallocUsed")


class Watch:
    """The machine from the moment this is made until it is asked."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._times = read_cpu_times(Path("/proc/stat").read_text())
        self._arp_full = _count_arp_full()

    def read(self) -> Machine:
        """The machine now, with the load of then and now."""
        now = read_cpu_times(Path("/proc/stat").read_text())
        times = [after - before for before, after in zip(self._times, now, strict=True)]
        return Machine(
            cores=len(os.sched_getaffinity(0)),
            model=_read_model(),
            memory_mb=read_meminfo(Path("/proc/meminfo").read_text())["MemTotal"] // _MB,
            kernel=platform.release(),
            system=platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
            load=(round(self._load, 2), round(os.getloadavg()[0], 2)),
            stolen=stolen_part(times),
            arp_full=_count_arp_full() - self._arp_full,
        )


def _read_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def read_cpu_times(stat: str) -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)), in ticks."""
    return [int(word) for word in stat.splitlines()[0].split()[1:9]]


def stolen_part(times: list[int]) -> float | None:
    """The part that a hypervisor took of the time that was wanted; None where nothing was."""
    wanted = sum(times) - times[3] - times[4]
    return times[7] / wanted if wanted else None


def _count_arp_full() -> int:
    path = Path("/proc/net/stat/arp_cache")
    return count_arp_full(path.read_text()) if path.exists() else 0


def count_arp_full(statistics: str) -> int:
    """How often the ARP table was full, from /proc/net/stat/arp_cache: a line of hexadecimal numbers per processor."""
    names, *rows = [line.split() for line in statistics.splitlines()]
    column = names.index("table_fulls") if "table_fulls" in names else None
    return sum(int(row[column], 16) for row in rows) if column is not None else 0


# --- processes and memory


def read_descendants(root: int) -> list[int]:
    """The process `root` and all below it, by the host's pids."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                stat = (path / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            # the name, in brackets, may hold anything
            children[int(stat.rpartition(")")[2].split()[1])].append(int(path.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children[pid]
    return found


def read_namespaces(pids: Iterable[int]) -> set[str]:
    """The namespaces in which processes stand, as the kernel names them: `net:[4026531840]`."""
    found = set()
    for pid in pids:
        try:
            found |= {os.readlink(entry) for entry in Path(f"/proc/{pid}/ns").iterdir()}
        except OSError:
            continue  # it ended while we looked
    return found


def read_pss(pids: Iterable[int]) -> dict[str, int]:
    """Bytes that processes hold, by program: private pages, and their part of those that several processes share."""
    sizes: dict[str, int] = defaultdict(int)
    for pid in pids:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue  # it ended while we looked
        match = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
        sizes[name] += int(match[1]) * _KB if match else 0
    return dict(sizes)


def read_memory() -> dict[str, int]:
    """The amounts in /proc/meminfo, in bytes."""
    return read_meminfo(Path("/proc/meminfo").read_text())


def kernel_bytes(meminfo: Mapping[str, int]) -> int:
    """What the kernel holds for itself, without caches that it can drop at any time."""
    return sum(meminfo.get(kind, 0) for kind in KERNEL_KINDS)
