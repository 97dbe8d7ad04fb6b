"""`knetsim lesson run`: a page gone through by its reader, block by block, at the reader's own pace."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace

import click

from knetsim.cli.render import print_error
from knetsim.cli.terminal import Style, has_color, paint
from knetsim.errors import EXIT_FAILED, EXIT_OK, KnetsimError, UsageError
from knetsim.lessons.block import SHELL, Block, Chapter, Step
from knetsim.lessons.checks import Checks
from knetsim.lessons.lesson import Lesson
from knetsim.lessons.player import Outcome, Player, choose_blocks
from knetsim.lessons.report import build_report
from knetsim.lessons.stage import Stage

_HELP = """\
Enter           runs the block that is shown
s               skips it
a               runs the one before once more
! LINE          types your own line where the block runs
goto CHAPTER    a fresh simulation in that chapter's state;
                CHAPTER is a number, or a word of its title
chapters        lists them
Ctrl-C          ends what runs; twice, if it does not mind
q, Ctrl-D       ends the lesson and its simulation"""
_ASK = "Enter: run · s: skip · a: again · !LINE · goto N · q · help> "
_ASK_AT_END = "That was all; q ends the simulation> "
#: longer than anybody plays with one line of their own
_OWN_SECONDS = 3600.0


class Reader:
    """One reader with one page."""

    def __init__(self, page: Lesson, open_stage: Callable[[], AbstractContextManager[Stage]]) -> None:
        self._page, self._open_stage = page, open_stage
        self._next = 0
        self._told: tuple[Chapter, str] | None = None

    def go(self, chapter: Chapter | None) -> int:
        """Go through the page from a chapter, or its beginning, until the reader leaves."""
        if sys.stdin.isatty():
            # input() gets line editing, and asks again when a terminal is attached (docker attach)
            import readline  # noqa: F401
        if self._page.slides:
            click.echo("have the slides beside it (./utils/slides): only their commands are shown", err=True)
        while True:
            with ExitStack() as exit_stack:
                stage = exit_stack.enter_context(self._open_stage())
                printer = _Printer()
                player = Player(self._page, stage, printer.hear, is_patient=True)
                if not self._begin(player, chapter, printer):
                    return EXIT_FAILED
                chapter = self._follow(player, printer)
                if stage.has_simulation:
                    click.echo("ending the simulation", err=True)
            if chapter is None:
                return EXIT_OK

    # --- where one is -------------------------------------------------------------------------------------------------

    def _begin(self, player: Player, chapter: Chapter | None, printer: _Printer) -> bool:
        """A fresh simulation, in the state in which `chapter` begins."""
        if player.starts:
            click.echo(f"starting {self._page.scenario} …", err=True)
        began = time.monotonic()
        try:
            player.open()
        except KnetsimError as error:
            print_error(error)
            return False
        if player.starts:
            click.echo(f"ready after {time.monotonic() - began:.0f} s", err=True)
        self._next, self._told = 0, None
        if chapter is not None:
            self._catch_up(player, chapter, printer)
        return True

    def _catch_up(self, player: Player, chapter: Chapter, printer: _Printer) -> None:
        """Run what stands before a chapter; a difference is told in a line, since the reader may meet it later. Ctrl-C
        leaves the reader where it was typed."""
        blocks = choose_blocks(self._page, chapter)
        self._next = sum(block.chapter.number < chapter.number for block in self._page.blocks)
        with printer.silence():
            for number, outcome in enumerate(player.play_all(blocks), 1):
                if outcome.stopped:
                    click.echo(f"\nstopped before “{chapter}”", err=True)
                    self._next = next(i for i, one in enumerate(self._page.blocks) if one is outcome.block)
                    break
                if not outcome.is_good:
                    click.echo(build_report(self._page, outcome, _width())[0], err=True)
                elif sys.stderr.isatty():
                    click.echo(f"\r{number} of {len(blocks)} blocks before “{chapter}”", nl=False, err=True)
        if sys.stderr.isatty():
            click.echo(err=True)

    # --- the conversation ---------------------------------------------------------------------------------------------

    def _follow(self, player: Player, printer: _Printer) -> Chapter | None:
        """Block by block; the chapter to which the reader wants, or None to leave."""
        while True:
            block = self._page.blocks[self._next] if self._next < len(self._page.blocks) else None
            if block is not None and block.hidden:
                self._play_hidden(player, printer, block)
                self._next += 1
                continue
            if block is not None:
                self._tell(block)
            word, _, rest = _ask(_ASK if block else _ASK_AT_END).partition(" ")
            if word in ("q", "quit", "exit"):
                return None
            if word == "goto":
                if chapter := self._find(rest):
                    return chapter
            else:
                self._obey(player, printer, block, word, rest)

    def _obey(self, player: Player, printer: _Printer, block: Block | None, word: str, rest: str) -> None:
        if word == "" and block is not None:
            self._play(player, printer, block)
            self._next += 1
        elif word in ("s", "skip"):
            self._next += block is not None
        elif word in ("a", "again"):
            if self._next:
                self._play(player, printer, self._page.blocks[self._next - 1])
        elif word.startswith("!"):
            self._play_own(player, printer, block or self._last(), f"{word[1:]} {rest}".strip())
        elif word in ("c", "chapters"):
            click.echo("\n".join(map(str, self._page.chapters)))
        elif word in ("h", "help", "?"):
            click.echo(_HELP)
        elif word:
            line = f"{word} {rest}".strip()
            print_error(
                UsageError(f"unknown command '{word}'", hint=f"help, or to type it where the block runs: ! {line}")
            )

    def _last(self) -> Block:
        """The page's last block, near which a reader is at the end."""
        return self._page.blocks[-1] if self._page.blocks else Block("run", 1, place=SHELL)

    def _find(self, word: str) -> Chapter | None:
        try:
            return self._page.find_chapter(word)
        except KnetsimError as error:
            print_error(error)
            return None

    def _tell(self, block: Block) -> None:
        """Say where in the page one is, where that has changed, and show what will be run."""
        if self._told != (block.chapter, block.title):
            slide = f"  slide {block.slide}" if block.slide else ""
            where = " · ".join(dict.fromkeys(filter(None, [str(block.chapter), block.title])))
            click.echo(f"\n{_paint(where or self._page.file, 'head')}{_paint(slide, 'label')}")
            self._told = (block.chapter, block.title)
        click.echo()
        for line in show_block(block):
            click.echo(f"    {_paint(line, 'good')}")

    def _play(self, player: Player, printer: _Printer, block: Block) -> None:
        printer.begin()
        outcome = player.play(block)
        printer.finish(outcome)
        _report(self._page, outcome)

    def _play_hidden(self, player: Player, printer: _Printer, block: Block) -> None:
        """What the page's author prepares is not for the reader, unless it fails."""
        with printer.silence():
            outcome = player.play(block)
        if not outcome.is_good:
            _report(self._page, outcome)

    def _play_own(self, player: Player, printer: _Printer, near: Block, line: str) -> None:
        """A line of the reader's own: nothing is expected of it."""
        if line:
            place = near.place or SHELL
            step = Step(line, near.line)
            own = Block("run", near.line, place=place, steps=(step,), checks=Checks(code="any"), within=_OWN_SECONDS)
            printer.begin()
            outcome = player.play(own)
            printer.finish(outcome)
            if not outcome.is_good:
                _report(self._page, outcome)


def show_block(block: Block) -> list[str]:
    """What a reader sees before it is run."""
    if block.kind == "file":
        return [f"file {block.name}:", *block.text.rstrip("\n").split("\n")]
    if block.kind != "run" and block.kind != "start":
        word = {"end": "Ctrl-C ends", "await": "wait for the end of", "watch": "see what is printed by"}[block.kind]
        return [f"({word} {shlex.quote(block.name)})"]
    lines = [f"{block.prompt}{step.text}" for step in block.steps if step.text.strip()]
    if block.name:
        lines.append(f"(goes on in a second terminal, as {block.name})")
    if block.eventually:
        lines.append(f"(again and again for {block.eventually:g} s, until it is as the page says)")
    return lines


class _Printer:
    """Prints what a block says while it says it, line by line."""

    def __init__(self) -> None:
        self._printed = 0
        self._is_silent = False

    def begin(self) -> None:
        """The next block's output begins."""
        self._printed = 0

    def hear(self, output: str) -> None:
        """All that the block has printed so far; its last line may not be whole yet."""
        if not self._is_silent:
            self._print(output.split("\n")[:-1])

    def finish(self, outcome: Outcome) -> None:
        """The block has ended: print the rest."""
        self._print(outcome.output.split("\n") if outcome.output else [])

    def silence(self) -> ExitStack:
        """Within the block nothing is printed."""
        stack = ExitStack()
        self._is_silent = True
        stack.callback(self._speak)
        return stack

    def _speak(self) -> None:
        self._is_silent = False

    def _print(self, lines: list[str]) -> None:
        for line in lines[self._printed :]:
            self._printed += 1  # before Ctrl-C can come between
            click.echo(line)


def _report(page: Lesson, outcome: Outcome) -> None:
    if outcome.is_good:
        click.echo(_paint("as the page says", "label"))
        return
    if outcome.stopped:
        click.echo(_paint("ended by Ctrl-C", "label"))
        return
    difference = outcome.difference
    if difference and (outcome.output or not difference.seen):  # what was seen has just been printed
        difference = replace(difference, seen="", expected=())
    for line in build_report(page, replace(outcome, difference=difference), _width()):
        click.echo(_paint(line, "warn"))


def _ask(prompt: str) -> str:
    """What the reader types; the end of input is a wish to leave. Ctrl-C may have been meant for what has just ended:
    as at other prompts, only the line goes."""
    while True:
        try:
            return input(f"\n{prompt}").strip()
        except EOFError:
            click.echo()
            return "q"
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            click.echo("\nq, or Ctrl-D, ends the lesson", nl=False)


def _paint(text: str, style: Style) -> str:
    return paint(text, style, has_color(sys.stdout))


def _width() -> int:
    return shutil.get_terminal_size((120, 24)).columns
