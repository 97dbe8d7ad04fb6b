"""Programs that are run to their end: argument lists, never a shell string; the seam at which tests put a fake.

A child is forked by the thread that asks, so a thread that has entered a place (`netns.entered`) starts it there: no
`nsenter` is executed. Long-lived programs are `daemon.Daemon`.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from knetsim.errors import CommandError, KnetsimError, MissingTool, NotReady
from knetsim.system.invocation import as_typed
from knetsim.system.netns import Namespaces, entered

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
#: seconds that a program has for its last words after Ctrl-C
_FAREWELL = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended: exit code (negative: the signal), standard output, standard error."""

    code: int
    output: str
    error: str


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while a program ran; `output` is what it had printed by then."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output


def run(
    argv: Sequence[str],
    *,
    place: Namespaces | None = None,
    input: str | None = None,  # noqa: A002 - as subprocess calls it
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    check: bool = True,
    cwd: str | None = None,
    merge: bool = False,
) -> Result:
    """Run `argv` in `place` and wait. `env` replaces the environment; `merge` sends standard error into the output.

    CommandError when it fails and `check` is set, MissingTool when there is no such program, NotReady after `timeout`
    seconds (the program is ended). Ctrl-C is the program's too, and goes on here as Interrupted.
    """
    where = place.name if place else ""
    try:
        with entered(place) if place else nullcontext():
            child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merge else subprocess.PIPE,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                text=True,
                errors="replace",
                start_new_session=True,
            )
    except OSError as error:
        raise start_error(error, argv, where) from error
    with child:
        result = _wait_result(child, where, input, timeout)
    if check and result.code != 0:
        raise CommandError(argv, result.code, result.error.strip() or result.output, where)
    return result


def _wait_result(child: subprocess.Popen[str], where: str, text: str | None, timeout: float) -> Result:
    """Feed the child and collect what it says, to its end; whatever comes between ends it."""
    try:
        output, errors = child.communicate(text, timeout)
    except subprocess.TimeoutExpired as error:
        _end_session(child)
        child.communicate()
        command = shlex.join(str(word) for word in child.args)  # type: ignore[union-attr]
        raise NotReady(f"`{command}` did not end in {timeout:g} s", where, hint="is it waiting?") from error
    except KeyboardInterrupt as error:
        raise Interrupted(_interrupt(child)) from error
    except BaseException:
        _end_session(child)
        raise
    return Result(child.returncode, output or "", errors or "")


def _interrupt(child: subprocess.Popen[str]) -> str:
    """Let the child end as by Ctrl-C at a terminal, so that `ping` says how many answered; all that it has printed."""
    try:
        _signal_session(child, signal.SIGINT)
        return child.communicate(timeout=_FAREWELL)[0] or ""
    except subprocess.TimeoutExpired:
        _end_session(child)
        return child.communicate()[0] or ""
    except BaseException:
        _end_session(child)
        raise


def _end_session(child: subprocess.Popen[str]) -> None:
    """Kill the child and what it started: its whole process group, since a grandchild may hold the pipes open."""
    _signal_session(child, signal.SIGKILL)


def _signal_session(child: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass  # it ended by itself meanwhile


@contextmanager
def running_beside(argv: Sequence[str], *, place: Namespaces) -> Iterator[None]:
    """`argv` runs in `place`, without input and unheard, while the block does, and is ended with it.

    MissingTool when there is no such program there.
    """
    silent = subprocess.DEVNULL
    try:
        with entered(place):
            child = subprocess.Popen(
                argv, stdin=silent, stdout=silent, stderr=silent, text=True, start_new_session=True
            )
    except OSError as error:
        raise start_error(error, argv, place.name) from error
    try:
        yield
    finally:
        _end_session(child)
        child.wait()


def start_error(error: OSError, argv: Sequence[str], where: str) -> KnetsimError:
    """Why a program could not be started: it is not there (MissingTool), its directory is not, or another reason."""
    if not isinstance(error, FileNotFoundError) or error.filename != argv[0]:
        return KnetsimError(f"cannot run `{argv[0]}`", where, f"{error.strerror}: {error.filename}")
    return MissingTool(
        f"no program `{argv[0]}`", where, "it is not on this machine", f"run ./utils/setup, or: {as_typed('doctor')}"
    )


def run_attached(
    argv: Sequence[str],
    *,
    place: Namespaces,
    env: Mapping[str, str],
    cwd: str | None = None,
    has_input: bool = True,
) -> int:
    """Run `argv` in `place` with this terminal's input and output; its exit code, 128 and the number for a signal.

    Without `has_input` it reads nothing: what waits there is for somebody else. Ctrl-C is the child's; who asks us to
    end asks it. MissingTool when there is no such program there.
    """
    try:
        with entered(place):
            child = subprocess.Popen(argv, env=dict(env), cwd=cwd, stdin=None if has_input else subprocess.DEVNULL)
    except OSError as error:
        raise start_error(error, argv, place.name) from error
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in _PASSED_ON}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _terminal_kept():
            code = child.wait()
    finally:
        for number, reaction in before.items():
            signal.signal(number, reaction)
    return code if code >= 0 else 128 - code


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """What runs inside the block may take the terminal: a shell does, and cannot give it back to a process group that
    its pid namespace does not know."""
    try:
        group = os.tcgetpgrp(0)
    except OSError:
        group = 0  # standard input is no terminal, or not ours
    try:
        yield
    finally:
        if group == os.getpgrp():
            before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else one in the background is stopped for this
            try:
                os.tcsetpgrp(0, group)
            except OSError:
                pass  # the terminal was closed
            signal.signal(signal.SIGTTOU, before)
