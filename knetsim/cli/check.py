"""`knetsim validate`: every mistake of a scenario at once, without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

import click

from knetsim.api.accept import accept_create, check_structure
from knetsim.api.objects import Object, kind_of
from knetsim.control_choice import EMBEDDED, has_kubernetes
from knetsim.scenario import Scenario, build_multicluster, read_all_manifests, scenario_to_json, validate


def check_scenario(path: Path) -> Scenario:
    """The scenario, after all checks that need no simulation, those of the store included; ScenarioError with all
    mistakes."""
    return validate(path, check_object=_check_object)


def _check_object(obj: Object, control_plane: str) -> None:
    """As the store will: all of it where ours accepts objects, only their structure where an API server does."""
    if control_plane != EMBEDDED and has_kubernetes():
        check_structure(obj)
    else:
        accept_create(kind_of(obj), obj, 0.0)


def report_valid(path: Path, output: str) -> None:
    """Print what a scenario comes to; ScenarioError, with all mistakes, when it has any."""
    scenario = check_scenario(path)
    manifests, sites = read_all_manifests(scenario), build_multicluster(scenario, str)
    if output == "json":
        click.echo(json.dumps(scenario_to_json(scenario), indent=2))
        return
    for cluster in scenario.clusters:
        members, objects = cluster.etcd.members, len(manifests[cluster.name]) + len(sites[cluster.name])
        click.echo(f"{cluster.name}: {len(cluster.workers)} workers, {members} etcd members, {objects} objects")
    click.echo(f"{path} is valid")
