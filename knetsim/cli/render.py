"""What the command line says of things: errors in four lines, a simulation's status, the list of simulations."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from knetsim.cli.links import build_site_table
from knetsim.cli.progress import Progress
from knetsim.cli.terminal import (
    Cell,
    Line,
    Output,
    Row,
    Style,
    Table,
    has_color,
    paint,
    print_json,
    print_parts,
    strip_controls,
)
from knetsim.errors import CommandError, KnetsimError, ObjectError, ScenarioError
from knetsim.names import DEFAULT_NAMESPACE, control_plane_host
from knetsim.status import (
    ClusterState,
    DaemonState,
    OrphanState,
    PodState,
    ProblemState,
    Status,
    Summary,
    SwitchState,
    WorkerState,
)
from knetsim.system.invocation import start_as_typed

__all__ = [
    "Progress",
    "build_list",
    "build_status",
    "explain_duration",
    "print_error",
    "render_error",
    "render_orphans",
    "render_simulations",
    "render_status",
]

_TELLING = re.compile(
    r"\b(error|fatal|fail(ed|ure)?|cannot|can't|refused|denied|invalid|no such|unknown)\b", re.IGNORECASE
)
#: of more workers or pods than these, a table shows those that are not well, and counts the others
_ROWS_MAX = 40


# --- errors


def print_error(error: BaseException, verbose: bool = False, file: IO[str] | None = None) -> None:
    """Show an error to a person, on standard error unless told otherwise."""
    file = file or sys.stderr
    print(render_error(error, verbose, has_color(file)), file=file)


def render_error(error: BaseException, verbose: bool = False, color: bool = False) -> str:
    """An error in four lines at most: what, where, why, try. Mistakes in a file: a line each, then their number.

    `verbose` shows all output of a failed command, and the traceback.
    """
    if isinstance(error, ScenarioError):
        text = "\n".join([*map(str, error.problems), f"{paint('error:', 'bad', color)} {error.what}"])
    elif isinstance(error, KeyboardInterrupt):
        text = f"{paint('interrupted', 'bad', color)}"
    else:
        text = _render_fields(_known(error), verbose, color)
    if verbose:
        text += "\n\n" + strip_controls("".join(traceback.format_exception(error))).rstrip()
    return text


def _known(error: BaseException) -> KnetsimError:
    """`error`, or for one that nobody expected, what to say of it."""
    if isinstance(error, KnetsimError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "knetsim" in Path(frame.filename).parts] or frames
    where = f"{ours[-1].filename}:{ours[-1].lineno} in {ours[-1].name}" if ours else ""
    return KnetsimError(
        f"{type(error).__name__}: {error}".rstrip(": "),
        where,
        "this is a mistake in knetsim, not yours",
        "report it with what the same command shows with -v",
    )


def _render_fields(error: KnetsimError, verbose: bool, color: bool) -> str:
    where = error.where
    if isinstance(error, ObjectError) and error.field and error.field not in where:
        where = f"{where}: {error.field}" if where else error.field
    why = strip_controls(error.why).strip()
    if not verbose:
        why = _choose_line(why) if isinstance(error, CommandError) else _one_line(why)
    lines = [f"{paint('error:', 'bad', color)} {_one_line(error.what)}"]
    for label, text in (("where", _one_line(where)), ("why", why), ("try", _one_line(error.hint))):
        if text:
            lines.append(f"  {paint(f'{label}:'.ljust(6), 'label', color)} {text.replace(chr(10), chr(10) + ' ' * 9)}")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(strip_controls(text).split())


def _choose_line(output: str) -> str:
    """Of a program's output the first line that speaks of an error, or else the last; `-v` shows all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if len(lines) < 2:
        return "".join(lines)
    telling = next((line for line in lines if _TELLING.search(line)), lines[-1])
    return f"{telling} (1 of {len(lines)} lines; -v shows all)"


def explain_duration(seconds: float) -> str:
    """`45s`, `3m12s`, `2h5m`, `3d4h`, as kubectl writes ages."""
    whole = max(0, int(seconds))
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit}{rest}{below}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


# --- the status of a simulation


def render_status(status: Status, output: Output = "table", file: IO[str] | None = None) -> None:
    """Show a simulation: clusters, etcd members, workers, pods, and what is wrong. `wide` adds daemons and switches."""
    if output == "json":
        print_json(status, file)
    else:
        print_parts(build_status(status, output == "wide"), file)


def build_status(status: Status, wide: bool = False) -> list[Table | Line]:
    """The lines and tables that show `status`."""
    clusters = status["clusters"]
    parts: list[Table | Line] = [_headline(status), Line(), _cluster_table(clusters)]
    parts += _section(_control_plane_table(clusters))
    parts += _section(_member_table(clusters, wide))
    parts += _section(*_few(_worker_table(clusters, wide), wide, [not _worker_well(w) for _, w in _workers(clusters)]))
    parts += _section(*_few(_pod_table(clusters, wide), wide, [not _pod_well(p) for _, p in _pods(clusters)]))
    parts += _section(_agent_table(clusters, wide))
    parts += _section(build_site_table(status["sites"]))
    if wide:
        parts += _section(_daemon_table(clusters)) + _section(_switch_table(status["switches"]))
    parts += _section(_orphan_table(status["orphans"]))
    parts += _problem_lines(status["problems"])
    return parts


def _section(table: Table, *more: Line) -> list[Table | Line]:
    """A blank line before a table that has rows; nothing for one that has none."""
    return [Line(), *([table] if table.rows else []), *more] if table.rows or more else []


def _few(table: Table, wide: bool, unwell: Sequence[bool]) -> tuple[Table, *tuple[Line, ...]]:
    """Of a long table only the rows that somebody must look at, and how many others there are."""
    if wide or len(table.rows) <= _ROWS_MAX:
        return (table,)
    rows = [row for row, bad in zip(table.rows, unwell, strict=True) if bad]
    thing = table.headers[0].lower()
    rest = f"{len(table.rows) - len(rows)} {'more ' if rows else ''}{thing}s are well (-o wide lists them)"
    return replace(table, rows=rows[:_ROWS_MAX]), Line([Cell(rest, "label")])


def _headline(status: Status) -> Line:
    style: Style = "good" if status["state"] == "ready" else "warn"
    return Line(
        [
            Cell(status["name"], "head"), " · ", Cell(status["state"], style),
            f" · up {explain_duration(status['uptimeSeconds'])} · {status['scenario']}",
        ]
    )  # fmt: skip


def _yes(good: bool) -> Cell:
    return Cell("yes") if good else Cell("no", "bad")


def _count(good: int, all_: int) -> Cell:
    return Cell(f"{good}/{all_}", "" if good == all_ else "bad")


def _restarts(number: int) -> int | Cell:
    return Cell(str(number), "warn") if number else 0


def _workers(clusters: Iterable[ClusterState]) -> list[tuple[ClusterState, WorkerState]]:
    return [(cluster, worker) for cluster in clusters for worker in cluster["workers"]]


def _pods(clusters: Iterable[ClusterState]) -> list[tuple[ClusterState, PodState]]:
    return [(cluster, pod) for cluster in clusters for pod in cluster["pods"]]


def _worker_well(worker: WorkerState) -> bool:
    return worker["ready"] and all(daemon["running"] and not daemon["restarts"] for daemon in worker["daemons"])


def _pod_well(pod: PodState) -> bool:
    return (pod["ready"] or pod["phase"] == "Succeeded") and not pod["restarts"]


def _cluster_table(clusters: Sequence[ClusterState]) -> Table:
    rows: list[Row] = []
    for cluster in clusters:
        members, network = cluster["etcd"]["members"], cluster["podNetwork"]
        staying = [pod for pod in cluster["pods"] if pod["phase"] != "Succeeded"]
        device = f" {network['vni']}:{network['port']}" if network["backend"] == "vxlan" else ""
        rows.append(
            [
                Cell(cluster["name"], "head"), cluster["controlPlane"],
                _count(cluster["etcd"]["healthy"], len(members)),
                _count(sum(worker["ready"] for worker in cluster["workers"]), len(cluster["workers"])),
                _count(sum(pod["ready"] for pod in staying), len(staying)),
                f"{network['network']} {network['backend']}{device}", network["leases"], cluster["dnsServer"],
            ]
        )  # fmt: skip
    headers = ("CLUSTER", "CONTROL PLANE", "ETCD", "WORKERS", "PODS", "POD NETWORK", "LEASES", "DNS")
    return Table(headers, rows, wraps=("POD NETWORK",), numbers=("LEASES",))


def _control_plane_table(clusters: Iterable[ClusterState]) -> Table:
    rows: list[Row] = [
        [
            Cell(control_plane_host(cluster["name"]), "head"),
            cluster["apiServer"],
            _daemons(cluster["controlPlaneDaemons"]),
        ]
        for cluster in clusters
        if cluster["controlPlane"] == "kubernetes"
    ]
    return Table(("CONTROL PLANE", "API SERVER", "DAEMONS"), rows, wraps=("DAEMONS",))


def _member_table(clusters: Iterable[ClusterState], wide: bool) -> Table:
    rows: list[Row] = []
    for cluster in clusters:
        for member in cluster["etcd"]["members"]:
            row: Row = [
                Cell(member["name"], "head"), member["address"], _yes(member["healthy"]),
                "yes" if member["leader"] else "", _restarts(member["restarts"]),
            ]  # fmt: skip
            rows.append([*row, str(member["pid"] or ""), member["host"]] if wide else row)
    headers = ("ETCD", "ADDRESS", "HEALTHY", "LEADER", "RESTARTS", *(("PID", "HOST") if wide else ()))
    return Table(headers, rows, numbers=("RESTARTS", "PID"))


def _worker_table(clusters: Iterable[ClusterState], wide: bool) -> Table:
    rows: list[Row] = []
    for _, worker in _workers(clusters):
        row: Row = [
            Cell(worker["name"], "head"), worker["address"], _yes(worker["ready"]), worker["agent"], worker["cni"],
            worker["podSubnet"], worker["pods"], _daemons(worker["daemons"]),
        ]  # fmt: skip
        rows.append([*row, worker["node"]] if wide else row)
    headers = ("WORKER", "ADDRESS", "READY", "AGENT", "CNI", "POD SUBNET", "PODS", "DAEMONS")
    return Table((*headers, "NODE") if wide else headers, rows, wraps=("DAEMONS",), numbers=("PODS",))


def _daemons(daemons: Sequence[DaemonState]) -> Cell:
    """`ok`, or what is down, or what was restarted how often."""
    down = [f"{_program(daemon)} down" for daemon in daemons if not daemon["running"]]
    if down:
        return Cell(", ".join(down), "bad")
    restarted = [f"{_program(daemon)} restarted {daemon['restarts']}×" for daemon in daemons if daemon["restarts"]]
    return Cell(", ".join(restarted), "warn") if restarted else Cell("ok" if daemons else "")


def _program(daemon: DaemonState) -> str:
    return daemon["name"].rpartition("/")[2]


def _pod_table(clusters: Iterable[ClusterState], wide: bool) -> Table:
    rows: list[Row] = []
    for cluster, pod in _pods(clusters):
        space = "" if pod["namespace"] == DEFAULT_NAMESPACE else f"{pod['namespace']}/"
        bad = pod["phase"] in ("Failed", "Unknown")
        row: Row = [
            Cell(f"{cluster['name']}/{space}{pod['name']}", "head"), pod["worker"], pod["ip"],
            Cell(pod["phase"], "bad" if bad else "" if pod["phase"] in ("Running", "Succeeded") else "warn"),
            Cell("yes") if pod["ready"] else Cell("no", "" if pod["phase"] == "Succeeded" else "bad"),
            _restarts(pod["restarts"]), explain_duration(pod["ageSeconds"]),
        ]  # fmt: skip
        rows.append([*row, pod["namespace"]] if wide else row)
    headers = ("POD", "WORKER", "IP", "PHASE", "READY", "RESTARTS", "AGE")
    # where the terminal is too narrow, a long name takes two lines, and no other row does
    return Table((*headers, "NAMESPACE") if wide else headers, rows, wraps=("POD",), numbers=("RESTARTS",))


def _agent_table(clusters: Iterable[ClusterState], wide: bool) -> Table:
    agents = [agent for cluster in clusters for agent in cluster["podNetwork"]["agentStates"]]
    rows: list[Row] = [
        [
            Cell(agent["worker"], "head"), agent["agent"], _yes(agent["healthy"]), agent["lease"],
            _restarts(agent["repairs"]), agent["detail"],
        ]
        for agent in agents
        if wide or not agent["healthy"]
    ]  # fmt: skip
    headers = ("POD NETWORK ON", "AGENT", "HEALTHY", "LEASE", "REPAIRS", "DETAIL")
    return Table(headers, rows, wraps=("DETAIL",), numbers=("REPAIRS",))


def _daemon_table(clusters: Iterable[ClusterState]) -> Table:
    rows: list[Row] = [
        [
            Cell(daemon["name"], "head"), str(daemon["pid"] or ""), _yes(daemon["running"]),
            _restarts(daemon["restarts"]), daemon["lastExit"], daemon["log"],
        ]
        for _, worker in _workers(clusters)
        for daemon in worker["daemons"]
    ]  # fmt: skip
    headers = ("DAEMON", "PID", "RUNNING", "RESTARTS", "LAST EXIT", "LOG")
    return Table(headers, rows, wraps=("LAST EXIT",), numbers=("PID", "RESTARTS"))


def _switch_table(switches: Iterable[SwitchState]) -> Table:
    rows: list[Row] = [[Cell(switch["name"], "head"), switch["ports"]] for switch in switches]
    return Table(("SWITCH", "PORTS"), rows, numbers=("PORTS",))


def _orphan_table(orphans: Iterable[OrphanState]) -> Table:
    rows: list[Row] = [[Cell(orphan["name"], "bad"), orphan["kind"], orphan["where"]] for orphan in orphans]
    return Table(("WITHOUT OWNER", "KIND", "ON"), rows)


def _problem_lines(problems: Sequence[ProblemState]) -> list[Table | Line]:
    lines: list[Table | Line] = [Line()] if problems else []
    for problem in problems:
        hint = [Cell(f" ({problem['hint']})", "label")] if problem["hint"] else []
        lines.append(Line([Cell("! ", "warn"), Cell(problem["object"], "head"), f": {problem['what']}", *hint]))
    return lines


def render_orphans(orphans: Sequence[OrphanState], output: Output = "table", file: IO[str] | None = None) -> None:
    """Show what nothing owns (`knetsim status --orphans`)."""
    if output == "json":
        print_json(orphans, file)
    else:
        print_parts([_orphan_table(orphans) if orphans else Line(["everything has an owner"])], file)


# --- the list of simulations


def render_simulations(simulations: Sequence[Summary], output: Output = "table", file: IO[str] | None = None) -> None:
    """Show which simulations there are (`knetsim ls`)."""
    if output == "json":
        print_json(simulations, file)
    elif simulations:
        print_parts([build_list(simulations)], file)
    else:
        print_parts([Line([f"no simulation is running; start one: {start_as_typed()}"])], file)


def build_list(simulations: Sequence[Summary]) -> Table:
    """A row for each simulation."""
    rows: list[Row] = []
    for one in simulations:
        numbers = (one["clusters"], one["workers"], one["pods"], one["pid"])
        rows.append(
            [
                Cell(one["name"], "head"), Cell(one["state"], "good" if one["state"] == "ready" else "warn"),
                "" if one["uptimeSeconds"] is None else explain_duration(one["uptimeSeconds"]),
                *("" if number is None else number for number in numbers), one["scenario"],
            ]
        )  # fmt: skip
    headers = ("NAME", "STATE", "UP", "CLUSTERS", "WORKERS", "PODS", "PID", "SCENARIO")
    return Table(headers, rows, numbers=("CLUSTERS", "WORKERS", "PODS", "PID"))
