"""Processes of containers: each in a pid and a mount namespace of its own, in its pod's network and UTS namespaces.

A thread enters the pod's place, makes the namespaces and the root directory (`rootfs`), starts the first process and
goes home; nothing is forked but that process. The first process of a pid namespace is its pid 1: with its end the
kernel ends all others of it, and only a process inside can mount that namespace's /proc. So pid 1 begins as a line of
shell which mounts /proc, says so, waits for leave and then becomes `env`, which sets the environment and the signal
dispositions and becomes the container's program: a chain of exec without a fork. That the program exists and can be
executed was seen before, from inside the container's root directory.

As in reality, pid 1 gets a signal only if it catches it, but for SIGKILL: `sleep` as pid 1 ignores SIGTERM.
Cost: 4 ms to start, of which the shell and mount(8) take 2.6 ms, and no process beside the container's own.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from knetsim.errors import CommandError, KnetsimError, NotFound
from knetsim.system import linux
from knetsim.system.netns import Namespaces, entered, new_pid_namespace
from knetsim.system.rootfs import Mount, build_root, protect_proc

#: what a container's environment holds unless told otherwise, as container runtimes have it
DEFAULT_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
#: the exit code of what could not be started, as container runtimes give it (reason StartError)
START_FAILED = 128

#: pid 1's line of shell; its standard input is a channel to the starting thread, for both directions
_FIRST = 'mount -n -t proc -o nosuid,nodev,noexec proc /proc && echo >&0 && read -r go && exec "$@" </dev/null'
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to start. `place` is the worker's, with the pod's network and UTS namespaces, and outlives the process.

    `scratch` is an empty directory of the worker for the container's mounts, `log` the file (of the engine's) to which
    `ContainerWatch` appends what the container writes. Nothing of the engine's environment is inherited.
    """

    name: str
    place: Namespaces
    argv: Sequence[str]
    log: str
    scratch: str
    mounts: Sequence[Mount] = ()
    env: Mapping[str, str] = field(default_factory=lambda: DEFAULT_ENV)
    cwd: str = "/"
    privileged: bool = False


class Process:
    """A started program. `exit_code` is None while it runs, then as in a shell: 128 and the signal's number after a
    signal. What it writes has to be read from the pipes in `streams`, by name; ContainerWatch writes it to `log`.

    Any thread may use it.
    """

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: str) -> None:
        self.name, self.pid, self.log = name, child.pid, log
        self.exit_code: int | None = None
        self.pidfd = os.pidfd_open(child.pid)
        pipes = {"stdout": child.stdout, "stderr": child.stderr}
        self.streams = {name: pipe.fileno() for name, pipe in pipes.items() if pipe is not None}
        self._child = child
        self._lock = threading.Lock()

    def signal(self, number: int) -> None:
        """Send it a signal; one that has ended is fine."""
        with self._lock:
            if self.exit_code is None:
                try:
                    signal.pidfd_send_signal(self.pidfd, number)
                except ProcessLookupError:
                    pass  # it has just ended

    def terminate(self) -> None:
        """Ask it to end."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end; the exit code, or None after `timeout` seconds."""
        if self.exit_code is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                return None
            with self._lock:
                self._reap()
        return self.exit_code

    def _reap(self) -> None:
        if self.exit_code is None:
            code = self._child.wait()
            self.exit_code = code if code >= 0 else 128 - code

    def release(self) -> None:
        """Let go of it and leave it as it is. Nobody may be watching it any more. Twice is once."""
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def close(self) -> None:
        """End it if it runs, and let go of it. Nobody may be watching it any more. Twice is once."""
        self.kill()
        self.wait()
        self.release()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()


class ContainerProcess(Process):
    """A container's first process; with it all others of the container end."""

    def __init__(self, spec: ContainerSpec, child: subprocess.Popen[bytes], mounts: int, read_only_root: str) -> None:
        """Takes over `mounts`, the descriptor of its mount namespace; `read_only_root` is what `build_root` said."""
        super().__init__(spec.name, child, spec.log)
        self.read_only_root = read_only_root
        pids = os.open(f"/proc/{child.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._own = Namespaces(spec.name, mnt=mounts, pid=pids)
        self._place = spec.place

    def exec_place(self) -> Namespaces:
        """Where a command for this container runs; the caller closes it. NotFound when the container has ended."""
        with self._lock:
            if self.exit_code is not None:
                raise NotFound(f"container {self.name} is not running", why=f"it ended with exit code {self.exit_code}")
            return self._place.with_fds(self.name, **self._own.fds)

    def _reap(self) -> None:
        super()._reap()
        self._own.close()

    def release(self) -> None:
        """Let go of it and of its namespaces."""
        with self._lock:
            self._own.close()
        super().release()


def start_command(
    place: Namespaces, argv: Sequence[str], log: str, *, env: Mapping[str, str] = DEFAULT_ENV, cwd: str = "/"
) -> Process:
    """Start a program beside a pod's containers, in a session of its own; what it writes is appended to the file `log`.

    CommandError when there is no such program.
    """
    try:
        with open(log, "ab") as file, entered(place):
            child = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
    except (OSError, ValueError) as error:  # ValueError: a word that holds a null byte
        raise CommandError(argv, START_FAILED, str(error), place.name) from error
    return Process(place.name, child, log)


def start_process(spec: ContainerSpec) -> ContainerProcess:
    """Start a container's first process; returns when it is about to execute the container's program.

    CommandError with the code 128, and the words of a container runtime, when it cannot be started.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(_START_SECONDS)
    try:
        with ours, theirs, ExitStack() as undo:
            with entered(spec.place):
                linux.unshare(linux.CLONE_NEWNS)
                mounts = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                undo.callback(os.close, mounts)
                read_only_root = build_root(spec.scratch, spec.mounts)
                child = _start_first(spec, theirs.fileno())
                undo.callback(_end_child, child)
                theirs.close()
                _lead(spec, child, ours)
            process = ContainerProcess(spec, child, mounts, read_only_root)
            undo.pop_all()
            return process
    except CommandError:
        raise
    except (OSError, ValueError, KnetsimError) as error:  # ValueError: a word that holds a null byte
        raise _start_error(spec, str(error), error.hint if isinstance(error, KnetsimError) else "") from error


def _end_child(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    with child:  # closes its pipes and waits for it
        pass


def _start_first(spec: ContainerSpec, channel: int) -> subprocess.Popen[bytes]:
    """Fork pid 1. The thread stands in the container's root directory."""
    os.makedirs(spec.cwd, exist_ok=True)
    _check_program(spec)
    words = ["env", "-i", "--default-signal", *(f"{name}={value}" for name, value in spec.env.items()), *spec.argv]
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what is blocked here would be blocked there
    try:
        with new_pid_namespace():
            return subprocess.Popen(
                ["/bin/sh", "-c", _FIRST, "sh", *words],
                env={"PATH": DEFAULT_ENV["PATH"]},
                cwd=spec.cwd,
                stdin=channel,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _lead(spec: ContainerSpec, child: subprocess.Popen[bytes], channel: socket.socket) -> None:
    """See /proc mounted, give leave, see the program executed: then the other end of the channel is closed."""
    if not channel.recv(1):
        assert child.stderr is not None
        raise _start_error(spec, child.stderr.read().decode(errors="replace").strip())
    if not spec.privileged:
        protect_proc()
    channel.sendall(b"\n")
    channel.recv(1)


def _check_program(spec: ContainerSpec) -> None:
    """CommandError unless the program is there and can be executed; in the words of container runtimes."""
    word = spec.argv[0]
    if "=" in word:
        raise _start_error(spec, f'exec: "{word}": the name of a program cannot hold "="')
    if "/" not in word:
        found = shutil.which(word, path=spec.env.get("PATH", DEFAULT_ENV["PATH"]))
        if found is None:
            raise _start_error(spec, f'exec: "{word}": executable file not found in $PATH')
    else:
        found = os.path.join(spec.cwd, word)
        if not os.path.exists(found):
            raise _start_error(spec, f'exec: "{word}": stat {word}: no such file or directory')
        if not os.path.isfile(found) or not os.access(found, os.X_OK):
            raise _start_error(spec, f'exec: "{word}": permission denied')
    with open(found, "rb") as file:
        begin = file.readline(256)
    if begin.startswith(b"#!"):
        interpreter = os.fsdecode(begin[2:].split()[0]) if begin[2:].split() else ""
        if not os.path.exists(interpreter):
            raise _start_error(spec, f'exec: "{word}": its interpreter "{interpreter}" does not exist')
    elif not begin.startswith(b"\x7fELF"):
        raise _start_error(spec, f'exec: "{word}": exec format error')


def _start_error(spec: ContainerSpec, why: str, hint: str = "") -> CommandError:
    return CommandError(spec.argv, START_FAILED, why, spec.name, hint)
