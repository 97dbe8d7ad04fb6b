"""`knetsim conformance`: Kubernetes' own end-to-end suite against a simulation, as a table, JSON and a page.

`utils/conformance` calls it once the suite is built.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knetsim.cli.terminal import Cell, Line, Row, Table, print_json, print_parts
from knetsim.errors import EXIT_FAILED, EXIT_OK, MissingTool, UsageError

if TYPE_CHECKING:
    from knetsim.conformance.results import Results, Spec
    from knetsim.conformance.suite import Selection

_ROOT = Path(__file__).resolve().parents[2]
_SCENARIO = _ROOT / "scenarios" / "conformance.yaml"
_OUTPUT = _ROOT / ".tools" / "conformance"
#: two cores bear these; most specs wait most of the time
_PROCESSES = 6


@click.command(short_help="Run Kubernetes' own end-to-end tests.")
@click.option("--focus", multiple=True, metavar="REGEX", help="Specs to run (default: the groups that are promised).")
@click.option("--skip", multiple=True, metavar="REGEX", help="Specs to leave out besides those that the plan does.")
@click.option("--left-out", "all_specs", is_flag=True, help="Run specs that the plan leaves out with a reason, too.")
@click.option("--subset", is_flag=True, help="A quick look into each group instead: at most 8 minutes.")
@click.option("--name", metavar="NAME", help="In this running simulation instead of one made for it.")
@click.option("--scenario", metavar="FILE", default=str(_SCENARIO), help="Made for it (scenarios/conformance.yaml).")
@click.option("--cluster", metavar="CLUSTER", default="C0", show_default=True, help="In which of its clusters.")
@click.option("--processes", type=click.IntRange(1, 64), default=_PROCESSES, show_default=True, help="Specs at a time.")
@click.option("--results", "directory", metavar="DIR", default=str(_OUTPUT), help="For results.json and the logs.")
@click.option("--page", metavar="FILE", help="Write the results as a page, too (docs/conformance.md).")
@click.option("--beside", multiple=True, metavar="DIR", help="The page tells of an earlier run's, too.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="A table, or JSON.")
def conformance(
    focus: tuple[str, ...],
    skip: tuple[str, ...],
    all_specs: bool,
    subset: bool,
    name: str | None,
    scenario: str,
    cluster: str,
    processes: int,
    directory: str,
    page: str | None,
    beside: tuple[str, ...],
    output: str,
) -> int:
    """Run Kubernetes' own end-to-end suite, unmodified, against a simulation; 1 when a spec fails."""
    from knetsim.conformance.page import build_page
    from knetsim.conformance.plan import read_plan
    from knetsim.system import signals

    _check_options(subset and bool(focus), bool(beside) and not page)
    plan = read_plan()
    others = [_read_results(Path(one)) for one in beside]  # before hours are spent
    usual = plan.subset if subset else plan.groups
    left_out = () if all_specs else tuple(remark.specs for remark in plan.left_out)
    signals.raise_on_termination()
    try:
        selection = _build_selection(focus or usual, (*skip, *left_out), processes)
        results = _run(selection, name, Path(scenario), cluster, Path(directory))
    except signals.Terminated as request:
        return 128 + request.number
    if page:
        Path(page).write_text(build_page([results, *others], plan))
    if output == "json":
        print_json(results.to_json())
    else:
        print_parts(build_report(results, directory))
    return EXIT_FAILED if results.count("failed") else EXIT_OK


def _check_options(two_foci: bool, no_page: bool) -> None:
    if os.geteuid() != 0:
        raise MissingTool("conformance needs root", why="it makes network namespaces", hint="sudo ./utils/conformance")
    if two_foci:
        raise UsageError("--subset is a focus of its own", hint="leave one of the two out")
    if no_page:
        raise UsageError("--beside is about a page", hint="say which: --page FILE")


def _build_selection(focus: Sequence[str], skip: Sequence[str], processes: int) -> Selection:
    from knetsim.conformance.suite import Selection

    return Selection(tuple(focus), tuple(skip), processes)


def _run(selection: Selection, name: str | None, scenario: Path, cluster: str, directory: Path) -> Results:
    from knetsim.conformance.suite import find_suite_programs, run_suite, started

    find_suite_programs()  # before anything is started

    def tell(line: str) -> None:
        click.echo(line, err=True)

    with nullcontext(name) if name else started(scenario) as simulation:
        results = run_suite(selection, cluster, simulation, directory, tell)
    (directory / "results.json").write_text(json.dumps(results.to_json(), indent=1) + "\n")
    return results


def _read_results(directory: Path) -> Results:
    from knetsim.conformance.results import results_from_json

    path = directory / "results.json"
    try:
        return results_from_json(json.loads(path.read_text()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise UsageError(f"{path} holds no results", why=why, hint="run with --results DIR first") from None


# --- the table; pure


def build_report(results: Results, directory: str) -> list[Table | Line]:
    """A row for each group, what was skipped and why, what failed with the first line of its error, the sum."""
    groups: list[Row] = [
        [
            group,
            counts["passed"],
            Cell(str(counts["failed"]), "bad" if counts["failed"] else "label"),
            counts["skipped"],
        ]
        for group, counts in results.groups().items()
    ]
    parts: list[Table | Line] = [
        Table(("GROUP", "PASSED", "FAILED", "SKIPPED"), groups, numbers=("PASSED", "FAILED", "SKIPPED"))
    ]
    late: list[Row] = [[spec.short_name, str(spec.attempts), spec.where] for spec in results.passed_late()]
    parts += [Line(), Table(("PASSED LATE", "ATTEMPT", "WHERE"), late, wraps=("PASSED LATE",))] if late else []
    parts += _list("SKIPPED", "WHY", results.select("skipped"))
    parts += _list("FAILED", "ERROR", results.select("failed"))
    passed, failed = results.count("passed"), results.count("failed")
    verdict = Cell(f"{passed} passed, {failed} failed: {results.share_passed():.1%}", "bad" if failed else "good")
    rest = f" in {results.seconds / 60:.1f} minutes, Kubernetes {results.kubernetes}; more in {directory}"
    return [*parts, Line(), Line([verdict, rest])]


def _list(title: str, what: str, specs: Sequence[Spec]) -> list[Table | Line]:
    if not specs:
        return []
    rows: list[Row] = [[spec.short_name, spec.where, spec.error] for spec in specs]
    return [Line(), Table((title, "WHERE", what), rows, wraps=(title, what))]
