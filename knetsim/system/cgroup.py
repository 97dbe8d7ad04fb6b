"""Control groups: what a container may use of memory and CPU, held to it by the kernel.

Reality: a kubelet and its container runtime make a group for each pod and each container, and put a container's first
process into it before its program is executed. Ours: the same, but only for containers that have a limit; all others
cost nothing. A simulation's groups lie below one directory of its own in each hierarchy, knetsim-NAME-…, written into
the ledger before it is made: directories outlive any kill, and nobody but their maker removes them.

Version 1 (a hierarchy for each resource): that directory is made below the group in which the simulation was started,
so what confines the simulation confines its containers too. Version 2 (one hierarchy) lets a group that holds processes
have no groups with limits below it; so the nearest group above is taken that hands its resources on, as long as nothing
that is passed over on the way there is limited: a limit set for the simulation is not to be got round. Nothing that
others have made is changed. To see it by hand: `cat /sys/fs/cgroup/memory/knetsim-*/*/*/memory.oom_control` (v1),
`memory.events` (v2); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

Cost: 0.1 ms for each container with a limit.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from knetsim.errors import NotReady
from knetsim.system.wait import wait_until

#: the resources that a group can limit
CPU, MEMORY = "cpu", "memory"
_BOTH = frozenset((CPU, MEMORY))
#: how directories of simulations begin
PREFIX = "knetsim-"
#: over which span of time CPU is measured out, and the least of it that the kernel accepts (kernel/sched/core.c)
_PERIOD_US, _LEAST_QUOTA_US = 100_000, 1_000
_SWEEP_SECONDS = 5.0
#: the file that shows that a resource can be limited, by version and resource
_SIGNS = {
    (1, MEMORY): "memory.limit_in_bytes",
    (1, CPU): "cpu.cfs_quota_us",
    (2, MEMORY): "memory.max",
    (2, CPU): "cpu.max",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used: bytes of memory, cores of CPU; None for no limit."""

    memory: int | None = None
    cpu: float | None = None

    def __bool__(self) -> bool:
        return self.memory is not None or self.cpu is not None

    def within(self, resources: frozenset[str]) -> Limits:
        """Those of them that are about `resources`."""
        return Limits(self.memory if MEMORY in resources else None, self.cpu if CPU in resources else None)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A hierarchy as it is mounted: its version, the directory of this process's own group, the top of what is to be
    seen of it, the resources it is for (of version 2: not known from the mount)."""

    version: int
    own: str
    top: str
    resources: frozenset[str]


def read_hierarchies(mountinfo: str, membership: str) -> list[Hierarchy]:
    """The hierarchies of /proc/self/mountinfo in which /proc/self/cgroup has this process; pure."""
    groups: dict[str, str] = {}  # the path in a hierarchy of version 1 by resource, in that of version 2 by ""
    for line in membership.splitlines():
        _, names, path = line.split(":", 2)
        groups |= dict.fromkeys(names.split(","), path)
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = [*right.split(" "), "", "", ""][:3]
        root, point = (_unescape(word) for word in left.split(" ")[3:5])
        resources = _BOTH & set(options.split(",")) if kind == "cgroup" else frozenset[str]()
        key = "" if kind == "cgroup2" else next(iter(sorted(resources)), None)
        if key is None or key not in groups:
            continue
        path = groups[key]
        inside = path.removeprefix(root) if root != "/" and f"{path}/".startswith(f"{root}/") else path
        own = f"{point}/{inside.strip('/')}".rstrip("/")
        found.append(Hierarchy(2 if kind == "cgroup2" else 1, own, point, frozenset(resources)))
    return found


def _unescape(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


@dataclass(frozen=True, slots=True)
class Branch:
    """Where groups for some resources can be made: below `directory`."""

    version: int
    directory: str
    resources: frozenset[str]


def find_branches(hierarchies: Sequence[Hierarchy]) -> list[Branch]:
    """One place at most for each resource, as far as it can be seen without trying; version 2 counts first."""
    branches: list[Branch] = []
    for hierarchy in sorted(hierarchies, key=lambda one: -one.version):
        left = _BOTH.difference(*(branch.resources for branch in branches))
        directory, given = (
            (hierarchy.own, hierarchy.resources) if hierarchy.version == 1 else _find_giver(hierarchy, left)
        )
        if given & left and os.access(directory, os.W_OK):
            branches.append(Branch(hierarchy.version, directory, given & left))
    return branches


def _find_giver(hierarchy: Hierarchy, wanted: frozenset[str]) -> tuple[str, frozenset[str]]:
    """Of a process's own group and those above, the nearest that hands on most of what is wanted."""
    directory, best, most = hierarchy.own, hierarchy.own, frozenset[str]()
    while True:
        given = wanted & set(_read(directory, "cgroup.subtree_control").split())
        if len(given) > len(most):
            best, most = directory, given
        if most == wanted or directory == hierarchy.top or _is_limited(directory):
            return best, most
        directory = os.path.dirname(directory)


def _is_limited(directory: str) -> bool:
    return any(_read(directory, name).split()[:1] not in ([], ["max"]) for name in ("memory.max", "cpu.max"))


def _read(directory: str, name: str) -> str:
    try:
        return Path(directory, name).read_text()
    except OSError:
        return ""  # a group at the top has few of the files


class Cgroup:
    """The group of one container's run: one directory in each hierarchy."""

    def __init__(self, directories: Mapping[Branch, str]) -> None:
        self._directories = dict(directories)

    @contextmanager
    def doors(self) -> Iterator[list[int]]:
        """Descriptors through which processes are let in (`let_in`), for a thread that is about to go where the
        hierarchies cannot be seen."""
        with ExitStack() as undo:
            fds = []
            for directory in self._directories.values():
                fds.append(os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
                undo.callback(os.close, fds[-1])
            yield fds

    def add(self, pid: int) -> None:
        """Put a process into the group. OSError; one that has ended, with its group or without, is fine."""
        try:
            with self.doors() as doors:
                let_in(doors, pid)
        except FileNotFoundError:
            pass

    def limit(self, limits: Limits) -> None:
        """Have the kernel hold its processes to `limits` from now on. OSError: for one, it uses more by now (v1)."""
        for branch, directory in self._directories.items():
            _write_limits(branch, directory, limits)

    def count_oom_kills(self) -> int:
        """How many of its processes the kernel has ended since they wanted more memory than there was."""
        return max(self._count(("memory.events", "memory.oom_control"), "oom_kill"), default=0)

    def count_throttled(self) -> int:
        """In how many spans of 0.1 s it had to wait, since its CPU was used up."""
        return max(self._count(("cpu.stat",), "nr_throttled"), default=0)

    def _count(self, files: Sequence[str], word: str) -> list[int]:
        texts = (_read(directory, name) for directory in self._directories.values() for name in files)
        return [int(line.split()[1]) for text in texts for line in text.splitlines() if line.split()[:1] == [word]]

    def remove(self) -> None:
        """Take it away, when its processes have ended; where the kernel still holds one, the pod's end does it."""
        for directory in self._directories.values():
            try:
                os.rmdir(directory)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EBUSY):
                    raise


def let_in(doors: Sequence[int], pid: int) -> None:
    """Put a process into the group that these are the doors of; one that has ended is fine."""
    for door in doors:
        try:
            os.write(door, str(pid).encode())
        except ProcessLookupError:
            return


def _write_limits(branch: Branch, directory: str, limits: Limits) -> None:
    limits = limits.within(branch.resources)
    if MEMORY in branch.resources:
        amount = -1 if limits.memory is None else limits.memory
        if branch.version == 1:
            Path(directory, "memory.limit_in_bytes").write_text(str(amount))
        else:
            Path(directory, "memory.max").write_text("max" if amount < 0 else str(amount))
            _write_where_there(directory, "memory.swap.max", "0")  # a limit is one on memory, wherever it lies
            _write_where_there(directory, "memory.oom.group", "1")  # a container ends as a whole
    if CPU in branch.resources:
        quota = -1 if limits.cpu is None else max(round(limits.cpu * _PERIOD_US), _LEAST_QUOTA_US)
        if branch.version == 1:
            Path(directory, "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            Path(directory, "cpu.cfs_quota_us").write_text(str(quota))
        else:
            Path(directory, "cpu.max").write_text(f"{'max' if quota < 0 else quota} {_PERIOD_US}")


def _write_where_there(directory: str, name: str, text: str) -> None:
    path = Path(directory, name)
    if path.exists():
        path.write_text(text)


@dataclass(slots=True)
class Cgroups:
    """All groups of a simulation. Any thread may use it.

    `record` is called with (kind, path) before a directory is made that has to be removed whatever happens: it is the
    ledger's.
    """

    name: str
    record: Callable[[str, str], None]
    hierarchies: Sequence[Hierarchy]
    why_not: str = ""
    _tops: dict[Branch, str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of_machine(cls, name: str, record: Callable[[str, str], None]) -> Cgroups:
        """Those below the calling process's own groups. Nothing is made before it is wanted."""
        texts = (Path("/proc/self", file).read_text() for file in ("mountinfo", "cgroup"))
        return cls(name, record, read_hierarchies(*texts))

    def resources(self) -> frozenset[str]:
        """The resources that can be limited; `why_not` says why it is not all of them."""
        return frozenset[str]().union(*(branch.resources for branch in self._top_directories()))

    def _top_directories(self) -> dict[Branch, str]:
        """Ours in each hierarchy, made when they are wanted first."""
        with self._lock:
            if self._tops is None:
                self._tops = dict(self._make_tops())
            return self._tops

    def _make_tops(self) -> Iterator[tuple[Branch, str]]:
        name = f"{PREFIX}{self.name}-{secrets.token_hex(4)}"
        for branch in find_branches(self.hierarchies):
            top = f"{branch.directory}/{name}"
            self.record("cgroup", top)
            try:
                os.mkdir(top)
                _hand_on(branch, top)
            except OSError as error:
                self.why_not = str(error)
                continue
            there = frozenset(one for one in branch.resources if os.path.exists(f"{top}/{_SIGNS[branch.version, one]}"))
            yield Branch(branch.version, branch.directory, there), top

    def create(self, pod: str, container: str, limits: Limits, whole: Limits) -> Cgroup | None:
        """A group for a container's run, in one of its pod's, which as a `whole` has limits too; None when there is
        nothing to limit, or no way to. OSError. `container` is a name never used before in this pod."""
        directories = {}
        for branch, top in self._top_directories().items():
            mine, theirs = limits.within(branch.resources), whole.within(branch.resources)
            if not mine and not theirs:
                continue
            above, directory = f"{top}/{pod}", f"{top}/{pod}/{container}"
            os.makedirs(above, exist_ok=True)
            _hand_on(branch, above)
            _write_limits(branch, above, theirs)
            os.makedirs(directory, exist_ok=True)  # an attempt whose limits were refused has left it
            _write_limits(branch, directory, mine)
            directories[branch] = directory
        return Cgroup(directories) if directories else None

    def limit_pod(self, pod: str, limits: Limits) -> None:
        """Other limits for a pod as a whole, if any of its containers has a group. OSError."""
        for branch, top in self._top_directories().items():
            if os.path.isdir(f"{top}/{pod}"):
                _write_limits(branch, f"{top}/{pod}", limits)

    def remove_pod(self, pod: str) -> None:
        """Take away what is left of a pod's groups. Where the kernel still holds a process, the end of the simulation
        does it."""
        with self._lock:
            tops = self._tops or {}
        for top in tops.values():
            try:
                _remove_groups(f"{top}/{pod}")
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise


#: for who enforces no limits
NO_CGROUPS = Cgroups("", lambda kind, path: None, ())


def _hand_on(branch: Branch, directory: str) -> None:
    """Have the groups below a directory share out what this one has (version 2)."""
    if branch.version == 2:
        Path(directory, "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in sorted(branch.resources)))


def _remove_groups(path: str) -> None:
    """Remove a directory of groups, from below; what is not there is fine. OSError (EBUSY) while a process is in it."""
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass


def remove_cgroup_tree(path: str) -> None:
    """Undo of the ledger's kind "cgroup". The processes have been killed; the kernel may need a moment to bury them."""

    def remaining() -> str:
        try:
            _remove_groups(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return f"the end of the processes in {error.filename}"
        return ""

    try:
        wait_until(f"the removal of {path}", remaining, _SWEEP_SECONDS)
    except NotReady as error:
        raise OSError(errno.EBUSY, error.why, path) from error
