"""How a start goes on, while it does: what is being waited for, and for how long.

On a terminal the steps under way stand below the finished ones and count seconds; nothing of them stays when the prompt
comes. Into a pipe goes a line for each finished step, and one for a step that takes long. All of it on standard error:
what the simulation itself prints stays alone on standard output.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from knetsim.cli.terminal import Style, has_color, is_terminal, paint

if TYPE_CHECKING:
    from rich.live import Live

#: a step that takes longer is mentioned in a pipe too
LONG_SECONDS = 10.0
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REFRESHES = 8
_LINES_MAX = 10


class Progress:
    """Steps on display, each under a name (`C0`, `underlay`); any thread may tell. To be used as a context manager."""

    def __init__(
        self, file: IO[str] | None = None, clock: Callable[[], float] = time.monotonic, look_every: float = 1.0
    ) -> None:
        self._file = file or sys.stderr
        self._clock = clock
        self._look_every = look_every
        self._began = clock()
        self._steps: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        if is_terminal(self._file):
            self._live = self._start_live()
        watch = self._refresh if self._live else self._mention_long
        self._watcher = threading.Thread(target=watch, name="progress", daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._watcher:
            self._watcher.join()
        if self._live:
            self._live.stop()
            self._live = None

    def step(self, name: str, text: str) -> None:
        """`name` now waits for `text`."""
        with self._lock:
            self._steps[name] = (text, self._clock())

    def done(self, name: str, text: str) -> None:
        """`name` has arrived at `text`."""
        self._finish(name, text, "good", "✓")

    def failed(self, name: str, text: str) -> None:
        """`name` failed, for the reason `text`."""
        self._finish(name, text, "bad", "✗")

    def _finish(self, name: str, text: str, style: Style, mark: str) -> None:
        with self._lock:
            self._steps.pop(name, None)
        self._say(name, text, style, mark if style == "bad" or self._live else "")

    def _say(self, name: str, text: str, style: Style, mark: str) -> None:
        """One line that stays."""
        color = has_color(self._file)
        when = paint(f"[{self._clock() - self._began:5.1f}s]", "label", color)
        line = f"{when} {paint(f'{mark} ', style, color) if mark else ''}{name}: {text}"
        if self._live:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(line), soft_wrap=True)
        else:
            with self._lock:
                self._file.write(f"{line}\n")  # in one piece: others write there too
                self._file.flush()

    def _refresh(self) -> None:
        """On a terminal: draw the steps under way, again and again. Rich has a thread for it, but does not join it."""
        assert self._live
        while not self._ended.wait(1 / _REFRESHES):
            self._live.refresh()

    def _mention_long(self) -> None:
        """Without a terminal: say once of a step that takes long what it waits for."""
        mentioned: set[tuple[str, str]] = set()
        while not self._ended.wait(self._look_every):
            with self._lock:
                steps = dict(self._steps)
            for name, (text, since) in steps.items():
                if self._clock() - since > LONG_SECONDS and (name, text) not in mentioned:
                    mentioned.add((name, text))
                    self._say(name, f"still waiting for {text}", "warn", "")

    def _start_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        class SteadyConsole(Console):
            """One that leaves the cursor alone: a process killed meanwhile could not bring it back."""

            def show_cursor(self, show: bool = True) -> bool:
                return False

        console = SteadyConsole(
            file=self._file, highlight=False, markup=False, emoji=False,
            color_system="auto" if has_color(self._file) else None,
        )  # fmt: skip
        live = Live(
            get_renderable=self._draw, console=console, auto_refresh=False, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        live.start()
        return live

    def _draw(self) -> Any:
        """The steps under way."""
        from rich.text import Text

        with self._lock:
            steps = list(self._steps.items())
        now = self._clock()
        frame = _FRAMES[int(now * _REFRESHES) % len(_FRAMES)]
        text = Text(no_wrap=True, overflow="ellipsis")
        for name, (waits_for, since) in steps[:_LINES_MAX]:
            text.append(f"[{now - self._began:5.1f}s] ", style="dim")
            text.append(f"{frame} ", style="cyan")
            text.append(f"{name}: waiting for {waits_for}")
            text.append(f" · {now - since:.0f}s\n" if now - since >= 1 else "\n", style="dim")
        if len(steps) > _LINES_MAX:
            text.append(f"         … and {len(steps) - _LINES_MAX} more\n")
        text.rstrip()
        return text
