"""`knetsim validate`: every mistake of a scenario at once, without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

import click

from knetsim.scenario import read_manifests, scenario_to_json, validate


def report_valid(path: Path, output: str) -> None:
    """Print what a scenario comes to; ScenarioError, with all mistakes, when it has any."""
    scenario = validate(path)
    if output == "json":
        click.echo(json.dumps(scenario_to_json(scenario), indent=2))
        return
    for cluster in scenario.clusters:
        manifests = len(read_manifests(scenario, cluster.name))
        click.echo(
            f"{cluster.name}: {len(cluster.workers)} workers, {cluster.etcd.members} etcd members, {manifests} objects"
        )
    click.echo(f"{path} is valid")
