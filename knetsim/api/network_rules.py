"""NetworkPolicies and Ingresses: what must hold beside their structure, and their defaults. Pure.

Source: Kubernetes' pkg/apis/networking/validation and v1/defaults.go.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from knetsim.api import words
from knetsim.api.checks import Problems, integer, is_integer, list_of, one_of
from knetsim.api.objects import Object
from knetsim.api.openapi import Rules

_PATH_TYPES = ("Exact", "Prefix", "ImplementationSpecific")


def _host(value: str, path: str, problems: Problems) -> None:
    words.subdomain(value.removeprefix("*."), path, problems)


def _check_block(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    whole = ipaddress.ip_network(value["cidr"], strict=False)
    for index, text in enumerate(value.get("except") or ()):
        part = ipaddress.ip_network(text, strict=False)
        if part.version != whole.version or part == whole or not part.subnet_of(whole):  # type: ignore[arg-type]
            problems.add(f"{path}.except[{index}]", f"{text} is no part of {value['cidr']}")


def _check_peer(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    selectors = [field for field in ("podSelector", "namespaceSelector") if value.get(field) is not None]
    if value.get("ipBlock") is None and not selectors:
        problems.add(path, "needs ipBlock, podSelector or namespaceSelector")
    elif value.get("ipBlock") is not None and selectors:
        problems.add(f"{path}.ipBlock", f"cannot be beside {selectors[0]}")


def _check_port(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    port, end = value.get("port"), value.get("endPort")
    if end is None:
        return
    if not is_integer(port):
        problems.add(f"{path}.endPort", "needs a port that is a number")
    elif end < port:
        problems.add(f"{path}.endPort", f"must be {port} or more, not {end}")


def _check_backend(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    words.exactly_one(("service", "resource"), "one backend")(value, path, problems)


def _check_service_backend(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    port = {field: item for field, item in (value.get("port") or {}).items() if item not in ("", 0, None)}
    words.exactly_one(("name", "number"), "one of")(port, f"{path}.port", problems)


def _check_path(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    text = value.get("path") or ""
    if value["pathType"] == "ImplementationSpecific" and not text:
        return
    if not text.startswith("/"):
        problems.add(f"{path}.path", "must begin with '/'")
    elif value["pathType"] != "ImplementationSpecific" and re.search(r"//|/\.\.?(/|$)|%2f", text, re.IGNORECASE):
        problems.add(f"{path}.path", "must not hold '//', '/./', '/../' or '%2f'")


def _check_ingress(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    if not value.get("rules") and value.get("defaultBackend") is None:
        problems.add(path, "needs rules or a defaultBackend")


def _filled(value: Any, path: str, problems: Problems) -> None:
    if not value:
        problems.add(path, "must not be empty")


NETWORK_RULES: dict[str, Rules] = {
    "NetworkPolicy": Rules(required=("spec",)),
    "NetworkPolicySpec": Rules({"policyTypes": list_of(one_of("Ingress", "Egress"))}),
    "IPBlock": Rules({"cidr": words.cidr, "except": list_of(words.cidr)}, _check_block),
    "NetworkPolicyPeer": Rules(whole=_check_peer),
    "NetworkPolicyPort": Rules({"port": words.port_or_name, "endPort": integer(1, 65535)}, _check_port),
    "Ingress": Rules(required=("spec",)),
    "IngressSpec": Rules({"ingressClassName": words.subdomain}, _check_ingress),
    "IngressRule": Rules({"host": words.optional(_host)}),
    "HTTPIngressRuleValue": Rules({"paths": _filled}),
    "HTTPIngressPath": Rules({"pathType": one_of(*_PATH_TYPES)}, _check_path),
    "IngressBackend": Rules(whole=_check_backend),
    "IngressServiceBackend": Rules({"name": words.label_name}, _check_service_backend, required=("port",)),
    "ServiceBackendPort": Rules({"name": words.optional(words.port_name), "number": integer(0, 65535)}),
}


def fill_policy(obj: Object) -> None:
    """The directions of a policy that does not say them, and the protocols of its ports."""
    spec = obj["spec"] = dict(obj["spec"])
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    spec.setdefault("podSelector", {})
    for field in ("ingress", "egress"):
        if spec.get(field):
            spec[field] = [_with_protocols(rule) for rule in spec[field]]


def _with_protocols(rule: Mapping[str, Any]) -> Object:
    if not rule.get("ports"):
        return dict(rule)
    return {**rule, "ports": [{**port, "protocol": port.get("protocol") or "TCP"} for port in rule["ports"]]}
