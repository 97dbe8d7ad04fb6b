"""Services and EndpointSlices as the name server wants them; pure.

As CoreDNS reads them (plugin/kubernetes/object): endpoints count that are ready, or of which nothing is said; slices of
all address families count, and a slice without ports still gives its addresses names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from knetsim.api.objects import Object, name_of, namespace_of
from knetsim.dataplane.dns import NamedEndpoint, NamedService, PortName

_NO_PORT = (PortName("", "", None),)


def read_names(service: Object, slices: Sequence[Object]) -> NamedService:
    """A Service and its slices as names."""
    spec = service.get("spec") or {}
    external = spec.get("externalName") or ""
    if spec.get("type") == "ExternalName":
        return NamedService(namespace=namespace_of(service), name=name_of(service), external_name=external)
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return NamedService(
        namespace=namespace_of(service),
        name=name_of(service),
        addresses=tuple(address for address in addresses if address not in ("", "None")),
        ports=_read_ports(spec.get("ports") or ()),
        endpoints=tuple(dict.fromkeys(_read_endpoints(slices))),
    )


def _read_ports(ports: Iterable[Mapping[str, Any]]) -> tuple[PortName, ...]:
    return tuple(PortName(port.get("name") or "", port.get("protocol") or "TCP", port.get("port")) for port in ports)


def _read_endpoints(slices: Sequence[Object]) -> Iterator[NamedEndpoint]:
    for one in sorted(slices, key=name_of):
        ports = _read_ports(one.get("ports") or ()) or _NO_PORT
        for endpoint in one.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint.get("addresses") or ():
                yield NamedEndpoint(address, ports, endpoint.get("hostname") or "")
