"""Routers' configuration: what is built for a site, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from knetsim.dataplane.skupper import (
    Certificates,
    NeighbourLink,
    NeighbourPort,
    OfferedService,
    RouterPlan,
    ServedService,
    build_router_config,
)
from knetsim.dataplane.skupper.router.config import read_config
from knetsim.dataplane.skupper.router.errors import ConfigError

DIRECTORY = Path(__file__).parent / "skupper"
ERRORS = sorted((Path(__file__).parent / "skupper_errors").glob("*.json"))
Golden = Callable[[Path, str], None]

SITE = Certificates("site", "/certs/ca.crt", "/certs/tls.crt", "/certs/tls.key")


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("alone", RouterPlan("c0", health_port=None)),
        (
            "serves",
            RouterPlan(
                "c0",
                ports=(NeighbourPort("access-inter-router", host="10.0.0.11"),),
                served=(ServedService("c4", "C0-c4", "11.80.0.3", 8080),),
                log_file="/tmp/knetsim/skupper/0.log",
            ),
        ),
        (
            "offers",
            RouterPlan(
                "c1",
                links=(NeighbourLink("to-c0", "10.0.0.11", cost=2),),
                offered=(OfferedService("c4", "C0-c4", 1028), OfferedService("backend", "backend", 8080, "10.1.0.11")),
            ),
        ),
        (
            "certificates",
            RouterPlan(
                "c2",
                certificates=(SITE,),
                links=(NeighbourLink("to-c0", "10.0.0.11", certificates="site"),),
                ports=(NeighbourPort("access-inter-router", cost=3, certificates="site"),),
            ),
        ),
    ],
)
def test_what_is_built(golden: Golden, name: str, plan: RouterPlan) -> None:
    golden(DIRECTORY / f"{name}.json", build_router_config(plan))


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.stem)
def test_what_is_said(golden: Golden, case: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(case.read_text())
    golden(case.with_suffix(".txt"), f"{caught.value}\n")


def test_there_are_cases() -> None:
    assert len(ERRORS) >= 4
