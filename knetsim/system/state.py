"""State directories of simulations on the host: claimed, found again from other terminals, recognised as stale, swept.

/run/knetsim/NAME is a simulation's directory, locked (flock) as long as one of its own processes lives: whether it runs
is therefore asked of the kernel, not guessed from a pid file. /run/knetsim itself is locked while a directory is
claimed or swept. Inside the sandbox the directory is seen as /tmp/knetsim; the empty mount point for that is made on
the host by the first simulation and removed by the last (`.mountpoint` says that it is ours).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from knetsim.errors import AlreadyExists, NotFound, UsageError
from knetsim.names import DNS_LABEL, HOST_STATE, INSIDE_STATE, did_you_mean
from knetsim.system.invocation import as_typed, start_as_typed
from knetsim.system.ledger import Ledger

IDENTITY_FILE = "simulation.json"
CONTROL_SOCKET = "control.sock"
#: for kubectl on the host: all clusters of the simulation
KUBECONFIG = "kubeconfig"
#: what kubectl remembers of an API server, which it would keep below ~/.kube for good
KUBECTL_CACHE = "kubectl-cache"
_MOUNTPOINT_MARK = ".mountpoint"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a running simulation is; pids are the host's. `init` is process 1 of the sandbox, None before it is there."""

    name: str
    scenario: str
    started: float
    outer: int
    guard: int
    detached: bool
    version: str
    init: int | None = None


class StateDirectory:
    """One simulation's directory. `claimed` holds its lock; forked children hold it too, until the last one ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.ledger = Ledger(path)
        self._lock: int | None = None

    @property
    def control_socket(self) -> str:
        """The UNIX socket at which the engine answers other terminals."""
        return str(self.path / CONTROL_SOCKET)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of its clusters, for programs of the host; there once it is ready, if any has an API
        server."""
        return self.path / KUBECONFIG

    @property
    def kubectl_cache(self) -> Path:
        """A directory for kubectl, which makes it: $KUBECACHEDIR."""
        return self.path / KUBECTL_CACHE

    def is_running(self) -> bool:
        """True while a process of the simulation holds the lock."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look at once do not see each other
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def identity(self) -> Identity | None:
        """What the simulation wrote about itself; None in the moment of its claim (or after a crash in that moment)."""
        try:
            return Identity(**json.loads((self.path / IDENTITY_FILE).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None  # TypeError: another version of knetsim wrote it

    def write_identity(self, identity: Identity) -> None:
        """Publish `identity`, whole or not at all."""
        temporary = self.path / f"{IDENTITY_FILE}.new"
        temporary.write_text(json.dumps(asdict(identity)) + "\n")
        temporary.rename(self.path / IDENTITY_FILE)

    def lock(self) -> None:
        """Hold the directory's lock in this process and its children to come."""
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # one that looks whether it is held holds it for an instant

    def wait_unlocked(self) -> None:
        """Block until the last process of a dying simulation has let go of the lock."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def unlock(self) -> None:
        """Let go of this process's share of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def _root_locked(root: Path) -> Iterator[None]:
    """Nobody else claims or sweeps inside the block; `root` exists in it."""
    while True:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # the last simulation has just removed it
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            same = os.path.samestat(os.fstat(fd), os.stat(root))
        except FileNotFoundError:
            same = False
        if same:
            break
        os.close(fd)  # the one before us removed the directory while we waited
    try:
        yield
    finally:
        os.close(fd)


def _directories(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _sweep_locked(state: StateDirectory, root: Path) -> None:
    """Undo what `state` owns; when it was the last simulation, the shared mount point and the root too."""
    try:
        state.ledger.sweep()
    finally:
        if not _directories(root):
            mark = root / _MOUNTPOINT_MARK
            if mark.exists():
                try:
                    os.rmdir(INSIDE_STATE)
                except OSError:
                    pass  # somebody put files there, or removed it: not ours any more
                mark.unlink()
            try:
                os.rmdir(root)
            except OSError:
                pass  # another simulation has just been claimed beside us


def claim(identity: Identity, root: Path = Path(HOST_STATE)) -> StateDirectory:
    """A fresh, locked state directory for a simulation, which says whose it is; what a crashed one left is swept first.

    UsageError when its name is no DNS label, AlreadyExists when a simulation of that name runs.
    """
    name = identity.name
    if not DNS_LABEL.match(name):
        raise UsageError(
            f"'{name}' cannot name a simulation",
            "--name",
            "lower-case letters, digits and '-', 63 at most",
            "try: --name lab1",
        )
    state = StateDirectory(root / name)
    with _root_locked(root):
        if state.path.exists():
            if state.is_running():
                raise AlreadyExists(
                    f"a simulation named '{name}' is running",
                    str(state.path),
                    hint=f"end it: {as_typed(f'down --name {name}')}; or start another beside it: --name NAME",
                )
            state.ledger.sweep()
        _sweep_stale(root)
        state.path.mkdir(mode=0o755)
        state.lock()
        state.write_identity(identity)
        _ensure_mountpoint(root)
    return state


def _sweep_stale(root: Path) -> None:
    for path in _directories(root):
        other = StateDirectory(path)
        if not other.is_running():
            other.ledger.sweep()


def _ensure_mountpoint(root: Path) -> None:
    mark = root / _MOUNTPOINT_MARK
    if not os.path.isdir(INSIDE_STATE):
        mark.touch()
        os.mkdir(INSIDE_STATE, 0o755)


def sweep(state: StateDirectory) -> None:
    """Undo all that the simulation made outside its namespaces; to be called when none of its processes is left."""
    root = state.path.parent
    with _root_locked(root):
        state.unlock()
        _sweep_locked(state, root)


def sweep_stale(state: StateDirectory) -> None:
    """Undo what the simulation made, unless it runs: under the same name another may have been claimed meanwhile."""
    root = state.path.parent
    if state.path.exists():
        with _root_locked(root):
            if not state.is_running():
                _sweep_locked(state, root)


def simulations(root: Path = Path(HOST_STATE)) -> list[StateDirectory]:
    """All state directories, stale ones too."""
    return [StateDirectory(path) for path in _directories(root)]


def find(name: str | None, root: Path = Path(HOST_STATE)) -> StateDirectory:
    """The running simulation `name`, or the only one that runs when `name` is None; NotFound or UsageError
    otherwise."""
    running = {state.name: state for state in simulations(root) if state.is_running()}
    if name is not None:
        if name not in running:
            hint = did_you_mean(name, running) or f"start it: {as_typed(f'up --name {name}')}"
            raise NotFound(f"no simulation named '{name}' is running", hint=hint)
        return running[name]
    if not running:
        raise NotFound(
            "no simulation is running", hint=f"start one: {start_as_typed()} (or: {as_typed('up --detach')})"
        )
    if len(running) > 1:
        raise UsageError(f"{len(running)} simulations are running: {', '.join(running)}", hint="say which: --name NAME")
    return next(iter(running.values()))
