"""What `spec.multicluster` stands for: Skupper's objects, as plain YAML would have them, for each cluster. Pure.

A link is made as people make one with Skupper: the site that is connected to grants it (AccessGrant `from-c1`), the
other one redeems the grant (AccessToken `to-c0`), which becomes the Link `to-c0` and its certificate. The code that the
two share is drawn anew at every start; nothing in a scenario says it. All objects are in the namespace `default`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from knetsim import names
from knetsim.errors import Problem
from knetsim.scenario.manifests import Manifest
from knetsim.scenario.spec import ConnectorSpec, Scenario, SharedServiceSpec, SiteLinkSpec, SiteSpec

API_VERSION = "skupper.io/v2alpha1"
#: where a site redeems tokens, at its worker's address
GRANT_PORT = 9090

Plain = dict[str, Any]


def build_multicluster(scenario: Scenario, draw_code: Callable[[], str]) -> dict[str, list[Plain]]:
    """The objects of each cluster, in the order in which they are of use; `draw_code` gives the code of a link."""
    objects: dict[str, list[Plain]] = {cluster.name: [] for cluster in scenario.clusters}
    asked = scenario.multicluster
    sites = {site.cluster: site for site in asked.sites}
    reached = {link.to for link in asked.links}
    for site in asked.sites:
        access = {"linkAccess": "default"} if site.cluster in reached else {}
        objects[site.cluster].append(_build("Site", site.name, access))
    for link in asked.links:
        code = draw_code()
        objects[link.to].append(_build_grant(sites[link.from_], code))
        objects[link.from_].append(_build_token(scenario, sites[link.to], link, code))
    for service in asked.services:
        for cluster, obj in _build_service(service):
            objects[cluster].append(obj)
    return objects


def find_clashes(scenario: Scenario, manifests: Mapping[str, Sequence[Manifest]]) -> Iterator[Problem]:
    """Manifests of what `multicluster` makes as well, and of second Sites."""
    made = build_multicluster(scenario, lambda: "")
    for cluster, written in manifests.items():
        known = {(obj["kind"], obj["metadata"]["name"]) for obj in made[cluster]}
        site = next((name for kind, name in known if kind == "Site"), "")
        for manifest in written:
            obj, metadata = manifest.object, manifest.object["metadata"]
            if obj["apiVersion"] != API_VERSION:
                continue
            if obj["kind"] == "Site" and site:
                what = (
                    f"a second Site for cluster {cluster}: spec.multicluster makes '{site}', and one router serves it"
                )
                yield manifest.problem("metadata.name", what, "remove it, or name it in multicluster.sites")
            elif _is_default(metadata) and (obj["kind"], metadata.get("name")) in known:
                what = f"a second {obj['kind']} '{metadata['name']}' for cluster {cluster}: spec.multicluster makes one"
                yield manifest.problem("metadata.name", what, "remove or rename one")


def _is_default(metadata: Mapping[str, Any]) -> bool:
    return metadata.get("namespace", names.DEFAULT_NAMESPACE) == names.DEFAULT_NAMESPACE


def grant_name(site: SiteSpec) -> str:
    """What the grant for a site is called, at the other end of its link."""
    return f"from-{site.name}"


def token_name(site: SiteSpec) -> str:
    """What the token for a link to a site is called, and so the Link and its Secret."""
    return f"to-{site.name}"


def _build_grant(remote: SiteSpec, code: str) -> Plain:
    return _build("AccessGrant", grant_name(remote), {"redemptionsAllowed": 1, "code": code})


def _build_token(scenario: Scenario, remote: SiteSpec, link: SiteLinkSpec, code: str) -> Plain:
    cluster, local = scenario.cluster(remote.cluster), scenario.multicluster.site(link.from_)
    address = cluster.host_addresses()[names.worker_host(cluster.name, remote.worker)]
    url = f"https://{address}:{GRANT_PORT}/{names.DEFAULT_NAMESPACE}/{grant_name(local)}"
    return _build("AccessToken", token_name(remote), {"url": url, "code": code, "ca": "", "linkCost": link.cost})


def _build_service(service: SharedServiceSpec) -> Iterator[tuple[str, Plain]]:
    key, connectors, listeners = service.routing_key, Counter[str](), Counter[str]()
    for connector in service.connectors:
        name = _draw_name(key, connectors, connector.cluster)
        yield connector.cluster, _build("Connector", name, {"routingKey": key, **_explain_servers(connector)})
    for listener in service.listeners:
        name = _draw_name(key, listeners, listener.cluster)
        spec = {"routingKey": key, "host": listener.host, "port": listener.port}
        yield listener.cluster, _build("Listener", name, spec)


def _draw_name(key: str, made: Counter[str], cluster: str) -> str:
    """The first of a cluster is called as its routing key, others `backend.2`, `backend.3` …, which no key is."""
    made[cluster] += 1
    return key if made[cluster] == 1 else f"{key}.{made[cluster]}"


def _explain_servers(connector: ConnectorSpec) -> Plain:
    if connector.host:
        return {"host": connector.host, "port": connector.port}
    labels = ",".join(f"{key}={value}" for key, value in connector.selector.items())
    return {"selector": labels, "port": connector.port}


def _build(kind: str, name: str, spec: Plain) -> Plain:
    metadata = {"name": name, "namespace": names.DEFAULT_NAMESPACE}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
