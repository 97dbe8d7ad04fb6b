"""Services and EndpointSlices as the rules of a worker want them: `ServicePort` with its backends; pure.

As kube-proxy reads them (pkg/proxy/servicechangetracker.go, endpointslicecache.go): a Service without a ClusterIP, of
type ExternalName or labelled `service.kubernetes.io/service-proxy-name` is nobody's business here; a slice belongs to
the Service its label `kubernetes.io/service-name` says, its ports to the Service's of the same name and protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import Any, cast

from knetsim import names
from knetsim.api.objects import Object, describe, name_of, namespace_of
from knetsim.dataplane.services.ports import Backend, Protocol, ServicePort
from knetsim.errors import ObjectError

SERVICE_NAME = "kubernetes.io/service-name"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
_PROTOCOLS: Mapping[str, Protocol] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_AFFINITY_SECONDS = 10800
_PORT_MAX = 65535
#: the index of EndpointSlices that `index_by_owner` makes
BY_OWNER = "owner"


def owner_of(endpoint_slice: Object) -> str:
    """The key of the Service that a slice belongs to, or ""."""
    name = (endpoint_slice["metadata"].get("labels") or {}).get(SERVICE_NAME, "")
    return f"{namespace_of(endpoint_slice)}/{name}" if name else ""


def index_by_owner(endpoint_slice: Object) -> list[str]:
    """Under which name an informer finds a slice: its Service's key."""
    return [key] if (key := owner_of(endpoint_slice)) else []


def service_of(endpoint_slice: Object) -> str:
    """The same for those who serve VIPs, or "" for what is nobody's business here."""
    labels = endpoint_slice["metadata"].get("labels") or {}
    if HEADLESS in labels or PROXY_NAME in labels or endpoint_slice.get("addressType", "IPv4") != "IPv4":
        return ""
    return owner_of(endpoint_slice)


def read_service(service: Object, slices: Sequence[Object]) -> tuple[ServicePort, ...]:
    """The ports of a Service with their backends; none for a Service that has no VIP. ObjectError for what a server
    would not have let in."""
    spec = service.get("spec") or {}
    labels = service["metadata"].get("labels") or {}
    if spec.get("clusterIP") in (None, "", "None") or spec.get("type") == "ExternalName" or PROXY_NAME in labels:
        return ()
    if ":" in spec["clusterIP"]:
        return ()  # an IPv6 Service: this network has none
    try:
        return tuple(_read_port(service, spec, port, slices) for port in spec.get("ports") or ())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ObjectError(f"{describe(service)} cannot be read", why=f"{type(error).__name__}: {error}") from error


def _read_port(
    service: Object, spec: Mapping[str, Any], port: Mapping[str, Any], slices: Sequence[Object]
) -> ServicePort:
    protocol, name = port.get("protocol") or "TCP", port.get("name") or ""
    return ServicePort(
        namespace=_word(namespace_of(service)),
        service=_word(name_of(service)),
        name=name,
        protocol=_PROTOCOLS[protocol],
        port=_number(port["port"]),
        cluster_ip=IPv4Address(spec["clusterIP"]),
        node_port=_number(port["nodePort"]) if port.get("nodePort") else 0,
        external_ips=_read_addresses(spec.get("externalIPs") or ()),
        balancer_ips=_read_addresses(_balancer_ips(service)),
        source_ranges=_read_ranges(spec),
        health_port=_health_port(spec),
        affinity_seconds=_affinity_seconds(spec),
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=spec.get("externalTrafficPolicy") == "Local",
        backends=_read_backends(slices, name, protocol),
    )


def _word(text: str) -> str:
    """A name as it goes into the names of chains; every Kubernetes name fits."""
    if names.DNS_LABEL.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no name")
    return text


def _number(value: Any) -> int:
    number = int(value)
    if not 0 < number <= _PORT_MAX:
        raise ValueError(f"{number} is no port")
    return number


def _read_addresses(given: Sequence[str]) -> tuple[IPv4Address, ...]:
    return tuple(dict.fromkeys(IPv4Address(address) for address in given if ":" not in address))


def _balancer_ips(service: Object) -> list[str]:
    """The addresses of a load balancer that hands packets on as they are; one of mode Proxy comes with connections of
    its own, to NodePorts."""
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    found = (ingress for ingress in balancer.get("ingress") or () if ingress.get("ipMode", "VIP") == "VIP")
    return [ingress["ip"] for ingress in found if ingress.get("ip")]


def _read_ranges(spec: Mapping[str, Any]) -> tuple[IPv4Network, ...]:
    """Whom a load balancer's addresses let in, without overlaps; empty for everybody."""
    given = (text.strip() for text in spec.get("loadBalancerSourceRanges") or ())
    ranges = [IPv4Network(text, strict=False) for text in given if ":" not in text]
    return () if any(each.prefixlen == 0 for each in ranges) else tuple(collapse_addresses(ranges))


def _health_port(spec: Mapping[str, Any]) -> int:
    asked = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    return _number(spec["healthCheckNodePort"]) if asked and spec.get("healthCheckNodePort") else 0


def _affinity_seconds(spec: Mapping[str, Any]) -> int | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(config.get("timeoutSeconds") or _AFFINITY_SECONDS)


def _read_backends(slices: Sequence[Object], name: str, protocol: str) -> tuple[Backend, ...]:
    """The backends of one port. One address in two slices is one backend, and a living one before one that ends: its
    address may have been given out again."""
    found: dict[tuple[IPv4Address, int], Backend] = {}
    for each in slices:
        for port in each.get("ports") or ():
            if (port.get("name") or "") != name or (port.get("protocol") or "TCP") != protocol or not port.get("port"):
                continue
            for endpoint in each.get("endpoints") or ():
                backend = _read_backend(endpoint, _number(port["port"]))
                key = (backend.address, backend.port)
                if key not in found or not backend.terminating:
                    found[key] = backend
    return tuple(found[key] for key in sorted(found))


def _read_backend(endpoint: Mapping[str, Any], port: int) -> Backend:
    conditions = endpoint.get("conditions") or {}
    hints = endpoint.get("hints") or {}
    return Backend(
        address=IPv4Address(cast("list[str]", endpoint["addresses"])[0]),
        port=port,
        node=endpoint.get("nodeName") or "",
        ready=conditions.get("ready") is not False,
        serving=conditions.get("serving") is not False,
        terminating=conditions.get("terminating") is True,
        zones=frozenset(zone["name"] for zone in hints.get("forZones") or ()),
        nodes=frozenset(node["name"] for node in hints.get("forNodes") or ()),
    )
