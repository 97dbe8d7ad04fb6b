"""Where clients find a Listener: a Service that leads to a port of the router's worker, or an address of the worker;
pure.

Source: Skupper's internal/kube/site (bindings, ports): a Service has the ports of all Listeners with its host, each to
a port of the router that nobody else has. There the Service selects the router's pod; here an EndpointSlice leads to
the worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from knetsim import names
from knetsim.api.objects import Object, name_of, namespace_of
from knetsim.dataplane.skupper import OfferedService
from knetsim.node.skupper.objects import (
    ERROR,
    Fault,
    Ports,
    SitePlace,
    build_metadata,
    find_foreign,
    is_ours,
    read_address,
    spec_of,
)

#: ports of the worker that are given to Services, from here on
FIRST_PORT = 1024
#: who keeps the EndpointSlices of Listeners
MANAGED_BY, CONTROLLER = "endpointslice.kubernetes.io/managed-by", "skupper.knetsim.io"
#: an EndpointSlice is called as its Service, with this at the end
SLICE_SUFFIX = "-skupper"
_SERVICE_NAME = "kubernetes.io/service-name"
_LISTENER = "internal.skupper.io/listener"


class Offers:
    """Listeners one by one, the oldest first, as ports of the router; at the end, the Services that lead to them."""

    def __init__(self, site: Object, place: SitePlace, services: Mapping[str, Object], ports: Ports) -> None:
        self._site, self._place, self._services, self._ports = site, place, services, ports
        #: host → port → Listener
        self._hosts: dict[str, dict[int, Object]] = {}
        self._targets: dict[str, int] = {}

    def offer_fixed(self, listener: Object) -> OfferedService | Fault:
        """A Listener whose host is an address of the worker."""
        spec = spec_of(listener)
        host, port = spec["host"], spec["port"]
        if foreign := find_foreign(host, self._place):
            return Fault(ERROR, foreign)
        taken = self._ports.claim(host, port, f"Listener {name_of(listener)}")
        if taken:
            return Fault(ERROR, f"port {port} of {host} is taken by {taken}")
        return OfferedService(name_of(listener), spec["routingKey"], port, host)

    def claim_service(self, listener: Object) -> Fault | None:
        """A Listener whose host is a name: it has a port of the Service of that name, unless somebody else has."""
        spec = spec_of(listener)
        host, port = spec["host"], spec["port"]
        if names.DNS_LABEL.fullmatch(host) is None:
            return Fault(ERROR, f"host '{host}' is neither an IPv4 address nor a name that a Service may have")
        service = self._services.get(f"{namespace_of(listener)}/{host}")
        if service is not None and not is_ours(service):
            return Fault(ERROR, f"there is a Service {host} already, which is not Skupper's")
        ports = self._hosts.setdefault(host, {})
        if port in ports:
            return Fault(ERROR, f"Listener {name_of(ports[port])} has {host}:{port} already")
        ports[port] = listener
        return None

    def keep_targets(self) -> None:
        """Let Services have the ports of the worker that they have by now, as far as nobody else claims them."""
        for listener, before in self._claims():
            target = before.get("targetPort")
            if isinstance(target, int) and target >= FIRST_PORT:
                self._take(listener, target)

    def offer_named(self, listener: Object) -> OfferedService | Fault:
        """The port of the router to which a Service leads, for a Listener that was claimed for."""
        name = name_of(listener)
        if name not in self._targets:
            self._targets[name] = self._ports.claim_free(self._place.address, f"Listener {name}", FIRST_PORT)
        if not self._targets[name]:
            return Fault(ERROR, f"no port of {self._place.host} is free")
        return OfferedService(name, spec_of(listener)["routingKey"], self._targets[name], self._place.address)

    def build_objects(self) -> list[Object]:
        """The Services and EndpointSlices of all that were offered."""
        found: list[Object] = []
        for host in sorted(self._hosts):
            listeners = [each for each in self._hosts[host].values() if self._targets.get(name_of(each))]
            if listeners:
                ordered = sorted(listeners, key=lambda each: int(spec_of(each)["port"]))
                found += [self._build_service(host, ordered), self._build_slice(host, ordered)]
        return found

    # --- ports

    def _claims(self) -> Iterable[tuple[Object, Mapping[str, Any]]]:
        """Listeners that have a Service, each with its port of the Service as it is."""
        for host, listeners in self._hosts.items():
            for port, listener in listeners.items():
                service = self._services.get(f"{namespace_of(listener)}/{host}")
                ports = spec_of(service).get("ports") or () if service is not None else ()
                yield listener, next((each for each in ports if each.get("port") == port), {})

    def _take(self, listener: Object, target: int) -> None:
        if not self._ports.claim(self._place.address, target, f"Listener {name_of(listener)}"):
            self._targets[name_of(listener)] = target

    # --- objects

    def _build_service(self, host: str, listeners: list[Object]) -> Object:
        metadata = build_metadata(host, self._site)
        metadata["labels"] = {_LISTENER: _label(name_of(listeners[0]))}
        ports = [
            {
                "name": _port_name(each),
                "protocol": "TCP",
                "port": spec_of(each)["port"],
                "targetPort": self._targets[name_of(each)],
            }
            for each in listeners
        ]
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}

    def _build_slice(self, host: str, listeners: list[Object]) -> Object:
        metadata = build_metadata(f"{host}{SLICE_SUFFIX}", self._site)
        metadata["labels"] = {_SERVICE_NAME: host, MANAGED_BY: CONTROLLER}
        endpoint = {
            "addresses": [self._place.address],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": self._place.node,
        }
        ports = [
            {"name": _port_name(each), "port": self._targets[name_of(each)], "protocol": "TCP"} for each in listeners
        ]
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": [endpoint],
            "ports": ports,
        }


def is_named(listener: Object) -> bool:
    """Whether a Listener's host is a name, for a Service, and not an address."""
    return read_address(spec_of(listener)["host"]) is None


def _port_name(listener: Object) -> str:
    """Not the Listener's name: not all of them may be a port's."""
    return f"port-{spec_of(listener)['port']}"


def _label(name: str) -> str:
    return name[:63].rstrip("-.")
