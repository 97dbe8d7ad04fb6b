"""`knetsim link status`: the Skupper sites, how they are linked, and which of them serves what to whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import click

from knetsim.cli.kubernetes import name_option
from knetsim.cli.terminal import Cell, Line, Output, Row, Table, print_json, print_parts
from knetsim.status import SiteConnectorState, SiteLinkState, SiteListenerState, SiteState
from knetsim.system.invocation import as_typed

_MAKE_ONE = f"make one: {as_typed('apply -f site.yaml')}, or multicluster: in the scenario"
_NONE = f"no cluster has a Skupper site; {_MAKE_ONE}"


@click.group(short_help="Skupper: sites, links, who serves what.")
def link() -> None:
    """The clusters' Skupper network."""


@link.command(name="status")
@name_option
@click.option("-o", "--output", type=click.Choice(["table", "wide", "json"]), default="table", help="How it is shown.")
def link_status(name: str | None, output: Output) -> None:
    """Sites and their routers, links with cost and state, listeners, connectors, and who serves what; `wide` adds every
    router that a site reaches."""
    from knetsim.system import rpc, state

    render_sites(rpc.call(state.find(name).control_socket, "sites", timeout=60)[0], output)


def render_sites(sites: Sequence[SiteState], output: Output = "table", file: IO[str] | None = None) -> None:
    """Show the sites of a simulation."""
    if output == "json":
        print_json(sites, file)
    else:
        print_parts(build_sites(sites, output == "wide") if sites else [Line([_NONE])], file)


def build_sites(sites: Sequence[SiteState], wide: bool = False) -> list[Table | Line]:
    """The lines and tables that show them."""
    parts: list[Table | Line] = []
    for site in sites:
        parts += [Line()] if parts else []
        parts.append(_headline(site))
        tables = [_link_table(site["links"]), _listener_table(site["listeners"]), _connector_table(site["connectors"])]
        for table in [*tables, *([_reached_table(site)] if wide else [])]:
            parts += [Line(), table] if table.rows else []
        parts += _faults(site)
    return parts


def build_site_table(sites: Sequence[SiteState]) -> Table:
    """A row for each site, for the status of the whole simulation."""
    rows: list[Row] = []
    for site in sites:
        links, listeners = site["links"], site["listeners"]
        rows.append(
            [
                Cell(site["name"], "head"), site["cluster"], site["host"], site["kind"], _word(site["running"], "up"),
                _share([one["up"] for one in links]), _share([one["open"] for one in listeners]),
                len(site["connectors"]),
            ]
        )  # fmt: skip
    headers = ("SITE", "CLUSTER", "ROUTER ON", "KIND", "ROUTER", "LINKS UP", "LISTENERS OPEN", "CONNECTORS")
    return Table(headers, rows, wraps=("LISTENERS OPEN",), numbers=("CONNECTORS",))


def _headline(site: SiteState) -> Line:
    version = f" {site['version']}" if site["version"] else ""
    state = Cell("running", "good") if site["running"] else Cell("down", "bad")
    router = f" · router {site['router']} on {site['host']} ({site['address']}), {site['kind']}{version}: "
    return Line([Cell(site["cluster"], "head"), f" · site {site['namespace']}/{site['name']}", router, state])


def _word(good: bool, word: str, otherwise: str = "down") -> Cell:
    return Cell(word) if good else Cell(otherwise, "bad")


def _share(good: Sequence[bool]) -> Cell:
    return Cell(f"{sum(good)}/{len(good)}" if good else "", "" if all(good) else "bad")


def _sites(names: Sequence[str]) -> Cell:
    return Cell(", ".join(names)) if names else Cell("nobody", "warn")


def _link_table(links: Sequence[SiteLinkState]) -> Table:
    rows: list[Row] = [
        [Cell(one["name"], "head"), one["site"], one["router"], one["address"], one["cost"], _word(one["up"], "up")]
        for one in links
    ]
    return Table(("LINK", "TO SITE", "ROUTER", "ADDRESS", "COST", "STATE"), rows, numbers=("COST",))


def _listener_table(listeners: Sequence[SiteListenerState]) -> Table:
    rows: list[Row] = [
        [
            Cell(one["name"], "head"), one["routingKey"], one["service"], one["address"], _sites(one["servedBy"]),
            _word(one["open"], "open", "closed"),
        ]
        for one in listeners
    ]  # fmt: skip
    return Table(("LISTENER", "ROUTING KEY", "SERVICE", "ADDRESS", "SERVED BY", "STATE"), rows)


def _connector_table(connectors: Sequence[SiteConnectorState]) -> Table:
    rows: list[Row] = [
        [
            Cell(one["name"], "head"), one["routingKey"],
            Cell(", ".join(one["backends"]) or "none", "" if one["backends"] else "warn"), _sites(one["usedBy"]),
        ]
        for one in connectors
    ]  # fmt: skip
    return Table(("CONNECTOR", "ROUTING KEY", "BACKENDS", "USED BY"), rows, wraps=("BACKENDS",))


def _reached_table(site: SiteState) -> Table:
    rows: list[Row] = [
        [Cell(one["router"], "head"), one["site"], one["cost"], one["nextRouter"]] for one in site["reaches"]
    ]
    return Table(("REACHES ROUTER", "OF SITE", "COST", "BY WAY OF"), rows, numbers=("COST",))


def _faults(site: SiteState) -> list[Line]:
    place = f"{site['cluster']}/{site['namespace']}"
    found = [(f"Site {place}/{site['name']}", site["detail"])]
    for kind, objects in (("Link", site["links"]), ("Listener", site["listeners"]), ("Connector", site["connectors"])):
        found += [(f"{kind} {place}/{one['name']}", one["detail"]) for one in objects]
    found += [(fault["object"], fault["what"]) for fault in site["faults"]]
    lines = [Line([Cell("! ", "warn"), Cell(name, "head"), f": {what}"]) for name, what in found if what]
    return [Line(), *lines] if lines else []
