"""A cluster's pod network and its Service proxies, each host with the parts that its scenario names.

Kubernetes' own control plane takes part in both: the API server itself connects to pods and, where rules of Services
are, to VIPs. Its host has the agent of the first worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from knetsim import names
from knetsim.api.etcd import Etcd
from knetsim.api.informer import Informer
from knetsim.api.store import Store
from knetsim.cluster_events import ClusterEvents
from knetsim.control_planes import KubernetesPlane, Plane
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.etcd import EtcdMember, client_url
from knetsim.node.pod_network import (
    NATIVE,
    PodNetworkAgents,
    Programs,
    WorkerNetwork,
    build_config,
    choose_parts,
    find_programs,
)
from knetsim.node.service_proxy import (
    EMULATOR,
    KUBE_PROXY,
    KubeProxyParts,
    ServiceNetworks,
    ServiceProxies,
    build_proxied_host,
)
from knetsim.node.worker import Worker
from knetsim.scenario import ClusterSpec
from knetsim.system.daemon import Supervisor
from knetsim.system.programs import find_program


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkParts:
    """What both stand on. `control_host` is None with a control plane that has no part in them."""

    spec: ClusterSpec
    workers: Sequence[Worker]
    control_host: ControlPlaneHost | None
    supervisor: Supervisor
    events: ClusterEvents
    repair: bool


def build_network(parts: NetworkParts, etcd: Etcd, members: Sequence[EtcdMember]) -> PodNetworkAgents:
    """The pod network, not started yet. MissingTool when a part is demanded that is not installed."""
    programs = find_programs()
    return PodNetworkAgents(
        parts.spec.name,
        build_config(parts.spec.pod_network),
        _choose_parts(parts, programs),
        programs,
        etcd,
        [client_url(member.address) for member in members],
        parts.supervisor,
        repair=parts.repair,
        tell=parts.events.network_repaired,
    )


def _choose_parts(parts: NetworkParts, programs: Programs) -> list[WorkerNetwork]:
    specs = {names.worker_host(parts.spec.name, spec.name): spec for spec in parts.spec.workers}
    wanted = [(worker, specs[worker.name].agent, specs[worker.name].cni) for worker in parts.workers]
    chosen = choose_parts(wanted, programs)
    if parts.control_host is not None:
        chosen += choose_parts([(parts.control_host, chosen[0].agent, NATIVE)], programs)
    return chosen


def build_proxies(
    parts: NetworkParts, network: PodNetworkAgents, plane: Plane, store: Store, nodes: Informer
) -> ServiceProxies:
    """Who has VIPs lead to pods, not started yet; `network` has given every worker its subnet. MissingTool."""
    hosts = []
    for spec, worker in zip(parts.spec.workers, parts.workers, strict=True):
        subnet = network.place(worker).lease.subnet
        hosts.append(build_proxied_host(worker, worker.address, spec.proxy, subnet, spec.labels))
    if (host := parts.control_host) is not None:
        hosts.append(build_proxied_host(host, host.address, EMULATOR, None, {}))
    program = find_program(KUBE_PROXY)
    real = None
    if program is not None and isinstance(plane, KubernetesPlane):
        real = KubeProxyParts(program, plane.control.plane.kubeconfig(KUBE_PROXY))
    return ServiceProxies(
        parts.spec.name,
        store,
        hosts,
        ServiceNetworks(parts.spec.pod_network.network, parts.spec.services.cidr),
        parts.supervisor,
        kube_proxy=real,
        nodes=nodes,
        repair=parts.repair,
        tell=parts.events.warn_host,
        tell_service=parts.events.warn,
    )
