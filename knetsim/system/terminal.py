"""Programs at terminals of their own, with us in the place of the person: they are typed to, read, and interrupted.

A program sees the same as at a terminal emulator: a pseudo-terminal that controls its session, so that Ctrl-C reaches
what runs in the foreground, and the end of the terminal, however it comes, hangs up on all of it. What it prints is
read at once by a thread, so that nothing waits for a reader. setsid(1) makes the terminal the session's.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from knetsim.system.exec_session import resize_terminal
from knetsim.system.run import start_error
from knetsim.system.strays import end_session

#: of a terminal unless said otherwise
COLUMNS, ROWS = 160, 50
#: seconds for what a program printed last; a process that it left behind may hold the terminal for ever
_READ_REST = 1.0
_CTRL_C = b"\x03"
_ECHO_INDEX = 3  # of the local modes in what tcgetattr returns


class Terminal:
    """A program that runs at a terminal. KnetsimError, MissingTool when it cannot be started."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        columns: int = COLUMNS,
        on_text: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_text` is called, by another thread, whenever something was printed."""
        self._master, slave = os.openpty()
        try:
            resize_terminal(self._master, columns, ROWS)
            _silence(slave)
            self._process = subprocess.Popen(
                ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=dict(env), cwd=cwd
            )
        except OSError as error:
            os.close(self._master)
            raise start_error(error, ["setsid"], "") from error
        finally:
            os.close(slave)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._code: int | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._pieces: list[str] = []
        self._on_text = on_text
        self._changed = threading.Condition()
        self._has_ended = False
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that was printed so far, with line ends as terminals have them."""
        with self._changed:
            if len(self._pieces) > 1:
                self._pieces[:] = ["".join(self._pieces)]
            return self._pieces[0] if self._pieces else ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing holds the terminal any more: all that was printed has been read."""
        with self._changed:
            return self._has_ended

    def type(self, line: str) -> None:
        """Type a line and Enter; into a terminal that has ended it goes nowhere."""
        self._write(f"{line}\n".encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._write(_CTRL_C)

    def wait(self, found: Callable[[str], bool], seconds: float) -> bool:
        """Wait until `found` holds for the text, the terminal ends or the time is over; whether it holds then."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or found(self.text), seconds)
            return found(self.text)

    def foreground(self) -> int:
        """The process group to which Ctrl-C goes; 0 when there is none."""
        try:
            return os.tcgetpgrp(self._master)
        except OSError:
            return 0

    def kill_foreground(self, spared: int) -> bool:
        """End what runs in the foreground at once, unless that is the group `spared`; whether something was ended."""
        group = self.foreground()
        if group in (0, spared):
            return False
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def close(self, grace: float = 5.0) -> int:
        """Hang up, as a terminal that is closed does; KILL, after `grace` seconds, the program and all that is left of
        its session. The exit code, as of a shell. Twice is once."""
        if self._code is None:
            deadline = time.monotonic() + grace
            if self.wait_for_exit(0.0) is None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGHUP)
                self.wait_for_exit(grace)
            end_session(self._process.pid, max(0.0, deadline - time.monotonic()))
            self._code = self._process.wait()
        if self._master >= 0:
            self._reader.join(_READ_REST)
            os.write(self._wake_write, b".")
            self._reader.join()
            for fd in (self._master, self._wake_read, self._wake_write, self._pidfd):
                os.close(fd)
            self._master = -1
        return self._code if self._code >= 0 else 128 - self._code

    def wait_for_exit(self, seconds: float) -> int | None:
        """The program's exit code, as of a shell; None when it has not ended by then. Its number stays its own until
        `close`, which ends others by it."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except OSError:
            pass  # nobody is there any more; who waits for an answer learns that the terminal has ended

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while self._master in {fd for fd, _ in poll.poll()}:
            try:
                chunk = os.read(self._master, 1 << 16)
            except OSError:
                break  # EIO: the last process has closed the terminal
            with self._changed:
                self._pieces.append(decoder.decode(chunk))
                self._changed.notify_all()
            self._on_text()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()


def _silence(slave: int) -> None:
    """What is typed is not printed again by the terminal itself."""
    modes = termios.tcgetattr(slave)
    modes[_ECHO_INDEX] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, modes)
