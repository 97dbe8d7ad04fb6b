"""Long-lived programs: started in a place, watched, restarted when they die, ended by descriptor and never by name.

A daemon is started by an argument list in a session of its own, so that a signal typed at the prompt never reaches it,
with standard input from /dev/null and its output appended to a log file. One thread waits for all of them on their
pidfds. A daemon that ends without being asked is started again after a back-off that doubles from 0.2 s to 10 s and
starts anew once it has run for 30 s.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from knetsim.errors import KnetsimError, NotReady
from knetsim.system.netns import Namespaces, entered
from knetsim.system.run import start_error

BACKOFF_FIRST = 0.2
BACKOFF_LAST = 10.0
STEADY_AFTER = 30.0


@dataclass(frozen=True)
class DaemonSpec:
    """How a daemon is started: `name` is `C0e1/etcd` (host/program); `place` is where it runs, None for here.

    `stale` are files, such as UNIX sockets, that one that was killed leaves and that would keep the next from starting.
    """

    name: str
    argv: Sequence[str]
    log: Path
    place: Namespaces | None = None
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    stale: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """What `knetsim status` shows of a daemon. `last_exit` is words: `exit 1`, `signal 9`, or empty."""

    name: str
    pid: int | None
    running: bool
    restarts: int
    last_exit: str
    log: str


@dataclass
class Daemon:
    """A supervised daemon; its fields are the supervisor's business."""

    spec: DaemonSpec
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    started: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    backoff: float = BACKOFF_FIRST
    due: float | None = None
    stopping: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def status(self) -> DaemonStatus:
        """A snapshot for `knetsim status`."""
        pid = self.process.pid if self.process else None
        return DaemonStatus(self.spec.name, pid, pid is not None, self.restarts, self.last_exit, str(self.spec.log))


def explain_exit(code: int) -> str:
    """`exit 1` or `signal 9 (SIGKILL)`."""
    if code >= 0:
        return f"exit {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def read_child_titles(pid: int) -> list[str]:
    """What a process's children call themselves: their command lines, which daemons rewrite to tell their state."""
    titles = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    for child in children:
        try:
            text = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        titles.append(text.replace(b"\0", b" ").decode(errors="replace").strip())
    return titles


def _end_children(process: subprocess.Popen[bytes]) -> None:
    """End what a daemon that has ended leaves in its session: a worker process of it would hold the port of the next.

    The daemon must not have been waited for: until then nobody else gets its number.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Supervisor:
    """Watches daemons in one thread. `on_exit(daemon)` is called there after an unexpected end, to tell the user."""

    def __init__(
        self,
        on_exit: Callable[[Daemon], None] = lambda daemon: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_exit = on_exit
        self._clock = clock
        self._daemons: dict[str, Daemon] = {}
        self._leaving: list[Daemon] = []  # asked to stop, still running
        self._lock = threading.RLock()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._closing = False
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def start(self, spec: DaemonSpec) -> Daemon:
        """Start a daemon and keep it running. MissingTool when there is no such program, KnetsimError when it cannot be
        started, as when its log cannot be written."""
        daemon = Daemon(spec)
        with self._lock:
            if spec.name in self._daemons:
                raise ValueError(f"daemon {spec.name} is supervised already")
            self._spawn(daemon)
            self._daemons[spec.name] = daemon
        self._wake()
        return daemon

    def stop(self, name: str, grace: float = 5.0) -> None:
        """End a daemon: TERM, then KILL after `grace` seconds. One that is not there is fine."""
        with self._lock:
            daemon = self._daemons.pop(name, None)
            if daemon is None:
                return
            daemon.stopping = True
            if daemon.process is None:
                return
            self._leaving.append(daemon)
            signal.pidfd_send_signal(daemon.pidfd, signal.SIGTERM)
        self._wake()
        if not daemon.ended.wait(grace):
            with self._lock:
                if daemon.process is not None:
                    signal.pidfd_send_signal(daemon.pidfd, signal.SIGKILL)
            if not daemon.ended.wait(grace):
                raise NotReady(f"{name} did not end", why="it did not react to SIGKILL", hint="is its disk hanging?")

    def restart(self, name: str) -> None:
        """Have a daemon end and start anew, at once and not as a failure; one that is down is left to its back-off."""
        with self._lock:
            daemon = self._daemons.get(name)
            if daemon is not None and daemon.process is not None:
                daemon.backoff = 0.0
                signal.pidfd_send_signal(daemon.pidfd, signal.SIGTERM)

    def reload(self, name: str) -> bool:
        """Have a daemon read its configuration again (SIGHUP); False when it is not running."""
        with self._lock:
            daemon = self._daemons.get(name)
            if daemon is None or daemon.process is None:
                return False
            signal.pidfd_send_signal(daemon.pidfd, signal.SIGHUP)
            return True

    def get(self, name: str) -> Daemon | None:
        """The daemon of that name, or None."""
        with self._lock:
            return self._daemons.get(name)

    def status(self) -> list[DaemonStatus]:
        """All daemons, by name."""
        with self._lock:
            return [daemon.status() for _, daemon in sorted(self._daemons.items())]

    def close(self) -> None:
        """Stop watching; daemons go on (they end with the sandbox). Twice is once."""
        with self._lock:
            if self._closing:
                return
            self._wake()
            self._closing = True
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        with self._lock:
            if not self._closing:
                try:
                    os.write(self._wake_write, b".")
                except BlockingIOError:
                    pass  # the pipe is full of wake-ups already

    def _spawn(self, daemon: Daemon) -> None:
        spec = daemon.spec
        try:
            spec.log.parent.mkdir(parents=True, exist_ok=True)
            for path in spec.stale:
                path.unlink(missing_ok=True)
            with spec.log.open("ab") as log, entered(spec.place) if spec.place else nullcontext():
                daemon.process = subprocess.Popen(
                    spec.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=spec.cwd,
                    env=dict(spec.env) if spec.env is not None else None,
                    start_new_session=True,
                )
        except OSError as error:
            raise start_error(error, spec.argv, spec.name) from error
        daemon.pidfd = os.pidfd_open(daemon.process.pid)
        daemon.started = self._clock()
        daemon.due = None

    def _watch(self) -> None:
        while not self._closing:
            with self._lock:
                watched = [daemon for daemon in self._all() if daemon.process is not None]
                due = [daemon.due for daemon in self._all() if daemon.due is not None]
            poll = select.poll()
            poll.register(self._wake_read, select.POLLIN)
            for daemon in watched:
                poll.register(daemon.pidfd, select.POLLIN)
            wait = max(0.0, min(due) - self._clock()) * 1000 if due else None
            ready = {fd for fd, _ in poll.poll(wait)}
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            for daemon in watched:
                if daemon.pidfd in ready:
                    self._ended(daemon)
            self._start_due()

    def _all(self) -> list[Daemon]:
        return [*self._daemons.values(), *self._leaving]

    def _ended(self, daemon: Daemon) -> None:
        with self._lock:
            assert daemon.process is not None
            _end_children(daemon.process)
            code = daemon.process.wait()
            os.close(daemon.pidfd)
            daemon.process, daemon.pidfd = None, -1
            daemon.last_exit = explain_exit(code)
            if daemon.stopping:
                self._leaving.remove(daemon)
                daemon.ended.set()
                return
            if self._clock() - daemon.started > STEADY_AFTER:
                daemon.backoff = BACKOFF_FIRST
            daemon.due = self._clock() + daemon.backoff
            daemon.backoff = min(max(daemon.backoff * 2, BACKOFF_FIRST), BACKOFF_LAST)
        self._on_exit(daemon)

    def _start_due(self) -> None:
        now = self._clock()
        with self._lock:
            for daemon in self._daemons.values():
                if daemon.due is not None and daemon.due <= now and not daemon.stopping:
                    daemon.restarts += 1
                    try:
                        self._spawn(daemon)
                    except (KnetsimError, OSError) as error:
                        daemon.last_exit = str(error)
                        daemon.due = now + daemon.backoff
                        daemon.backoff = min(daemon.backoff * 2, BACKOFF_LAST)
