"""`knetsim bench`: the measurements of the design, each beside its floor, as a table or JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

import knetsim
from knetsim.cli.terminal import Cell, Line, Row, Table, print_json, print_parts
from knetsim.errors import EXIT_OK, MissingTool

if TYPE_CHECKING:
    from knetsim.bench.figures import Figure, Samples
    from knetsim.bench.measures import Report

_NAMES = ("start", "pods", "memory", "path", "stop", "control", "services", "dataplane", "skupper")
#: as many as have addresses of their own in what is measured
SERVICES_MAX = 50_000
_DEFAULT_SCENARIO = Path(__file__).resolve().parents[2] / "scenarios" / "default.yaml"


@click.command(short_help="Measure simulations against their floors.")
@click.argument("what", type=click.Choice([*_NAMES, "all"]), default="all")
@click.option(
    "--workers", type=click.IntRange(2, 1000), help="Workers (default: 100; pods, control: 10; path, dataplane: 2)."
)
@click.option("--pods", type=click.IntRange(2, 100_000), help="Pods (default: 1000; pods: 100; control: 300).")
@click.option("--services", metavar="N,…", callback=lambda context, option, value: read_counts(value),
              help="Numbers of Services (default: 10,100,1000,10000).")  # fmt: skip
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Runs, of which the median counts.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="A table, or all samples.")
def bench(what: str, workers: int | None, pods: int | None, services: list[int] | None, runs: int, output: str) -> int:
    """Measure what simulations take, side by side with their floor: the same kernel objects made by hand.

    start: from the command to the last pod that answers. pods: from a pod's creation until it answers. memory: of a
    worker with its pods. path: throughput between pods of two workers. stop: until nothing is left. control:
    Kubernetes' own control plane: its start and memory, pods a second of a Deployment, the delay of a watch. services:
    a worker's table of Services, one change of it, the first packet; a write until it is in the kernel, beside
    kube-proxy. dataplane: throughput and requests from pod to pod, by a ClusterIP, by a NodePort. skupper: throughput,
    latency, connections, memory and convergence of two routers, beside skrouterd where it is installed.
    """
    from knetsim.bench.measures import run_measures
    from knetsim.system import signals

    if os.geteuid() != 0:
        raise MissingTool("bench needs root", why="it makes network namespaces", hint="sudo ./utils/knetsim bench")
    signals.raise_on_termination()
    try:
        report = run_measures(
            _NAMES if what == "all" else [what],
            workers=workers,
            pods=pods,
            services=services,
            runs=runs,
            default_scenario=_DEFAULT_SCENARIO,
            tell=lambda text: click.echo(text, err=True),
        )
    except signals.Terminated as request:
        return 128 + request.number
    if output == "json":
        print_json({"knetsim": knetsim.__version__, **report.to_json()})
    else:
        print_parts(build_report(report))
    return EXIT_OK


def read_counts(text: str | None) -> list[int] | None:
    """`10,100` as numbers; BadParameter."""
    if text is None:
        return None
    words = text.split(",")
    if not all(word.isdecimal() and 0 < int(word) <= SERVICES_MAX for word in words):
        raise click.BadParameter(f"'{text}' is not a list of numbers from 1 to {SERVICES_MAX}, as 10,100,1000")
    return sorted({int(word) for word in words})


# --- the table; pure


def build_report(report: Report) -> list[Table | Line]:
    """The machine, a row for each figure, what each consists of, and what speaks against them."""
    machine, runs = report.machine, "1 run" if report.runs == 1 else f"{report.runs} runs"
    memory = f"{machine.memory_mb / 1000:.1f} GB"
    parts: list[Table | Line] = [
        _label(f"{machine.cores} × {machine.model}, {memory}, {machine.system}, Linux {machine.kernel}"),
        _label(f"load average {machine.load[0]} before, {machine.load[1]} after; medians of {runs} (min … max)"),
        Line(),
        _build_table(report.figures),
        Line(),
    ]
    for figure in report.figures:
        parts += _build_details(figure)
    if report.noise:
        parts += [Line(), Line([Cell("Take these figures with care:", "warn")])]
        parts += [Line([f"  {reason}"]) for reason in report.noise]
    return parts


def _label(text: str) -> Line:
    return Line([Cell(text, "label")])


def _build_table(figures: Sequence[Figure]) -> Table:
    rows: list[Row] = [
        [
            Cell(figure.name, "head"),
            figure.what,
            _explain_target(figure),
            _explain_samples(figure.measured, figure.unit),
            _explain_samples(figure.floor, figure.unit) if figure.floor else "",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            _explain_verdict(figure.met),
        ]
        for figure in figures
    ]
    return Table(("FIGURE", "WHAT", "TARGET", "MEASURED", "FLOOR", "RATIO", "MET"), rows, wraps=("WHAT",))


def _explain_target(figure: Figure) -> str:
    """`≤ 4 s`, or, of the ratio, `≤ 2.5 ×`."""
    target = figure.target
    if target is None:
        return ""
    return f"{target.relation} {target.bound:g} {'×' if target.of == 'ratio' else figure.unit}"


def _explain_samples(samples: Samples, unit: str) -> str:
    """The median, and for several samples their extremes."""
    text = f"{explain_number(samples.median)} {unit}"
    if len(samples.values) == 1:
        return text
    return f"{text} ({explain_number(min(samples.values))} … {explain_number(max(samples.values))})"


def explain_number(value: float) -> str:
    """About three digits, three after the point at most: 0.012, 1.23, 12.3, 1234."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _explain_verdict(met: bool | None) -> Cell:
    if met is None:
        return Cell("")
    return Cell("yes", "good") if met else Cell("no", "bad")


def _build_details(figure: Figure) -> list[Table | Line]:
    """What a figure consists of, what its floor is, and notes; a line each."""
    rows = []
    if figure.parts:
        rows.append(f"  {_explain_parts(figure.parts)}")
    if figure.floor:
        parts = f": {_explain_parts(figure.floor_parts)}" if figure.floor_parts else ""
        rows.append(f"  floor: {figure.against}{parts}")
    rows += [f"  {note}" for note in figure.notes]
    return [Line([Cell(f"{figure.name} ({figure.unit})", "head")]), *(_label(row) for row in rows)] if rows else []


def _explain_parts(parts: Mapping[str, float]) -> str:
    return " · ".join(f"{name} {explain_number(value)}" for name, value in parts.items())
