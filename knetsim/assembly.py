"""How a cluster is put together and brought up: hosts, etcd, control plane, pod network, store, proxies, kubelet, in
this order.

`ClusterAssembly` is the part of `Cluster` that users do not type at. Each step waits for facts, and tells what for.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from knetsim import names
from knetsim.addons import Addon, AddonParts, build_addons, build_names
from knetsim.api.etcd import Etcd
from knetsim.api.informer import Informer
from knetsim.api.objects import Object
from knetsim.api.store import Store
from knetsim.cluster_dns import ClusterNames, choose_dns
from knetsim.cluster_events import ClusterEvents
from knetsim.cluster_hosts import build_cluster_hosts
from knetsim.cluster_network import NetworkParts, build_network, build_proxies
from knetsim.control_choice import KUBERNETES, choose_control_plane
from knetsim.control_planes import EmbeddedPlane, KubernetesParts, KubernetesPlane, Plane
from knetsim.dataplane.underlay import BridgeSwitch, Underlay
from knetsim.errors import NotReady
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.etcd import CLIENT_PORT, EtcdMember, client_url, read_health
from knetsim.node.images import Images
from knetsim.node.kubelet import Kubelet, KubeletWorker
from knetsim.node.pod_network import PodNetworkAgents, WorkerNetwork, explain_choice
from knetsim.node.service_proxy import ServiceProxies
from knetsim.node.skupper.network import SkupperNetwork
from knetsim.node.worker import Worker, WorkerCluster
from knetsim.rollout import wait_endpoints, wait_rolled_out, write_objects
from knetsim.scenario import ClusterSpec, Scenario
from knetsim.status import ControlPlaneProblem, DaemonState
from knetsim.system.cgroup import Cgroups
from knetsim.system.daemon import Daemon, Supervisor
from knetsim.system.invocation import as_typed
from knetsim.system.programs import require_program
from knetsim.system.wait import wait_until

ETCD_DEADLINE = 60.0
NETWORK_DEADLINE = 90.0
PODS_DEADLINE = 180.0
#: for what may not come about: a Service or a pod may change meanwhile
ENDPOINTS_DEADLINE = 10.0


T = TypeVar("T")


class Progress(Protocol):
    """Who is told how the start goes on; see `knetsim.simulation.Progress`."""

    def step(self, name: str, text: str) -> None: ...
    def done(self, name: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """What all clusters of a simulation share."""

    net: Underlay
    supervisor: Supervisor
    progress: Progress
    scenario: Scenario
    repair: bool
    #: sockets of the host that lead to the clusters' API servers, by cluster
    listeners: dict[str, socket.socket]
    images: Images
    cgroups: Cgroups
    skupper: SkupperNetwork


class ClusterAssembly:
    """The machinery of one cluster."""

    def __init__(self, spec: ClusterSpec, parts: ClusterParts) -> None:
        self.spec, self.name, self._parts = spec, spec.name, parts
        self.members: list[EtcdMember] = []
        self.workers: list[Worker] = []
        #: the agent and the wiring of each host that has part in the pod network
        self.choices: dict[str, WorkerNetwork] = {}
        # what the start brings up, one after the other
        self.etcd: Etcd | None = None
        self.network: PodNetworkAgents | None = None
        self.proxies: ServiceProxies | None = None
        self.nodes: Informer | None = None
        self.pods: Informer | None = None
        self.control_plane = choose_control_plane(spec)
        self.dns_server = choose_dns(spec, self.control_plane)
        self._host: ControlPlaneHost | None = None
        self._plane: Plane | None = None
        self._store: Store | None = None
        self._events = ClusterEvents()
        self.addons: list[Addon] = []
        self._names: ClusterNames | None = None
        self._kubelet: Kubelet | None = None

    @property
    def plane(self) -> Plane:
        """The cluster's control plane. NotReady while its hosts are being made."""
        return self._up(self._plane)

    @property
    def store(self) -> Store:
        """The cluster's objects. NotReady while etcd and the control plane are starting."""
        return self._up(self._store)

    @property
    def kubelet(self) -> Kubelet:
        """Who carries out the cluster's pods. NotReady while it is starting."""
        return self._up(self._kubelet)

    def is_up(self) -> bool:
        """Whether all of its machinery is there: etcd, store, pod network, kubelet."""
        return self._kubelet is not None

    def _up(self, part: T | None) -> T:
        if part is None:
            raise NotReady(f"{self.name} is still starting", hint=f"see how far it is: {as_typed('status')}")
        return part

    # --- hosts --------------------------------------------------------------------------------------------------------

    def build(self, hosts_file: str) -> BridgeSwitch:
        """Make the cluster's hosts on its switch, which is returned to be linked to the others."""
        length = self._parts.scenario.underlay.network.prefixlen
        hosts = build_cluster_hosts(self._parts.net, self.spec, cast("WorkerCluster", self), length, hosts_file)
        self._host, self.members, self.workers = hosts.control_plane, hosts.members, hosts.workers
        self._plane = self._build_plane(hosts.control_plane)
        return hosts.switch

    def _build_plane(self, host: ControlPlaneHost) -> Plane:
        if self.control_plane != KUBERNETES:
            return EmbeddedPlane(self.spec.services.cidr)
        etcd = [client_url(str(address)) for address in self.spec.etcd_addresses()]
        parts = KubernetesParts(host, etcd, self._parts.supervisor, self._parts.listeners.get(self.name))
        return KubernetesPlane(self.spec, parts)

    def daemon_names(self, host: str) -> list[str]:
        """The supervised daemons on a host: `C0w1/flanneld`."""
        return [status.name for status in self._parts.supervisor.status() if status.name.startswith(f"{host}/")]

    def daemon(self, name: str) -> DaemonState | None:
        """A supervised daemon's state."""
        daemon = self._parts.supervisor.get(name)
        if daemon is None:
            return None
        status = daemon.status()
        return {
            "name": status.name,
            "pid": status.pid,
            "running": status.running,
            "restarts": status.restarts,
            "lastExit": status.last_exit,
            "log": status.log,
        }

    def read_control_plane_problems(self) -> list[ControlPlaneProblem]:
        """What of the control plane does not work, once it has been started."""
        if self._plane is None or self._store is None:
            return []
        return [{"object": name, "what": what} for name, what in self._plane.read_problems()]

    def read_api_server(self) -> str:
        """The URL by which programs of this machine reach the API server; empty when they do not."""
        return self._plane.url if isinstance(self._plane, KubernetesPlane) else ""

    def owns_host(self, host: str) -> bool:
        """Whether a host of that name is in this cluster."""
        return host in self.spec.host_addresses()

    # --- start --------------------------------------------------------------------------------------------------------

    def start(self, objects: Sequence[Object]) -> None:
        """Bring the cluster up, write the scenario's objects and wait until their pods are ready."""
        self._start_etcd()
        self.plane.start(self._up(self.etcd))
        self._start_network()
        self._open_store()
        self._start_services()
        self._start_addons()
        self._start_kubelet()
        for addon in self.addons:
            addon.wait_ready()
        self._apply(objects)
        self._up(self._names).wait_answered()

    def _start_etcd(self) -> None:
        progress, supervisor = self._parts.progress, self._parts.supervisor
        total = len(self.members)
        progress.step(self.name, f"{total} etcd members")
        program = str(require_program("etcd"))
        # A new member asks the others, one second each, whether it is new, and one that listens but does not serve yet
        # lets it wait. The first finds nobody listening, and the others find the first.
        for member in self.members:
            supervisor.start(member.build_spec(program, self.members, token=self.name))
            if member is self.members[0]:
                wait_until(
                    f"{member.name}", member.read_peer_health, ETCD_DEADLINE, hint="see etcd.log in its directory"
                )
        wait_until(
            f"etcd of {self.name}",
            self._unhealthy_members,
            ETCD_DEADLINE,
            hint="see etcd.log in the member's directory",
        )
        self.etcd = Etcd([f"unix:{names.etcd_socket(member.name)}" for member in self.members])
        progress.done(self.name, f"etcd: {total} of {total} members healthy")

    def _open_store(self) -> None:
        progress, plane = self._parts.progress, self.plane
        progress.step(self.name, f"the control plane ({plane.kind})")
        self._store = plane.open_store()
        progress.done(self.name, f"control plane: {plane.explain()}")
        self._events.start(self._store)
        self.nodes, self.pods = Informer(self._store, "Node"), Informer(self._store, "Pod")
        for informer in (self.nodes, self.pods):
            informer.start()
            informer.wait_synced(ETCD_DEADLINE)

    def _unhealthy_members(self) -> str:
        for member in self.members:
            if why := read_health(names.etcd_socket(member.name)):
                return f"{member.name}: {why}"
        return ""

    def _network_parts(self) -> NetworkParts:
        return NetworkParts(
            spec=self.spec,
            workers=self.workers,
            control_host=self._up(self._host) if self.control_plane == KUBERNETES else None,
            supervisor=self._parts.supervisor,
            events=self._events,
            repair=self._parts.repair,
        )

    def _start_network(self) -> None:
        progress = self._parts.progress
        progress.step(self.name, "the pod network of every worker")
        network = build_network(self._network_parts(), self._up(self.etcd), self.members)
        self.choices = {choice.worker.name: choice for choice in network.networks}
        self.network = network
        network.start()
        network.wait_ready(NETWORK_DEADLINE)
        progress.done(self.name, f"pod network: {explain_choice(network.networks)}")

    def _start_services(self) -> None:
        """Have VIPs lead to pods, on every worker and on the control plane's host, before there are pods to ask."""
        network, nodes = self._up(self.network), self._up(self.nodes)
        self.proxies = build_proxies(self._network_parts(), network, self.plane, self.store, nodes)
        self.proxies.start()

    def _start_addons(self) -> None:
        """What else serves the network: before the kubelet, whose pods may want it from their first moment."""
        parts = AddonParts(
            spec=self.spec,
            plane=self.plane,
            store=self.store,
            nodes=self._up(self.nodes),
            pods=self._up(self.pods),
            workers=self.workers,
            control_host=self._up(self._host),
            network=self._up(self.network),
            proxies=self._up(self.proxies),
            hosts=self._parts.scenario.host_addresses(),
            skupper=self._parts.skupper,
            site=self._parts.scenario.multicluster.site(self.name),
            supervisor=self._parts.supervisor,
            repair=self._parts.repair,
            tell=self._events.warn,
            note=self._events.note,
            tell_host=self._events.warn_host,
        )
        self._names = build_names(self.dns_server, parts)
        self.addons = [self._names, *build_addons(parts)]
        for addon in self.addons:
            addon.start()

    def _start_kubelet(self) -> None:
        parts, progress = self._parts, self._parts.progress
        progress.step(self.name, "the workers' Nodes")
        network, pods = self._up(self.network), self._up(self.pods)
        members = self.plane.members() or [(member.address, CLIENT_PORT) for member in self.members]
        dns, cgroups = self._up(self._names).resolver, parts.cgroups
        self._kubelet = Kubelet(
            self.name, self.store, pods, parts.images, members=members, dns=dns, repair=parts.repair, cgroups=cgroups
        )
        labels = {names.worker_host(self.name, spec.name): spec.labels for spec in self.spec.workers}
        workers = [
            KubeletWorker(network.place(one), network.wiring(self.choices[one.name]), one.address, labels[one.name])
            for one in self.workers
        ]
        for worker in workers:
            self._kubelet.add_worker(worker)
        self._kubelet.start()
        self.plane.serve_kubelets(self._kubelet, workers)
        self.plane.wait_usable()
        self._up(self.proxies).wait_ready()  # the real kube-proxy waits for its Node
        progress.done(self.name, f"{len(self.workers)} Nodes registered")

    def _apply(self, objects: Sequence[Object]) -> None:
        progress = self._parts.progress
        if not objects:
            return
        progress.step(self.name, f"{len(objects)} objects of the scenario")
        workloads = write_objects(self.plane, objects)
        wait_rolled_out(self.plane, workloads, PODS_DEADLINE)
        self.kubelet.wait_pods_ready(PODS_DEADLINE)
        self._wait_services([obj for obj in objects if obj["kind"] == "Service"])
        for addon in self.addons:
            addon.wait_ready()
        pods = len(self._up(self.pods))
        progress.done(self.name, f"{pods} pod{'s' if pods != 1 else ''} ready")

    def _wait_services(self, services: Sequence[Object]) -> None:
        """Wait until the Services lead to their pods, in every kernel."""
        if not services:
            return
        proxies = self._up(self.proxies)
        wait_endpoints(services, self.store.list("Pod").items, proxies.rules.slices, ENDPOINTS_DEADLINE)
        proxies.rules.slices.wait_current(ETCD_DEADLINE)
        proxies.wait_ready()

    def stop(self) -> None:
        """Stop agents, then daemons, in the opposite order of the start; one that fails keeps no other running."""
        with ExitStack() as ends:
            for member in self.members:
                ends.callback(self._parts.supervisor.stop, member.daemon_name)
            if self.etcd is not None:
                ends.callback(self.etcd.close)
            if self._plane is not None:
                ends.callback(self._plane.stop)
            for informer in (self.nodes, self.pods):
                if informer is not None:
                    ends.callback(informer.stop)
            ends.callback(self._events.stop)
            for part in (self.network, self.proxies, *self.addons, self._kubelet):
                if part is not None:
                    ends.callback(part.stop)
            if self._plane is not None:
                ends.callback(self._plane.stop_kubelets)

    def daemon_ended(self, host: str, daemon: Daemon) -> None:
        """Tell, as an Event, that a daemon ended and is started again."""
        self._events.daemon_ended(host, daemon)
