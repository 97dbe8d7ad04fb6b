"""What a running router says of the network: other routers, its links, who serves what, which ports are open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from knetsim.dataplane.skupper.management import ManagementClient

_ROUTERS, _SELF = "inter-router", "(self)"
#: beginnings of addresses that routers have for themselves: management, edges, Skupper's network observer
_INTERNAL = ("$", "_$", "mc/", "sfe.", "vfcr.")

Row = Mapping[str, Any]


class LinkState(NamedTuple):
    """A connector to another router."""

    up: bool
    #: the other router's id; empty while it is not known
    peer: str
    #: the router's words when it is down
    detail: str


class NodeState(NamedTuple):
    """Another router: the neighbour to which what is for it goes, itself if it is one; what the way there costs."""

    next_hop: str
    cost: int


class AddressState(NamedTuple):
    """How many serve a routing key: at this router, and how many other routers have somebody who does."""

    local: int
    remote: int


@dataclass(frozen=True, slots=True)
class RouterState:
    """All of it, read at one time."""

    router: str
    version: str = ""
    #: other routers that can be reached
    nodes: Mapping[str, NodeState] = field(default_factory=dict)
    #: a connector's name → its state
    links: Mapping[str, LinkState] = field(default_factory=dict)
    #: routers that have dialled this one → their address and port
    incoming: Mapping[str, str] = field(default_factory=dict)
    #: a routing key → who serves it
    addresses: Mapping[str, AddressState] = field(default_factory=dict)
    #: names of tcpListeners whose ports are open
    listening: frozenset[str] = frozenset()
    #: names of tcpConnectors
    served: frozenset[str] = frozenset()


def read_state(client: ManagementClient) -> RouterState:
    """Ask a router. NotReady when it does not answer, RouterRefusal when it does not want to."""
    nodes = client.query("router.node", ("id", "nextHop", "cost", "linkState"))
    connections = client.query("connection", ("container", "host", "role", "dir", "opened"))
    connectors = client.query("connector", ("name", "host", "port", "role", "connectionStatus", "connectionMsg"))
    addresses = client.query("router.address", ("key", "subscriberCount", "remoteCount"))
    listeners = client.query("tcpListener", ("name", "operStatus"))
    served = client.query("tcpConnector", ("name",))
    return RouterState(
        router=next((_text(row["id"]) for row in nodes if row["nextHop"] == _SELF), ""),
        version=client.version,
        nodes=_read_nodes(nodes),
        links=_read_links(connectors, connections),
        incoming={_text(row["container"]): _text(row["host"]) for row in _neighbours(connections, "in")},
        addresses=_read_addresses(addresses),
        listening=frozenset(_text(row["name"]) for row in listeners if row["operStatus"] == "up"),
        served=frozenset(_text(row["name"]) for row in served),
    )


def _read_nodes(rows: Sequence[Row]) -> dict[str, NodeState]:
    """Those to which a chain of links leads: skrouterd lists others too, and keeps the way and the cost they had."""
    links = {_text(row["id"]): [_text(name) for name in row["linkState"] or ()] for row in rows}
    near = [_text(row["id"]) for row in rows if row["nextHop"] == _SELF]
    reached = set(near)
    while near:
        found = [name for name in links.get(near.pop(), ()) if name not in reached]
        reached.update(found)
        near += found
    return {
        _text(row["id"]): NodeState(_text(row["nextHop"] or row["id"]), int(row["cost"]))
        for row in rows
        if row["nextHop"] != _SELF and row["id"] in reached and row["cost"] is not None
    }


def _read_links(connectors: Iterable[Row], connections: Iterable[Row]) -> dict[str, LinkState]:
    """A connection does not say whose it is, but where to: a connector's host and port."""
    peers = {_text(row["host"]): _text(row["container"]) for row in _neighbours(connections, "out")}
    found = {}
    for row in connectors:
        if row["role"] == _ROUTERS:
            up = row["connectionStatus"] == "SUCCESS"
            peer = peers.get(f"{row['host']}:{row['port']}", "") if up else ""
            found[_text(row["name"])] = LinkState(up, peer, "" if up else _text(row["connectionMsg"]))
    return found


def _neighbours(connections: Iterable[Row], direction: str) -> list[Row]:
    return [row for row in connections if row["role"] == _ROUTERS and row["dir"] == direction and row["container"]]


def _read_addresses(rows: Iterable[Row]) -> dict[str, AddressState]:
    found = {}
    for row in rows:
        key = _text(row["key"])
        if key.startswith("M") and not key[1:].startswith(_INTERNAL):
            found[key[1:]] = AddressState(int(row["subscriberCount"] or 0), int(row["remoteCount"] or 0))
    return found


def _text(value: Any) -> str:
    return "" if value is None else str(value)
