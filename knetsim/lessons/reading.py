"""The elements of a page, one after the other, as blocks; what is wrong is collected with its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from knetsim.lessons.block import (
    BLOCK_SECONDS,
    FRONT,
    PROMPT,
    SHELL,
    START_SECONDS,
    Block,
    Chapter,
    Step,
)
from knetsim.lessons.checks import Checks, ExitCode, Pattern, find_pattern_mistake
from knetsim.lessons.markdown import Comment, Element, Fence, Indented
from knetsim.lessons.remark import Entry, Mistake, Remark, guess_remark, is_remark, read_remark
from knetsim.names import nearest_word

#: languages of blocks that nobody takes for commands
_SHOWN_LANGUAGES = frozenset({"text", "yaml", "json", "toml", "markdown"})
_PLACES = (PROMPT, SHELL, "start", "no")
_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9]*(/[a-z0-9]([a-z0-9.-]*[a-z0-9])?){0,2}")
_PROMPT = re.compile(r"(?P<prompt>mininet>|\$|[A-Za-z0-9][\w:-]*>)(?: (?P<text>.*))?$")
#: a line that does not end a command: it breaks off, opens a document or something that another word closes
_CONTINUED = re.compile(r"(\\|\||&&|[{(]|\b(do|then|else))\s*$|<<-?\s*['\"]?\w+")
_SECONDS = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|min)")
_FILE_NAME = re.compile(r"[\w.-]*\w[\w.-]*")
_LONGEST = 3600.0
#: bytes of a line that is typed: a terminal drops what comes after these (MAX_CANON, and the end of the line)
_LINE_MAX = 4095


class Where(NamedTuple):
    """Where in the page an element is."""

    chapter: Chapter = FRONT
    slide: int = 0
    title: str = ""


@dataclass
class Reading:
    """The blocks so far. `take` every element, then `finish`."""

    mistakes: list[Mistake]

    def __post_init__(self) -> None:
        self.blocks: list[Block] = []
        self.only_shown = 0
        self.scenario: tuple[str, str] | None = None
        self._remark: Remark | None = None
        self._near = ""
        self._going: set[str] = set()

    def take(self, element: Element, where: Where) -> None:
        """The next element of the page."""
        if isinstance(element, Fence):
            remark, self._remark = self._remark, None
            self._take_fence(element, remark, where)
            return
        self._miss_block()
        self._near = ""
        if isinstance(element, Comment):
            self._take_comment(element, where)
        elif isinstance(element, Indented):
            hint = "put it between ``` and say before it what it is"
            self._wrong(element.line, "an indented block cannot say whether it is run", hint)

    def finish(self) -> None:
        """The page is at its end."""
        self._miss_block()

    def _wrong(self, line: int, what: str, hint: str = "") -> None:
        self.mistakes.append(Mistake(line, what, hint))

    def _miss_block(self) -> None:
        """A comment was about a block that does not come."""
        if self._remark is not None:
            what = f"no block follows '{self._remark.key}: {self._remark.value}'".replace(": '", "'")
            self._wrong(self._remark.line, what, "the comment stands right before the ``` of its block")
            self._remark = None

    # --- comments -----------------------------------------------------------------------------------------------------

    def _take_comment(self, comment: Comment, where: Where) -> None:
        if not is_remark(comment.text):
            self._near = guess_remark(comment.text)
            return
        remark, mistakes = read_remark(comment.text, comment.line)
        self.mistakes += mistakes
        if remark is None or mistakes:
            # its block is not to blame
            self._remark = Remark("run", "no", comment.line) if is_remark(comment.text) else None
            self._forgive(remark)
        elif remark.key == "scenario":
            self._take_scenario(remark)
        elif remark.key in ("end", "await", "watch"):
            self._take_ending(remark, where)
        elif remark.values("type"):
            steps = [Step(entry.value, entry.line) for entry in remark.values("type")]
            self._add_run(remark, steps, where, remark.line, hidden=True)
        else:
            self._remark = remark

    def _forgive(self, remark: Remark | None) -> None:
        """A comment that cannot be read may stand alone: then no block is missed."""
        stands_alone = remark is not None and (
            remark.key in ("scenario", "end", "await", "watch") or bool(remark.values("type"))
        )
        if stands_alone:
            self._remark = None

    def _take_scenario(self, remark: Remark) -> None:
        if self.blocks:
            self._wrong(remark.line, "the scenario is said after the first block", "say it on top of the page")
        elif self.scenario is not None:
            self._wrong(remark.line, "the scenario is said twice", "leave one out")
        options = remark.values("options")
        self.scenario = (remark.value, options[0].value if options else "")

    def _take_ending(self, remark: Remark, where: Where) -> None:
        if remark.value not in self._going:
            hint = f"before it: run: shell | background: {remark.value}"
            self._wrong(remark.line, f"nothing goes on by the name '{remark.value}'", hint)
        if remark.key == "watch" and not remark.values("expect"):
            self._wrong(remark.line, "'watch' waits for nothing", "add: expect: PATTERN")
        if remark.key != "watch":
            self._going.discard(remark.value)
        code: ExitCode = "any" if remark.key == "end" else 0
        block = Block(
            kind="end" if remark.key == "end" else "await" if remark.key == "await" else "watch",
            line=remark.line, chapter=where.chapter, slide=where.slide, title=where.title, name=remark.value,
            checks=self._read_checks(remark, code), within=self._read_seconds(remark, "within", BLOCK_SECONDS),
        )  # fmt: skip
        self.blocks.append(block)

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _take_fence(self, fence: Fence, remark: Remark | None, where: Where) -> None:
        if not fence.is_closed:
            self._wrong(fence.line, "the block has no end", "end it with ``` on a line of its own")
        elif remark is None:
            self._take_silent(fence)
        elif remark.key == "file":
            self._take_file(fence, remark, where)
        elif remark.key == "output":
            self._take_output(fence, remark)
        elif remark.value.partition(",")[0].strip() == "no":
            self.only_shown += 1
        else:
            steps = self._read_steps(fence, remark)
            self._add_run(remark, steps, where, fence.line)

    def _take_silent(self, fence: Fence) -> None:
        """A block that no comment says anything of."""
        if fence.language in _SHOWN_LANGUAGES:
            self.only_shown += 1
            return
        near = f"did you mean '{self._near}' in the comment before it?" if self._near else ""
        hint = near or "before it: <!-- run: PLACE -->, or <!-- run: no -->; or ```text for what is only shown"
        self._wrong(fence.line, "the block does not say whether it is run", hint)

    def _take_file(self, fence: Fence, remark: Remark, where: Where) -> None:
        if not _FILE_NAME.fullmatch(remark.value):
            self._wrong(remark.line, f"'{remark.value}' cannot name the file", "a name without folders: web.yaml")
        block = Block("file", fence.line, *where, name=remark.value, text=fence.text)
        self.blocks.append(block)

    def _take_output(self, fence: Fence, remark: Remark) -> None:
        last = self.blocks[-1] if self.blocks else None
        if last is None or last.kind != "run" or last.shown is not None or last.name:
            self._wrong(remark.line, "this is the output of no block", "it follows a block that is run")
            return
        self.blocks[-1] = replace(last, shown=tuple(fence.text.rstrip("\n").split("\n")))

    def _read_steps(self, fence: Fence, remark: Remark) -> list[Step]:
        """What is typed: all lines, or in the language `console` those that follow a prompt."""
        lines = fence.text.rstrip("\n").split("\n")
        if fence.language != "console":
            return [Step(text, fence.line + 1 + number) for number, text in enumerate(lines)]
        steps: list[Step] = []
        is_open = False
        for number, line in enumerate(lines, fence.line + 1):
            last = steps[-1] if steps else None
            if is_open and line.startswith("> "):
                steps.append(Step(line[2:], number))
            elif prompt := _PROMPT.match(line):
                self._check_prompt(prompt["prompt"], remark, number)
                steps.append(Step(prompt["text"] or "", number))
                is_open = _CONTINUED.search(steps[-1].text) is not None
            elif last is None:
                self._wrong(number, "a console begins with a prompt", "mininet> status, or: $ sudo ./utils/run")
                break
            else:
                steps[-1], is_open = replace(last, shown=(*(last.shown or ()), line)), False
        return steps

    def _check_prompt(self, prompt: str, remark: Remark, line: int) -> None:
        place = {"mininet>": PROMPT, "$": SHELL}.get(prompt, "TARGET")
        said = remark.value if remark.value in (PROMPT, SHELL) else SHELL if remark.value == "start" else "TARGET"
        if place != said:
            self._wrong(line, f"the prompt is '{prompt}', but the comment says 'run: {remark.value}'")

    def _add_run(self, remark: Remark, steps: Sequence[Step], where: Where, line: int, hidden: bool = False) -> None:
        place, is_start = remark.value, remark.value == "start"
        if place not in _PLACES and (not _TARGET.fullmatch(place) or nearest_word(place, _PLACES)):
            near = nearest_word(place, _PLACES)
            hint = f"did you mean '{near}'?" if near else "mininet, shell, start, no, a host (C0w1) or a pod (C0/c1)"
            self._wrong(remark.line, f"unknown place '{place}'", hint)
        if not any(step.text.strip() for step in steps):
            self._wrong(line, "the block is empty", "type something, or say: run: no")
        for step in steps:
            if len(step.text.encode()) > _LINE_MAX:
                self._wrong(step.line, f"a terminal takes no line of more than {_LINE_MAX} bytes", "break it with \\")
        background = self._read_background(remark)
        interrupts = self._read_patterns(remark, "interrupt")
        if is_start and len(steps) != 1:
            self._wrong(line, "a simulation is started by one line", "sudo ./utils/run [SCENARIO]")
        self.blocks.append(
            Block(
                "start" if is_start else "run", line, *where,
                place=SHELL if is_start else place, steps=tuple(steps), name=background, hidden=hidden,
                checks=self._read_checks(remark, 0),
                within=self._read_seconds(remark, "within", START_SECONDS if is_start else BLOCK_SECONDS),
                eventually=self._read_seconds(remark, "eventually", 0.0),
                interrupt=interrupts[0] if interrupts else None,
            )
        )  # fmt: skip

    def _read_background(self, remark: Remark) -> str:
        entries = remark.values("background")
        if not entries:
            return ""
        line, name = entries[0].line, entries[0].value
        if remark.value in (PROMPT, "start"):
            self._wrong(line, "what goes on holds the prompt", "run it in a shell, on a host or in a pod")
        if remark.values("eventually") or remark.values("interrupt") or remark.values("exit"):
            self._wrong(line, "what goes on has no end yet", f"say that where it ends: end: {name}, await: {name}")
        if name in self._going:
            self._wrong(line, f"'{name}' goes on already", f"end it before: end: {name}")
        self._going.add(name)
        return name

    # --- values -------------------------------------------------------------------------------------------------------

    def _read_checks(self, remark: Remark, usual: ExitCode) -> Checks:
        codes = remark.values("exit")
        # who presses Ctrl-C does not care what the program says to that
        default: ExitCode = "any" if remark.values("interrupt") else usual
        return Checks(
            expect=tuple(self._read_patterns(remark, "expect")),
            never=tuple(self._read_patterns(remark, "never")),
            code=self._read_code(codes[0]) if codes else default,
        )

    def _read_code(self, entry: Entry) -> ExitCode:
        if entry.value == "fails":
            return "fails"
        if entry.value == "any":
            return "any"
        if entry.value.isdigit() and int(entry.value) < 256:
            return int(entry.value)
        self._wrong(entry.line, f"'{entry.value}' is no exit code", "0 to 255, fails, any")
        return 0

    def _read_patterns(self, remark: Remark, key: str) -> list[Pattern]:
        found = []
        for entry in remark.values(key):
            if why := find_pattern_mistake(entry.value):
                hint = "put \\ before . * + ? ( ) [ ] { } ^ $ | where they mean themselves"
                self._wrong(entry.line, f"the pattern {entry.value} {why}", hint)
            else:
                found.append(Pattern(entry.value, entry.line))
        return found

    def _read_seconds(self, remark: Remark, key: str, usual: float) -> float:
        for entry in remark.values(key):
            match: Any = _SECONDS.fullmatch(entry.value)
            seconds = float(match["number"]) * (60 if match["unit"] == "min" else 1) if match else 0.0
            if 0 < seconds <= _LONGEST:
                return seconds
            self._wrong(entry.line, f"'{entry.value}' is no time", "30s, 2min; an hour at most")
        return usual
