"""A site's router, as configuration: what skrouterd and the embedded router read alike. Pure.

Entities come in the order in which Skupper writes them, one to a line, so that two configurations can be compared by
eye. What comes out has been read and checked as a router does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from knetsim import names
from knetsim.dataplane.skupper.router.config import build_config

Entity = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files by which a router shows who it is, and knows who others are: an sslProfile."""

    name: str
    authority: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class NeighbourPort:
    """Where other routers may link in: a `listener` of role inter-router."""

    name: str
    port: int = 55671
    #: an address of the worker; empty: any
    host: str = ""
    cost: int = 1
    #: of `Certificates`; empty: no TLS, and whoever dials is taken
    certificates: str = ""


@dataclass(frozen=True, slots=True)
class NeighbourLink:
    """A link to another router: a `connector` of role inter-router."""

    name: str
    host: str
    port: int = 55671
    cost: int = 1
    certificates: str = ""


@dataclass(frozen=True, slots=True)
class OfferedService:
    """A port at which clients find a service of the network: a `tcpListener`."""

    name: str
    routing_key: str
    port: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class ServedService:
    """A backend that serves the network: a `tcpConnector`."""

    name: str
    routing_key: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class RouterPlan:
    """All that a router of a site is to do."""

    router: str
    certificates: tuple[Certificates, ...] = ()
    links: tuple[NeighbourLink, ...] = ()
    ports: tuple[NeighbourPort, ...] = ()
    served: tuple[ServedService, ...] = ()
    offered: tuple[OfferedService, ...] = ()
    #: where skstat and skmanage ask by themselves, on loopback
    management_port: int = names.MANAGEMENT_PORT
    #: of /healthz and /metrics; None: none
    health_port: int | None = names.HEALTH_PORT
    log_file: str = ""
    log_levels: str = "info+"


def build_router_config(plan: RouterPlan) -> str:
    """JSON. ConfigError when a router would refuse it: names that are there twice, ports that are none."""
    entities = build_entities(plan)
    build_config([list(entity) for entity in entities])
    return "[\n" + ",\n".join(f"    {json.dumps(entity)}" for entity in entities) + "\n]\n"


def build_entities(plan: RouterPlan) -> list[Entity]:
    """The same, unchecked, as (entity, attributes); those that others need come before them."""
    return list(_build_entities(plan))


def _build_entities(plan: RouterPlan) -> Iterator[Entity]:
    yield "router", {"id": plan.router, "mode": "interior", "helloMaxAgeSeconds": "3"}
    for profile in plan.certificates:
        files = {"caCertFile": profile.authority, "certFile": profile.certificate, "privateKeyFile": profile.key}
        yield "sslProfile", {"name": profile.name, **files}
    for link in plan.links:
        place = {"name": link.name, "role": "inter-router", "host": link.host, "port": str(link.port)}
        yield "connector", {**place, "cost": link.cost, **_use(link.certificates)}
    yield (
        "listener",
        {"name": f"@{plan.management_port}", "role": "normal", "host": "127.0.0.1", "port": plan.management_port},
    )
    for port in plan.ports:
        here = {"name": port.name, "role": "inter-router", "host": port.host}
        strict = {"authenticatePeer": True, "requireSsl": True} if port.certificates else {}
        yield "listener", {**here, "port": port.port, "cost": port.cost, **_use(port.certificates), **strict}
    if plan.health_port is not None:
        pages = {"http": True, "httpRootDir": "disabled", "healthz": True, "metrics": True, "websockets": False}
        yield (
            "listener",
            {"name": f"@{plan.health_port}", "role": "normal", "host": "", "port": plan.health_port, **pages},
        )
    yield "address", {"prefix": "mc", "distribution": "multicast"}
    for served in plan.served:
        place = {"name": f"connector/{served.name}@{served.host}", "host": served.host, "port": str(served.port)}
        yield "tcpConnector", {**place, "address": served.routing_key}
    for offered in plan.offered:
        place = {"name": f"listener/{offered.name}", "host": offered.host, "port": str(offered.port)}
        yield "tcpListener", {**place, "address": offered.routing_key}
    log = {"module": "DEFAULT", "enable": plan.log_levels}
    yield "log", log | ({"outputFile": plan.log_file} if plan.log_file else {})


def _use(certificates: str) -> Mapping[str, Any]:
    """Mutual TLS by an sslProfile."""
    return {"sslProfile": certificates, "saslMechanisms": "EXTERNAL"} if certificates else {}
