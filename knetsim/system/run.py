"""Programs that are run to their end: argument lists, never a shell string; the seam at which tests put a fake.

A child is forked by the thread that asks, so a thread that has entered a place (`netns.entered`) starts it there: no
`nsenter` is executed. Long-lived programs are `daemon.Daemon`.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from knetsim.errors import CommandError, MissingTool, NotReady
from knetsim.system.netns import Namespaces, entered


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended: exit code (negative: the signal), standard output, standard error."""

    code: int
    output: str
    error: str


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
    seconds (the program is ended).
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
    except FileNotFoundError as error:
        raise _start_error(argv, where, cwd) from error
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
    except BaseException:
        _end_session(child)
        raise
    return Result(child.returncode, output or "", errors or "")


def _end_session(child: subprocess.Popen[str]) -> None:
    """Kill the child and what it started: its whole process group, since a grandchild may hold the pipes open."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself meanwhile


def _start_error(argv: Sequence[str], where: str, cwd: str | None) -> MissingTool:
    if cwd is not None and not os.path.isdir(cwd):
        return MissingTool(f"cannot run `{argv[0]}`", where, f"its working directory {cwd} does not exist")
    return MissingTool(
        f"no program `{argv[0]}`", where, "it is not on this machine", "run ./utils/setup, or: knetsim doctor"
    )


def run_attached(argv: Sequence[str], *, place: Namespaces, env: Mapping[str, str], cwd: str | None = None) -> int:
    """Run `argv` in `place` with this terminal's input and output; its exit code, 128 and the number for a signal.

    MissingTool when there is no such program there.
    """
    try:
        with entered(place):
            child = subprocess.Popen(argv, env=dict(env), cwd=cwd)
    except FileNotFoundError as error:
        raise _start_error(argv, place.name, cwd) from error
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the child's
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code
