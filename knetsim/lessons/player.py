"""A lesson's blocks, played: typed where they say, and held against what is expected."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from knetsim.errors import KnetsimError
from knetsim.lessons.block import SHELL, START_SECONDS, Block, Chapter, Step
from knetsim.lessons.checks import matches_shown
from knetsim.lessons.lesson import NO_SCENARIO, Lesson
from knetsim.lessons.sessions import Reply, Session
from knetsim.lessons.stage import Going, Stage

#: seconds between two attempts of a block that is to succeed eventually
_PAUSE = 0.5

Listener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as the page says: in which line, what (a line each), and both sides of a report."""

    line: int
    what: tuple[str, ...]
    expected: tuple[str, ...] = ()
    seen: str = ""
    typed: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a block went. One that could not be run, since its place has gone, says so in `missing`; one that was ended
    by its reader's Ctrl-C is `stopped`."""

    block: Block
    seconds: float
    output: str = ""
    difference: Difference | None = None
    missing: str = ""
    stopped: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it ran, and all was as expected."""
        return self.difference is None and not self.missing and not self.stopped


class Player:
    """Plays the blocks of one lesson on one stage.

    `listen` hears what the running block has printed so far, again and again; of one that is run until it succeeds
    nothing, since only its last attempt counts. With `is_patient`, Ctrl-C is for the block that runs, as at a terminal,
    and, once more, the end of what does not mind it; without, it ends all.
    """

    def __init__(
        self, lesson: Lesson, stage: Stage, listen: Listener = lambda output: None, *, is_patient: bool = False
    ) -> None:
        self.lesson, self.stage = lesson, stage
        self._listen, self._is_patient = listen, is_patient
        self._never = threading.Event()
        self._is_stopped = False

    @property
    def starts(self) -> bool:
        """Whether the lesson needs a simulation that none of its blocks starts."""
        lesson = self.lesson
        return not lesson.starts_itself and lesson.scenario != NO_SCENARIO and bool(lesson.blocks)

    def open(self) -> str:
        """Start the simulation that the lesson is about, unless one of its blocks does; what that printed.
        KnetsimError, NotReady when it does not start."""
        if not self.starts:
            return ""
        return self.stage.start(f"exec {shlex.join([*self.stage.command, *self._up()])}", START_SECONDS)

    def explain_start(self, error: KnetsimError) -> Outcome:
        """The outcome of `open` that has raised an error: of a block that no page has."""
        step = Step(shlex.join(["knetsim", *self._up()]), 1)
        block = Block("start", 1, place=SHELL, steps=(step,))
        return Outcome(block, 0.0, difference=_explain_error(block, error))

    def _up(self) -> list[str]:
        return ["up", self.lesson.scenario, *shlex.split(self.lesson.options)]

    def play_all(self, blocks: Iterable[Block]) -> Iterator[Outcome]:
        """Play blocks in their order; after a simulation that did not start, those that need it are missing."""
        for block in blocks:
            yield self.play(block)

    def play(self, block: Block) -> Outcome:
        """Play one block."""
        began, self._is_stopped = time.monotonic(), False
        try:
            outcome = self._play(block, began)
        except KnetsimError as error:
            outcome = Outcome(block, 0.0, difference=_explain_error(block, error))
        except KeyboardInterrupt:
            if not self._is_patient:
                raise
            self._is_stopped, outcome = True, Outcome(block, 0.0)
        return replace(outcome, seconds=time.monotonic() - began, stopped=self._is_stopped)

    def _play(self, block: Block, began: float) -> Outcome:
        if block.kind == "file":
            self.stage.write_file(block.name, block.text)
            return Outcome(block, 0.0)
        if block.kind == "start":
            output = self.stage.start(block.steps[0].text, block.within, self._listen)
            return Outcome(block, 0.0, output, _compare(block, block.steps[0], output, 0))
        if block.kind in ("end", "await", "watch"):
            return self._play_going(block)
        if block.place != SHELL and not self.stage.has_simulation:
            return Outcome(block, 0.0, missing="no simulation runs")
        if block.name:
            return self._play_background(block)
        outcome = self._type(block)
        while outcome.difference and not self._is_stopped and time.monotonic() - began < block.eventually:
            self._never.wait(_PAUSE)
            outcome = self._type(block)
        return outcome

    # --- lines --------------------------------------------------------------------------------------------------------

    def _type(self, block: Block) -> Outcome:
        """Type a block's lines at its place."""
        session = self.stage.session(block.place)
        said: list[str] = []
        reply, step = Reply(code=0), block.steps[0]
        deadline = time.monotonic() + block.within
        for step, is_last in _typed_steps(block):
            if not reply.is_open and _says_nothing(step.text):
                continue
            session.start_line(step.text)
            reply = self._follow(session, block, said, max(0.0, deadline - time.monotonic()))
            said.append(reply.output)
            if reply.gone:
                self.stage.forget(block.place)
            if difference := self._explain_step(block, step, reply, is_last=is_last):
                return Outcome(block, 0.0, _join(said), difference)
        output = _join(said)
        return Outcome(block, 0.0, output, _compare(block, step, output, reply.code))

    def _follow(self, session: Session, block: Block, said: Sequence[str], seconds: float) -> Reply:
        """Wait for a line's end, tell what it prints, and interrupt it when the page says so."""
        began = time.monotonic()
        interrupt = block.interrupt.compile() if block.interrupt else None

        def heard(output: str) -> bool:
            if not block.eventually:
                self._listen(_join([*said, output]))
            return interrupt is not None and interrupt.search(output) is not None

        while True:
            try:
                left = max(0.0, began + seconds - time.monotonic())
                if session.wait(left, heard) and interrupt is not None and not session.has_ended:
                    interrupt = None
                    session.interrupt(max(0.0, began + seconds - time.monotonic()))
                return session.finish(max(0.0, began + seconds - time.monotonic()))
            except KeyboardInterrupt:
                if not self._is_patient:
                    raise
                seconds = 0.0 if self._is_stopped else seconds  # who insists does not want to wait
                self._is_stopped = True
                session.interrupt()

    def _explain_step(self, block: Block, step: Step, reply: Reply, *, is_last: bool) -> Difference | None:
        """What is wrong with one line, before the block as a whole is looked at."""
        if reply.late:
            what = [f"it did not end in {block.within:g} s, and was ended"]
            if reply.gone:
                what.append("its terminal did not answer any more, and was closed")
            return _differ(block, step, what, reply.output)
        if is_last and reply.is_open:
            self.stage.forget(block.place)
            return _differ(block, step, ["the command is not complete: its shell waits for more"], reply.output)
        if not is_last and reply.code:
            return _differ(block, step, [f"exit code {reply.code}, expected 0"], reply.output, ["exit code: 0"])
        if step.shown is not None and not matches_shown(step.shown, reply.output):
            return _differ(block, step, ["it printed something else"], reply.output, step.shown)
        return None

    # --- what goes on -------------------------------------------------------------------------------------------------

    def _play_background(self, block: Block) -> Outcome:
        """Begin what goes on, in a terminal of its own, and wait until it has printed what is expected."""
        if before := self.stage.going.pop(block.name, None):  # its reader wants it again
            before.session.close()
        session = self.stage.open_shell(block.place)
        self.stage.going[block.name] = Going(block, session)
        said: list[str] = []
        for step, is_last in _typed_steps(block):
            session.start_line(step.text)
            if not is_last:
                reply = session.finish(block.within)
                said.append(reply.output)
                if difference := self._explain_step(block, step, reply, is_last=False):
                    return Outcome(block, 0.0, _join(said), difference)
        output, what = self._watch(session, block, said)
        return Outcome(block, 0.0, output, _differ_if(block, block.steps[-1], what, output))

    def _play_going(self, block: Block) -> Outcome:
        """End what goes on, or wait for its end, or for what it prints."""
        going = self.stage.going.get(block.name)
        if going is None:
            return Outcome(block, 0.0, missing=f"'{block.name}' has gone with its simulation")
        step = Step(going.block.steps[-1].text, block.line)
        block = replace(block, place=going.block.place)  # for the report
        if block.kind == "watch":
            output, what = self._watch(going.session, block)
            return Outcome(block, 0.0, output, _differ_if(block, step, what, output))
        if block.kind == "end":
            going.session.interrupt(block.within)
        reply = going.session.finish(0.0 if block.kind == "end" else block.within)
        del self.stage.going[block.name]
        going.session.close()
        late = [f"it did not end in {block.within:g} s, and was ended"] if reply.late else []
        what = [*late, *block.checks.explain(reply.output, None if late else reply.code)]
        return Outcome(block, 0.0, reply.output, _differ_if(block, step, what, reply.output))

    def _watch(self, session: Session, block: Block, said: Sequence[str] = ()) -> tuple[str, list[str]]:
        """Wait until what goes on has printed what is expected; all of it, after what was `said` before, and what is
        missing."""

        def is_seen(output: str) -> bool:
            output = _join([*said, output])
            self._listen(output)
            return not block.checks.explain_output(output)

        session.wait(block.within, is_seen)
        output = _join([*said, session.output])
        what = block.checks.explain_output(output)
        return output, [*what, "it has ended"] if what and session.has_ended else what


def choose_blocks(lesson: Lesson, chapter: Chapter) -> list[Block]:
    """What must be played to come to the beginning of a chapter: all blocks before it, but of those before the last
    simulation that is started there only the files."""
    before = [block for block in lesson.blocks if block.chapter.number < chapter.number]
    starts = [number for number, block in enumerate(before) if block.kind == "start"]
    last = starts[-1] if starts else 0
    return [block for number, block in enumerate(before) if number >= last or block.kind == "file"]


def choose_chapter(lesson: Lesson, chapter: Chapter) -> list[Block]:
    """What must be played of a chapter that stands for itself: its blocks, and of those before it only the files and
    the last start of a simulation."""
    own = [block for block in lesson.blocks if block.chapter == chapter]
    before = choose_blocks(lesson, chapter)
    return [*(block for block in before if block.kind in ("file", "start")), *own]


def _typed_steps(block: Block) -> Iterator[tuple[Step, bool]]:
    """The lines that are typed, and of each whether it is the last; blank ones at the end are none."""
    steps = list(block.steps)
    while steps and _says_nothing(steps[-1].text):
        steps.pop()
    yield from ((step, step is steps[-1]) for step in steps)


def _says_nothing(text: str) -> bool:
    return not text.strip() or text.lstrip().startswith("#")


def _join(said: Sequence[str]) -> str:
    return "\n".join(part for part in said if part)


def _compare(block: Block, step: Step, output: str, code: int | None) -> Difference | None:
    """What a block as a whole came to against what the page says of it."""
    what = block.checks.explain(output, code)
    if block.interrupt is not None and not block.interrupt.compile().search(output):
        what.append(f"no line like: {block.interrupt.text}, at which Ctrl-C would be typed")
    expected = block.checks.describe()
    if block.shown is not None and not matches_shown(block.shown, output):
        what.append("it printed something else than the page shows")
        expected = [*expected, *block.shown]
    return _differ(block, step, what, _with_code(output, code), expected) if what else None


def _with_code(output: str, code: int | None) -> str:
    return output if not code else _join([output, f"exit code: {code}"])


def _differ(block: Block, step: Step, what: Sequence[str], seen: str, expected: Sequence[str] = ()) -> Difference:
    return Difference(step.line, tuple(what), tuple(expected), seen, f"{block.prompt}{step.text}")


def _differ_if(block: Block, step: Step, what: Sequence[str], seen: str) -> Difference | None:
    """A difference from what is expected of the block, if there is anything wrong."""
    return _differ(block, step, what, seen, block.checks.describe()) if what else None


def _explain_error(block: Block, error: KnetsimError) -> Difference:
    """A block that could not be run at all."""
    step = block.steps[-1] if block.steps else Step("", block.line)
    what = [error.what, *([f"try: {error.hint}"] if error.hint else [])]
    return _differ(block, step, what, error.why, block.checks.describe() if block.steps else ())
