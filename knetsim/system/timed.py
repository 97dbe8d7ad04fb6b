"""A program run to its end with the clock in hand: when it said what, and what it cost.

Its output is read as it comes, so the time of each line is the time at which a user would have seen it. It runs in a
session of its own: an interrupt typed at the terminal reaches us alone, and is passed on so that it can tidy up.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from knetsim.errors import MissingTool, NotReady

Stream = Literal["output", "error"]
#: seconds that a program gets to tidy up when it is asked to end early
GRACE = 30.0


@dataclass(frozen=True, slots=True)
class TimedLine:
    """A line that the program wrote, `seconds` after its start."""

    seconds: float
    stream: Stream
    text: str


@dataclass(frozen=True, slots=True)
class TimedRun:
    """How a program ended: exit code (negative: the signal), seconds, processor seconds, its lines."""

    code: int
    seconds: float
    cpu_seconds: float
    lines: tuple[TimedLine, ...]

    def text(self, stream: Stream) -> str:
        """All that it wrote there."""
        return "\n".join(line.text for line in self.lines if line.stream == stream)


def run_timed(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout: float = 600,
    on_line: Callable[[TimedLine], None] = lambda line: None,
) -> TimedRun:
    """Run `argv` and note when each line came; the clock starts just before the process. `on_line` is called at once.

    MissingTool when there is no such program, NotReady after `timeout` seconds (it is ended).
    """
    before, began = _children_cpu(), time.monotonic()
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=dict(env) if env is not None else None, cwd=cwd, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MissingTool(f"no program `{argv[0]}`", why=str(error)) from error
    with child:
        try:
            reading = _Reading(child, began, on_line)
            ended = reading.follow(began + timeout)
        except BaseException:
            _end(child)
            raise
        if ended is None:
            _end(child)
            raise NotReady(f"`{' '.join(argv)}` did not end in {timeout:g} s", why=reading.last_words())
    return TimedRun(child.returncode, ended - began, _children_cpu() - before, tuple(reading.lines))


def _children_cpu() -> float:
    """Processor seconds of all children that were waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _end(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class _Reading:
    """Both streams of a child, line by line."""

    def __init__(self, child: subprocess.Popen[bytes], began: float, on_line: Callable[[TimedLine], None]) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        self.lines: list[TimedLine] = []
        self._child, self._began, self._on_line = child, began, on_line
        self._streams: dict[int, Stream] = {child.stdout.fileno(): "output", child.stderr.fileno(): "error"}
        self._open: dict[int, bytes] = dict.fromkeys(self._streams, b"")

    def follow(self, deadline: float) -> float | None:
        """Read until the child has ended; when that was, or None when the deadline came first.

        Its end counts, not that of the streams: what it left behind in the background may hold them open.
        """
        pidfd = os.pidfd_open(self._child.pid)
        try:
            with selectors.DefaultSelector() as selector:
                for fd in (*self._streams, pidfd):
                    os.set_blocking(fd, False)
                    selector.register(fd, selectors.EVENT_READ)
                while True:
                    left = deadline - time.monotonic()
                    ready = {key.fd for key, _ in selector.select(max(0.0, left))}
                    now = time.monotonic()
                    for fd in ready & self._streams.keys():
                        if not self._read(fd, now):
                            selector.unregister(fd)
                    if pidfd in ready:
                        self._child.wait()
                        self._read_rest(now)
                        return now
                    if left <= 0:
                        return None
        finally:
            os.close(pidfd)

    def last_words(self) -> str:
        """The last lines, for an error."""
        return "\n".join(line.text for line in self.lines[-5:])

    def _read(self, fd: int, now: float) -> bool:
        """Take what there is; False at the end of the stream."""
        try:
            chunk = os.read(fd, 1 << 16)
        except BlockingIOError:
            return True
        *whole, self._open[fd] = (self._open[fd] + chunk).split(b"\n")
        for line in whole:
            self._note(fd, line, now)
        return bool(chunk)

    def _read_rest(self, now: float) -> None:
        for fd in self._streams:
            while True:
                before = len(self._open[fd]), len(self.lines)
                if not self._read(fd, now) or before == (len(self._open[fd]), len(self.lines)):
                    break
            if self._open[fd]:
                self._note(fd, self._open[fd], now)

    def _note(self, fd: int, line: bytes, now: float) -> None:
        noted = TimedLine(now - self._began, self._streams[fd], line.decode(errors="replace"))
        self.lines.append(noted)
        self._on_line(noted)
