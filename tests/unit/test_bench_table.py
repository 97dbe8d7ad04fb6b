"""What `knetsim bench` shows."""

from __future__ import annotations

import io

import click
import pytest

from knetsim.bench.figures import Figure, Machine, Samples, Target
from knetsim.bench.measures import MEASURES, Report
from knetsim.cli.bench import bench, build_report, explain_number, read_counts
from knetsim.cli.terminal import print_parts

MACHINE = Machine(2, "a processor", 8200, "6.1.0", "Debian GNU/Linux 12 (bookworm)", (0.1, 1.9), 0.0)
FIGURES = [
    Figure(
        "start-sized",
        "command → every pod reachable",
        "s",
        Samples.of([11.42, 10.0, 12.0]),
        Samples.of([5.0]),
        "the same by hand",
        Target("≤", 2.5, of="ratio"),
        parts={"etcd": 0.2534, "pods": 6.19},
        floor_parts={"workers": 1.2},
        notes=("processor time: 6.0 s",),
    ),
    Figure("stop", "end of 4 workers", "s", Samples.of([3.5]), target=Target("≤", 3.0)),
    Figure("memory-fixed", "memory of one worker", "MB", Samples.of([102.3])),
]


def show(report: Report) -> str:
    out = io.StringIO()
    print_parts(build_report(report), out)
    return out.getvalue()


def test_a_report() -> None:
    assert (
        show(Report(MACHINE, 3, FIGURES, ["the load average was 4.2"]))
        == """\
2 × a processor, 8.2 GB, Debian GNU/Linux 12 (bookworm), Linux 6.1.0
load average 0.1 before, 1.9 after; medians of 3 runs (min … max)

FIGURE        WHAT                           TARGET   MEASURED              FLOOR   RATIO  MET
start-sized   command → every pod reachable  ≤ 2.5 ×  11.4 s (10.0 … 12.0)  5.00 s  2.28   yes
stop          end of 4 workers               ≤ 3 s    3.50 s                -       -      no
memory-fixed  memory of one worker           -        102 MB                -       -

start-sized (s)
  etcd 0.253 · pods 6.19
  floor: the same by hand: workers 1.20
  processor time: 6.0 s

Take these figures with care:
  the load average was 4.2
"""
    )


def test_a_report_of_one_run_without_noise() -> None:
    text = show(Report(MACHINE, 1, FIGURES, []))
    assert "medians of 1 run (min … max)" in text
    assert "care" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.0123, "0.012"),
        (-0.5, "-0.500"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (102.3, "102"),
        (1e4, "10000"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert explain_number(value) == text


def test_every_measurement_can_be_asked_for() -> None:
    (what,) = [parameter for parameter in bench.params if parameter.name == "what"]
    assert what.type.to_info_dict()["choices"] == (*MEASURES, "all")


def test_numbers_of_services() -> None:
    assert read_counts(None) is None
    assert read_counts("100,10,10") == [10, 100]


@pytest.mark.parametrize("text", ["", "0", "10,", "-1", "1.5", "50001", "ten"])
def test_what_is_no_number_of_services(text: str) -> None:
    with pytest.raises(click.BadParameter, match="list of numbers"):
        read_counts(text)
