"""Processes of containers: each in a pid and a mount namespace of its own, in its pod's network and UTS namespaces.

A thread enters the pod's place, makes the namespaces and the root directory (`rootfs`), starts the first process and
goes home; nothing is forked but that process. The first process of a pid namespace is its pid 1: with its end the
kernel ends all others of it, and only a process inside can mount that namespace's /proc. So pid 1 begins as a line of
shell which mounts /proc, says so, waits for leave and then becomes `env`, which sets the environment and the signal
dispositions and becomes the container's program: a chain of exec without a fork. That the program exists and can be
executed was seen before, from inside the container's root directory. The image may have none of the shell, mount(8)
and `env`, or others: they are the machine's. It is out of sight when `env` is executed, which is found nevertheless,
since pid 1 begins in the machine's directory of programs.

A standard input that is to be written to is a named pipe, which pid 1 opens by its name: the shell knows no other way
to a descriptor above 9. A terminal is one of the container's own /dev/pts, and pid 1's controlling terminal by being
the first that its session opens.

As in reality, pid 1 gets a signal only if it catches it, but for SIGKILL: `sleep` as pid 1 ignores SIGTERM.
Cost: 4 ms to start, of which the shell and mount(8) take 2.6 ms, and no process beside the container's own.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from knetsim.errors import CommandError, KnetsimError, NotFound
from knetsim.system import linux
from knetsim.system.cgroup import Cgroup, let_in
from knetsim.system.identity import DEFAULT_IDENTITY, ProcessIdentity, User, build_setpriv, find_user
from knetsim.system.netns import Namespaces, entered, new_pid_namespace
from knetsim.system.rootfs import MACHINE, Mount, build_root, hide_machine, protect_proc, protect_root

#: what a container's environment holds unless told otherwise, as container runtimes have it
DEFAULT_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
#: the exit code of what could not be started, as container runtimes give it (reason StartError)
START_FAILED = 128

#: pid 1's line of shell; its standard input is a channel to the starting thread, for both directions, and $0 what is
#: to take its place
_FIRST = './mount -n -t proc -o nosuid,nodev,noexec proc /proc && echo >&0 && read -r go && exec "$@" <"$0"'
_FIRST_ON_TERMINAL = f'{_FIRST} >"$0" 2>&1'
_PROGRAMS = f"{MACHINE}/usr/bin"
_INPUT = "/run/stdin"
_TIOCGPTN, _TIOCSPTLCK = 0x80045430, 0x40045431  # asm-generic/ioctls.h: the terminal's number; its lock
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to start. `place` is the worker's, with the pod's network and UTS namespaces, and outlives the process.

    `scratch` is an empty directory of the worker for the container's mounts, `log` the file (of the engine's) to which
    `ContainerWatch` appends what the container writes. Nothing of the engine's environment is inherited. `layers` are
    the image's, the first uppermost (`rootfs`). With `stdin` its standard input is open, with `tty` all three are a
    terminal: `Process.stdin` writes to it. HOME is the home directory of the user, unless `env` says otherwise. In
    `cgroup` it is from before its program is executed. With `stop_signal` it is asked to end.
    """

    name: str
    place: Namespaces
    argv: Sequence[str]
    log: str
    scratch: str
    mounts: Sequence[Mount] = ()
    env: Mapping[str, str] = field(default_factory=lambda: DEFAULT_ENV)
    cwd: str = "/"
    identity: ProcessIdentity = DEFAULT_IDENTITY
    layers: Sequence[str] = ()
    stdin: bool = False
    tty: bool = False
    cgroup: Cgroup | None = None
    stop_signal: int = signal.SIGTERM


class Process:
    """A started program. `exit_code` is None while it runs, then as in a shell: 128 and the signal's number after a
    signal. What it writes has to be read from the pipes in `streams`, by name; ContainerWatch writes it to `log`. Of a
    terminal, `stdout` is all there is, and `stdin` the same terminal's master; without `stdin` it is None.

    Any thread may use it.
    """

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: str) -> None:
        self.name, self.pid, self.log = name, child.pid, log
        self.stdin: int | None = None
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
        self.close_stdin()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()

    def dup_stdin(self) -> int | None:
        """The standard input once more, for somebody who writes to it without blocking and closes it; None without
        one."""
        with self._lock:
            if self.stdin is None:
                return None
            os.set_blocking(self.stdin, False)
            return os.dup(self.stdin)

    def close_stdin(self) -> None:
        """Let its standard input end; a terminal's does not, it takes a ^D for that. Twice is once."""
        with self._lock:
            stdin, self.stdin = self.stdin, None
        if stdin is not None:
            os.close(stdin)


class ContainerProcess(Process):
    """A container's first process; with it all others of the container end."""

    def __init__(
        self, spec: ContainerSpec, child: subprocess.Popen[bytes], mounts: int, read_only_root: str, stdin: int | None
    ) -> None:
        """Takes over `mounts`, the descriptor of its mount namespace, and `stdin`; `read_only_root` is what
        `build_root` said."""
        super().__init__(spec.name, child, spec.log)
        self.spec, self.read_only_root, self.stdin = spec, read_only_root, stdin
        if spec.tty and stdin is not None:
            self._terminal: int | None = os.dup(stdin)
            self.streams = {"stdout": self._terminal}
        else:
            self._terminal = None
        pids = os.open(f"/proc/{child.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._own = Namespaces(spec.name, mnt=mounts, pid=pids)
        self._place = spec.place

    def terminate(self) -> None:
        """Ask it to end."""
        self.signal(self.spec.stop_signal)

    def exec_place(self) -> Namespaces:
        """Where a command for this container runs; the caller closes it. NotFound when the container has ended."""
        with self._lock:
            if self.exit_code is not None:
                raise NotFound(f"container {self.name} is not running", why=f"it ended with exit code {self.exit_code}")
            return self._place.with_fds(self.name, **self._own.fds)

    def _reap(self) -> None:
        super()._reap()
        self._own.close()

    def close(self) -> None:
        """End it if it runs, and let go of it and of its terminal."""
        super().close()
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            os.close(terminal)

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
        with ours, theirs, ExitStack() as kept, ExitStack() as undo:
            doors = kept.enter_context(spec.cgroup.doors()) if spec.cgroup else []
            with entered(spec.place):
                linux.unshare(linux.CLONE_NEWNS)
                mounts = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                undo.callback(os.close, mounts)
                read_only_root = build_root(spec.scratch, spec.mounts, spec.layers)
                path, stdin = _open_input(spec, undo)
                user = find_user(spec.identity)
                child = _start_first(spec, user, theirs.fileno(), path)
                undo.callback(_end_child, child)
                _give_streams(user, child, path)
                theirs.close()
                _lead(spec, child, ours, doors)
                stdin = _settle_input(spec, stdin)
            process = ContainerProcess(spec, child, mounts, read_only_root, stdin)
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


def _open_input(spec: ContainerSpec, undo: ExitStack) -> tuple[str, int | None]:
    """The path that is to be the program's standard input, and our end of it."""
    if spec.tty:
        master, name = open_terminal()
        undo.callback(os.close, master)
        return name, master
    if spec.stdin:
        os.mkfifo(_INPUT, 0o600)
        both = os.open(_INPUT, os.O_RDWR | os.O_CLOEXEC)  # so that neither end waits for the other to be opened
        undo.callback(os.close, both)
        return _INPUT, both
    return "/dev/null", None


def _give_streams(user: User, child: subprocess.Popen[bytes], stdin: str) -> None:
    """Let the user open its own /dev/stdout again; a terminal is the user's own."""
    if user.uid == 0:
        return
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            os.fchown(pipe.fileno(), user.uid, user.gid)
    if stdin.startswith("/dev/pts/"):
        os.chown(stdin, user.uid, -1)


def open_terminal() -> tuple[int, str]:
    """A terminal in the calling thread's /dev/pts: its master, and its name."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    (number,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
    return master, f"/dev/pts/{number}"


def _settle_input(spec: ContainerSpec, stdin: int | None) -> int | None:
    """Of a named pipe that the program has opened, leave us the end to write to, under the same number: with it the
    program's input ends."""
    if stdin is not None and not spec.tty:
        end = os.open(_INPUT, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(end, stdin, inheritable=False)
        os.close(end)
        os.unlink(_INPUT)
    return stdin


def _start_first(spec: ContainerSpec, user: User, channel: int, stdin: str) -> subprocess.Popen[bytes]:
    """Fork pid 1. The thread stands in the container's root directory."""
    os.makedirs(spec.cwd, exist_ok=True)
    _check_program(spec)
    variables = (f"{name}={value}" for name, value in {"HOME": user.home, **spec.env}.items())
    words = ["./env", "-i", "--default-signal", f"--chdir={spec.cwd}", *variables, *spec.argv]
    if becoming := build_setpriv(spec.identity, user):
        words = ["./setpriv", *becoming, *words]
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what is blocked here would be blocked there
    try:
        with new_pid_namespace():
            return subprocess.Popen(
                ["./sh", "-c", _FIRST_ON_TERMINAL if spec.tty else _FIRST, stdin, *words],
                env={"PATH": DEFAULT_ENV["PATH"]},
                cwd=_PROGRAMS,
                stdin=channel,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _lead(spec: ContainerSpec, child: subprocess.Popen[bytes], channel: socket.socket, doors: Sequence[int]) -> None:
    """See /proc mounted, give leave, see the program executed: then the other end of the channel is closed. `doors`
    are those of its control group."""
    if not channel.recv(1):
        assert child.stderr is not None
        raise _start_error(spec, child.stderr.read().decode(errors="replace").strip())
    let_in(doors, child.pid)
    if not spec.identity.privileged:
        protect_proc()
    hide_machine()
    if spec.identity.read_only_root:
        protect_root("/", "/tmp", *(() if spec.stdin and not spec.tty else ("/run",)))  # the named pipe is in /run
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
