"""Commands that somebody is connected to: `kubectl exec` and probes, in a container's namespaces, with pipes or a
terminal.

Reality: the container runtime (runc) joins the container's namespaces, takes its user, capabilities and environment,
and executes the program; an exit code goes back. Ours: a thread of its own joins them, and never comes home: whatever
it gives up (its root directory, its namespaces) is given up by nobody else. It starts the program by posix_spawn(3),
which says why a program cannot be executed, and ends. A terminal is one of the container's own /dev/pts; it becomes
the program's controlling terminal by being the first that a new session opens.

There is no process beside the command.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import termios
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field

from knetsim.errors import CommandError, KnetsimError
from knetsim.system import linux
from knetsim.system.container import DEFAULT_ENV, open_terminal
from knetsim.system.identity import DEFAULT_IDENTITY, ProcessIdentity, User, become, find_user
from knetsim.system.netns import Namespaces, enter_for_good

#: exit codes of a shell, and of container runtimes: the program cannot be executed; there is none
CANNOT_EXECUTE, NO_PROGRAM = 126, 127
_STDIN, _STDOUT, _STDERR = range(3)


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """What to start where. `stdin` says that somebody writes to it; with `tty` all three files are a terminal."""

    place: Namespaces
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=lambda: DEFAULT_ENV)
    cwd: str = "/"
    identity: ProcessIdentity = DEFAULT_IDENTITY
    stdin: bool = False
    tty: bool = False


class ExecSession:
    """A started command. Its descriptors do not block; `stdin` and the values of `outputs` are this object's, and of a
    terminal they are the same one. `pidfd` can be read when the command has ended."""

    def __init__(self, pid: int, stdin: int | None, outputs: Mapping[str, int], *, tty: bool) -> None:
        self.pid, self.tty = pid, tty
        self.pidfd = os.pidfd_open(pid)
        self.stdin, self.outputs = stdin, dict(outputs)
        self._exit_code: int | None = None
        for fd in self._fds():
            os.set_blocking(fd, False)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size; without one nothing happens."""
        if self.tty and self.stdin is not None:
            resize_terminal(self.stdin, columns, rows)

    def close_stdin(self) -> None:
        """End the standard input of a command without a terminal. Twice is once."""
        if not self.tty and self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def reap(self) -> int:
        """The exit code, as in a shell; waits for the end."""
        if self._exit_code is None:
            ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            assert ended is not None
            self._exit_code = ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
        return self._exit_code

    def kill(self) -> None:
        """End the command and its process group at once; what has ended is fine."""
        if self._exit_code is None:  # not reaped: its number is nobody else's
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        """End it if it runs, and let go of everything. Twice is once."""
        if self.pidfd < 0:
            return
        self.kill()
        self.reap()
        for fd in self._fds():
            os.close(fd)
        os.close(self.pidfd)
        self.pidfd, self.stdin, self.outputs = -1, None, {}

    def _fds(self) -> set[int]:
        return {*self.outputs.values(), *([] if self.stdin is None else [self.stdin])}


def resize_terminal(fd: int, columns: int, rows: int) -> None:
    """Set the size of the terminal whose master is `fd`."""
    limit = 0xFFFF
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", min(rows, limit), min(columns, limit), 0, 0))


def start_session(spec: CommandSpec) -> ExecSession:
    """Start a command. CommandError, with the code and the words of a container runtime, when it cannot be."""
    started: Future[ExecSession] = Future()

    def start() -> None:
        try:
            started.set_result(_start(spec))
        except (OSError, ValueError, KnetsimError) as error:  # ValueError: a word that holds a null byte
            started.set_exception(error)

    threading.Thread(target=start, name="exec", daemon=True).start()
    try:
        return started.result()
    except (OSError, ValueError) as error:
        raise _refusal(spec, str(error)) from error


def _start(spec: CommandSpec) -> ExecSession:
    """In a thread that ends with this."""
    with ExitStack() as undo, ExitStack() as theirs:
        enter_for_good(spec.place)
        user = find_user(spec.identity)
        actions: list[_Action]
        if spec.tty:
            stdin, name = open_terminal()
            undo.callback(os.close, stdin)
            os.chown(name, user.uid, -1)
            outputs = {"stdout": stdin}
            actions = [(os.POSIX_SPAWN_OPEN, _STDIN, name, os.O_RDWR, 0)]
            actions += [(os.POSIX_SPAWN_DUP2, _STDIN, fd) for fd in (_STDOUT, _STDERR)]
        else:
            ends = [_open_pipe(undo, theirs, ours=ours) for ours in (1, 0, 0)]
            stdin, outputs = ends[0][0], {"stdout": ends[1][0], "stderr": ends[2][0]}
            for _, end in ends:  # so that the user may open its own /dev/stdout again
                os.fchown(end, user.uid, user.gid)
            actions = [(os.POSIX_SPAWN_DUP2, end, fd) for fd, (_, end) in enumerate(ends)]
        session = ExecSession(_spawn(spec, user, actions), stdin, outputs, tty=spec.tty)
        undo.pop_all()
    if not spec.stdin:
        session.close_stdin()
    return session


_Action = tuple[int, int, int] | tuple[int, int, str, int, int]


def _open_pipe(undo: ExitStack, theirs: ExitStack, *, ours: int) -> tuple[int, int]:
    """Our end and the command's end of a pipe; `ours` is 0 when we read."""
    ends = os.pipe2(os.O_CLOEXEC)
    undo.callback(os.close, ends[ours])
    theirs.callback(os.close, ends[1 - ours])
    return ends[ours], ends[1 - ours]


def _spawn(spec: CommandSpec, user: User, actions: Sequence[_Action]) -> int:
    """Execute the program; the thread stands in the place. CommandError."""
    try:
        os.chdir(spec.cwd)
    except OSError as error:
        why = f'chdir to cwd ("{spec.cwd}") set in config.json failed: {_words(error)}'
        raise _refusal(spec, why) from error
    path = _find_program(spec)
    linux.close_on_exec_all()  # libraries open files without saying so
    become(spec.identity, user)
    try:
        return os.posix_spawn(
            path,
            list(spec.argv),
            {"HOME": user.home, **spec.env},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError as error:
        raise _refusal(spec, f"exec {path}: {_words(error)}", CANNOT_EXECUTE) from error


def _find_program(spec: CommandSpec) -> str:
    """As execvp(3) does, in the place's root directory; CommandError when there is no such program."""
    word = spec.argv[0]
    path = word if "/" in word else shutil.which(word, path=spec.env.get("PATH", DEFAULT_ENV["PATH"]))
    if path is None:
        raise _refusal(spec, f'exec: "{word}": executable file not found in $PATH', NO_PROGRAM)
    if not os.path.exists(path):
        raise _refusal(spec, f'exec: "{word}": stat {word}: no such file or directory', NO_PROGRAM)
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise _refusal(spec, f'exec: "{word}": permission denied', CANNOT_EXECUTE)
    return path


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refusal(spec: CommandSpec, why: str, code: int = CANNOT_EXECUTE) -> CommandError:
    words = f"OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown"
    return CommandError(spec.argv, code, words, spec.place.name)
