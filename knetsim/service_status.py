"""What `knetsim status services` shows: Services, their backends, and how many connections each got; and which Services
select no pod.

Connections are counted by the tables of the workers with the emulator: a connection counts where its client is (or
where it came in, from outside). A table that had to be made anew counts anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from knetsim.api.objects import Object, key_of, name_of, namespace_of
from knetsim.assembly import ClusterAssembly
from knetsim.dataplane.services.counters import AddressCounter, BackendCounter
from knetsim.dataplane.services.ports import Backend, ServicePort
from knetsim.dataplane.services.table import NO_ENDPOINT_NODE_PORTS, NO_ENDPOINT_SERVICES
from knetsim.errors import KnetsimError
from knetsim.node.service_proxy import KUBE_PROXY
from knetsim.status import BackendState, ClusterServices, ServicePortState, ServiceState

_REFUSING = (NO_ENDPOINT_SERVICES, NO_ENDPOINT_NODE_PORTS)


@dataclass(slots=True)
class Counts:
    """What the workers' tables have counted: backends by (path, address) and host, refusals by path."""

    backends: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, host: str, addresses: Iterable[AddressCounter], backends: Iterable[BackendCounter]) -> None:
        """Take in what one host has counted."""
        for each in backends:
            if each.connections:
                self.backends.setdefault((each.path, each.backend), {})[host] = each.connections
        for address in addresses:
            if address.map in _REFUSING:
                self.refused[address.path] = self.refused.get(address.path, 0) + address.connections


def read_services(cluster: ClusterAssembly) -> ClusterServices:
    """The cluster's Services as they are now; none while the cluster is starting."""
    uncounted = [one.name for one in cluster.workers if cluster.spec.worker(one.name).proxy == KUBE_PROXY]
    if cluster.proxies is None:
        return {"cluster": cluster.name, "counting": [], "uncounted": uncounted, "services": []}
    rules = cluster.proxies.rules
    counts, counting = Counts(), []
    for host in rules.hosts():
        try:
            counts.add(host, *rules.read_counters(host))
        except KnetsimError:
            continue  # its table is gone at this moment: the status of the cluster tells
        counting.append(host)
    hosts = {worker.node_name: worker.name for worker in cluster.workers}
    pods = read_backing_pods(rules.slices.items())
    problems, served = rules.problems(), rules.served()
    services = [
        build_service_state(each, served.get(key_of(each), ()), counts, hosts, pods, problems.get(key_of(each), ""))
        for each in sorted(rules.services.items(), key=key_of)
    ]
    return {"cluster": cluster.name, "counting": counting, "uncounted": uncounted, "services": services}


def read_backing_pods(slices: Iterable[Object]) -> dict[str, str]:
    """Which pod has an address, by namespace and address: `default/11.15.64.2` → `web-1`; of two the living one."""
    found: dict[str, str] = {}
    for each in slices:
        for endpoint in each.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            key = f"{namespace_of(each)}/{endpoint['addresses'][0]}"
            ending = (endpoint.get("conditions") or {}).get("terminating") is True
            if target.get("kind") == "Pod" and (key not in found or not ending):
                found[key] = target["name"]
    return found


def build_service_state(
    service: Object,
    ports: Iterable[ServicePort],
    counts: Counts,
    hosts: Mapping[str, str],
    pods: Mapping[str, str],
    problem: str,
) -> ServiceState:
    """One Service with its ports as they are served; `hosts` are the workers by their Nodes, `pods` as
    `read_backing_pods` has them. Pure."""
    spec = service.get("spec") or {}
    return {
        "namespace": namespace_of(service) or "",
        "name": name_of(service),
        "type": spec.get("type") or "ClusterIP",
        "clusterIP": spec.get("clusterIP") or "",
        "problem": problem,
        "ports": [_build_port(port, counts, hosts, pods) for port in ports],
    }


def _build_port(
    port: ServicePort, counts: Counts, hosts: Mapping[str, str], pods: Mapping[str, str]
) -> ServicePortState:
    return {
        "name": port.name,
        "protocol": port.protocol,
        "port": port.port,
        "nodePort": port.node_port,
        "addresses": [str(address) for address in (port.cluster_ip, *port.outside_ips)],
        "refused": counts.refused.get(port.path, 0),
        "backends": [_build_backend(port, backend, counts, hosts, pods) for backend in port.backends],
    }


def _build_backend(
    port: ServicePort, backend: Backend, counts: Counts, hosts: Mapping[str, str], pods: Mapping[str, str]
) -> BackendState:
    senders = counts.backends.get((port.path, str(backend)), {})
    ending = backend.serving and backend.terminating
    return {
        "address": str(backend),
        "pod": pods.get(f"{port.namespace}/{backend.address}", ""),
        "worker": hosts.get(backend.node, backend.node),
        "state": "ready" if backend.ready else "ending" if ending else "not ready",
        "connections": sum(senders.values()),
        "senders": senders,
    }


# --- selectors that match nothing -------------------------------------------------------------------------------------


def find_unmatched(services: Iterable[Object], pods: Iterable[Object]) -> list[str]:
    """The Services, by key, whose selector no pod matches; pure. Costs a look at each pod's labels once."""
    by_label: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        for name, value in labels.items():
            by_label.setdefault((namespace_of(pod) or "", name, value), []).append(labels)
    return sorted(key_of(service) for service in services if _is_unmatched(service, by_label))


def _is_unmatched(service: Object, by_label: Mapping[tuple[str, str, str], list[Mapping[str, str]]]) -> bool:
    spec = service.get("spec") or {}
    selector = spec.get("selector")
    if not selector or spec.get("type") == "ExternalName":
        return False
    name, value = next(iter(selector.items()))
    candidates = by_label.get((namespace_of(service) or "", name, value), ())
    return not any(selector.items() <= labels.items() for labels in candidates)
