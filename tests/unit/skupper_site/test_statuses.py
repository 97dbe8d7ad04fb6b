"""Statuses while routers, links and other sites change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from knetsim.api.objects import name_of
from knetsim.dataplane.skupper.state import AddressState, LinkState, NodeState, RouterState
from knetsim.node.skupper.plan import plan_site
from knetsim.node.skupper.statuses import build_statuses, build_view
from knetsim.node.skupper.views import SiteView
from tests.skupper_objects import PLACE, Object, build_objects, group

SITE = {"kind": "Site", "name": "c0"}
LINK = {
    "kind": "Link",
    "name": "to-c1",
    "spec": {"endpoints": [{"name": "inter-router", "host": "C1w1", "port": "55671"}]},
}
LISTENER = {"kind": "Listener", "name": "web", "spec": {"routingKey": "web", "host": "web", "port": 80}}
CONNECTOR = {"kind": "Connector", "name": "db", "spec": {"routingKey": "db", "host": "10.0.0.12", "port": 5432}}
NOW = 1_767_312_000.0
UP = RouterState(
    router="c0-C0w1",
    nodes={"c1-C1w1": NodeState("c1-C1w1", 1)},
    links={"to-c1": LinkState(True, "c1-C1w1", "")},
    addresses={"web": AddressState(0, 1), "db": AddressState(1, 0)},
    listening=frozenset({"listener/web"}),
    served=frozenset({"connector/db@10.0.0.12"}),
)
DOWN = replace(
    UP, nodes={}, addresses={}, listening=frozenset(), links={"to-c1": LinkState(False, "", "Connection refused")}
)


def build_other() -> SiteView:
    """The site of another cluster, which asks for `db`."""
    asks = {"kind": "Listener", "name": "db", "spec": {"routingKey": "db", "host": "db", "port": 80}}
    there = replace(PLACE, cluster="C1", host="C1w1", node="c1w1", address="10.0.0.21")
    view = build_view(plan_site(group(build_objects([{"kind": "Site", "name": "c1"}, asks])), there), None)
    assert view is not None
    assert (view.router, view.listeners, view.connectors) == ("c1-C1w1", {"db"}, frozenset())
    return view


class Told:
    """Objects whose statuses are written as soon as they are told."""

    def __init__(self, *written: dict[str, Any]) -> None:
        self.objects = build_objects([SITE, *written])
        self.others = [build_other()]

    def tell(self, state: RouterState | None, now: float = NOW, error: str = "") -> list[str]:
        found = group(self.objects)
        told = build_statuses(found, plan_site(found, PLACE), state, self.others, now, error)
        for obj, status in told:
            obj["status"] = status
        return sorted(name_of(obj) for obj, _ in told)

    def __getitem__(self, name: str) -> Object:
        return next(obj["status"] for obj in self.objects if name_of(obj) == name)

    def words(self, name: str) -> tuple[str, str]:
        return self[name]["status"], self[name]["message"]

    def since(self, name: str, kind: str) -> str:
        return str(next(each["lastTransitionTime"] for each in self[name]["conditions"] if each["type"] == kind))


def test_all_is_well_and_then_nothing_is_told() -> None:
    told = Told(LINK, LISTENER, CONNECTOR)
    assert told.tell(UP) == ["c0", "db", "to-c1", "web"]
    assert {name: told.words(name) for name in ("c0", "db", "to-c1", "web")} == dict.fromkeys(
        ("c0", "db", "to-c1", "web"), ("Ready", "OK")
    )
    assert told.tell(UP, NOW + 60) == []


def test_a_link_goes_down_and_up() -> None:
    told = Told(LINK, LISTENER, CONNECTOR)
    told.tell(UP)
    assert (told["to-c1"]["remoteSiteId"], told["to-c1"]["remoteSiteName"]) == ("site-c1", "c1")
    told.tell(DOWN, NOW + 10)
    assert told.words("to-c1") == ("Pending", "not connected: Connection refused")
    assert "remoteSiteName" not in told["to-c1"]
    assert told.words("web") == ("Pending", "no Connector of the network has routing key 'web'")
    assert told["web"]["hasMatchingConnector"] is False
    assert told.words("db") == ("Pending", "no Listener of the network has routing key 'db'")
    assert told["c0"]["sitesInNetwork"] == 1
    told.tell(UP, NOW + 20)
    assert told.words("to-c1") == told.words("web") == told.words("db") == ("Ready", "OK")
    assert told["c0"]["sitesInNetwork"] == 2


def test_conditions_keep_since_when_they_are_so() -> None:
    told = Told(LINK)
    told.tell(UP)
    first = told.since("to-c1", "Configured")
    told.tell(DOWN, NOW + 10)
    assert told.since("to-c1", "Configured") == first
    changed = told.since("to-c1", "Operational")
    assert changed == told.since("to-c1", "Ready") > first
    other = replace(DOWN, links={"to-c1": LinkState(False, "", "No route to host")})
    told.tell(other, NOW + 20)
    assert told.words("to-c1") == ("Pending", "not connected: No route to host")
    assert told.since("to-c1", "Operational") == changed


def test_a_deleted_link_is_told_to_the_listener() -> None:
    told = Told(LINK, LISTENER)
    told.tell(UP)
    told.objects = [obj for obj in told.objects if obj["kind"] != "Link"]
    told.tell(replace(DOWN, links={}))
    assert told.words("web") == ("Pending", "no Connector of the network has routing key 'web'")


def test_a_router_that_does_not_answer() -> None:
    told = Told(LINK, LISTENER, CONNECTOR)
    told.tell(UP)
    told.tell(None, NOW + 10, "C0w1/skrouterd: the router does not run: exit code 1")
    expected = "the site's router does not answer: C0w1/skrouterd: the router does not run: exit code 1"
    for name in ("c0", "to-c1", "web", "db"):
        assert told.words(name) == ("Pending", expected)


def test_what_an_older_router_said_is_not_of_this_site() -> None:
    told = Told(LISTENER)
    told.tell(replace(UP, router="old-C0w1"))
    assert told.words("web") == ("Pending", "the site's router does not answer")


def test_a_port_that_is_not_open_yet() -> None:
    told = Told(LISTENER)
    told.tell(replace(UP, listening=frozenset()))
    assert told.words("web") == ("Pending", "the router has not opened its port")
    assert told["web"]["hasMatchingConnector"] is True


def test_a_site_that_is_deleted() -> None:
    told = Told(LINK, LISTENER, CONNECTOR)
    told.tell(UP)
    told.objects = [obj for obj in told.objects if obj["kind"] != "Site"]
    assert told.tell(None, NOW + 10) == ["db", "to-c1", "web"]
    for name in ("to-c1", "web", "db"):
        assert told.words(name) == ("Error", "there is no active Site in the namespace")
    assert "remoteSiteName" not in told["to-c1"]


def test_a_listener_and_a_connector_of_one_site() -> None:
    here = {"kind": "Connector", "name": "here", "spec": {"routingKey": "web", "host": "10.0.0.12", "port": 80}}
    told = Told(LISTENER, here)
    told.others = []
    state = replace(
        DOWN,
        addresses={"web": AddressState(1, 0)},
        listening=frozenset({"listener/web"}),
        served=frozenset({"connector/here@10.0.0.12"}),
    )
    told.tell(state)
    assert told.words("web") == told.words("here") == ("Ready", "OK")


def test_a_site_that_is_not_reached_asks_for_nothing() -> None:
    told = Told(CONNECTOR)
    told.tell(replace(UP, nodes={}))
    assert told["db"]["hasMatchingListener"] is False


def test_a_view_changes_with_what_a_site_serves_and_with_its_links() -> None:
    objects = group(build_objects([SITE, LINK, LISTENER, CONNECTOR]))
    plan = plan_site(objects, PLACE)
    view = build_view(plan, UP)
    assert view is not None
    assert (view.listeners, view.connectors) == ({"web"}, {"db"})
    assert view == build_view(plan, UP)
    assert view != build_view(plan, DOWN)
    assert build_view(plan_site(group([]), PLACE), UP) is None
