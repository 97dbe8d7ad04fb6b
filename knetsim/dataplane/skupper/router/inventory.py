"""What a router can tell about itself: rows of management's entities, read when they are asked for."""

from __future__ import annotations

import resource
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cproton

from knetsim.dataplane.skupper.router.control import LINKS_VERSION
from knetsim.dataplane.skupper.router.links import InLink, Links, OutLink
from knetsim.dataplane.skupper.router.mobile import TREATMENTS
from knetsim.dataplane.skupper.router.peers import Peer
from knetsim.dataplane.skupper.router.schema import ENTITIES, PREFIX
from knetsim.dataplane.skupper.router.services import TcpConnector, TcpListener

if TYPE_CHECKING:
    from knetsim.dataplane.skupper.router.router import Router

Row = dict[str, Any]
#: addresses that every router has for itself
_OWN = ("L$management", "Lqdhello", "Lqdrouter", "Tqdrouter", "Tqdrouter.ma")
_OUTCOMES = ("presettled", "accepted", "rejected", "released", "modified")


def read_rows(router: Router, kind: str) -> list[Row]:
    """All entities of a kind, whose name is without the prefix. KeyError for a kind that there is not."""
    if kind in _READERS:
        return list(_READERS[kind](router))
    entity = _CONFIGURED[kind]
    return [
        _build_configured(router, kind, section.attributes) for section in router.sections if section.entity == entity
    ]


def kinds() -> tuple[str, ...]:
    """Every kind that can be asked for, without the prefix."""
    return (*_READERS, *(kind for kind in _CONFIGURED if kind not in _READERS))


def entity_of(kind: str) -> str | None:
    """The configuration's name of a kind; None if it is not configured."""
    return _CONFIGURED.get(kind)


def _build_configured(router: Router, kind: str, attributes: Mapping[str, Any]) -> Row:
    name = attributes["name"]
    return {**_name(kind, name, f"{kind}/{name}"), **{key: value for key, value in attributes.items() if key != "name"}}


def _name(kind: str, name: str, identity: str) -> Row:
    return {"type": f"{PREFIX}{kind}", "name": name, "identity": identity}


def _read_router(router: Router) -> Iterator[Row]:
    row = _build_configured(router, "router", {**router.config.router, "name": f"router/{router.name}"})
    row |= {"identity": f"router/{router.name}", "id": router.name, "area": "0", "version": router.version}
    yield row | {"hostName": socket.gethostname()}


def _read_network(router: Router) -> Iterator[Row]:
    found = router.config.of("network")
    attributes = found[0].attributes if found else {"networkId": None, "tenantId": None}
    yield _name("network", "network", "network") | {key: attributes[key] for key in ("networkId", "tenantId")}


def _read_metrics(router: Router) -> Iterator[Row]:
    core, outcomes = router.core, _count_outcomes(router)
    flows = {
        "tcp": sum(len(part.flows) for part in router.parts.values() if isinstance(part, TcpListener | TcpConnector))
    }
    row = _name("routerMetrics", "routerMetrics", f"routerMetrics/{router.name}") | {
        "id": router.name,
        "version": router.version,
        "addrCount": sum(1 for _ in _read_addresses(router)),
        "linkCount": sum(len(one.ins) + len(one.outs) for one in router.conversations.values()),
        "nodeCount": len(core.topology.routes.next_hops),
        "autoLinkCount": 0,
        "connectionCount": len(router.conversations) + flows["tcp"],
        "droppedPresettledDeliveries": outcomes["dropped"],
        "residentMemoryUsage": read_resident(),
        "memoryUsage": _read_pages(0),
        "uptimeSeconds": int(router.loop.now() - router.started_at),
        "deliveriesIngress": sum(entry.ingress for entry in core.addresses.values()),
        "deliveriesEgress": sum(entry.egress for entry in core.addresses.values()),
        "deliveriesTransit": sum(entry.transit for entry in core.addresses.values()),
        "connectionCounters": flows,
    }
    row |= {f"{name}Deliveries": outcomes[name] for name in _OUTCOMES}
    yield row | dict.fromkeys(_ALWAYS_NONE, 0)


_ALWAYS_NONE = (
    *("deliveriesIngressRouteContainer", "deliveriesEgressRouteContainer", "deliveriesIngressInterNetwork"),
    *("deliveriesEgressInterNetwork", "deliveriesStuck", "deliveriesDelayed1Sec", "deliveriesDelayed10Sec"),
)


def _count_outcomes(router: Router) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for conversation in router.conversations.values():
        outcomes += conversation.outcomes
        for link in conversation.links():
            outcomes += link.outcomes
    return outcomes


def read_resident() -> int:
    """Bytes of memory that this process has."""
    return _read_pages(1)


def _read_pages(column: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()


def _read_nodes(router: Router) -> Iterator[Row]:
    topology = router.core.topology
    yield _build_node(router, 0, router.name) | {
        "instance": topology.instance,
        "linkState": sorted(topology.peers),
        "nextHop": "(self)",
        "validOrigins": [],
        "cost": None,
        "routerLink": None,
    }
    for number, (name, node) in enumerate(sorted(topology.nodes.items()), start=1):
        hop = topology.routes.next_hops.get(name)
        link = node.link.number if isinstance(node.link, Peer) else None
        yield _build_node(router, number, name) | {
            "instance": node.instance or 0,
            "linkState": sorted(node.peers),
            "nextHop": None if hop == name else hop,
            "validOrigins": sorted(topology.routes.valid_origins.get(name, ())),
            "cost": topology.routes.costs.get(name),
            "routerLink": link,
        }


def _build_node(router: Router, number: int, name: str) -> Row:
    since = int(router.core.topology.changed_at - router.loop.now() + router.clock())
    return _name("router.node", f"router.node/{name}", f"router.node/{name}") | {
        "id": name,
        "index": number,
        "protocolVersion": LINKS_VERSION,
        "address": f"amqp:/_topo/0/{name}",
        "lastTopoChange": since,
    }


def _read_links(router: Router) -> Iterator[Row]:
    for number, conversation in router.conversations.items():
        for link in conversation.links():
            yield _build_link(number, conversation, link)


def _build_link(number: int, conversation: Links, link: InLink | OutLink) -> Row:
    incoming = isinstance(link, InLink)
    identity = f"{number}.{link.link.name}.{'in' if incoming else 'out'}"
    busy = (link.incoming if isinstance(link, InLink) else link.outgoing) is not None
    credit = max(0, link.link.credit)
    row = _name("router.link", f"router.link/{identity}", identity) | {
        "linkName": link.link.name,
        "linkType": link.kind,
        "linkDir": "in" if incoming else "out",
        "connectionId": number,
        "owningAddr": None,
        "capacity": 250,
        "priority": link.priority,
        "undeliveredCount": 0 if incoming else cproton.pn_link_queued(link.impl),
        "unsettledCount": int(busy),
        "deliveryCount": link.deliveries,
        "droppedPresettledCount": link.outcomes["dropped"],
        "creditAvailable": credit,
        "zeroCreditSeconds": 0,
        "settleRate": 0,
        "adminStatus": "enabled",
        "operStatus": "up",
    }
    row |= {f"{name}Count": link.outcomes[name] for name in _OUTCOMES}
    return row | dict.fromkeys(("deliveriesDelayed1Sec", "deliveriesDelayed10Sec", "deliveriesStuck"), 0)


def _read_connections(router: Router) -> Iterator[Row]:
    for number, conversation in router.conversations.items():
        yield _build_connection(router, number, conversation)
    for listener in router.parts.values():
        if not isinstance(listener, TcpListener | TcpConnector):
            continue
        inwards = isinstance(listener, TcpListener)
        for flow, flow_number in listener.flows.items():
            identity = f"{'tcp' if inwards else 'tcp.out'}.{flow_number}"
            yield (
                _name("connection", f"connection/{identity}", identity)
                | _UNSECURED
                | {
                    "container": "TcpAdaptor",
                    "host": flow.end.peer_address,
                    "role": "normal",
                    "dir": "in" if inwards else "out",
                    "protocol": "tcp",
                    "opened": True,
                    "uptimeSeconds": int(router.loop.now() - flow.end.opened_at),
                    "lastDlvSeconds": None,
                    "properties": {},
                }
            )


_UNSECURED = {
    **dict.fromkeys(("sasl", "user", "sslProto", "sslCipher", "meshId", "tlsOrdinal"), None),
    **dict.fromkeys(("isAuthenticated", "isEncrypted", "ssl"), False),
    "adminStatus": "enabled",
    "operStatus": "up",
    "sslSsf": 0,
}


def _build_connection(router: Router, number: int, conversation: Any) -> Row:
    connection, now = conversation.connection, router.loop.now()
    transport = connection.transport
    encrypted = bool(transport.encrypted)
    row = (
        _name("connection", f"connection/{connection.peer_address}", str(number))
        | _UNSECURED
        | {
            "container": conversation.router,
            "host": connection.peer_address,
            "role": _role_of(conversation),
            "dir": "out" if connection.dialled else "in",
            "protocol": "amqp",
            "opened": connection.opened_at is not None,
            "isAuthenticated": bool(transport.authenticated),
            "isEncrypted": encrypted,
            "ssl": encrypted,
            "sasl": transport.sasl().mech or None,
            "user": transport.user,
            "uptimeSeconds": None if connection.opened_at is None else int(now - connection.opened_at),
            "lastDlvSeconds": None if connection.delivered_at is None else int(now - connection.delivered_at),
            "properties": dict(getattr(conversation, "properties", {})),
        }
    )
    if encrypted:
        row["sslProto"], row["sslCipher"] = connection.protocol, connection.cipher
    return row


def _role_of(conversation: Any) -> str:
    if not isinstance(conversation, Peer):
        return "normal"
    return "inter-router-data" if conversation.for_streams else "inter-router"


def _read_addresses(router: Router) -> Iterator[Row]:
    core = router.core
    for key in _OWN:
        yield _build_address(key, "flood" if "qd" in key else "closest") | {"inProcess": 1}
    for name in core.topology.routes.next_hops:
        yield _build_address(f"R{name}", "closest") | {"remoteCount": 1, "remoteHostRouters": [name]}
    for key in core.own:
        if key != "$management":
            yield _build_address(f"L{key}", "closest") | {"subscriberCount": 1}
    for key, entry in core.addresses.items():
        remote = sorted(place.name for place in entry.places.places.values() if place.kind == "router")
        yield _build_address(key, entry.places.distribution) | {
            "subscriberCount": len(entry.consumers),
            "remoteCount": len(remote),
            "remoteHostRouters": remote,
            "deliveriesIngress": entry.ingress,
            "deliveriesEgress": entry.egress,
            "deliveriesTransit": entry.transit,
            "watch": bool(entry.watchers),
        }


def _build_address(key: str, distribution: str) -> Row:
    assert distribution in TREATMENTS
    return _name("router.address", key, key) | {
        "key": key,
        "distribution": distribution,
        "priority": 4,
        "remoteHostRouters": [],
        "watch": False,
        **dict.fromkeys(
            ("inProcess", "subscriberCount", "remoteCount", "containerCount", "deliveriesIngress", "deliveriesEgress",
             "deliveriesTransit", "deliveriesToContainer", "deliveriesFromContainer"), 0
        ),
    }  # fmt: skip


def _read_services(router: Router, kind: str) -> Iterator[Row]:
    for section in router.sections:
        part = router.parts.get((section.entity, section.name))
        if section.entity != kind or not isinstance(part, TcpListener | TcpConnector):
            continue
        row = _build_configured(router, kind, section.attributes) | {
            "connectionsOpened": part.traffic.opened,
            "connectionsClosed": part.traffic.closed,
            "bytesIn": part.traffic.bytes_in,
            "bytesOut": part.traffic.bytes_out,
        }
        if isinstance(part, TcpListener):
            row |= {"operStatus": "up" if part.is_up else "down", "connectionMsg": part.trouble}
        yield row


def _read_connectors(router: Router) -> Iterator[Row]:
    for section in router.sections:
        if section.entity == "connector":
            part = router.parts.get((section.entity, section.name))
            status, words = (getattr(part, "status", "CONNECTING"), getattr(part, "words", ""))
            row = _build_configured(router, "connector", section.attributes)
            yield row | {"connectionStatus": status, "connectionMsg": words, "saslPassword": None}


def _read_tcp_connections(router: Router) -> Iterator[Row]:
    for part in router.parts.values():
        if isinstance(part, TcpListener | TcpConnector):
            for flow, number in part.flows.items():
                identity = f"tcpConnection/{number}"
                yield _name("tcpConnection", identity, identity) | {
                    "address": part.address,
                    "host": flow.end.peer_address,
                    "direction": "in" if isinstance(part, TcpListener) else "out",
                    "bytesIn": flow.end.bytes_in,
                    "bytesOut": flow.end.bytes_out,
                    "uptimeSeconds": int(router.loop.now() - flow.end.opened_at),
                }


def _read_agent(_router: Router) -> Iterator[Row]:
    yield {"type": "org.amqp.management", "name": "self", "identity": "self"}


_READERS: Mapping[str, Callable[[Router], Iterator[Row]]] = {
    "router": _read_router,
    "network": _read_network,
    "routerMetrics": _read_metrics,
    "router.node": _read_nodes,
    "router.link": _read_links,
    "router.address": _read_addresses,
    "connection": _read_connections,
    "tcpConnection": _read_tcp_connections,
    "tcpListener": lambda router: _read_services(router, "tcpListener"),
    "tcpConnector": lambda router: _read_services(router, "tcpConnector"),
    "connector": _read_connectors,
    "management": _read_agent,
}
#: what is configured: kind in management → entity
_CONFIGURED = {(entity.managed_as or name): name for name, entity in ENTITIES.items() if not entity.unsupported}
