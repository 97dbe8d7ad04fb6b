"""What of a site is still on its way: what a start waits for."""

from __future__ import annotations

import pytest

from knetsim.dataplane.skupper import NeighbourLink, OfferedService, RouterPlan, RouterState, ServedService
from knetsim.dataplane.skupper.state import LinkState, NodeState
from knetsim.node.skupper.plan import SitePlan
from knetsim.node.skupper.snapshot import Snapshot, find_missing
from knetsim.node.skupper.views import ServiceView, SiteView
from tests.skupper_objects import PLACE

LINK = NeighbourLink("to-c1", "10.0.0.21")
OFFER = OfferedService("web", "web", 1024)
UP, DOWN = LinkState(True, "c1-C1w1", ""), LinkState(False, "", "Connection refused")
NEAR, OPEN = {"c1-C1w1": NodeState("c1-C1w1", 1)}, frozenset({"listener/web"})
SERVING = SiteView(
    "C1", "c1", "uid", "default", "c1-C1w1", "10.0.0.21", services=(ServiceView("web", ("11.0.0.2",), ()),)
)


def look(plan: RouterPlan | None, state: RouterState | None, *others: SiteView, tokens: tuple[str, ...] = ()) -> str:
    return find_missing(Snapshot(SitePlan(PLACE, None, plan), state, others, "", tokens))


@pytest.mark.parametrize(
    ("plan", "state", "others", "missing"),
    [
        (None, None, (), ""),
        (RouterPlan("c0"), None, (), "does not answer"),
        (RouterPlan("c0"), RouterState("c0"), (), ""),
        (RouterPlan("c0", links=(LINK,)), RouterState("c0"), (), "Link to-c1"),
        (RouterPlan("c0", links=(LINK,)), RouterState("c0", links={"to-c1": DOWN}), (), "Link to-c1"),
        (RouterPlan("c0", links=(LINK,)), RouterState("c0", links={"to-c1": UP}), (), ""),
        (RouterPlan("c0", offered=(OFFER,)), RouterState("c0"), (), ""),
        (RouterPlan("c0", offered=(OFFER,)), RouterState("c0"), (SERVING,), ""),  # nobody is linked to it
        (RouterPlan("c0", offered=(OFFER,)), RouterState("c0", nodes=NEAR), (SERVING,), "Listener web"),
        (RouterPlan("c0", offered=(OFFER,)), RouterState("c0", nodes=NEAR, listening=OPEN), (SERVING,), ""),
        (
            RouterPlan("c0", offered=(OFFER,), served=(ServedService("web", "web", "11.0.0.3", 80),)),
            RouterState("c0"),
            (),
            "Listener web",
        ),
    ],
)
def test_what_is_missing(
    plan: RouterPlan | None, state: RouterState | None, others: tuple[SiteView, ...], missing: str
) -> None:
    found = look(plan, state, *others)
    assert (missing in found) if missing else found == ""


def test_a_token_that_is_not_redeemed_is_missing() -> None:
    assert "to-c1" in look(RouterPlan("c0"), RouterState("c0"), tokens=("to-c1",))
