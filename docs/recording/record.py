"""Records the terminal session of the README: `session.md` is played in a real simulation, as `knetsim lesson` does it.

    sudo .venv/bin/python docs/recording/record.py

It writes `session.cast`, what was printed and when, and `session.svg`, drawn by `draw.py`. Lines come as quickly as
they came, but nobody waits for longer than `PAUSE`; commands are typed word by word. When something is not as the page
says, nothing is written.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knetsim.cli.lesson import open_stage
from knetsim.errors import KnetsimError
from knetsim.lessons.block import Block
from knetsim.lessons.lesson import Lesson, read_lesson
from knetsim.lessons.player import Player
from knetsim.lessons.report import build_report
from knetsim.names import HOST_STATE
from knetsim.system.invocation import as_typed

FOLDER = Path(__file__).parent
COLUMNS, ROWS, REPORT_WIDTH = 104, 27, 120
#: of the simulation, which it prints
NAME = "demo"
#: seconds: between two words that are typed, after a command, at most between two lines, to read what was printed
TYPED, SENT, PAUSE, READ = 0.12, 0.3, 1.2, 2.0
PROMPT, REMARK, COMMAND, PLAIN = "\x1b[1;32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
_END = "\r\n"


@dataclass
class Cast:
    """What is seen, and when: seconds from the beginning, and text as a terminal gets it."""

    events: list[tuple[float, str]] = field(default_factory=list)
    now: float = 0.0

    def show(self, text: str, seconds: float = 0.0) -> None:
        """So many seconds later something is printed."""
        self.now += seconds
        self.events.append((round(self.now, 2), text))

    def type(self, prompt: str, line: str) -> None:
        """A prompt, and a line that is typed at it."""
        self.show(f"{PROMPT}{prompt}{PLAIN}")
        style = COMMAND
        for word in split_words(line):
            style = REMARK if word.startswith("#") else style
            self.show(f"{style}{word}{PLAIN}", TYPED)
        self.show(_END, SENT)

    def write(self) -> str:
        """As a file: asciicast v2."""
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "knetsim"}
        lines: list[Any] = [header, *([when, "o", text] for when, text in self.events)]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


class Listener:
    """Hears what the running block prints, and when each of its lines came."""

    def __init__(self) -> None:
        self.began, self.lines = 0.0, list[tuple[float, str]]()

    def begin(self) -> None:
        """A block begins."""
        self.began, self.lines = time.monotonic(), []

    def hear(self, output: str) -> None:
        """All that was printed so far; its last line may not be whole yet."""
        self._take(output.split("\n")[:-1])

    def finish(self, output: str) -> None:
        """All of it."""
        self._take(output.split("\n") if output else [])

    def _take(self, lines: list[str]) -> None:
        now = time.monotonic()
        self.lines += [(now, line) for line in lines[len(self.lines) :]]


def split_words(line: str) -> Iterator[str]:
    """The words of a line, each with the blanks behind it."""
    word = ""
    for char in line:
        if char != " " and word.endswith(" "):
            yield word
            word = ""
        word += char
    yield word


def show_block(cast: Cast, block: Block, began: float, lines: list[tuple[float, str]]) -> None:
    """A block that was played: its remarks, its command, and what came of it."""
    for step in block.steps:
        cast.type(block.prompt, step.text)
    before = began
    for when, line in lines:
        for start in range(0, max(1, len(line)), COLUMNS):  # as a terminal folds it
            cast.show(line[start : start + COLUMNS] + _END, min(PAUSE, when - before))
            before = when
    cast.now += READ


def require_narrow(lesson: Lesson) -> None:
    """KnetsimError when a command that is shown would not stand in one line."""
    for block in lesson.blocks:
        for step in () if block.hidden else block.steps:
            if len(block.prompt + step.text) > COLUMNS:
                where, why = f"{lesson.file}:{step.line}", f"the screen has {COLUMNS} columns"
                raise KnetsimError("the command is too long", where, why)


def record(page: Path) -> Cast:
    """Play a page. KnetsimError when something is not as it says."""
    cast, lesson = Cast(), read_lesson(page)
    require_narrow(lesson)
    if (Path(HOST_STATE) / NAME).exists():
        raise KnetsimError(f"a simulation {NAME} runs already", hint=as_typed(f"down --name {NAME}"))
    with open_stage(COLUMNS, NAME) as stage:
        listener = Listener()
        player = Player(lesson, stage, listener.hear)
        for block in lesson.blocks:
            listener.begin()
            outcome = player.play(block)
            if not outcome.is_good:
                why = "\n".join(build_report(lesson, outcome, REPORT_WIDTH))
                raise KnetsimError("the session is not as its page says", why=why)
            listener.finish(outcome.output)
            if not block.hidden:
                show_block(cast, block, listener.began, listener.lines)
    cast.show(f"{PROMPT}$ {PLAIN}")
    return cast


def load_drawing() -> Any:
    """The module `draw.py` of this folder, which is in no package."""
    spec = importlib.util.spec_from_file_location("draw_recording", FOLDER / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    return draw


def main() -> int:
    """Record, draw, and write both files."""
    draw = load_drawing()
    try:
        text = record(FOLDER / "session.md").write()
        picture = draw.draw(draw.read(text))
    except (KnetsimError, draw.CastError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    (FOLDER / "session.cast").write_text(text)
    (FOLDER / "session.svg").write_text(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
