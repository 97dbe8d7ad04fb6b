"""The box in which a simulation lives: private pid, mount, network, UTS and IPC namespaces with an init of their own.

    outer (knetsim up, in the user's terminal)
      └── guard          on the host; owns the state directory, sweeps it when the sandbox has ended, however it ended
            └── init     process 1 of the sandbox: reaps, forwards signals; when it ends the kernel ends all the rest
                  └── engine   Mininet, agents, the prompt; its exit code becomes that of `knetsim up`

Who dies takes the others along: the engine's end ends init, init's end is noticed by the guard, the guard's death kills
init (parent-death signal), the outer process's death closes a pipe that the guard watches. So after `kill -9` of any
one of them no process, device, rule, mount or namespace remains (the kernel's doing) and no file (the guard's, or the
outer process's when the guard was the one killed). Only when both are killed at once does a directory stay, which the
next start recognises by its free lock. The state directory is claimed by the guard, after it was forked, and says at
once whose it is: there is no moment at which something exists on the host and nobody watches over it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from knetsim.errors import (
    EXIT_FAILED,
    KnetsimError,
    MissingTool,
    NotReady,
    error_from_json,
    error_to_json,
)
from knetsim.names import HOST_STATE, IMAGE_LAYERS, INSIDE_STATE
from knetsim.system import linux, state
from knetsim.system.furniture import make_private_run, mount_memory_disk, mount_sys, own_mounts
from knetsim.system.invocation import start_as_typed
from knetsim.system.layers import mount_layers
from knetsim.system.signals import Terminated
from knetsim.system.state import Identity, StateDirectory

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_WAITED = {*_FORWARDED, signal.SIGCHLD}
#: Ctrl-\\ ends the engine, as any program; those that tidy up after it stay
_BLOCKED = {*_WAITED, signal.SIGQUIT}
_SI_KERNEL = 0x80  # siginfo.si_code of a signal sent by the terminal (asm-generic/siginfo.h)
#: what a detached body says
READY = b"ready"
_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What is to run: the simulation's name, its scenario (for `ls`) and the engine, called inside, returning an exit
    code."""

    name: str
    scenario: str
    version: str
    engine: Callable[[], int]
    detached: bool = False
    root: Path = Path(HOST_STATE)

    def run(self) -> int:
        """Run the engine in a sandbox and wait for its end; the exit code. To be called before any thread is started.

        KnetsimError when the sandbox cannot be made; nothing is left then.
        """
        gc.freeze()  # what is loaded by now is shared with the children; a collection would copy it page by page
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        alive_read, alive_write = os.pipe()
        trouble_read, trouble_write = os.pipe()
        outer = os.getpid()
        guard = os.fork()
        if guard == 0:
            os.close(alive_write)
            os.close(trouble_read)
            _end_process(lambda: _Guard(self, outer, alive_read, trouble_write).run(), trouble_write)
        os.close(alive_read)
        os.close(trouble_write)
        self.let_go_of_terminal()
        try:
            code = _wait_forwarding(guard)
            trouble = _read_all(trouble_read)
            _sweep_after(guard, StateDirectory(self.root / self.name))
        finally:
            os.close(alive_write)
            os.close(trouble_read)
            gc.unfreeze()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if trouble:
            raise _trouble_error(trouble)
        return code

    def let_go_of_terminal(self) -> None:
        """Detached, only the engine still writes to the terminal, until it is ready; who waits for its end is not
        held up."""
        if self.detached:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.close(null)


def detach(body: Callable[[int], int]) -> int:
    """Run `body` in a session of its own and return as soon as it is ready, with 0, or has ended, with its exit code.

    `body` gets a descriptor: READY is written there once it is, by whichever process. KnetsimError when body raises
    one. Who is asked to end meanwhile asks body to stop, and its end is awaited.
    """
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready_read)
        os.setsid()
        _end_process(lambda: body(ready_write), ready_write)
    os.close(ready_write)
    before = {
        number: signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
        for number in _FORWARDED
        if signal.getsignal(number) != signal.SIG_IGN
    }
    report = b""
    while report != READY and (chunk := os.read(ready_read, 65536)):
        report += chunk
    os.close(ready_read)
    for number, reaction in before.items():
        signal.signal(number, reaction)
    if report == READY:
        return 0
    code = _exit_code(os.waitpid(child, 0)[1])
    if report:
        raise _trouble_error(report)
    return code


def stop(directory: StateDirectory, deadline: float) -> None:
    """End a running simulation from another terminal: TERM to its outer process, or KILL to its init, and wait.

    NotReady when a process still holds the state directory after `deadline` seconds for each.
    """
    identity = directory.identity()
    if identity is None or not directory.is_running():  # the pids of one that has crashed may be somebody else's by now
        state.sweep_stale(directory)
        return
    steps = ((identity.outer, signal.SIGTERM), (identity.init, signal.SIGKILL))
    try:
        ended = any(_end_and_wait(pid, number, identity.guard, deadline) for pid, number in steps)
    except PermissionError as error:
        raise KnetsimError(f"cannot end simulation '{directory.name}'", why="it is root's", hint="sudo") from error
    if not ended:
        why = f"it did not end in {deadline:g} s"
        raise NotReady(f"simulation '{directory.name}' still runs", str(directory.path), why, "try again")
    _sweep_after(identity.guard, directory)


def _end_and_wait(pid: int | None, number: int, guard: int, deadline: float) -> bool:
    """Signal `pid` and wait for the end of the guard, which is the last to go; False when it did not come."""
    try:
        guard_fd = os.pidfd_open(guard)
    except ProcessLookupError:
        return True
    try:
        if pid is None:
            return False
        os.kill(pid, number)
        poll = select.poll()
        poll.register(guard_fd, select.POLLIN)
        return bool(poll.poll(deadline * 1000))
    except ProcessLookupError:
        return False
    finally:
        os.close(guard_fd)


def _sweep_after(guard: int, directory: StateDirectory) -> None:
    """The guard sweeps; when somebody killed it, what it claimed is swept here, when its sandbox has ended."""
    identity = directory.identity()
    if identity is not None and identity.guard == guard:
        directory.wait_unlocked()
    state.sweep_stale(directory)


class _Guard:
    """The process that outlives the sandbox, to tidy up after it."""

    def __init__(self, sandbox: Sandbox, outer: int, alive: int, trouble: int) -> None:
        self.sandbox, self.outer, self.alive, self.trouble = sandbox, outer, alive, trouble

    def run(self) -> int:
        identity = Identity(
            name=self.sandbox.name, scenario=self.sandbox.scenario, started=time.time(), outer=self.outer,
            guard=os.getpid(), detached=self.sandbox.detached, version=self.sandbox.version,
        )  # fmt: skip
        directory = state.claim(identity, self.sandbox.root)
        try:
            init, go = self._fork_init(directory)
            try:
                directory.write_identity(replace(identity, init=init))
                os.write(go, b".")
                return self._watch(init)
            except BaseException:
                os.kill(init, signal.SIGKILL)
                os.waitpid(init, 0)
                raise
        finally:
            state.sweep(directory)

    def _fork_init(self, directory: StateDirectory) -> tuple[int, int]:
        """Process 1 of a new pid namespace, which waits for a byte; the guard itself stays on the host."""
        guard_read, guard_write = os.pipe()
        try:
            linux.unshare(linux.CLONE_NEWPID)
        except OSError as error:
            raise _no_namespaces(error) from error
        init = os.fork()
        if init == 0:
            os.close(guard_write)
            os.close(self.alive)
            _end_process(lambda: _Init(self.sandbox, directory, guard_read, self.trouble).run(), self.trouble)
        os.close(guard_read)
        self.sandbox.let_go_of_terminal()
        return init, guard_write

    def _watch(self, init: int) -> int:
        """Until init ends: forward signals, and kill it when the outer process is gone. Its exit code."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)  # Python writes the number of each signal there
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})
        init_fd = os.pidfd_open(init)
        poll = select.poll()
        for fd in (init_fd, self.alive, wake_read):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if init_fd in ready:
                break
            if self.alive in ready:
                signal.pidfd_send_signal(init_fd, signal.SIGKILL)
                poll.unregister(self.alive)
            if wake_read in ready:
                for received in os.read(wake_read, 64):
                    signal.pidfd_send_signal(init_fd, received)
        return _exit_code(os.waitpid(init, 0)[1])


class _Init:
    """Process 1 of the sandbox."""

    def __init__(self, sandbox: Sandbox, directory: StateDirectory, guard: int, trouble: int) -> None:
        self.sandbox, self.directory, self.guard, self.trouble = sandbox, directory, guard, trouble

    def run(self) -> int:
        linux.set_parent_death_signal(signal.SIGKILL)
        if not os.read(self.guard, 1):
            return EXIT_FAILED  # the guard died before the line above
        try:
            linux.unshare(_NAMESPACES)
        except OSError as error:
            raise _no_namespaces(error) from error
        self._furnish()
        engine = os.fork()
        if engine == 0:
            os.close(self.guard)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
            _end_process(self.sandbox.engine, self.trouble)
        self.sandbox.let_go_of_terminal()
        return self._reap(engine)

    def _furnish(self) -> None:
        """Mounts that show the sandbox instead of the host, its host name and loopback."""
        own_mounts()
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        linux.mount("proc", "/proc", "proc", flags)
        mount_sys(flags)
        linux.bind_mount(str(self.directory.path), INSIDE_STATE)
        mount_memory_disk()
        mount_layers(IMAGE_LAYERS)
        make_private_run()
        socket.sethostname("knetsim")

    def _reap(self, engine: int) -> int:
        """Collect every orphan; forward signals to the engine; its exit code when it ends."""
        while True:
            info = signal.sigwaitinfo(_WAITED)
            if info.si_signo != signal.SIGCHLD:
                if not _is_from_terminal(info):
                    os.kill(engine, info.si_signo)
                continue
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return EXIT_FAILED
                if pid == engine:
                    return _exit_code(status)
                if pid == 0:
                    break


def _wait_forwarding(child: int) -> int:
    """The exit code of `child`; signals sent to us alone reach it meanwhile."""
    while True:
        info = signal.sigwaitinfo(_WAITED)
        if info.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid == child:
                return _exit_code(status)
        elif not _is_from_terminal(info):
            # the guard cannot tell an interrupt for us alone from the terminal's: it gets SIGTERM, whose meaning is
            # the same
            os.kill(child, signal.SIGTERM if info.si_signo == signal.SIGINT else info.si_signo)


def _is_from_terminal(info: signal.struct_siginfo) -> bool:
    """Whether a Ctrl-C was typed, which reaches the engine anyway. Of a hang-up only the session's leader is told."""
    return info.si_signo == signal.SIGINT and info.si_code == _SI_KERNEL


def _exit_code(status: int) -> int:
    """An exit code as a shell gives it: 128 and the signal's number for a process that was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end_process(body: Callable[[], int], trouble: int) -> NoReturn:
    """Run a forked process's body; an error goes to the outer process, which raises it again. Never returns."""
    code = EXIT_FAILED
    try:
        code = body()
    except KnetsimError as error:
        _report_trouble(trouble, error)
        code = error.exit_code
    except Terminated as error:
        code = 128 + error.number
    except OSError as error:
        _report_trouble(trouble, KnetsimError("the simulation ended with an error of the system", why=str(error)))
    except BaseException:  # noqa: BLE001 this process ends in the next line: whatever it is, it is shown now or never
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass  # whoever read it has gone, or it was closed from the first
        os._exit(code & 0xFF)


def _report_trouble(fd: int, error: KnetsimError) -> None:
    os.write(fd, json.dumps(error_to_json(error)).encode() + b"\n")


def _trouble_error(report: bytes) -> KnetsimError:
    """The first error that a forked process reported, as the class it was."""
    return error_from_json(json.loads(report.splitlines()[0]))


def _read_all(fd: int) -> bytes:
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def _no_namespaces(error: OSError) -> MissingTool:
    return MissingTool(
        "cannot make the simulation's namespaces",
        why=str(error),
        hint=f"as root: {start_as_typed()}; in a container: docker run --privileged",
    )
