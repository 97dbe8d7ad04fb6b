"""What processes and interfaces have used so far, from the kernel's counters; asked, not followed.

Real nodes have a cgroup for each container and read its counters. Cgroups cannot be had in every sandbox; what all
processes of a pid namespace have used is the same but for the page cache, which belongs to nobody here, and for
processes that were not children of one of them: with their end, what they had used is forgotten.
Cost: 25 to 30 µs a process, of which each look takes in all there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from knetsim.system.netns import Namespaces, entered

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time in nanoseconds since the start, memory in bytes that is in use now, and how many processes."""

    cpu: int = 0
    memory: int = 0
    processes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu + other.cpu, self.memory + other.memory, self.processes + other.processes)


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """Of a network interface, since it was made."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int


#: a namespace of the kernel's, as the number of its inode
Inode = int


def read_usage() -> dict[tuple[Inode, Inode], Usage]:
    """What all processes use, added up by their pid and network namespaces."""
    found: dict[tuple[Inode, Inode], Usage] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                places = os.stat(f"/proc/{name}/ns/pid").st_ino, os.stat(f"/proc/{name}/ns/net").st_ino
                usage = _read_process(name)
            except (OSError, IndexError):
                continue  # it has just ended
            found[places] = found.get(places, Usage()) + usage
    return found


def _read_process(pid: str) -> Usage:
    with open(f"/proc/{pid}/stat", "rb") as file:
        # after the name, which may hold anything: the state is field 3 of proc(5)
        fields = file.read().rpartition(b") ")[2].split()
    user, system, waited_user, waited_system = (int(one) for one in fields[11:15])
    cpu = (user + system + waited_user + waited_system) * _TICK
    return Usage(cpu, int(fields[21]) * _PAGE, 1)


def find_pid_namespace(pid: int) -> Inode:
    """The pid namespace of a process; 0 when it has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0


def read_interfaces(place: Namespaces) -> Iterator[InterfaceCounters]:
    """The interfaces of a network namespace but its loopback."""
    with entered(Namespaces(place.name, net=place.net)), open("/proc/thread-self/net/dev") as file:
        lines = file.read().splitlines()[2:]
    for line in lines:
        name, _, numbers = line.strip().partition(":")
        fields = [int(one) for one in numbers.split()]
        if name != "lo":
            yield InterfaceCounters(name, fields[0], fields[2], fields[8], fields[10])
