"""What is run of a page: blocks, their lines, and the chapters they belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from knetsim.lessons.checks import Checks, Pattern

Kind = Literal["run", "start", "file", "end", "await", "watch"]
#: the places that are no host or pod: the mininet> prompt, and a shell of this machine
PROMPT, SHELL = "mininet", "shell"
#: seconds that a block may take unless it says so, and that a simulation may take to start
BLOCK_SECONDS = 60.0
START_SECONDS = 300.0
_TITLE_NUMBER = re.compile(r"(?:chapter\s+)?(\d+)\b", re.IGNORECASE)


def read_number(title: str) -> str:
    """The number that a title begins with: `3 The control plane` → `3`; empty when there is none."""
    match = _TITLE_NUMBER.match(title)
    return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class Step:
    """A line that is typed, its line in the page, and the output that the page shows below it, if it shows any."""

    text: str
    line: int
    shown: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of a page that a reader can go to; number 0 is what stands before the first.

    `is_counted`: no title of the page has a number of its own, so that a reader says this one.
    """

    number: int
    title: str
    line: int
    is_counted: bool = True

    @property
    def own_number(self) -> str:
        """The number that the title begins with; empty when there is none."""
        return read_number(self.title)

    def __str__(self) -> str:
        return f"{self.number} {self.title}" if self.is_counted and self.title else self.title


#: what is expected where nothing is said: that it does not fail
NO_CHECKS = Checks()
#: what stands before the first chapter
FRONT = Chapter(0, "", 1)


@dataclass(frozen=True, slots=True)
class Block:
    """Something that is run: where, what, within how many seconds, and what must come of it.

    `line` is the block's first, `slide` is 0 on a page without slides, `title` the heading above. `name` is that of the
    program that goes on in the background, or of the file, whose `text` is written.
    """

    kind: Kind
    line: int
    chapter: Chapter = FRONT
    slide: int = 0
    title: str = ""
    place: str = ""
    steps: tuple[Step, ...] = ()
    checks: Checks = NO_CHECKS
    within: float = BLOCK_SECONDS
    eventually: float = 0.0
    interrupt: Pattern | None = None
    name: str = ""
    text: str = ""
    hidden: bool = False
    #: what the page shows, in a block of its own, as the output of this one
    shown: tuple[str, ...] | None = None

    @property
    def prompt(self) -> str:
        """What stands before a line that is typed there."""
        return {PROMPT: "mininet> ", SHELL: "$ "}.get(self.place, f"{self.place}> ")
