"""The first knetsim's list of services, as objects of Skupper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from knetsim.api.accept import accept_create
from knetsim.api.objects import kind_of
from knetsim.cluster_skupper import build_service, find_lack_of_router
from knetsim.dataplane.skupper import RouterState
from knetsim.errors import UsageError
from knetsim.node.skupper.plan import plan_site
from knetsim.node.skupper.snapshot import Snapshot
from knetsim.scenario.skupper_objects import build_grant, build_site, build_token
from tests.skupper_objects import PLACE, build_objects, group

SERVICE: dict[str, Any] = {"name": "svc1", "cluster": "0", "host": "11.10.0.2", "port": "80", "lport": 1028}
CLUSTERS = ["C0", "C1", "East"]


@pytest.mark.parametrize("home", ["0", "C0", "c0"])
def test_where_it_runs_it_is_served_and_elsewhere_it_is_listened_for(home: str) -> None:
    served, used = (build_service(cluster, {**SERVICE, "cluster": home}, CLUSTERS) for cluster in ("C0", "C1"))
    assert (served["kind"], served["spec"]["host"], served["spec"]["port"]) == ("Connector", "11.10.0.2", 80)
    assert (used["kind"], used["spec"]["host"], used["spec"]["port"]) == ("Listener", "0.0.0.0", 1028)
    assert served["spec"]["routingKey"] == used["spec"]["routingKey"] == "svc1"


@pytest.mark.parametrize("home", ["7", "west", "C"])
def test_a_cluster_that_is_not_there(home: str) -> None:
    with pytest.raises(UsageError) as refused:
        build_service("C1", {**SERVICE, "cluster": home}, CLUSTERS)
    assert refused.value.what == f"no cluster '{home}'"
    assert refused.value.hint


def test_a_cluster_by_any_of_its_names() -> None:
    for home in ("East", "east", "EAST"):
        assert build_service("East", {**SERVICE, "cluster": home}, CLUSTERS)["kind"] == "Connector"


def test_what_is_built_is_accepted() -> None:
    token = build_token("c1", "c0", "10.1.1.1", "code")
    for obj in (
        build_site("c0", linked_to=True),
        build_service("C0", SERVICE, CLUSTERS),
        build_service("C1", SERVICE, CLUSTERS),
        build_grant("c1", "x", window="1h"),
        token,
    ):
        accept_create(kind_of(obj), obj, 0.0)
    assert token["spec"]["url"] == "https://10.1.1.1:9090/default/from-c1"


@pytest.mark.parametrize(
    ("sites", "reserved", "lack"),
    [
        ([], (), "there is no Site that is carried out"),
        ([{}], (9090,), "no router can run on C0w1: another program has port 9090 there, the router's health check"),
        ([{"edge": True}], (), "edge: true: routers are interior ones here, there are no edge sites"),
        ([{}], (), "the router does not answer"),
    ],
)
def test_why_there_is_no_router(sites: list[dict[str, Any]], reserved: tuple[int, ...], lack: str) -> None:
    written = [{"kind": "Site", "name": "c0", "spec": spec} for spec in sites]
    plan = plan_site(group(build_objects(written)), replace(PLACE, reserved=frozenset(reserved)))
    assert find_lack_of_router(Snapshot(plan, None, (), "")) == lack
    assert find_lack_of_router(Snapshot(plan, RouterState("c0"), (), "")) == (lack if plan.router is None else "")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lprot": 1028}, "no 'lprot' (did you mean 'lport'?)"),
        ({"host": ""}, "needs 'host'"),
        ({"port": "http"}, "'port' is a port"),
        ({"lport": 70000}, "'lport' is a port"),
        ({"lport": 0}, "needs 'lport'"),
    ],
)
def test_what_is_no_service(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        build_service("C0", {**SERVICE, **changed}, CLUSTERS)
    assert words in refused.value.what
    assert "11.10.0.2" in refused.value.hint
