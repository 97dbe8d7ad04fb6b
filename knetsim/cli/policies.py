"""`knetsim status policies`: every NetworkPolicy, the pods it selects, what it allows, and what got through or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from knetsim.cli.terminal import Cell, Line, Output, Row, Table, print_json, print_parts
from knetsim.names import DEFAULT_NAMESPACE
from knetsim.status import ClusterPolicies, PolicyDirectionState, PolicyState

_HEADERS = ("POLICY", "SELECTS", "PODS", "DIRECTION", "ALLOWS", "PASSED", "DROPPED")
_FEW = 3


def render_policies(clusters: Sequence[ClusterPolicies], output: Output = "table", file: IO[str] | None = None) -> None:
    """Show the policies of every cluster; `wide` names every pod."""
    if output == "json":
        print_json(clusters, file)
    else:
        print_parts(build_policies(clusters, output == "wide"), file)


def build_policies(clusters: Sequence[ClusterPolicies], wide: bool = False) -> list[Table | Line]:
    """The lines and tables that show them."""
    parts: list[Table | Line] = []
    for cluster in clusters:
        parts += [Line()] if parts else []
        number = len(cluster["policies"])
        words = f" · {number} NetworkPolic{'ies' if number != 1 else 'y'}"
        words += " · in packets; what was dropped counts for each policy that selects the pod" if number else ""
        parts.append(Line([Cell(cluster["cluster"], "head"), words]))
        rows = [row for policy in cluster["policies"] for row in _policy_rows(policy, wide)]
        if rows:
            parts += [Line(), Table(_HEADERS, rows, wraps=("ALLOWS",), numbers=("PASSED", "DROPPED"))]
        parts += [_problem_line(cluster["cluster"], each) for each in cluster["policies"] if each["problem"]]
    return parts


def _policy_rows(policy: PolicyState, wide: bool) -> list[Row]:
    """A row for each rule; what is the same as in the row above is left out."""
    space = "" if policy["namespace"] == DEFAULT_NAMESPACE else f"{policy['namespace']}/"
    pods = Cell(_name_pods(policy["pods"], wide), "" if policy["pods"] else "label")
    lead: Row = [Cell(f"{space}{policy['name']}", "head"), policy["selects"], pods]
    rows: list[Row] = []
    for direction in policy["directions"]:
        for cells in _direction_rows(direction):
            rows.append([*lead, *cells])
            lead = [Cell("")] * 3
    return rows or [[*lead, *[Cell("")] * 4]]


def _name_pods(pods: Sequence[str], wide: bool) -> str:
    more = 0 if wide else max(0, len(pods) - _FEW)
    named = ", ".join(pods[: len(pods) - more]) or "none"
    return f"{named} and {more} more" if more else named


def _direction_rows(direction: PolicyDirectionState) -> list[Row]:
    dropped = Cell(str(direction["dropped"]), "warn" if direction["dropped"] else "")
    first, *more = direction["allows"] or ["nothing"]
    rows: list[Row] = [[direction["direction"], first, direction["passed"], dropped]]
    return rows + [[Cell(""), rule, Cell(""), Cell("")] for rule in more]


def _problem_line(cluster: str, policy: PolicyState) -> Line:
    name = f"NetworkPolicy {cluster}/{policy['namespace']}/{policy['name']}"
    return Line([Cell("! ", "warn"), Cell(name, "head"), f": {policy['problem']}"])
