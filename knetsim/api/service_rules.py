"""Services and EndpointSlices: what must hold beside their structure, their defaults, what cannot change. Pure.

Which ClusterIP and which NodePorts a Service gets is decided elsewhere (control/embedded); here they are as given or
missing. Sources: Kubernetes' pkg/apis/core/validation (ValidateService), pkg/apis/core/v1/defaults.go,
pkg/registry/core/service (the dual-stack fields, patchAllocatedValues), pkg/apis/discovery.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from knetsim.api import words
from knetsim.api.checks import Check, Problems, filled_text, integer, one_of
from knetsim.api.objects import Object
from knetsim.api.openapi import Rules
from knetsim.api.words import optional, unique

#: a headless Service's clusterIP
HEADLESS = "None"
_CLUSTER_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
_PORT_TYPES = ("NodePort", "LoadBalancer")
#: seconds that a client stays with its backend
_AFFINITY_SECONDS = 10800
_MOST_ENDPOINTS, _MOST_ADDRESSES = 1000, 100
_port = integer(1, 65535)


# --- Services ---------------------------------------------------------------------------------------------------------


def service_type(spec: Mapping[str, Any]) -> str:
    """The type of a Service, said or not."""
    return spec.get("type") or "ClusterIP"


def needs_health_check(spec: Mapping[str, Any]) -> bool:
    """Whether a load balancer has to ask workers for backends: it sends only to those that have one."""
    return service_type(spec) == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _cluster_ip(value: str, path: str, problems: Problems) -> None:
    if value not in ("", HEADLESS):
        words.address(value, path, problems)


def _cluster_ips(value: list[str], path: str, problems: Problems) -> None:
    if len(value) > 1:
        problems.add(path, "two addresses need two families; here all is IPv4")


def _check_spec(spec: Mapping[str, Any], path: str, problems: Problems) -> None:
    kind, address = service_type(spec), spec.get("clusterIP") or ""
    if kind == "ExternalName":
        _check_external(spec, path, problems)
        return
    if not spec.get("ports") and address != HEADLESS:
        problems.add(f"{path}.ports", "is missing: a Service needs one at least (or clusterIP: None)")
    if kind in _PORT_TYPES and address == HEADLESS:
        problems.add(f"{path}.clusterIP", f"cannot be None in a Service of type {kind}")
    addresses = spec.get("clusterIPs") or []
    if addresses and addresses[0] != address:
        problems.add(f"{path}.clusterIPs[0]", f"must be the clusterIP, {address!r}")
    _check_ports(spec, path, problems)
    _check_policies(spec, path, problems)


def _check_external(spec: Mapping[str, Any], path: str, problems: Problems) -> None:
    name = spec.get("externalName")
    if not name:
        problems.add(f"{path}.externalName", "is missing in a Service of type ExternalName")
    else:
        words.subdomain(name.removesuffix("."), f"{path}.externalName", problems)
    if spec.get("clusterIP"):
        problems.add(f"{path}.clusterIP", "must not be set in a Service of type ExternalName")


def _check_ports(spec: Mapping[str, Any], path: str, problems: Problems) -> None:
    ports = spec.get("ports") or ()
    seen, node_ports = set(), set()
    for index, port in enumerate(ports):
        where, protocol = f"{path}.ports[{index}]", port.get("protocol") or "TCP"
        if len(ports) > 1 and not port.get("name"):
            problems.add(f"{where}.name", "is missing: each of several ports needs one")
        if (protocol, port["port"]) in seen:
            problems.add(f"{where}.port", f"{protocol} {port['port']} is there twice")
        seen.add((protocol, port["port"]))
        node_port = port.get("nodePort")
        if node_port and service_type(spec) not in _PORT_TYPES:
            problems.add(f"{where}.nodePort", f"must not be set in a Service of type {service_type(spec)}")
        elif node_port and (protocol, node_port) in node_ports:
            problems.add(f"{where}.nodePort", f"{protocol} {node_port} is there twice")
        node_ports.add((protocol, node_port))


def _check_policies(spec: Mapping[str, Any], path: str, problems: Problems) -> None:
    outside = service_type(spec) in _PORT_TYPES
    if spec.get("externalTrafficPolicy") and not outside and not spec.get("externalIPs"):
        what = "needs a Service that is reached from outside: NodePort, LoadBalancer or externalIPs"
        problems.add(f"{path}.externalTrafficPolicy", what)
    if spec.get("healthCheckNodePort") and not needs_health_check(spec):
        what = "needs type LoadBalancer and externalTrafficPolicy: Local"
        problems.add(f"{path}.healthCheckNodePort", what)
    if spec.get("loadBalancerSourceRanges") and service_type(spec) != "LoadBalancer":
        problems.add(f"{path}.loadBalancerSourceRanges", "needs type LoadBalancer")
    if spec.get("sessionAffinityConfig") is not None and spec.get("sessionAffinity") != "ClientIP":
        problems.add(f"{path}.sessionAffinityConfig", "needs sessionAffinity: ClientIP")


def _source_range(value: str, path: str, problems: Problems) -> None:
    words.cidr(value.strip(), path, problems)  # spaces around it are taken, as by Kubernetes


def _items(check_item: Check) -> Check:
    def check(value: list[Any], path: str, problems: Problems) -> None:
        for index, item in enumerate(value):
            check_item(item, f"{path}[{index}]", problems)

    return check


def fill_service(obj: Object) -> None:
    """The defaults, and the fields of two families as a cluster of one has them."""
    spec = obj["spec"] = {field: value for field, value in obj["spec"].items() if value is not None}
    obj.setdefault("status", {"loadBalancer": {}})
    kind = spec["type"] = service_type(spec)
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if spec["sessionAffinity"] == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        seconds = client.get("timeoutSeconds") or _AFFINITY_SECONDS
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": seconds}}
    if "ports" in spec:
        spec["ports"] = [_fill_port(port) for port in spec["ports"]]
    if kind in _PORT_TYPES or spec.get("externalIPs"):
        spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True
    if kind in _CLUSTER_TYPES:
        spec["internalTrafficPolicy"] = spec.get("internalTrafficPolicy") or "Cluster"
        _fill_families(spec)


def _fill_port(given: Mapping[str, Any]) -> Object:
    port = {field: value for field, value in given.items() if value not in (None, "", 0)}
    port["protocol"] = port.get("protocol") or "TCP"
    port["targetPort"] = port.get("targetPort") or port["port"]
    return port


def _fill_families(spec: Object) -> None:
    address = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
    if address:
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
    else:
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
    headless_without_selector = address == HEADLESS and not spec.get("selector")
    spec["ipFamilyPolicy"] = spec.get("ipFamilyPolicy") or (
        "RequireDualStack" if headless_without_selector else "SingleStack"
    )
    families = ["IPv4", "IPv6"] if spec["ipFamilyPolicy"] == "RequireDualStack" else ["IPv4"]
    spec["ipFamilies"] = spec.get("ipFamilies") or families


def keep_allotted(obj: Object, current: Object) -> None:
    """An update that does not say what was allotted keeps it: address, families, node ports."""
    spec, before = obj.get("spec"), current.get("spec") or {}
    if not isinstance(spec, Mapping):
        return
    spec = obj["spec"] = dict(spec)
    if service_type(spec) in _CLUSTER_TYPES and service_type(before) in _CLUSTER_TYPES:
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            for field in ("clusterIP", "clusterIPs"):
                if field in before:
                    spec[field] = before[field]
        elif isinstance(spec.get("clusterIP"), str) and spec["clusterIP"] and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
    if service_type(spec) == "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if spec.get(field) == before.get(field):
                spec.pop(field, None)
    _keep_node_ports(spec, before)
    _keep_health_check(spec, before)


def _keep_health_check(spec: Object, before: Mapping[str, Any]) -> None:
    """The port where a load balancer asks stays as long as one does; an update that keeps it then drops it."""
    field = "healthCheckNodePort"
    if needs_health_check(spec) and needs_health_check(before):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    elif needs_health_check(before) and spec.get(field) == before.get(field):
        spec.pop(field, None)


def _keep_node_ports(spec: Object, before: Mapping[str, Any]) -> None:
    ports, old = spec.get("ports"), before.get("ports") or ()
    if not isinstance(ports, list) or not all(isinstance(port, Mapping) for port in ports):
        return
    if service_type(spec) in _PORT_TYPES:
        known = {(port.get("protocol") or "TCP", port["port"]): port.get("nodePort") for port in old}
        allotted = [known.get((port.get("protocol") or "TCP", port.get("port"))) for port in ports]
        spec["ports"] = [
            {**port, "nodePort": number} if number and not port.get("nodePort") else port
            for port, number in zip(ports, allotted, strict=True)
        ]
    elif service_type(before) in _PORT_TYPES:
        numbers = {port.get("nodePort") for port in old}  # what was allotted goes; what is new is a mistake
        spec["ports"] = [
            {field: value for field, value in port.items() if field != "nodePort" or value not in numbers}
            for port in ports
        ]


def check_service_update(obj: Object, current: Object, problems: Problems) -> None:
    """A Service keeps its address as long as it has one."""
    before, after = current.get("spec") or {}, obj["spec"]
    old, new = before.get("clusterIP"), after.get("clusterIP")
    port = before.get("healthCheckNodePort")
    if port and needs_health_check(before) and needs_health_check(after) and after.get("healthCheckNodePort") != port:
        problems.add("spec.healthCheckNodePort", f"is {port} and cannot change")
    if old and new != old and service_type(after) != "ExternalName":
        problems.add("spec.clusterIP", f"is {old} and cannot change; delete the Service and make it anew")


# --- EndpointSlices ---------------------------------------------------------------------------------------------------


def _check_slice(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    endpoints = value.get("endpoints") or ()
    if len(endpoints) > _MOST_ENDPOINTS:
        problems.add("endpoints", f"holds {len(endpoints)}, at most {_MOST_ENDPOINTS} are taken")
    for index, endpoint in enumerate(endpoints):
        addresses = endpoint["addresses"]
        if not 1 <= len(addresses) <= _MOST_ADDRESSES:
            problems.add(f"endpoints[{index}].addresses", f"must hold 1 to {_MOST_ADDRESSES} addresses")
        for number, address in enumerate(addresses):
            _check_address(value["addressType"], address, f"endpoints[{index}].addresses[{number}]", problems)
    seen = set()
    for index, port in enumerate(value.get("ports") or ()):
        name = port.get("name") or ""
        if name in seen:
            problems.add(f"ports[{index}].name", f"{name!r} is there twice")
        seen.add(name)


def _check_address(family: str, address: str, path: str, problems: Problems) -> None:
    if family == "FQDN":
        words.subdomain(address, path, problems)
        return
    try:
        right = ipaddress.ip_address(address).version == int(family[-1])
    except ValueError:
        right = False
    if not right:
        problems.add(path, f"{address!r} is no {family} address")


def fill_slice(obj: Object) -> None:
    """The protocols and names of its ports; no endpoints is an empty list."""
    obj["endpoints"] = obj.get("endpoints") or []
    if obj.get("ports"):
        obj["ports"] = [
            {**port, "name": port.get("name") or "", "protocol": port.get("protocol") or "TCP"} for port in obj["ports"]
        ]


def check_slice_update(obj: Object, current: Object, problems: Problems) -> None:
    """A slice keeps its family."""
    if obj["addressType"] != current["addressType"]:
        problems.add("addressType", f"is {current['addressType']} and cannot change")


#: rules of Services and EndpointSlices
SERVICE_RULES: dict[str, Rules] = {
    "Service": Rules(required=("spec",)),
    "ServiceSpec": Rules(
        {
            "ports": unique("name"),
            "selector": words.labels,
            "clusterIP": _cluster_ip,
            "clusterIPs": _cluster_ips,
            "externalIPs": _items(words.address),
            "loadBalancerIP": optional(words.address),
            "ipFamilyPolicy": optional(one_of("SingleStack", "PreferDualStack", "RequireDualStack")),
            "healthCheckNodePort": integer(0, 65535),
            "loadBalancerSourceRanges": _items(_source_range),
            "trafficDistribution": optional(one_of("PreferClose", "PreferSameZone", "PreferSameNode")),
        },
        _check_spec,
    ),
    "ServicePort": Rules(
        {
            "port": _port,
            "name": optional(words.label_name),
            "targetPort": words.port_or_name,
            "nodePort": integer(0, 65535),
        }
    ),
    "ClientIPConfig": Rules({"timeoutSeconds": integer(1, 86400)}),
    "EndpointSlice": Rules(whole=_check_slice),
    "Endpoint": Rules({"hostname": words.label_name, "nodeName": words.subdomain}),
    "EndpointPort": Rules({"name": optional(words.label_name), "port": _port}),
    "ForZone": Rules({"name": filled_text}),
}
