"""What sites are told of each other beside what their routers say: names, and who only listens; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from knetsim.api.objects import Object, name_of, namespace_of, uid_of
from knetsim.dataplane.skupper.state import RouterState
from knetsim.node.skupper.objects import spec_of
from knetsim.node.skupper.plan import SitePlan

PLATFORM = "kubernetes"


class ServiceView(NamedTuple):
    """What a site has of a routing key: addresses that its Connectors lead to, names of its Listeners."""

    routing_key: str
    connectors: tuple[str, ...]
    listeners: tuple[str, ...]


class LinkView(NamedTuple):
    """A Link of a site; the router at its other end, "" while it is not known."""

    name: str
    peer: str
    up: bool


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site of the network: its Site object, its router, what it serves and uses, the Links that it made."""

    cluster: str
    site: str
    uid: str
    namespace: str
    router: str
    address: str
    version: str = ""
    services: tuple[ServiceView, ...] = ()
    links: tuple[LinkView, ...] = ()

    @property
    def listeners(self) -> frozenset[str]:
        """Routing keys that clients of the site ask for."""
        return frozenset(each.routing_key for each in self.services if each.listeners)

    @property
    def connectors(self) -> frozenset[str]:
        """Routing keys that the site serves."""
        return frozenset(each.routing_key for each in self.services if each.connectors)


def build_view(plan: SitePlan, state: RouterState | None) -> SiteView | None:
    """A cluster's site as others are told of it; None where there is none."""
    if plan.site is None or plan.router is None:
        return None
    return SiteView(
        cluster=plan.place.cluster,
        site=name_of(plan.site),
        uid=uid_of(plan.site),
        namespace=namespace_of(plan.site),
        router=plan.router.router,
        address=plan.place.address,
        version=state.version if state is not None else "",
        services=_build_services(plan),
        links=_build_links(plan, state),
    )


def _build_services(plan: SitePlan) -> tuple[ServiceView, ...]:
    assert plan.router is not None
    keys = {spec_of(each)["routingKey"] for each in (*plan.listeners, *plan.connectors)}
    return tuple(
        ServiceView(
            key,
            tuple(sorted(each.host for each in plan.router.served if each.routing_key == key)),
            tuple(sorted(name_of(each) for each in plan.listeners if spec_of(each)["routingKey"] == key)),
        )
        for key in sorted(keys)
    )


def _build_links(plan: SitePlan, state: RouterState | None) -> tuple[LinkView, ...]:
    known = state.links if state is not None else {}
    found = []
    for link in plan.links:
        here = known.get(name_of(link))
        found.append(LinkView(name_of(link), here.peer if here else "", bool(here and here.up)))
    return tuple(sorted(found))


def find_others_reached(others: Iterable[SiteView], state: RouterState) -> list[SiteView]:
    """Those of the other sites that are in a router's network."""
    return [view for view in others if view.router in state.nodes]


def find_reached(own: SiteView | None, others: Iterable[SiteView], state: RouterState | None) -> list[SiteView]:
    """The sites of a router's network, its own first."""
    if own is None or state is None:
        return []
    return [own, *find_others_reached(others, state)]


def build_network(reached: Sequence[SiteView]) -> list[Object]:
    """The sites as a Site's status lists them."""
    by_router = {view.router: view for view in reached}
    return [_build_record(view, by_router) for view in reached]


def _build_record(view: SiteView, by_router: dict[str, SiteView]) -> Object:
    links = []
    for link in view.links:
        remote = by_router.get(link.peer)
        named = {"remoteSiteId": remote.uid, "remoteSiteName": remote.site} if remote is not None else {}
        links.append({"name": link.name, **named, "operational": link.up})
    services = []
    for each in view.services:
        sides = {"connectors": list(each.connectors), "listeners": list(each.listeners)}
        services.append({"routingKey": each.routing_key, **{side: names for side, names in sides.items() if names}})
    record: Object = {"id": view.uid, "name": view.site, "namespace": view.namespace, "platform": PLATFORM}
    if view.version:
        record["version"] = view.version
    if links:
        record["links"] = links
    if services:
        record["services"] = services
    return record
