"""`knetsim lesson`: pages with commands, checked, run as tests, and gone through with their reader."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knetsim.cli.terminal import Style, has_color, paint, print_json
from knetsim.errors import EXIT_FAILED, EXIT_OK, KnetsimError, MissingTool, NotFound, Problem, ScenarioError, UsageError

if TYPE_CHECKING:
    from knetsim.lessons.block import Block
    from knetsim.lessons.lesson import Lesson
    from knetsim.lessons.player import Outcome
    from knetsim.lessons.stage import Stage
    from knetsim.scenario import Scenario

_COMMAND = (sys.executable, "-P", "-m", "knetsim.cli.main")
_REPORT_WIDTH = 120
#: the width of the terminals in which pages are tested, so that tables look alike everywhere
_COLUMNS = 160
_FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
_scenario = click.option("--scenario", metavar="SCENARIO", help="Instead of the one that the page names.")


@click.group(short_help="Pages whose commands are run: check, test, or go through one.")
def lesson() -> None:
    """Pages whose fenced blocks say, in invisible comments, where they run and what must come of it."""


@lesson.command()
@_FILES
def check(files: tuple[Path, ...]) -> None:
    """Read FILEs and tell every mistake in them; nothing is run."""
    for page in read_lessons(files, None):
        count = len(page.blocks)
        slides = f"{page.slides} slides, " if page.slides else ""
        click.echo(
            f"{page.file}: {slides}{len(page.chapters)} chapters, {count} blocks that run, {page.only_shown} only shown"
        )


@lesson.command()
@_FILES
@_scenario
@click.option("--chapter", metavar="CHAPTER", help="Only this one; nothing before it is run but starts and files.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Lines, or JSON.")
def test(files: tuple[Path, ...], scenario: str | None, chapter: str | None, output: str) -> int:
    """Run all blocks of FILEs in their order, each page in a simulation of its own; 1 when one differs."""
    from knetsim.lessons.player import choose_chapter
    from knetsim.system import signals

    pages = read_lessons(files, scenario)
    parts = [choose_chapter(page, page.find_chapter(chapter)) if chapter else page.blocks for page in pages]
    _require_root(pages)
    signals.raise_on_termination()
    try:
        results = [_test_page(page, part, quiet=output == "json") for page, part in zip(pages, parts, strict=True)]
    except signals.Terminated as request:
        return 128 + request.number
    if output == "json":
        from knetsim.lessons.report import outcome_to_json

        print_json(
            [outcome_to_json(page, one) for page, outcomes in zip(pages, results, strict=True) for one in outcomes]
        )
    return EXIT_OK if all(one.is_good for outcomes in results for one in outcomes) else EXIT_FAILED


@lesson.command()
@click.argument("file", type=click.Path(path_type=Path))
@_scenario
@click.option("--from", "chapter", metavar="CHAPTER", help="Begin there: what comes before is run silently.")
def run(file: Path, scenario: str | None, chapter: str | None) -> int:
    """Go through FILE block by block: each is shown as it will be run, and run on Enter."""
    from knetsim.cli.lesson_run import Reader
    from knetsim.system import signals

    page = read_lessons([file], scenario)[0]
    start = page.find_chapter(chapter) if chapter else None
    _require_root([page])
    signals.raise_on_termination()
    try:
        return Reader(page, lambda: open_stage(_width())).go(start)
    except signals.Terminated as request:
        return 128 + request.number


def read_lessons(files: Sequence[Path], scenario: str | None) -> list[Lesson]:
    """All pages. ScenarioError with the mistakes of all of them."""
    from dataclasses import replace

    from knetsim.lessons.lesson import read_lesson
    from knetsim.lessons.places import find_place_problems

    pages: list[Lesson] = []
    problems: list[Problem] = []
    for file in files:
        try:
            page = read_lesson(file)
        except ScenarioError as error:
            problems += error.problems
            continue
        if scenario is not None:
            page = replace(page, scenario=_require_free(page, scenario))
        problems += find_place_problems(page, _read_scenario)
        pages.append(page)
    if problems:
        raise ScenarioError(problems)
    return pages


def _require_free(page: Lesson, scenario: str) -> str:
    if page.starts_itself:
        why, hint = "one of its blocks starts the simulation", "leave --scenario out, or change that block"
        raise UsageError(f"{page.file} cannot be run in {scenario}", why=why, hint=hint)
    return scenario


def _read_scenario(word: str) -> Scenario:
    from knetsim.cli.check import check_scenario
    from knetsim.cli.scenarios import find_scenario

    try:
        return check_scenario(find_scenario(word))
    except ScenarioError as error:
        raise NotFound("it has mistakes", why=str(error.problems[0]), hint=f"knetsim validate {word}") from error


def _require_root(pages: Sequence[Lesson]) -> None:
    from knetsim.lessons.lesson import NO_SCENARIO

    if os.geteuid() != 0 and any(page.starts_itself or page.scenario != NO_SCENARIO for page in pages):
        raise MissingTool("a lesson needs root", why="it starts a simulation", hint="sudo ./utils/knetsim lesson …")


@contextmanager
def open_stage(columns: int = _COLUMNS, name: str = "") -> Iterator[Stage]:
    """Where a page is run: ended, with its simulation, which may be given a name, at the end of the block."""
    from knetsim.lessons.stage import Stage
    from knetsim.system import signals

    stage = Stage(name or f"lesson-{os.getpid()}", _COMMAND, Path.cwd(), columns)
    try:
        yield stage
    finally:
        with signals.without_interrupts():  # people type Ctrl-C twice
            stage.close()


def _test_page(page: Lesson, blocks: Sequence[Block], quiet: bool) -> list[Outcome]:
    """Run a page's blocks, or some of them, and tell of each how it went."""
    from knetsim.lessons.player import Player
    from knetsim.lessons.report import build_report, build_summary

    began = time.monotonic()
    outcomes: list[Outcome] = []
    say: Callable[..., Any] = (lambda text, nl=True: None) if quiet else click.echo
    with open_stage() as stage:
        player = Player(page, stage)
        try:
            player.open()
        except KnetsimError as error:
            outcomes.append(player.explain_start(error))
            say(build_line(page, outcomes[0]))
        for outcome in player.play_all(blocks):
            outcomes.append(outcome)
            say(build_line(page, outcome))
    for outcome in outcomes:
        if outcome.difference is not None:
            say("\n".join(["", *build_report(page, outcome, _width())]))
    say("" if all(one.is_good for one in outcomes) else "\n", nl=False)
    say(build_summary(page, outcomes, time.monotonic() - began))
    return outcomes


def build_line(page: Lesson, outcome: Outcome) -> str:
    """`  ok      1.2 s  README.md:31  mininet> C0w1 ifconfig`."""
    block, color = outcome.block, has_color(sys.stdout)
    word = "ok" if outcome.is_good else "not run" if outcome.missing else "differs"
    style: Style = "good" if outcome.is_good else "bad"
    typed = block.prompt + block.steps[0].text if block.steps else f"{block.kind}: {block.name}"
    slide = f" slide {block.slide}" if block.slide else ""
    return (
        f"{paint(f'{word:7}', style, color)} {outcome.seconds:6.1f} s  {page.file}:{block.line}{slide}  {typed.strip()}"
    )


def _width() -> int:
    return shutil.get_terminal_size((_REPORT_WIDTH, 24)).columns
