"""What serves a cluster's network beside pods and Services: it starts, is waited for, tells what is wrong, stops.

`build_addons` is the list of them, in the order in which they start; they stop in the opposite order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from knetsim import names
from knetsim.api.informer import Informer
from knetsim.api.objects import Object
from knetsim.api.store import Store
from knetsim.cluster_dns import EMBEDDED as EMBEDDED_DNS
from knetsim.cluster_dns import ClusterNames, NamesParts, choose_dns
from knetsim.control_planes import KubernetesPlane, Plane
from knetsim.dataplane.dns import HostNames
from knetsim.dataplane.services.host import has_bridge_filter
from knetsim.dataplane.static_vips import VipPlace
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.dns import EMBEDDED_PORT
from knetsim.node.dns import NAMESPACE as DNS_NAMESPACE
from knetsim.node.dns import SELECTOR as DNS_SELECTOR
from knetsim.node.dns import SERVICE as DNS_SERVICE
from knetsim.node.ingress import Ingresses, IngressWorker
from knetsim.node.ingress_nginx import WorkerNginx
from knetsim.node.ingress_objects import IngressPlaces
from knetsim.node.load_balancer_pool import Pool
from knetsim.node.load_balancers import BalancingWorker, LoadBalancers
from knetsim.node.pod_network import PodNetworkAgents
from knetsim.node.policy_agent import NetworkPolicies, PolicyWorker
from knetsim.node.policy_objects import PolicyPod, build_stand_in
from knetsim.node.service_proxy import ServiceProxies
from knetsim.node.skupper.agent import SiteParts, SkupperSite
from knetsim.node.skupper.network import SkupperNetwork
from knetsim.node.skupper.objects import SitePlace
from knetsim.node.skupper.router import RouterKind, SiteRouter
from knetsim.node.static_vips import StaticVips, VipHost
from knetsim.node.worker import Worker
from knetsim.scenario import ClusterSpec, SiteSpec
from knetsim.system.daemon import Supervisor
from knetsim.system.programs import find_program, require_program

DNS_PORT = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class AddonParts:
    """What there is when the add-ons are made: everything but the kubelet. `nodes` and `pods` are running informers."""

    spec: ClusterSpec
    plane: Plane
    store: Store
    nodes: Informer
    pods: Informer
    workers: Sequence[Worker]
    control_host: ControlPlaneHost
    network: PodNetworkAgents
    proxies: ServiceProxies
    #: all hosts of the simulation: name → address
    hosts: Mapping[str, str]
    #: the sites of all clusters, and where this one's router is to run
    skupper: SkupperNetwork
    site: SiteSpec
    supervisor: Supervisor
    repair: bool
    #: (object, reason, message): a warning Event on an object; returns at once
    tell: Callable[[Object, str, str], None]
    #: (object, reason, message): an Event that says that all is well; returns at once
    note: Callable[[Object, str, str], None]
    #: (host, reason, message): a warning Event on the host's Node; returns at once
    tell_host: Callable[[str, str, str], None]


class Addon(Protocol):
    """One part; used once."""

    def start(self) -> None:
        """Begin; returns at once. No Node is registered yet."""

    def wait_ready(self) -> None:
        """Wait until it does its work for all that is known by now; Nodes are registered. NotReady."""

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong, for `knetsim status`: an object (`Ingress default/web`), and what it is that is wrong."""

    def stop(self) -> None:
        """End it; what it put into kernels goes with the sandbox. Twice is once."""


def build_addons(parts: AddonParts) -> list[Addon]:
    """The add-ons of one cluster, not started yet."""
    return [
        build_policies(parts),
        build_static_vips(parts),
        build_load_balancers(parts),
        build_ingresses(parts),
        build_skupper(parts),
    ]


def _build_stand_ins(parts: AddonParts) -> list[PolicyPod]:
    """Our own name server, which is no pod: who may ask CoreDNS' pods may ask it."""
    if choose_dns(parts.spec, parts.plane.kind) != EMBEDDED_DNS:
        return []
    labels, ports = dict([DNS_SELECTOR]), {DNS_PORT: EMBEDDED_PORT}
    return [build_stand_in(f"{DNS_NAMESPACE}/{DNS_SERVICE}", labels, parts.control_host.address, ports)]


def build_static_vips(parts: AddonParts) -> StaticVips:
    """The VIPs of `kp_vip_add`, on the workers and, where it has part in the pod network, the control plane's host."""
    pods, hosts = parts.spec.pod_network.network, []
    for host in [*parts.workers, *([parts.control_host] if isinstance(parts.plane, KubernetesPlane) else [])]:
        routed = None if has_bridge_filter(host.place) else parts.network.place(host).lease.subnet
        hosts.append(VipHost(host.name, host.place, VipPlace(pods, routed)))
    return StaticVips(
        parts.spec.name,
        parts.store,
        parts.proxies.rules.services,
        parts.pods,
        hosts,
        repair=parts.repair,
        tell=parts.tell_host,
    )


def build_policies(parts: AddonParts) -> NetworkPolicies:
    """The NetworkPolicies of the workers' pods, which are wired under them from now on."""
    policies = NetworkPolicies(
        parts.spec.name,
        parts.store,
        parts.pods,
        [PolicyWorker(worker.name, worker.node_name, worker.place) for worker in parts.workers],
        stand_ins=_build_stand_ins(parts),
        repair=parts.repair,
        tell=parts.tell,
        tell_host=parts.tell_host,
    )
    parts.network.guard_pods(policies)
    return policies


def build_names(server: str, parts: AddonParts) -> ClusterNames:
    """The add-on that answers names; the kubelet and the end of the start ask for it in particular."""
    return ClusterNames(
        server,
        NamesParts(
            spec=parts.spec,
            plane=parts.plane,
            store=parts.store,
            host=parts.control_host,
            workers=parts.workers,
            hosts=HostNames(parts.hosts),
            services=parts.proxies.rules.services,
            slices=parts.proxies.rules.slices,
        ),
    )


def build_ingresses(parts: AddonParts) -> Ingresses:
    """The ingress controller; any worker may have a port pinned, those of the scenario serve all Ingresses."""
    spec = parts.spec.ingress
    workers = [
        IngressWorker(
            worker.node_name,
            worker.address,
            WorkerNginx(worker.name, worker.place, Path(names.host_directory(worker.name)) / "nginx", parts.supervisor),
        )
        for worker in parts.workers
    ]
    serving = tuple(worker.node_name for worker in parts.workers if worker.short_name in spec.workers)
    places = IngressPlaces(frozenset(each.node for each in workers), serving, spec.http_port, spec.https_port)
    return Ingresses(
        parts.spec.name,
        parts.store,
        workers,
        places,
        repair=parts.repair,
        tell=parts.tell,
        tell_host=parts.tell_host,
    )


def build_load_balancers(parts: AddonParts) -> LoadBalancers:
    """Who gives Services of type LoadBalancer their addresses and has workers answer for them."""
    pool = parts.spec.services.load_balancers
    workers = [
        BalancingWorker(worker.name, worker.node_name, worker.place, worker.netlink, worker.defaultIntf().name)
        for worker in parts.workers
    ]
    return LoadBalancers(
        parts.spec.name,
        parts.store,
        parts.nodes,
        parts.proxies.rules.services,
        parts.proxies.rules.slices,
        workers,
        Pool(pool.first, pool.last) if pool is not None else None,
        tell=parts.tell,
        note=parts.note,
    )


def build_skupper(parts: AddonParts) -> SkupperSite:
    """The controller of the cluster's Skupper site; its router runs on a worker once there is a Site."""
    worker = next(worker for worker in parts.workers if worker.short_name == parts.site.worker)
    place = SitePlace(
        cluster=parts.spec.name,
        host=worker.name,
        node=worker.node_name,
        address=worker.address,
        reserved=frozenset(parts.spec.ingress.ports_of(worker.short_name)),
        hosts=parts.hosts,
    )
    directory = Path(names.INSIDE_STATE) / "skupper"
    router = SiteRouter(
        parts.spec.name, worker.name, worker.place, directory, parts.supervisor, choose_router(parts.site.router)
    )
    return SkupperSite(
        SiteParts(
            cluster=parts.spec.name,
            store=parts.store,
            services=parts.proxies.rules.services,
            slices=parts.proxies.rules.slices,
            pods=parts.pods,
            place=place,
            router=router,
            network=parts.skupper,
            repair=parts.repair,
        )
    )


def choose_router(wanted: str) -> RouterKind:
    """`skrouterd` or `embedded`; `auto` is skrouterd where it is installed. MissingTool."""
    if wanted == "embedded":
        return "embedded"
    if wanted == "skrouterd":
        require_program("skrouterd")
    return "embedded" if find_program("skrouterd") is None else "skrouterd"
