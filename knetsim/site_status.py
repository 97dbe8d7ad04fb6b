"""What `knetsim link status` shows: a cluster's Skupper site, as it was found at the controller's last look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from knetsim.api.objects import Object, name_of, namespace_of
from knetsim.assembly import ClusterAssembly
from knetsim.dataplane.skupper import RouterState
from knetsim.dataplane.skupper.state import AddressState, LinkState
from knetsim.node.skupper.agent import SkupperSite
from knetsim.node.skupper.objects import identify, spec_of
from knetsim.node.skupper.snapshot import Snapshot
from knetsim.node.skupper.views import SiteView, find_others_reached
from knetsim.status import ReachedSiteState, SiteConnectorState, SiteLinkState, SiteListenerState, SiteState

_UNKNOWN = LinkState(up=False, peer="", detail="the router does not answer")


def read_sites(cluster: ClusterAssembly) -> list[SiteState]:
    """The site of a cluster, or nothing."""
    sites = [addon for addon in cluster.addons if isinstance(addon, SkupperSite)]
    found = sites[0].snapshot() if sites else None
    if found is None or found.plan.site is None or found.plan.router is None:
        return []
    return [build_site_state(cluster.name, sites[0].router_kind, found)]


def build_site_state(cluster: str, kind: str, found: Snapshot) -> SiteState:
    """What is shown of a site. Pure."""
    plan, state = found.plan, found.state or RouterState(router="")
    assert plan.site is not None
    assert plan.router is not None
    reached = find_others_reached(found.others, state)
    return {
        "cluster": cluster,
        "name": name_of(plan.site),
        "namespace": namespace_of(plan.site),
        "host": plan.place.host,
        "address": plan.place.address,
        "router": plan.router.router,
        "kind": kind,
        "version": state.version,
        "running": found.state is not None,
        "detail": found.error,
        "reaches": _read_reached(state, found.others),
        "links": [_read_link(link, found, state) for link in plan.links],
        "listeners": [_read_listener(each, found, state, reached) for each in plan.listeners],
        "connectors": [_read_connector(each, found, reached) for each in plan.connectors],
        "faults": [
            {"object": f"{kind} {cluster}/{key}", "what": fault.message}
            for (kind, key), fault in sorted(plan.faults.items())
        ],
    }


def _read_reached(state: RouterState, others: Iterable[SiteView]) -> list[ReachedSiteState]:
    sites = {view.router: view.site for view in others}
    return [
        {"router": router, "site": sites.get(router, ""), "cost": node.cost, "nextRouter": node.next_hop}
        for router, node in sorted(state.nodes.items())
    ]


def _read_link(link: Object, found: Snapshot, state: RouterState) -> SiteLinkState:
    assert found.plan.router is not None
    planned = next(each for each in found.plan.router.links if each.name == name_of(link))
    there = state.links.get(planned.name, _UNKNOWN if found.state is None else LinkState(False, "", "not told yet"))
    sites = {view.router: view.site for view in found.others}
    return {
        "name": name_of(link),
        "site": sites.get(there.peer, ""),
        "router": there.peer,
        "address": f"{planned.host}:{planned.port}",
        "cost": planned.cost,
        "up": there.up,
        "detail": there.detail,
    }


def _read_listener(
    listener: Object, found: Snapshot, state: RouterState, reached: Iterable[SiteView]
) -> SiteListenerState:
    assert found.plan.router is not None
    spec, names = spec_of(listener), found.plan.routing[identify(listener)]
    offered = next(each for each in found.plan.router.offered if each.name == name_of(listener))
    serving = [view.site for view in reached if spec["routingKey"] in view.connectors]
    if state.addresses.get(spec["routingKey"], AddressState(0, 0)).local:
        serving.insert(0, name_of(found.plan.site or {}))
    is_service = any(_is_service_of(each, spec) for each in found.plan.objects)
    host = offered.host if offered.host not in ("", "0.0.0.0") else found.plan.place.address
    return {
        "name": name_of(listener),
        "routingKey": spec["routingKey"],
        "service": f"{spec['host']}:{spec['port']}" if is_service else "",
        "address": f"{host}:{offered.port}",
        "open": names[0] in state.listening,
        "servedBy": serving,
        "detail": found.plan.notes.get(identify(listener), ""),
    }


def _is_service_of(obj: Object, spec: Any) -> bool:
    return bool(obj["kind"] == "Service" and name_of(obj) == spec["host"])


def _read_connector(connector: Object, found: Snapshot, reached: Iterable[SiteView]) -> SiteConnectorState:
    assert found.plan.router is not None
    key = spec_of(connector)["routingKey"]
    served = [each for each in found.plan.router.served if each.name == name_of(connector)]
    users = [view.site for view in reached if key in view.listeners]
    if any(spec_of(each)["routingKey"] == key for each in found.plan.listeners):
        users.insert(0, name_of(found.plan.site or {}))
    return {
        "name": name_of(connector),
        "routingKey": key,
        "backends": [f"{each.host}:{each.port}" for each in served],
        "usedBy": users,
        "detail": found.plan.notes.get(identify(connector), ""),
    }
