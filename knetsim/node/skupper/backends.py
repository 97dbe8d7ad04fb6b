"""Who serves a Connector: ready pods that it selects, or a host; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from knetsim.api.objects import Object, has_condition, name_of, namespace_of
from knetsim.dataplane.skupper import ServedService
from knetsim.node.skupper.objects import (
    ERROR,
    Fault,
    SitePlace,
    find_host,
    read_address,
    spec_of,
)
from knetsim.node.skupper.selection import read_selector

_HEADLESS = (None, "", "None")
_SERVICE_SUFFIXES = ((), ("svc",), ("svc", "cluster", "local"))


class Backends(NamedTuple):
    """What a Connector leads to: entries of the router's configuration, and the pods among them as its status says."""

    served: tuple[ServedService, ...]
    pods: tuple[Mapping[str, str], ...] = ()


def find_backends(
    connector: Object, pods: Iterable[Object], services: Mapping[str, Object], place: SitePlace
) -> Backends | Fault:
    """Who serves a Connector, `pods` being those of its namespace; or why nobody does."""
    spec = spec_of(connector)
    if spec.get("selector"):
        return _select(connector, pods)
    if spec.get("host"):
        return _find_host(connector, services, place)
    return Fault(ERROR, "either selector or host is needed")


def _select(connector: Object, pods: Iterable[Object]) -> Backends | Fault:
    spec = spec_of(connector)
    try:
        selector = read_selector(spec["selector"])
    except ValueError as error:
        return Fault(ERROR, f"selector '{spec['selector']}': {error}")
    matching = [pod for pod in pods if selector.matches(pod["metadata"].get("labels") or {})]
    if not matching:
        return Fault(ERROR, f"no pod of {namespace_of(connector)} matches '{spec['selector']}'")
    chosen = sorted((pod for pod in matching if _serves(pod, spec)), key=name_of)
    if not chosen:
        count = "the only pod" if len(matching) == 1 else f"none of the {len(matching)} pods"
        state = "is not ready" if len(matching) == 1 else "is ready"
        return Fault(ERROR, f"{count} that matches '{spec['selector']}' {state}")
    # pods on the worker's own network share its address
    addresses = sorted({pod["status"]["podIP"] for pod in chosen}, key=lambda text: (len(text), text))
    return Backends(
        _build_served(connector, addresses),
        tuple({"name": name_of(pod), "ip": pod["status"]["podIP"]} for pod in chosen),
    )


def _serves(pod: Object, spec: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    if read_address(status.get("podIP") or "") is None or status.get("phase") != "Running":
        return False
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return bool(spec.get("includeNotReadyPods")) or has_condition(pod, "Ready")


def _find_host(connector: Object, services: Mapping[str, Object], place: SitePlace) -> Backends | Fault:
    """An address, a Service of the cluster, a host of the simulation: in this order."""
    host = spec_of(connector)["host"]
    if read_address(host) is None and (service := find_service(host, namespace_of(connector), services)):
        return _use_service(connector, service)
    address = find_host(host, place)
    if not address:
        return Fault(ERROR, f"host '{host}' is neither an address nor a Service here nor a host of the simulation")
    if address == "0.0.0.0":
        return Fault(ERROR, "host '0.0.0.0' is no address to connect to")
    return Backends(_build_served(connector, [address]))


def find_service(host: str, namespace: str, services: Mapping[str, Object]) -> Object | None:
    """The Service that a host name means: name, name.namespace, name.namespace.svc[.cluster.local]."""
    name, *rest = host.lower().removesuffix(".").split(".")
    if not rest:
        return services.get(f"{namespace}/{name}")
    return services.get(f"{rest[0]}/{name}") if tuple(rest[1:]) in _SERVICE_SUFFIXES else None


def _use_service(connector: Object, service: Object) -> Backends | Fault:
    spec, port = spec_of(service), spec_of(connector)["port"]
    where = f"Service {namespace_of(service)}/{name_of(service)}"
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in _HEADLESS:
        return Fault(ERROR, f"{where} has no ClusterIP; use the selector of its pods")
    if read_address(spec["clusterIP"]) is None:
        return Fault(ERROR, f"{where} has no IPv4 address")
    ports = [each["port"] for each in spec.get("ports") or () if each.get("protocol", "TCP") == "TCP"]
    if port not in ports:
        known = ", ".join(map(str, sorted(ports))) or "none"
        return Fault(ERROR, f"{where} has no TCP port {port}; it has {known}")
    return Backends(_build_served(connector, [spec["clusterIP"]]))


def _build_served(connector: Object, addresses: Sequence[str]) -> tuple[ServedService, ...]:
    spec, name = spec_of(connector), name_of(connector)
    return tuple(ServedService(name, spec["routingKey"], address, spec["port"]) for address in addresses)
