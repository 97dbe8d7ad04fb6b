"""What routers say of the network: rows as skrouterd 3.5 and the embedded router give them, and changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from knetsim.dataplane.skupper.changes import apply_config, find_fixed
from knetsim.dataplane.skupper.config import (
    Certificates,
    Entity,
    NeighbourLink,
    NeighbourPort,
    OfferedService,
    RouterPlan,
    build_entities,
)
from knetsim.dataplane.skupper.management import ManagementClient
from knetsim.dataplane.skupper.router.config import build_config
from knetsim.dataplane.skupper.state import AddressState, LinkState, NodeState, read_state
from knetsim.errors import RouterRefusal

Row = dict[str, Any]


class Rows(ManagementClient):
    """A router that has these rows, and does what it is told."""

    def __init__(self, rows: Mapping[str, Sequence[Row]], refused: Sequence[str] = ()) -> None:
        self.name, self._connection = "R", None
        self.rows = {
            kind: {str(row.get("name", number)): row for number, row in enumerate(of)} for kind, of in rows.items()
        }
        self.refused, self.told = refused, list[str]()

    def query(self, entity: str, attributes: Sequence[str] = ()) -> list[Row]:
        rows = list(self.rows.get(entity, {}).values())
        return [{key: row.get(key) for key in attributes} if attributes else row for row in rows]

    def create(self, entity: str, name: str, attributes: Mapping[str, Any]) -> None:
        self.told.append(f"create {entity} {name}")
        if name in self.refused:
            raise RouterRefusal(f"{entity} '{name}' cannot be created", self.name, "no")
        section = build_config(
            [
                ["router", {"id": "R", "mode": "interior"}],
                *self._profiles(entity),
                [entity, {"name": name, **attributes}],
            ]
        )
        self.rows.setdefault(entity, {})[name] = dict(section.sections[-1].attributes)

    def delete(self, entity: str, name: str) -> None:
        self.told.append(f"delete {entity} {name}")
        del self.rows[entity][name]

    def _profiles(self, entity: str) -> list[list[Any]]:
        return (
            []
            if entity == "sslProfile"
            else [["sslProfile", {"name": name}] for name in self.rows.get("sslProfile", {})]
        )


def node(name: str, hop: str | None, cost: int | None, *links: str) -> Row:
    return {"id": name, "nextHop": hop, "cost": cost, "linkState": list(links)}


def test_a_router_to_which_no_chain_of_links_leads_is_not_there() -> None:
    """skrouterd keeps the way and the cost that a lost router had; an embedded one has no cost for it."""
    near = [node("R", "(self)", None, "A"), node("A", None, 2, "R", "B"), node("B", "A", 4)]
    assert read_state(Rows({"router.node": near})).nodes == {"A": NodeState("A", 2), "B": NodeState("A", 4)}
    lost = [node("R", "(self)", None), *near[1:]]
    assert read_state(Rows({"router.node": lost})).nodes == {}
    cut = [near[0], node("A", None, 2, "R"), near[2]]
    assert read_state(Rows({"router.node": cut})).nodes == {"A": NodeState("A", 2)}
    unreached = [near[0], near[1], node("B", None, None, "A")]
    assert read_state(Rows({"router.node": unreached})).nodes == {"A": NodeState("A", 2)}


def test_a_link_is_told_from_others_by_where_it_leads() -> None:
    dialled = {"role": "inter-router", "host": "10.0.0.1", "port": "55671", "connectionStatus": "SUCCESS"}
    failed = {**dialled, "host": "10.0.0.2", "connectionStatus": "CONNECTING", "connectionMsg": "refused"}
    other = {**dialled, "role": "normal"}
    out = {"container": "A", "host": "10.0.0.1:55671", "role": "inter-router", "dir": "out"}
    state = read_state(
        Rows(
            {
                "connector": [{"name": "up", **dialled}, {"name": "down", **failed}, {"name": "other", **other}],
                "connection": [
                    {**out, "role": "inter-router-data"},
                    out,
                    {**out, "container": "B", "host": "10.0.0.3:41000", "dir": "in"},
                    # one that has not said yet who it is
                    {**out, "container": None, "host": "10.0.0.4:41000", "dir": "in"},
                ],
            }
        )
    )
    assert state.links == {"up": LinkState(True, "A", ""), "down": LinkState(False, "", "refused")}
    assert state.incoming == {"B": "10.0.0.3:41000"}


def test_addresses_of_routers_themselves_are_no_routing_keys() -> None:
    keys = (
        "Mweb:8080",
        "M$management",
        "M_$qd.mesh_discovery",
        "Mmc/sfe.all",
        "Msfe.x:0",
        "Mvfcr.x:0",
        "RA",
        "Lqdhello",
    )
    rows = [{"key": key, "subscriberCount": 1, "remoteCount": None} for key in keys]
    assert read_state(Rows({"router.address": rows})).addresses == {"web:8080": AddressState(1, 0)}


def plan(**more: Any) -> list[Entity]:
    files = Certificates("tls", "/ca", "/crt", "/key")
    port, link = NeighbourPort("access", 55671, "", 1, "tls"), NeighbourLink("up", "10.0.0.1", 55671, 2, "tls")
    given = {"certificates": (files,), "ports": (port,), "links": (link,), **more}
    return build_entities(RouterPlan("R", **given))


def test_users_of_certificates_are_made_after_them_and_deleted_before() -> None:
    router = Rows({})
    assert apply_config(router, plan()) == [
        "sslProfile tls: made",
        "connector up: made",
        "listener @5672: made",
        "listener access: made",
        "listener @9090: made",
    ]
    assert (apply_config(router, plan()), len(router.told)) == ([], 5)
    router.told.clear()
    done = ["sslProfile tls: changed", "connector up: changed", "listener access: changed"]
    assert apply_config(router, plan(certificates=(Certificates("tls", "/ca", "/other", "/key"),))) == done
    order = ["listener access", "connector up", "sslProfile tls"]
    assert router.told == [*(f"delete {one}" for one in order), *(f"create {one}" for one in reversed(order))]
    # the same paths, and something else there
    assert apply_config(router, plan(certificates=(Certificates("tls", "/ca", "/other", "/key"),)), ["tls"]) == done
    assert apply_config(router, plan(certificates=(), ports=(), links=())) == [
        "listener access: deleted",
        "connector up: deleted",
        "sslProfile tls: deleted",
    ]


def test_what_is_refused_does_not_keep_the_rest_from_being_done() -> None:
    router = Rows({}, refused=["up", "listener/a"])
    offered = (OfferedService("a", "web", 8001), OfferedService("b", "web", 8002))
    with pytest.raises(RouterRefusal, match="R: connector 'up' cannot be created: no"):
        apply_config(router, plan(offered=offered))
    assert list(router.rows["tcpListener"]) == ["listener/b"]


def test_numbers_and_texts_of_one_value_are_no_difference() -> None:
    row = {"name": "listener/a", "host": None, "port": 8001, "address": "web", "operStatus": "up"}
    entities = build_entities(RouterPlan("R", offered=(OfferedService("a", "web", 8001),)))
    assert "tcpListener listener/a: changed" not in apply_config(Rows({"tcpListener": [row]}), entities)


def test_what_cannot_be_changed() -> None:
    assert [kind for kind, _ in find_fixed(plan())] == ["router", "address", "log"]
