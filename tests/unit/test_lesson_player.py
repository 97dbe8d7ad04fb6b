"""Lessons played in real shells at real terminals, without a simulation: every trouble a block can have."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.errors import KnetsimError
from knetsim.lessons.lesson import parse_lesson
from knetsim.lessons.player import Outcome, Player
from knetsim.lessons.stage import Stage, sweep_directories

PAGE = "<!-- scenario: none -->\n"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "there.txt").write_text("there\n")
    stage = Stage(f"test-{os.getpid()}-shells", ["false"], tmp_path)
    yield stage
    stage.close()
    assert not stage.directory.exists()


def play(stage: Stage, text: str) -> list[Outcome]:
    page = parse_lesson(PAGE + textwrap.dedent(text), "page.md")
    player = Player(page, stage)
    assert player.open() == ""
    return list(player.play_all(page.blocks))


def wrong(outcome: Outcome) -> tuple[str, ...]:
    return outcome.difference.what if outcome.difference else ()


def test_a_shell_keeps_what_it_was_told(stage: Stage) -> None:
    outcomes = play(
        stage,
        """\
        <!-- run: shell -->
        ```bash
        a=3
        cat there.txt > copy.txt
        ```
        <!-- run: shell -->
        ```console
        $ echo $a; cat copy.txt
        3
        there
        $ for i in 1 2; do
        > echo "$i"
        > done
        1
        2
        ```
        <!-- run: shell | type: echo $a -->
        """,
    )
    assert [wrong(outcome) for outcome in outcomes] == [(), (), ()]
    assert outcomes[2].output == "3"
    assert not (stage.base / "copy.txt").exists()


def test_files_are_written_and_never_over_others(stage: Stage) -> None:
    outcomes = play(
        stage,
        """\
        <!-- file: new.txt -->
        ```text
        one
        two
        ```
        <!-- run: shell -->
        ```console
        $ cat new.txt
        one
        two
        ```
        <!-- file: new.txt -->
        ```text
        again
        ```
        <!-- file: there.txt -->
        ```text
        lost?
        ```
        """,
    )
    assert [outcome.is_good for outcome in outcomes] == [True, True, True, False]
    assert wrong(outcomes[3]) == ("there is a file there.txt already", "try: give the lesson's another name")
    assert (stage.base / "there.txt").read_text() == "there\n"


@pytest.mark.parametrize(
    ("remark", "line", "what"),
    [
        ("expect: foo", "echo bar", ("no line like: foo",)),
        ("never: bar", "echo bar", ("a line like: bar",)),
        ("exit: 0", "(exit 3)", ("exit code 3, expected 0",)),
        ("exit: 4", "(exit 3)", ("exit code 3, expected 4",)),
        ("exit: fails", "true", ("exit code 0, expected none but 0",)),
        ("expect: foo | exit: 2", "false", ("no line like: foo", "exit code 1, expected 2")),
        ("within: 0.2s", "sleep 1000", ("it did not end in 0.2 s, and was ended",)),
        ("expect: x", "cat <<E", ("the command is not complete: its shell waits for more",)),
    ],
)
def test_what_differs_is_told_and_the_rest_goes_on(stage: Stage, remark: str, line: str, what: tuple[str, ...]) -> None:
    text = f"<!-- run: shell | {remark} -->\n```bash\n{line}\n```\n"
    first, second = play(stage, text + "<!-- run: shell | expect: ^on -->\n```bash\necho on\n```\n")
    assert wrong(first) == what
    assert first.difference is not None
    assert (first.difference.line, first.difference.typed) == (4, f"$ {line}")
    assert second.is_good


def test_a_line_that_fails_ends_its_block(stage: Stage) -> None:
    (outcome,) = play(stage, "<!-- run: shell -->\n```bash\necho a\nfalse\ntouch never\n```\n")
    assert wrong(outcome) == ("exit code 1, expected 0",)
    assert outcome.difference is not None
    assert outcome.difference.line == 5
    assert not (stage.directory / "never").exists()


def test_shown_output_that_differs(stage: Stage) -> None:
    text = "<!-- run: shell -->\n```console\n$ echo a\nb\n```\n<!-- run: shell -->\n```bash\nseq 9\n```\n"
    first, second = play(stage, text + "<!-- output -->\n```\n1\n…\n8\n```\n")
    assert wrong(first) == ("it printed something else",)
    assert first.difference is not None
    assert (first.difference.expected, first.difference.seen) == (("b",), "a")
    assert wrong(second) == ("it printed something else than the page shows",)


def test_what_ignores_ctrl_c_is_killed_and_its_shell_stays(stage: Stage) -> None:
    script = """trap '' INT; echo begun; while :; do sleep 1; done"""
    text = f'<!-- run: shell | within: 0.3s -->\n```bash\na=1\nbash -c "{script}"\n```\n'
    first, second = play(stage, text + "<!-- run: shell -->\n```console\n$ echo $a\n1\n```\n")
    assert wrong(first) == ("it did not end in 0.3 s, and was ended",)
    assert first.difference is not None
    assert "begun" in first.difference.seen
    assert second.is_good


def test_ctrl_c_when_the_page_says_so(stage: Stage) -> None:
    loop = "while :; do echo tick; sleep 0.01; done"
    text = f'<!-- run: shell | interrupt: tick | expect: tick | exit: 130 -->\n```bash\nbash -c "{loop}"\n```\n'
    assert [wrong(outcome) for outcome in play(stage, text)] == [()]


def test_ctrl_c_that_was_never_typed_is_told(stage: Stage) -> None:
    (outcome,) = play(stage, "<!-- run: shell | interrupt: tick -->\n```bash\necho tock\n```\n")
    assert wrong(outcome) == ("no line like: tick, at which Ctrl-C would be typed",)


def test_a_shell_that_ends_is_replaced(stage: Stage) -> None:
    text = "<!-- run: shell | exit: 5 -->\n```bash\nexit 5\n```\n<!-- run: shell -->\n```console\n$ echo on\non\n```\n"
    assert [wrong(outcome) for outcome in play(stage, text)] == [(), ()]


def test_a_block_that_succeeds_eventually(stage: Stage) -> None:
    text = """\
    <!-- run: shell | eventually: 20s | expect: ^xxx -->
    ```bash
    printf x >> grows; cat grows; echo
    ```
    <!-- run: shell | eventually: 0.1s | expect: never -->
    ```bash
    echo now
    ```
    """
    good, bad = play(stage, text)
    assert good.is_good
    assert wrong(bad) == ("no line like: never",)


def test_of_what_succeeds_eventually_the_last_attempt_is_all_that_is_heard(stage: Stage) -> None:
    heard: list[str] = []
    line = "printf 'attempt\\n' >> grows; cat grows"
    text = f"{PAGE}<!-- run: shell | eventually: 20s | expect: attempt\\nattempt -->\n```bash\n{line}\n```\n"
    outcome = Player(parse_lesson(text, "page.md"), stage, heard.append).play(parse_lesson(text, "page.md").blocks[0])
    assert (outcome.is_good, outcome.output, heard) == (True, "attempt\nattempt", [])


def test_what_goes_on_in_the_background(stage: Stage) -> None:
    text = """\
    <!-- run: shell | background: counter | expect: line 2 -->
    ```bash
    n=0
    while sleep 0.01; do n=$((n+1)); echo line $n; test -e stop && break; done
    ```
    <!-- watch: counter | expect: line 5 -->
    <!-- run: shell | type: touch stop -->
    <!-- await: counter | expect: line 5 | never: line 0 -->
    <!-- run: shell | background: counter | expect: begun -->
    ```bash
    bash -c 'echo begun; sleep 1000'
    ```
    <!-- end: counter | expect: begun -->
    """
    assert [wrong(outcome) for outcome in play(stage, text)] == [()] * 6


def test_what_it_prints_before_it_goes_on_is_part_of_it(stage: Stage) -> None:
    text = "<!-- run: shell | background: two | expect: first\nsecond -->\n```bash\necho first\necho second\n```\n"
    (outcome,) = play(stage, text.replace("first\ns", "first\\ns"))
    assert (wrong(outcome), outcome.output) == ((), "first\nsecond")


def test_troubles_of_what_goes_on(stage: Stage) -> None:
    text = """\
    <!-- run: shell | background: early | expect: ready -->
    ```bash
    echo ready
    ```
    <!-- watch: early | expect: ready -->
    <!-- await: early | expect: ready -->
    <!-- run: shell | background: short | expect: ready -->
    ```bash
    echo other
    ```
    <!-- end: short | expect: ready -->
    <!-- run: shell | background: long | within: 0.2s | expect: ready -->
    ```bash
    sleep 1000
    ```
    <!-- watch: long | within: 0.2s | expect: ready -->
    <!-- await: long | within: 0.2s -->
    """
    *early, short, end, long, watch, wait = play(stage, text)
    assert [wrong(outcome) for outcome in early] == [(), (), ()]
    assert wrong(short) == ("no line like: ready", "it has ended")
    assert wrong(end) == ("no line like: ready",)
    assert wrong(long) == wrong(watch) == ("no line like: ready",)
    assert wrong(wait) == ("it did not end in 0.2 s, and was ended",)


def test_what_a_lesson_that_was_killed_has_left_is_swept(stage: Stage, tmp_path: Path) -> None:
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    dead, alive, other = (tmp_path / f"knetsim-lesson-{owner}" for owner in (f"{gone}-x", f"{os.getpid()}-x", "x-1"))
    for directory in (dead, alive, other):
        directory.mkdir()
        (directory / "link").symlink_to(stage.base / "there.txt")
    sweep_directories(tmp_path)
    assert [directory.exists() for directory in (dead, alive, other)] == [False, True, True]
    assert (stage.base / "there.txt").exists()


def test_without_a_simulation_its_places_are_missing(stage: Stage) -> None:
    (outcome,) = play(stage, "<!-- run: mininet -->\n```console\nmininet> status\n```\n")
    assert (outcome.is_good, outcome.missing) == (False, "no simulation runs")


def test_a_simulation_that_does_not_start(stage: Stage) -> None:
    with pytest.raises(KnetsimError, match="did not start") as caught:
        stage.start("echo no memory; exit 1", 20)
    assert caught.value.why == "no memory"
    with pytest.raises(KnetsimError, match="not ready after"):
        stage.start("echo slow; sleep 1000", 0.2)
    assert not stage.has_simulation


def test_a_prompt_behind_which_something_was_printed_is_the_prompt(stage: Stage) -> None:
    line = "echo ready; printf 'mininet> '; echo 'a daemon has died'; exec sleep 1000"
    assert stage.start(line, 20) == "ready"


def test_a_simulation_that_does_not_start_is_a_difference_of_its_own(stage: Stage) -> None:
    page = parse_lesson("<!-- run: shell -->\n```bash\necho on\n```\n", "page.md")
    player = Player(page, stage)
    with pytest.raises(KnetsimError) as caught:
        player.open()  # the stage's command is `false`
    outcome = player.explain_start(caught.value)
    assert not outcome.is_good
    assert outcome.difference is not None
    assert outcome.difference.typed == "$ knetsim up default"
    assert wrong(outcome) == ("the simulation did not start",)


def _interrupted_player(stage: Stage, *lines: str, more: str = "", times: int = 1) -> Outcome:
    """The outcome of the block when its reader types Ctrl-C so often, each time as soon as it has printed a line."""
    text = "\n".join(lines)
    page = parse_lesson(f"{PAGE}<!-- run: shell | within: 1min{more} -->\n```bash\n{text}\n```\n", "page.md")
    left = [signal.SIGINT] * times

    def listen(output: str) -> None:
        if left and output.count("\n") > times - len(left):
            os.kill(os.getpid(), left.pop())

    return Player(page, stage, listen, is_patient=True).play(page.blocks[0])


def test_ctrl_c_of_a_patient_reader_ends_the_block(stage: Stage) -> None:
    outcome = _interrupted_player(stage, "bash -c 'echo begun; exec sleep 1000'")
    assert (outcome.stopped, outcome.is_good, outcome.output) == (True, False, "begun")
    assert play(stage, "<!-- run: shell | expect: ^on -->\n```bash\necho on\n```\n")[0].is_good


def test_ctrl_c_once_more_ends_what_does_not_mind_it(stage: Stage) -> None:
    stubborn = "trap 'echo no' INT; echo begun; while :; do sleep 0.01; done"
    outcome = _interrupted_player(stage, f'bash -c "{stubborn}"', times=2)
    assert outcome.stopped
    assert outcome.output.startswith("begun\nno")
    assert play(stage, "<!-- run: shell | expect: ^on -->\n```bash\necho on\n```\n")[0].is_good


def test_ctrl_c_of_a_patient_reader_ends_waiting_too(stage: Stage) -> None:
    outcome = _interrupted_player(stage, "bash -c 'echo a; exec sleep 1000'", more=" | background: it | expect: b")
    assert outcome.stopped
    assert play(stage, "<!-- run: shell | expect: ^on -->\n```bash\necho on\n```\n")[0].is_good


def test_whoever_listens_hears_it_as_it_comes(stage: Stage) -> None:
    heard: list[str] = []
    text = "echo a\necho b; until test -e heard; do sleep 0.01; done"
    page = parse_lesson(f"{PAGE}<!-- run: shell | within: 20s -->\n```bash\n{text}\n```\n", "page.md")

    def listen(output: str) -> None:
        heard.append(output)
        if output == "a\nb\n":
            (stage.directory / "heard").touch()

    (block,) = page.blocks
    outcome = Player(page, stage, listen).play(block)
    assert outcome.is_good, "a whole line is heard before its program ends"
    assert outcome.output == "a\nb"
    assert all("a\nb\n".startswith(text) for text in heard)


def test_a_start_is_heard_while_it_goes_on(stage: Stage) -> None:
    heard: list[str] = []

    def listen(output: str) -> None:
        heard.append(output)
        if output == "etcd\n":
            (stage.directory / "heard").touch()

    line = "echo etcd; until test -e heard; do sleep 0.01; done; echo pods; printf 'mininet> '; exec sleep 1000"
    assert stage.start(line, 20, listen) == "etcd\npods"
    assert heard[-1] == "etcd\npods\n"
    assert all("etcd\npods\n".startswith(text.removesuffix("mininet>")) for text in heard)
