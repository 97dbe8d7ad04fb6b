"""What the command line shows, where the golden files do not tell: colours, pipes, many pods, progress."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from knetsim import fidelity
from knetsim.cli import render
from knetsim.cli.fidelity import fidelity as print_fidelity
from knetsim.cli.fidelity import write_page
from knetsim.cli.progress import LONG_SECONDS, Progress
from knetsim.cli.terminal import Cell, Line, Table, print_parts
from knetsim.errors import CommandError, KnetsimError, NotFound
from knetsim.status import Status, Summary
from tests.status_shape import explain_mismatch

CASES = Path(__file__).parent.parent / "golden" / "render"


@pytest.fixture
def status() -> Any:
    return yaml.safe_load((CASES / "ready.yaml").read_text())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[IO[str], Callable[[], str]]]:
    """A terminal to write to, and what it was sent so far."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    master, slave = os.openpty()
    os.set_blocking(master, False)
    received = b""

    def read() -> str:
        nonlocal received
        try:
            while chunk := os.read(master, 65536):
                received += chunk
        except BlockingIOError:
            pass  # that was all
        return received.decode()

    with open(slave, "w", encoding="utf-8") as file:
        yield file, read
    os.close(master)


# --- errors


def test_colours_only_where_they_are_wanted(
    terminal: tuple[IO[str], Callable[[], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, read = terminal
    render.print_error(NotFound("no pod 'c9'"), file=file)
    assert "\x1b[" in read()
    monkeypatch.setenv("NO_COLOR", "1")
    sent = len(read())
    render.print_error(NotFound("no pod 'c9'"), file=file)
    assert read()[sent:] == "error: no pod 'c9'\r\n"


def test_an_error_is_never_longer_than_four_lines() -> None:
    error = KnetsimError("a\nb", "c\nd", "e\nf\ng", "h\ni")
    assert render.render_error(error) == "error: a b\n  where: c d\n  why:   e f g\n  try:   h i"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("one\ntwo\n", "two (1 of 2 lines; -v shows all)"),
        ("warning: x\nFATAL: disk is full\nbye\n", "FATAL: disk is full (1 of 3 lines; -v shows all)"),
        ("\n  only\n\n", "only"),
    ],
)
def test_of_a_long_output_the_telling_line_is_shown(output: str, line: str) -> None:
    assert f"why:   {line}" in render.render_error(CommandError(["x"], 1, output))


def test_an_unexpected_error_says_where_it_arose() -> None:
    with pytest.raises(TypeError) as caught:
        fidelity.resolve({"clusters": None})  # type: ignore[typeddict-item]
    text = render.render_error(caught.value)
    assert "knetsim/fidelity.py" in text
    assert len(text.splitlines()) <= 4
    assert "Traceback" in render.render_error(caught.value, verbose=True)


def test_an_interrupt_is_one_word() -> None:
    assert render.render_error(KeyboardInterrupt()) == "interrupted"


# --- tables


def test_nothing_is_cut_or_wrapped_in_a_pipe() -> None:
    long = "x" * 300
    file = io.StringIO()
    print_parts([Table(("A", "B"), [[long, "two words"]], wraps=("B",)), Line([long, " end"])], file)
    assert file.getvalue().splitlines() == [f"A{' ' * 301}B", f"{long}  two words", f"{long} end"]


def test_content_is_never_taken_for_markup_or_control() -> None:
    file = io.StringIO()
    print_parts([Table(("A",), [["[bold]x[/bold] :smile:"], [Cell("\x1b[31mred\x07")], [""]])], file)
    assert file.getvalue().splitlines() == ["A", "[bold]x[/bold] :smile:", "red", "-"]


def test_json_is_what_was_given(status: Status) -> None:
    file = io.StringIO()
    render.render_status(status, "json", file)
    assert json.loads(file.getvalue()) == status


@pytest.mark.parametrize("case", ["ready", "trouble"])
def test_the_samples_have_the_documented_shape(case: str) -> None:
    assert explain_mismatch(yaml.safe_load((CASES / f"{case}.yaml").read_text()), Status) == []


def test_the_samples_of_ls_have_the_documented_shape() -> None:
    assert explain_mismatch(yaml.safe_load((CASES / "simulations.yaml").read_text()), list[Summary]) == []


def test_the_shape_is_really_checked(status: Any) -> None:
    del status["clusters"][0]["etcd"]["healthy"]
    status["clusters"][0]["pods"][0]["ready"] = 1
    status["extra"] = []
    assert explain_mismatch(status, Status) == [
        "status.clusters[0].etcd.healthy is missing",
        "status.clusters[0].pods[0].ready is 1",
        "status.extra is not documented",
    ]


def test_of_a_thousand_pods_those_in_trouble_are_shown(status: Any) -> None:
    cluster = status["clusters"][0]
    well = cluster["pods"][0]
    cluster["pods"] = [{**well, "name": f"p{number}"} for number in range(1000)]
    cluster["pods"][500].update(ready=False, phase="Pending")
    file = io.StringIO()
    render.render_status(status, "table", file)
    lines = file.getvalue().splitlines()
    assert len(lines) < 40
    assert [line.split()[0] for line in lines if line.startswith("C0/")] == ["C0/p500"]
    assert "999 more pods are well (-o wide lists them)" in lines
    wide = io.StringIO()
    render.render_status(status, "wide", wide)
    assert wide.getvalue().count("\nC0/p") == 1000


def test_empty_lists_say_so() -> None:
    file = io.StringIO()
    render.render_simulations([], file=file)
    render.render_orphans([], file=file)
    assert file.getvalue() == ("no simulation is running; start one: sudo ./utils/run\neverything has an owner\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (192, "3m12s"), (7200, "2h"), (7500, "2h5m"), (273600, "3d4h")],
)
def test_explain_duration(seconds: float, text: str) -> None:
    assert render.explain_duration(seconds) == text


# --- fidelity


def test_a_mixed_cluster_names_its_workers(status: Any) -> None:
    parts = {(part.name, part.variant): part.where for part in fidelity.resolve(status)}
    assert parts["pod network", "flanneld"] == "C0w1"
    assert parts["pod network", "embedded"] == "C0w2"
    assert parts["control plane", "kubernetes"] == "C0"


def test_routers_of_skupper_are_told_where_they_run(status: Any) -> None:
    site = status["sites"][0]
    status["sites"] = [{**site, "cluster": "C0", "kind": "skrouterd"}, {**site, "cluster": "C1", "kind": "embedded"}]
    parts = {(part.name, part.variant): part.where for part in fidelity.resolve(status)}
    assert parts["Skupper router", "skrouterd"] == "C0"
    assert parts["Skupper router", "embedded"] == "C1"
    assert parts["Skupper controller", "knetsim's"] == "C0, C1"
    status["sites"] = []
    assert not [part for part in fidelity.resolve(status) if part.name.startswith("Skupper")]


def test_what_nobody_uses_is_left_out(status: Any) -> None:
    for worker in status["clusters"][0]["workers"]:
        worker.update(agent="embedded", cni="native")
    second = copy.deepcopy(status["clusters"][0])
    second["name"] = "C1"
    status["clusters"].append(second)
    parts = {(part.name, part.variant): part.where for part in fidelity.resolve(status)}
    assert ("pod network", "flanneld") not in parts
    assert parts["pod network", "embedded"] == "C0, C1"


def test_every_part_says_what_differs() -> None:
    assert [part for part in fidelity.PARTS if not part.differs] == []


def test_fidelity_page_tells_of_every_part_and_has_its_links_lead_somewhere(tmp_path: Path) -> None:
    file = tmp_path / "fidelity.md"
    write_page(file)
    text = file.read_text()
    assert [part for part in fidelity.PARTS if part.differs not in text] == []
    headings = {line[3:].lower().replace(" ", "-") for line in text.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\(#([^)]*)\)", text)) <= headings


def test_fidelity_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(KnetsimError, match="the page cannot be written: No such file or directory"):
        write_page(tmp_path / "nowhere" / "fidelity.md")


def test_fidelity_as_json(status: Any) -> None:
    file = io.StringIO()
    print_fidelity(status, "json", file)
    answer = json.loads(file.getvalue())
    assert answer["simulation"] == "default"
    assert {"name", "variant", "reality", "differs", "where"} == answer["parts"][0].keys()


# --- progress


def test_progress_in_a_pipe_is_a_line_for_each_finished_step() -> None:
    now = 100.0
    file = io.StringIO()
    with Progress(file, clock=lambda: now) as progress:
        progress.step("C0", "3 etcd members")
        now = 100.8
        progress.done("C0", "etcd: 3 of 3 members healthy")
        now = 112.34
        progress.failed("C1", "flanneld ended")
    assert file.getvalue() == "[  0.8s] C0: etcd: 3 of 3 members healthy\n[ 12.3s] ✗ C1: flanneld ended\n"


class Lines(io.StringIO):
    """A pipe whose reader can wait for a line."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def write(self, text: str) -> int:
        size = super().write(text)
        if "\n" in text:
            self.came.set()
        return size


def test_a_step_that_takes_long_is_mentioned_once_in_a_pipe() -> None:
    now = 0.0
    file = Lines()
    with Progress(file, clock=lambda: now, look_every=0.001) as progress:
        progress.step("C0", "3 etcd members")
        now = LONG_SECONDS + 1
        assert file.came.wait(10)
        progress.done("C0", "etcd: 3 of 3 members healthy")
    first, second = file.getvalue().splitlines()
    assert first.endswith("C0: still waiting for 3 etcd members")
    assert second.endswith("C0: etcd: 3 of 3 members healthy")


def test_progress_leaves_a_terminal_as_it_was(terminal: tuple[IO[str], Callable[[], str]]) -> None:
    file, read = terminal
    threads_before = threading.active_count()
    with Progress(file) as progress:
        threads = [threading.Thread(target=progress.step, args=(f"C{number}", "etcd")) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress.done("C0", "etcd: well")
    sent = read()
    assert "C0: etcd: well" in sent
    assert "\x1b[?25l" not in sent  # the cursor was never hidden
    assert sent.rstrip().endswith("\x1b[2K")  # the steps under way were wiped
    assert threading.active_count() == threads_before
