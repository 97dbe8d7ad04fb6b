"""The terminals in which blocks are typed: the mininet> prompt, and shells on this machine, on hosts and in pods.

Each is a real terminal, as the reader's: a line is typed, and what comes until the next prompt is its output. A shell's
prompt is made to hold a word that no output holds, and the exit code. The mininet> prompt stays as it is; the
simulation tells which lines have ended, and how.
"""

from __future__ import annotations

import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knetsim.errors import KnetsimError, NotReady
from knetsim.lessons.checks import clean_output, clean_text
from knetsim.names import HOST_STATE
from knetsim.system import rpc
from knetsim.system.state import StateDirectory
from knetsim.system.terminal import COLUMNS, Terminal
from knetsim.system.wait import wait_until

MININET_PROMPT = "mininet> "
_FIRST_PROMPT = re.compile(rf"^{MININET_PROMPT}", re.MULTILINE)
#: seconds that a program gets to end after Ctrl-C, and after it was killed
_GRACE = 5.0
#: seconds after which Ctrl-C is typed again
_AGAIN = 3.0
#: seconds that a shell gets to start a program
_BEGIN_SECONDS = 0.5
#: seconds for a shell to come up, and for the prompt to be asked
_SHELL_SECONDS = 30.0
_STOP_SECONDS = 60.0
_SHELL = ("bash", "--norc", "--noprofile", "--noediting", "-i")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a line came to: all that was printed; the exit code, None where it goes on or only began a longer command.

    `late` says that it did not end in time and was ended; `gone`, that the terminal has ended meanwhile.
    """

    output: str = ""
    code: int | None = None
    is_open: bool = False
    late: bool = False
    gone: bool = False


class Session(ABC):
    """A terminal with something that reads lines."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        #: where the running line's output begins in the terminal's text
        self._began = 0

    @abstractmethod
    def _has_ended(self, text: str) -> bool:
        """Whether the running line has ended, by all that the terminal has shown."""

    @abstractmethod
    def _reply(self, *, late: bool) -> Reply:
        """What the line that has ended came to."""

    @abstractmethod
    def _kill(self) -> bool:
        """End what Ctrl-C does not end; whether there was something."""

    @abstractmethod
    def _printed(self, text: str) -> str:
        """What the running line has printed, of all that the terminal has shown: no prompt, no echo."""

    def start_line(self, line: str) -> None:
        """Type a line."""
        self._began = len(self.terminal.text)
        self.terminal.type(line)

    @property
    def output(self) -> str:
        """What the running line has printed so far."""
        return clean_output(self._printed(self.terminal.text))

    def wait(self, seconds: float, until: Callable[[str], bool] = lambda output: False) -> bool:
        """Wait until the line has ended, or `until` holds for its output; False when the time is over."""

        def found(text: str) -> bool:
            return self._has_ended(text) or until(clean_text(self._printed(text)))

        return self.terminal.wait(found, seconds) or self.terminal.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the running line has ended."""
        return self.terminal.has_ended or self._has_ended(self.terminal.text)

    def interrupt(self, seconds: float = 0.0) -> None:
        """Ctrl-C; within so many seconds again, as people do, when the line goes on as if there had been none: a shell
        that is just about to start a program hears it, and the program does not."""
        deadline = time.monotonic() + seconds
        self.terminal.interrupt()
        while (left := deadline - time.monotonic()) > 0 and not self.wait(min(left, _AGAIN)):
            self.terminal.interrupt()

    def finish(self, seconds: float) -> Reply:
        """Wait for the line's end; when it does not come, end it: Ctrl-C, then KILL. What it came to."""
        late = not self.wait(seconds)
        if late:
            self.interrupt()
            if not self.wait(_GRACE):
                self._kill()
                self.wait(_GRACE)
        if not self._has_ended(self.terminal.text):
            code = self.terminal.wait_for_exit(_STOP_SECONDS) if self.terminal.has_ended else None
            return Reply(self.output, code, late=late, gone=True)
        return self._reply(late=late)

    def close(self, grace: float = _GRACE) -> None:
        """End the terminal and all that holds it. Twice is once."""
        self.terminal.close(grace)


class ShellSession(Session):
    """A shell: this machine's, or, by `knetsim exec`, a host's or a pod's."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, columns: int = COLUMNS) -> None:
        """`argv` starts the shell. NotReady, with what was printed, when none answers."""
        self._word = secrets.token_hex(8)
        self._prompt = re.compile(rf"<{self._word}:(\d+|more)>")
        # no prompt until ours: one that the shell shows at once could be taken for the answer to our first line
        super().__init__(Terminal(argv, env={**env, "PS1": "", "PS2": ""}, cwd=cwd, columns=columns))
        self.start_line(f"PS1='<{self._word}:$?>' PS2='<{self._word}:'more'>'")
        if not self.wait(_SHELL_SECONDS) or self.terminal.has_ended:
            said = clean_output(self.terminal.text)
            self.close()
            raise NotReady("no shell answers", why=self._prompt.sub("", said).strip())
        self._idle = self.terminal.foreground()

    def interrupt(self, seconds: float = 0.0) -> None:
        """See Session. We are quicker than people: Ctrl-C that comes while bash has started a program and not yet
        handed it the terminal makes bash lose track of it, and read no line any more. So the program may begin."""

        def missing() -> str:
            return "" if self.has_ended or self.terminal.foreground() != self._idle else "one in the foreground"

        try:
            wait_until("a program", missing, _BEGIN_SECONDS)
        except NotReady:
            pass  # the shell itself is at work
        super().interrupt(seconds)

    def _has_ended(self, text: str) -> bool:
        return self._prompt.search(text, self._began) is not None

    def _printed(self, text: str) -> str:
        prompt = self._prompt.search(text, self._began)
        return text[self._began : prompt.start() if prompt else None]

    def _reply(self, *, late: bool) -> Reply:
        prompt = self._prompt.search(self.terminal.text, self._began)
        assert prompt is not None
        if prompt[1] == "more":
            return Reply(self.output, is_open=True, late=late)
        return Reply(self.output, int(prompt[1]), late=late)

    def _kill(self) -> bool:
        return self.terminal.kill_foreground(self._idle)


def shell_argv() -> list[str]:
    """A shell of this machine."""
    return list(_SHELL)


def target_argv(command: Sequence[str], target: str) -> list[str]:
    """A shell on a host or in a pod, by the knetsim `command`: bash where the image has it."""
    script = f"command -v bash >/dev/null && exec {' '.join(_SHELL)}; exec sh -i"
    return [*command, "exec", target, "--", "sh", "-c", script]


class PromptSession(Session):
    """The mininet> prompt of a simulation, which starts and ends with it."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, name: str, columns: int = COLUMNS
    ) -> None:
        """`argv` starts the simulation called `name`. `wait_ready` comes next."""
        super().__init__(Terminal(argv, env=env, cwd=cwd, columns=columns))
        self.directory = StateDirectory(Path(HOST_STATE) / name)
        self._lines = 0
        self._code = 0

    def wait_ready(self, seconds: float, listen: Callable[[str], None] = lambda output: None) -> str:
        """Wait for the first prompt; what the start printed, which `listen` hears while it comes. KnetsimError when it
        failed, NotReady."""

        def found(text: str) -> bool:
            listen(clean_text(_before_prompt(text)))
            return _before_prompt(text) != text

        is_there = self.terminal.wait(found, seconds)
        said = clean_output(_before_prompt(self.terminal.text))
        if self.terminal.has_ended:
            raise KnetsimError("the simulation did not start", why=said)
        if not is_there:
            raise NotReady(f"the simulation is not ready after {seconds:g} s", why=said)
        return said

    def start_line(self, line: str) -> None:
        """See Session. A tab would be a request for completion."""
        super().start_line(line.replace("\t", " "))

    def _has_ended(self, text: str) -> bool:
        """The prompt is there, and the simulation says that one line more has ended. Something may stand behind it: a
        daemon has died."""
        if MININET_PROMPT not in text[self._began :]:
            return False
        try:
            answer, _ = rpc.call(self.directory.control_socket, "prompt", timeout=_SHELL_SECONDS)
        except KnetsimError:
            return False  # it ends: the terminal will
        self._code = int(answer["code"])
        return int(answer["lines"]) > self._lines

    def _printed(self, text: str) -> str:
        """Without the line itself, which the prompt prints as it is typed."""
        _, _, rest = text[self._began :].partition("\n")
        before, prompt, _ = rest.rpartition(MININET_PROMPT)
        return before if prompt else rest

    def _reply(self, *, late: bool) -> Reply:
        self._lines += 1
        return Reply(self.output, self._code, late=late)

    def _kill(self) -> bool:
        try:
            return bool(rpc.call(self.directory.control_socket, "kill", timeout=_SHELL_SECONDS)[0])
        except KnetsimError:
            return False

    def close(self, grace: float = _STOP_SECONDS) -> None:
        """End the simulation; nothing of it stays."""
        super().close(grace)


def _before_prompt(text: str) -> str:
    """What a start has printed before the first prompt; all of it when there is none yet. Something may stand behind
    it: a daemon has died."""
    prompt = _FIRST_PROMPT.search(text)
    return text[: prompt.start()] if prompt else text
