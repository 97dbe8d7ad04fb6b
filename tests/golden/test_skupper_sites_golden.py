"""Skupper's objects as a site carries them out: the router's configuration, Services, and what cannot be."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.dataplane.skupper import build_router_config
from knetsim.node.skupper.plan import SitePlan, plan_site
from tests.skupper_objects import PLACE, build_objects, group

CASES = sorted((Path(__file__).parent / "skupper_sites").glob("*.yaml"))
Golden = Callable[[Path, str], None]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_what_a_sites_objects_become(golden: Golden, case: Path) -> None:
    objects = build_objects(yaml.safe_load(case.read_text())["objects"])
    plan = plan_site(group(objects), PLACE)
    golden(case.with_suffix(".txt"), show(plan))
    random.Random(case.stem).shuffle(objects)
    assert show(plan_site(group(objects), PLACE)) == show(plan), "the order of listing matters"


def show(plan: SitePlan) -> str:
    """A plan as text."""
    parts = [
        ("router", build_router_config(plan.router) if plan.router else ""),
        ("files", "".join(f"{path}\n" for path in sorted(plan.files))),
        ("objects", yaml.safe_dump_all(plan.objects, sort_keys=False) if plan.objects else ""),
        ("faults", show_lines({name: f"{fault.reason}: {fault.message}" for name, fault in plan.faults.items()})),
        ("notes", show_lines(plan.notes)),
    ]
    return "\n".join(f"--- {title}\n{text}" for title, text in parts if text)


def show_lines(found: dict[tuple[str, str], Any]) -> str:
    return "".join(f"{' '.join(name)}: {text}\n" for name, text in sorted(found.items()))
