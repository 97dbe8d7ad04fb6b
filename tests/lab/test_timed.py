"""Programs run with the clock in hand: what they said, in which order, and how they ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from knetsim.errors import MissingTool, NotReady
from knetsim.system.timed import TimedLine, run_timed


def test_lines_of_both_streams_with_their_times() -> None:
    run = run_timed(["sh", "-c", "echo one; echo two >&2; printf three; exit 7"])
    assert run.code == 7
    assert {(line.stream, line.text) for line in run.lines} == {
        ("output", "one"),
        ("error", "two"),
        ("output", "three"),
    }
    assert run.text("output") == "one\nthree"
    assert all(0 <= line.seconds <= run.seconds for line in run.lines)
    assert run.cpu_seconds >= 0


def test_output_that_is_larger_than_a_pipe() -> None:
    run = run_timed(["sh", "-c", "seq 100000"])
    assert [line.text for line in run.lines] == [str(number) for number in range(1, 100001)]


def test_lines_are_told_at_once(tmp_path: Path) -> None:
    """The program goes on only when its first line was seen."""
    fifo = tmp_path / "go"
    os.mkfifo(fifo)

    def answer(line: TimedLine) -> None:
        if line.text == "asking":
            fifo.write_text("go\n")

    assert (
        run_timed(["sh", "-c", f"echo asking; cat {fifo}"], timeout=20, on_line=answer).text("output") == "asking\ngo"
    )


def test_its_end_counts_and_not_that_of_what_it_left_behind(tmp_path: Path) -> None:
    fifo = tmp_path / "end"
    os.mkfifo(fifo)
    try:
        assert run_timed(["sh", "-c", f"cat {fifo} & echo done"], timeout=20).text("output") == "done"
    finally:
        fifo.write_text("")  # lets the one that was left behind end


def test_one_that_does_not_end_is_interrupted(tmp_path: Path) -> None:
    told = tmp_path / "told"
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    script = f"trap 'echo interrupted >{told}; exit 0' INT; echo waiting; while :; do read x <>{fifo}; done"
    with pytest.raises(NotReady, match="did not end in 1 s"):
        run_timed(["bash", "-c", script], timeout=1)
    assert told.read_text() == "interrupted\n"


def test_an_exception_meanwhile_ends_it() -> None:
    pids: list[int] = []

    def stop(line: TimedLine) -> None:
        pids.append(int(line.text))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_timed(["python3", "-c", "import os, signal; print(os.getpid(), flush=True); signal.pause()"], on_line=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], signal.SIG_DFL)


def test_no_such_program() -> None:
    with pytest.raises(MissingTool):
        run_timed(["no-such-program"])
