"""Skupper's objects as a site carries them out: the router's configuration, Services, statuses, and what cannot be.

A case has `objects`, and `state` where a router answers: what it says; `others` are sites of other clusters.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.api.accept import accept_status
from knetsim.api.objects import describe, kind_of, parse_time
from knetsim.dataplane.skupper import build_router_config
from knetsim.dataplane.skupper.state import AddressState, LinkState, NodeState, RouterState
from knetsim.node.skupper.objects import SiteObjects
from knetsim.node.skupper.plan import SitePlan, plan_site
from knetsim.node.skupper.statuses import SiteView, build_statuses
from knetsim.node.skupper.views import LinkView, ServiceView
from tests.skupper_objects import PLACE, build_objects, group

CASES = sorted((Path(__file__).parent / "skupper_sites").glob("*.yaml"))
NOW = parse_time("2026-01-02T00:00:00Z")
Golden = Callable[[Path, str], None]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_what_a_sites_objects_become(golden: Golden, case: Path) -> None:
    given = yaml.safe_load(case.read_text())
    objects = build_objects(given["objects"])
    shown = show(objects, given)
    golden(case.with_suffix(".txt"), shown)
    random.Random(case.stem).shuffle(objects)
    assert show(objects, given) == shown, "the order of listing matters"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_statuses_are_accepted_and_then_there_is_nothing_more_to_say(case: Path) -> None:
    given = yaml.safe_load(case.read_text())
    grouped = group(build_objects(given["objects"]))
    told = judge(grouped, given, NOW)
    assert told
    for obj, status in told:
        accepted = accept_status(kind_of(obj), {**obj, "status": status}, obj)
        assert accepted["status"] == status
        obj["status"] = status
    assert judge(grouped, given, NOW + 100) == []


def show(objects: list[dict[str, Any]], given: Mapping[str, Any]) -> str:
    """The plan of objects and their statuses, as text."""
    grouped = group(objects)
    statuses = judge(grouped, given, NOW)
    return show_plan(plan_site(grouped, PLACE)) + "\n--- statuses\n" + show_statuses(statuses)


def judge(grouped: SiteObjects, given: Mapping[str, Any], now: float) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    state = read_state(given["state"]) if "state" in given else None
    others = [read_view(view) for view in given.get("others", ())]
    return build_statuses(grouped, plan_site(grouped, PLACE), state, others, now)


def show_plan(plan: SitePlan) -> str:
    parts = [
        ("router", build_router_config(plan.router) if plan.router else "none\n"),
        ("files", "".join(f"{path}\n" for path in sorted(plan.files))),
        ("objects", yaml.safe_dump_all(plan.objects, sort_keys=False) if plan.objects else ""),
    ]
    return "\n".join(f"--- {title}\n{text}" for title, text in parts if text)


def show_statuses(statuses: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Each object's conditions on a line, then what else its status has."""
    lines = []
    for obj, status in sorted(statuses, key=lambda each: describe(each[0])):
        short = dict(status)
        conditions = ", ".join(f"{each['type']} {each['status']}" for each in short.pop("conditions"))
        lines.append(f"{describe(obj)}: {short.pop('status')}: {short.pop('message')}\n    {conditions}\n")
        short.pop("controller", None)
        if "ca" in short:
            short["ca"] = f"{short['ca'].count('BEGIN CERTIFICATE')} certificate"
        lines += [f"    {key}: {value}\n" for key, value in short.items()]
    return "".join(lines)


def read_state(given: Mapping[str, Any]) -> RouterState:
    return RouterState(
        router=given["router"],
        nodes={name: NodeState(name, 1) for name in given.get("nodes", ())},
        links={name: LinkState(*link) for name, link in given.get("links", {}).items()},
        addresses={key: AddressState(*counts) for key, counts in given.get("addresses", {}).items()},
        listening=frozenset(given.get("listening", ())),
        served=frozenset(given.get("served", ())),
    )


def read_view(given: Mapping[str, Any]) -> SiteView:
    services = tuple(
        ServiceView(each["key"], tuple(each.get("connectors", ())), tuple(each.get("listeners", ())))
        for each in given.get("services", ())
    )
    links = tuple(LinkView(*each) for each in given.get("links", ()))
    site = given["site"]
    return SiteView(
        site.upper(), site, f"site-{site}", "default", given["router"], "10.0.0.21", "3.5.1", services, links
    )
