"""What `spec.multicluster` stands for: Skupper's objects, as plain YAML would have them, for each cluster. Pure.

The code that the two ends of a link share is drawn anew at every start; nothing in a scenario says it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from knetsim import names
from knetsim.errors import Problem
from knetsim.scenario.manifests import Manifest
from knetsim.scenario.skupper_objects import (
    Plain,
    build_connector,
    build_grant,
    build_listener,
    build_site,
    build_token,
)
from knetsim.scenario.spec import ConnectorSpec, Scenario, SharedServiceSpec


def build_multicluster(scenario: Scenario, draw_code: Callable[[], str]) -> dict[str, list[Plain]]:
    """The objects of each cluster, in the order in which they are of use; `draw_code` gives the code of a link."""
    objects: dict[str, list[Plain]] = {cluster.name: [] for cluster in scenario.clusters}
    asked = scenario.multicluster
    sites = {site.cluster: site for site in asked.sites}
    addresses, reached = scenario.host_addresses(), {link.to for link in asked.links}
    for site in asked.sites:
        objects[site.cluster].append(build_site(site.name, linked_to=site.cluster in reached))
    for link in asked.links:
        code, local, remote = draw_code(), sites[link.from_], sites[link.to]
        address = addresses[names.worker_host(remote.cluster, remote.worker)]
        objects[link.to].append(build_grant(local.name, code))
        objects[link.from_].append(build_token(local.name, remote.name, address, code, cost=link.cost))
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
            if obj["apiVersion"] != names.SKUPPER_API_VERSION:
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


def _build_service(service: SharedServiceSpec) -> Iterator[tuple[str, Plain]]:
    key, connectors, listeners = service.routing_key, Counter[str](), Counter[str]()
    for connector in service.connectors:
        name = _draw_name(key, connectors, connector.cluster)
        yield connector.cluster, build_connector(name, key, _explain_servers(connector))
    for listener in service.listeners:
        name = _draw_name(key, listeners, listener.cluster)
        yield listener.cluster, build_listener(name, key, listener.host, listener.port)


def _draw_name(key: str, made: Counter[str], cluster: str) -> str:
    """The first of a cluster is called as its routing key, others `backend.2`, `backend.3` …, which no key is."""
    made[cluster] += 1
    return key if made[cluster] == 1 else f"{key}.{made[cluster]}"


def _explain_servers(connector: ConnectorSpec) -> Plain:
    if connector.host:
        return {"host": connector.host, "port": connector.port}
    labels = ",".join(f"{key}={value}" for key, value in connector.selector.items())
    return {"selector": labels, "port": connector.port}
