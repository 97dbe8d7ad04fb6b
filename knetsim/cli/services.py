"""`knetsim status services`: every Service, its ports, its backends, and how many connections each got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from knetsim.cli.terminal import Cell, Line, Output, Row, Style, Table, print_json, print_parts
from knetsim.names import DEFAULT_NAMESPACE
from knetsim.status import BackendState, ClusterServices, ServicePortState, ServiceState

_STATES: dict[str, Style] = {"ready": "", "ending": "warn", "not ready": "bad"}
_HEADERS = ("SERVICE", "TYPE", "PORT", "ADDRESSES", "BACKEND", "POD", "WORKER", "STATE", "CONNECTIONS")


def render_services(clusters: Sequence[ClusterServices], output: Output = "table", file: IO[str] | None = None) -> None:
    """Show the Services of every cluster; `wide` has a column for each host that counts."""
    if output == "json":
        print_json(clusters, file)
    else:
        print_parts(build_services(clusters, output == "wide"), file)


def build_services(clusters: Sequence[ClusterServices], wide: bool = False) -> list[Table | Line]:
    """The lines and tables that show them."""
    parts: list[Table | Line] = []
    for cluster in clusters:
        parts += [Line()] if parts else []
        parts.append(_headline(cluster))
        rows = [row for service in cluster["services"] for row in _service_rows(service, cluster["counting"], wide)]
        headers = (*_HEADERS, *(cluster["counting"] if wide else ()))
        if rows:
            parts += [Line(), Table(headers, rows, wraps=("ADDRESSES",), numbers=headers[len(_HEADERS) - 1 :])]
        parts += [_problem_line(cluster["cluster"], each) for each in cluster["services"] if each["problem"]]
    return parts


def _headline(cluster: ClusterServices) -> Line:
    number = len(cluster["services"])
    words = f" · {number} Service{'s' if number != 1 else ''} · connections as "
    words += f"{', '.join(cluster['counting'])} counted them" if cluster["counting"] else "nobody counted them"
    if cluster["uncounted"]:
        words += f"; {', '.join(cluster['uncounted'])} with the real kube-proxy count none"
    return Line([Cell(cluster["cluster"], "head"), words])


def _service_rows(service: ServiceState, counting: Sequence[str], wide: bool) -> list[Row]:
    """A row for each backend; what is the same as in the row above is left out."""
    space = "" if service["namespace"] == DEFAULT_NAMESPACE else f"{service['namespace']}/"
    lead: Row = [Cell(f"{space}{service['name']}", "head"), service["type"]]
    rows: list[Row] = []
    ports: list[ServicePortState | None] = [*service["ports"]]
    for port in ports or [None]:
        place: Row = _port_cells(port) if port else [Cell(""), service["clusterIP"]]
        for cells in _backend_rows(port, counting, wide):
            rows.append([*lead, *place, *cells])
            lead, place = [Cell("")] * 2, [Cell("")] * 2
    return rows


def _port_cells(port: ServicePortState) -> Row:
    addresses = [*port["addresses"], *([f"*:{port['nodePort']}"] if port["nodePort"] else [])]
    return [f"{port['port']}/{port['protocol']}", " ".join(addresses)]


def _backend_rows(port: ServicePortState | None, counting: Sequence[str], wide: bool) -> list[Row]:
    columns = list(counting) if wide else []
    rows: list[Row] = [_backend_cells(each, columns) for each in port["backends"]] if port else []
    if port and (port["refused"] or not port["backends"]):
        refused = Cell(f"{port['refused']} refused", "warn" if port["refused"] else "")
        rows.append(["" if not port["backends"] else Cell(""), *[Cell("")] * 3, refused, *[Cell("")] * len(columns)])
    return rows or [[Cell("")] * (5 + len(columns))]


def _backend_cells(backend: BackendState, columns: Sequence[str]) -> Row:
    counts = [backend["senders"].get(host, 0) for host in columns]
    state = Cell(backend["state"], _STATES[backend["state"]])
    return [backend["address"], backend["pod"], backend["worker"], state, backend["connections"], *counts]


def _problem_line(cluster: str, service: ServiceState) -> Line:
    name = f"Service {cluster}/{service['namespace']}/{service['name']}"
    return Line([Cell("! ", "warn"), Cell(name, "head"), f": {service['problem']}"])
