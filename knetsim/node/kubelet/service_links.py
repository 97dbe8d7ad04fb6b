"""Variables that tell a container where Services are, as Docker's links once did; pure.

Source: Kubernetes' pkg/kubelet/envvars/envvars.go, pkg/kubelet/kubelet_pods.go (getServiceEnvVarMap).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from knetsim.api.objects import Object, name_of, namespace_of

#: told to every pod: clients of the API find their server by it
_API_SERVICE = ("default", "kubernetes")


def build_service_links(services: Iterable[Object], namespace: str, *, links: bool) -> dict[str, str]:
    """The variables for a pod of `namespace`: of the API's Service, and with `links` of all of the pod's namespace."""
    chosen: dict[str, Object] = {}
    for service in services:
        address = service["spec"].get("clusterIP")
        if not address or address == "None" or not service["spec"].get("ports"):
            continue
        name, home = name_of(service), namespace_of(service)
        if (home, name) == _API_SERVICE:
            chosen.setdefault(name, service)  # one of that name in the pod's own namespace comes before it
        elif home == namespace and links:
            chosen[name] = service
    env: dict[str, str] = {}
    for name in sorted(chosen):
        env.update(_build_links(name, chosen[name]["spec"]))
    return env


def _build_links(service: str, spec: Mapping[str, Any]) -> dict[str, str]:
    name, address, ports = _variable_name(service), spec["clusterIP"], spec["ports"]
    env = {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            env[f"{name}_SERVICE_PORT_{_variable_name(port['name'])}"] = str(port["port"])
    shown = f"[{address}]" if ":" in address else address
    for number, port in enumerate(ports):
        protocol = port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{shown}:{port['port']}"
        if number == 0:
            env[f"{name}_PORT"] = url
        prefix = f"{name}_PORT_{port['port']}_{protocol.upper()}"
        env.update(
            {
                prefix: url,
                f"{prefix}_PROTO": protocol.lower(),
                f"{prefix}_PORT": str(port["port"]),
                f"{prefix}_ADDR": address,
            }
        )
    return env


def _variable_name(name: str) -> str:
    return name.replace("-", "_").upper()
