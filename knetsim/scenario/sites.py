"""Checks of `spec.multicluster`: sites in clusters that there are, links between sites, services that can be reached.

What is allowed on purpose: a Listener whose routing key nobody serves, a Connector that nobody uses, sites without any
link. They say so themselves, in their status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from knetsim import names
from knetsim.errors import Problem
from knetsim.scenario.document import KeyPath
from knetsim.scenario.draft import Draft, cluster_path
from knetsim.scenario.naming import find_label_problems
from knetsim.scenario.spec import ClusterSpec, ListenerSpec, MulticlusterSpec, SiteSpec
from knetsim.scenario.wording import quote

_ROOT: KeyPath = ("spec", "multicluster")
_CLUSTERS: KeyPath = ("spec", "clusters")
_ANY = IPv4Address("0.0.0.0")
#: a router's own, and what other sites link to
_ROUTER_PORTS = (*names.ROUTER_PORTS, names.TakenPorts(range(55671, 55672), "the links of other sites' routers"))


def check_multicluster(draft: Draft) -> Iterator[Problem]:
    """All checks, as far as what they read is sound."""
    asked = draft.scenario.multicluster
    if not _know_clusters(draft):
        return
    if draft.sound((*_ROOT, "sites")):
        yield from check_sites(draft, asked)
        yield from check_ingresses(draft, asked)
        if draft.sound((*_ROOT, "links")):
            yield from check_links(draft, asked)
    if draft.sound((*_ROOT, "services")):
        yield from check_services(draft, asked)
        if draft.sound((*_ROOT, "sites")):
            yield from check_members(draft, asked)


def _know_clusters(draft: Draft) -> bool:
    """Whether the names of all clusters and workers are known."""
    lost = any(len(path) <= len(_CLUSTERS) + 1 and path[:2] == _CLUSTERS[: len(path)] for path in draft.spoilt)
    clusters = draft.scenario.clusters
    return not lost and all(draft.sound(cluster_path(one, key)) for one in clusters for key in ("name", "workers"))


def _known(draft: Draft) -> dict[str, ClusterSpec]:
    return {cluster.name: cluster for cluster in draft.scenario.clusters}


def check_sites(draft: Draft, asked: MulticlusterSpec) -> Iterator[Problem]:
    """Each site is in a cluster and on a worker that there are; one a cluster, each with a name of its own."""
    clusters, seen, called = _known(draft), dict[str, KeyPath](), dict[str, KeyPath]()
    for index, site in enumerate(asked.sites):
        path: KeyPath = (*_ROOT, "sites", index)
        if not draft.written(path):
            return  # those that nobody wrote are right
        if site.cluster not in clusters:
            yield _unknown_cluster(draft, (*path, "cluster"), site.cluster, clusters)
            continue
        first = seen.setdefault(site.cluster, path)
        if first != path:
            what = f"a second site of cluster {site.cluster} (first in line {draft.line(first)})"
            yield draft.problem((*path, "cluster"), what, "one router serves all of a cluster; remove one")
        workers = [worker.name for worker in clusters[site.cluster].workers]
        if site.worker not in workers:
            what = f"cluster {site.cluster} has no worker '{site.worker}'"
            yield draft.problem((*path, "worker"), what, names.did_you_mean(site.worker, workers))
        other = called.setdefault(site.name, path)
        if other != path and first == path:
            what = f"a second site called '{site.name}' (first in line {draft.line(other)})"
            yield draft.problem((*path, "name"), what, "choose another name")


def check_ingresses(draft: Draft, asked: MulticlusterSpec) -> Iterator[Problem]:
    """No nginx has a port that a router needs on the same worker."""
    sites = {site.cluster: site for site in reversed(asked.sites)}
    for cluster in draft.scenario.clusters:
        site, path = sites.get(cluster.name), cluster_path(cluster, "ingress")
        if site is None or not draft.sound(path):
            continue
        ports = cluster.ingress.ports_of(site.worker)
        for key, port in zip(("httpPort", "httpsPort"), ports, strict=False):
            owner = names.find_port_owner(_ROUTER_PORTS, str(_ANY), port)
            if owner:
                worker = names.worker_host(cluster.name, site.worker)
                what = f"{key} {port} is taken on {worker} by {owner}"
                yield draft.problem((*path, key), what, "for example 8001, or another worker in multicluster.sites")


def check_links(draft: Draft, asked: MulticlusterSpec) -> Iterator[Problem]:
    """Each link joins two sites that nothing joins already."""
    clusters, sites = _known(draft), {site.cluster for site in asked.sites}
    joined: dict[frozenset[str], KeyPath] = {}
    for index, link in enumerate(asked.links):
        path: KeyPath = (*_ROOT, "links", index)
        ends = {"from": link.from_, "to": link.to}
        problems = [_missing_site(draft, (*path, end), name, clusters, sites) for end, name in ends.items()]
        found = [problem for problem in problems if problem]
        if found:
            yield from found
        elif link.from_ == link.to:
            yield draft.problem((*path, "to"), f"a link from {link.from_} to itself", "a link joins two sites")
        else:
            first = joined.setdefault(frozenset(ends.values()), path)
            if first != path:
                what = f"a second link between {link.from_} and {link.to} (first in line {draft.line(first)})"
                yield draft.problem(path, what, "one carries both ways; remove one")


def check_services(draft: Draft, asked: MulticlusterSpec) -> Iterator[Problem]:
    """Each routing key is there once, and each connector says who serves, in one way."""
    seen: dict[str, KeyPath] = {}
    for number, service in enumerate(asked.services):
        path: KeyPath = (*_ROOT, "services", number)
        first = seen.setdefault(service.routing_key, path)
        if first != path:
            what = f"a second service '{service.routing_key}' (first in line {draft.line(first)})"
            yield draft.problem((*path, "routingKey"), what, "put its connectors and listeners into the first one")
        for index, connector in enumerate(service.connectors):
            place: KeyPath = (*path, "connectors", index)
            if not connector.host and not connector.selector:
                hint = "add 'selector: {app: …}' for pods, or 'host: …'"
                yield draft.problem(place, f"{_place(place)} says nobody who serves", hint)
            elif connector.host and connector.selector:
                yield draft.problem(place, f"{_place(place)} has a selector and a host", "a connector has one of them")
            for key, value in connector.selector.items():
                yield from find_label_problems(draft, (*place, "selector", key), key, value)


def check_members(draft: Draft, asked: MulticlusterSpec) -> Iterator[Problem]:
    """Connectors and listeners belong to sites; no two listeners of a site are in one place."""
    clusters, sites = _known(draft), {site.cluster: site for site in asked.sites}
    taken: list[tuple[ListenerSpec, KeyPath]] = []
    for number, service in enumerate(asked.services):
        path: KeyPath = (*_ROOT, "services", number)
        members = [("connectors", index, one.cluster) for index, one in enumerate(service.connectors)]
        members += [("listeners", index, one.cluster) for index, one in enumerate(service.listeners)]
        missing = [
            _missing_site(draft, (*path, key, index, "cluster"), name, clusters, sites) for key, index, name in members
        ]
        yield from (problem for problem in missing if problem)
        for index, listener in enumerate(service.listeners):
            place: KeyPath = (*path, "listeners", index)
            if listener.cluster not in clusters or listener.cluster not in sites:
                continue
            first = next((where for other, where in taken if _collide(other, listener)), None)
            if first is not None:
                what = f"a second listener at {listener.host}:{listener.port} of cluster {listener.cluster}"
                yield draft.problem(place, f"{what} (first in line {draft.line(first)})", "choose another port")
            taken.append((listener, place))
            site = sites[listener.cluster]
            yield from _check_address(draft, listener, clusters[listener.cluster], site, place)


def _collide(one: ListenerSpec, other: ListenerSpec) -> bool:
    if (one.cluster, one.port) != (other.cluster, other.port):
        return False
    addresses = _address(one.host), _address(other.host)
    both = None not in addresses
    return one.host == other.host or (both and _ANY in addresses)


def _check_address(
    draft: Draft, listener: ListenerSpec, cluster: ClusterSpec, site: SiteSpec, path: KeyPath
) -> Iterator[Problem]:
    """Whether the router's worker has the address at which it is to listen, and the port is free there."""
    address, worker = _address(listener.host), names.worker_host(cluster.name, site.worker)
    own = cluster.host_addresses().get(worker)
    if address is None and listener.host[0].isdigit():
        hint = "for example 0.0.0.0, or a name that begins with a letter"
        yield draft.problem((*path, "host"), f"{quote(listener.host)} is no IPv4 address", hint)
    if address is None or own is None:
        return
    if address not in (_ANY, own) and not address.is_loopback:
        what = f"{worker}, where the router of {cluster.name} runs, has no address {address}"
        yield draft.problem((*path, "host"), what, f"0.0.0.0 for all that it has, or {own}")
    served = cluster.ingress.ports_of(site.worker)
    ingress_ports = [names.TakenPorts(range(port, port + 1), "its ingress") for port in served]
    taken = (*names.WORKER_PORTS, *_ROUTER_PORTS, *ingress_ports)
    owner = names.find_port_owner(taken, str(address), listener.port)
    if owner:
        what = f"port {listener.port} is taken on {worker} by {owner}"
        yield draft.problem((*path, "port"), what, "for example 1028")


def _address(host: str) -> IPv4Address | None:
    try:
        return IPv4Address(host)
    except ValueError:
        return None


def _missing_site(
    draft: Draft, path: KeyPath, name: str, clusters: dict[str, ClusterSpec], sites: Iterable[str]
) -> Problem | None:
    if name not in clusters:
        return _unknown_cluster(draft, path, name, clusters)
    if name not in sites:
        what = f"cluster {name} has no site"
        return draft.problem(path, what, f"add '- cluster: {name}' to multicluster.sites")
    return None


def _unknown_cluster(draft: Draft, path: KeyPath, name: str, clusters: dict[str, ClusterSpec]) -> Problem:
    return draft.problem(path, f"the scenario has no cluster '{name}'", names.did_you_mean(name, clusters))


def _place(path: KeyPath) -> str:
    return f"{path[-2]}[{path[-1]}]"
