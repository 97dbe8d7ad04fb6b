"""What a block printed against what was expected of it; pure.

A number at a pattern's end counts whole: else `0% packet loss` would be found in `100% packet loss`, and the lesson
would pass on a network that is broken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: stands for whatever comes there, in what a page shows as output; alone on a line for any number of lines
ANYTHING = "…"
#: what the exit code of a block's last command may be: a number, anything but 0, anything at all
ExitCode = int | Literal["fails", "any"]
_CONTROLS = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression as the page has it, and its line there."""

    text: str
    line: int

    def compile(self) -> re.Pattern[str]:
        """re.error when it is none."""
        before = r"(?<!\d)" if self.text[:1].isdigit() else ""
        ends_in_number = self.text[-1:].isdigit() and not self.text[-2:].startswith("\\")
        after = r"(?!\d)" if ends_in_number else ""
        return re.compile(f"{before}(?:{self.text}){after}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Checks:
    """What is expected of a block as a whole."""

    expect: tuple[Pattern, ...] = ()
    never: tuple[Pattern, ...] = ()
    code: ExitCode = 0

    def explain(self, output: str, code: int | None) -> list[str]:
        """What is not as expected, in words; nothing when all is. Of a program that goes on the code is None."""
        return [*self.explain_output(output), *self.explain_code(code)]

    def explain_output(self, output: str) -> list[str]:
        """As `explain`, of the output alone."""
        wrong = [f"no line like: {one.text}" for one in self.expect if not one.compile().search(output)]
        return wrong + [f"a line like: {one.text}" for one in self.never if one.compile().search(output)]

    def explain_code(self, code: int | None) -> list[str]:
        """As `explain`, of the exit code alone."""
        if code is None or self.code == "any" or code == self.code or (self.code == "fails" and code):
            return []
        wanted = "none but 0" if self.code == "fails" else str(self.code)
        return [f"exit code {code}, expected {wanted}"]

    def describe(self) -> list[str]:
        """What is expected, in words: the left side of a report."""
        said = [f"a line like: {one.text}" for one in self.expect]
        said += [f"no line like: {one.text}" for one in self.never]
        return [
            *said,
            *([] if self.code == "any" else [f"exit code: {'any but 0' if self.code == 'fails' else self.code}"]),
        ]


def find_pattern_mistake(text: str) -> str:
    """Why a pattern cannot be used: it is no regular expression, can never be found, or is found in anything."""
    try:
        pattern = re.compile(text, re.MULTILINE)
    except re.error as error:
        return f"cannot match: {error}"
    if pattern.search("") is not None:
        return "matches anything, even no output at all"
    return ""


def clean_text(text: str) -> str:
    """What a terminal would show: no escape sequences, of a line that is drawn again only its last form."""
    lines = _CONTROLS.sub("", text.replace("\r\n", "\n")).split("\n")
    return "\n".join(_last_drawn(line).rstrip() for line in lines).lstrip("\n")


def clean_output(text: str) -> str:
    """The same of what has ended: without the end of its last line."""
    return clean_text(text).rstrip("\n")


def _last_drawn(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part), "")


def matches_shown(shown: Sequence[str], output: str) -> bool:
    """Whether the output is the lines that a page shows, where `…` stands for anything; blanks count as one."""
    parts = [r"(?:.*\n)*?" if line.strip() == ANYTHING else f"{_build_pattern(line)}\n" for line in shown]
    text = "".join(f"{' '.join(line.split())}\n" for line in output.split("\n")) if output else ""
    return re.fullmatch("".join(parts), text) is not None


def _build_pattern(line: str) -> str:
    """A line of shown output; blanks beside a `…` belong to what it stands for."""
    return ".*?".join(re.escape(" ".join(part.split())) for part in line.split(ANYTHING))
