"""What a scenario says, resolved: every default filled in, every address typed; frozen, and free of any file format.

`auto` stays `auto`: only the simulation knows what is installed. The addressing plan of the underlay is here too, as
pure methods of `ClusterSpec`. With the defaults, cluster number i (from 0) owns 10.(i+1).0.0/16 of the underlay:

    10.1.0.1 … 10.1.0.9     C0e1 … C0e9   etcd members, the first addresses of etcd.subnet (10.1.0.0/24)
    10.1.0.10               C0cp          the control plane's host, the tenth of it
    10.1.1.1, 10.1.1.2 …    C0w1, C0w2 …  workers, from the first address after etcd.subnet

    10.1.255.1 … 10.1.255.254             Services of type LoadBalancer

All of them live in one layer 2, so each host has the prefix length of the underlay's network (/8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from knetsim import names
from knetsim.errors import NotFound

API_VERSION = "knetsim.io/v1"
KIND = "Scenario"

CONTROL_PLANE_OFFSET = 10
ETCD_MEMBERS_MAX = CONTROL_PLANE_OFFSET - 1


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker; `agent` (auto|flanneld|embedded), `cni` (auto|plugins|native), `proxy`: the cluster's, or its own."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    proxy: str = "emulator"
    agent: str = "auto"
    cni: str = "auto"


@dataclass(frozen=True, slots=True)
class EtcdSpec:
    """The etcd of a cluster: so many members, with the first addresses of `subnet`."""

    members: int
    subnet: IPv4Network


@dataclass(frozen=True, slots=True)
class VxlanBackend:
    """Pod packets travel in UDP packets between workers, on the device `flannel.VNI`."""

    type: str = field(default="vxlan", init=False)
    vni: int = 100
    port: int = 8472


@dataclass(frozen=True, slots=True)
class HostGwBackend:
    """Pod packets are routed: each worker is the gateway to its own pods."""

    type: str = field(default="host-gw", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetworkSpec:
    """Flannel's configuration: workers lease subnets (/`subnet_len`) of `network`, `subnet_min` to `subnet_max`."""

    type: str = "flannel"
    agent: str = "auto"
    cni: str = "auto"
    network: IPv4Network
    subnet_len: int
    subnet_min: IPv4Address
    subnet_max: IPv4Address
    backend: VxlanBackend | HostGwBackend

    @property
    def subnet_count(self) -> int:
        """How many subnets can be leased; `subnet_max` is the last of them, as in flannel."""
        return (int(self.subnet_max) - int(self.subnet_min)) // (1 << (32 - self.subnet_len)) + 1


@dataclass(frozen=True, slots=True)
class AddressPool:
    """The addresses from `first` to `last`."""

    first: IPv4Address
    last: IPv4Address

    @classmethod
    def parse(cls, text: str) -> AddressPool | None:
        """`10.1.255.1-10.1.255.254` or a network; None for `none`. ValueError."""
        if text == NO_POOL:
            return None
        first, dash, last = text.partition("-")
        if not dash:
            network = IPv4Network(text)
            return cls(network.network_address, network.broadcast_address)
        pool = cls(IPv4Address(first.strip()), IPv4Address(last.strip()))
        if pool.first > pool.last:
            raise ValueError(f"{pool.first} comes after {pool.last}")
        return pool

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def overlaps(self, first: IPv4Address, last: IPv4Address) -> bool:
        """Whether it has an address of that range."""
        return self.first <= last and first <= self.last


#: in a scenario: no addresses for load balancers
NO_POOL = "none"


@dataclass(frozen=True, slots=True)
class ServicesSpec:
    """Where ClusterIPs come from, who implements Services unless a worker says otherwise, and what addresses of the
    underlay Services of type LoadBalancer get (None: none)."""

    cidr: IPv4Network
    proxy: str = "emulator"
    load_balancers: AddressPool | None = None


@dataclass(frozen=True, slots=True)
class IngressSpec:
    """The workers on which nginx serves Ingresses, and where it listens there."""

    workers: tuple[str, ...] = ()
    http_port: int = 80
    https_port: int = 443

    def ports_of(self, worker: str) -> tuple[int, ...]:
        """Which ports nginx has on a worker; none where there is no nginx."""
        return (self.http_port, self.https_port) if worker in self.workers else ()


@dataclass(frozen=True, slots=True)
class DnsSpec:
    """Who answers names of Services: auto, coredns, embedded or none."""

    server: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """One cluster and the addresses of its hosts; `index` is its place in the file, from 0."""

    name: str
    index: int = field(metadata={"derived": True})
    subnet: IPv4Network
    workers: tuple[WorkerSpec, ...]
    control_plane: str = "auto"
    etcd: EtcdSpec
    pod_network: PodNetworkSpec
    services: ServicesSpec
    dns: DnsSpec = DnsSpec()
    ingress: IngressSpec = IngressSpec()

    def worker(self, name: str) -> WorkerSpec:
        """The worker called `name` (w1), or whose host (C0w1) or Node (c0w1) is; NotFound."""
        for worker in self.workers:
            if name == worker.name or names.node_name(name) == self.node_of(worker):
                return worker
        hint = names.did_you_mean(name, [worker.name for worker in self.workers])
        raise NotFound(f"no worker '{name}' in cluster {self.name}", hint=hint)

    def node_of(self, worker: WorkerSpec) -> str:
        """The Kubernetes Node of a worker: c0w1."""
        return names.node_name(names.worker_host(self.name, worker.name))

    def etcd_addresses(self) -> tuple[IPv4Address, ...]:
        """The members' addresses, that of C0e1 first."""
        return tuple(self.etcd.subnet.network_address + number for number in range(1, self.etcd.members + 1))

    def control_plane_address(self) -> IPv4Address:
        """The address of C0cp."""
        return self.etcd.subnet.network_address + CONTROL_PLANE_OFFSET

    def worker_address(self, index: int) -> IPv4Address:
        """The address of worker number `index`, from 0."""
        return self.etcd.subnet.broadcast_address + 2 + index

    @property
    def worker_room(self) -> int:
        """How many workers the subnet has addresses for."""
        first = int(self.etcd.subnet.broadcast_address) + 2
        return max(0, int(self.subnet.broadcast_address) - first)

    def host_addresses(self) -> dict[str, IPv4Address]:
        """Every host of the cluster: etcd members, the control plane's host, workers in order."""
        hosts = {names.etcd_host(self.name, n): address for n, address in enumerate(self.etcd_addresses(), 1)}
        hosts[names.control_plane_host(self.name)] = self.control_plane_address()
        for index, worker in enumerate(self.workers):
            hosts[names.worker_host(self.name, worker.name)] = self.worker_address(index)
        return hosts


@dataclass(frozen=True, slots=True)
class UnderlaySpec:
    """What joins the clusters' hosts: bridges, one layer 2; `network` gives each host's prefix length."""

    type: str
    network: IPv4Network


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A cluster's site: its name, the worker of its Skupper router, and which one that is (auto|skrouterd|embedded)."""

    cluster: str
    name: str
    worker: str
    router: str = "auto"


@dataclass(frozen=True, slots=True)
class SiteLinkSpec:
    """The router of the cluster `from_` connects to that of the cluster `to`."""

    from_: str
    to: str
    cost: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorSpec:
    """Who serves: the cluster's pods with the labels of `selector`, or a host; the other one is empty."""

    cluster: str
    selector: Mapping[str, str] = field(default_factory=dict, hash=False, metadata={"omit_empty": True})
    host: str = field(default="", metadata={"omit_empty": True})
    port: int


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """Where the cluster's clients connect: a name, for a Service, or an address of the router's worker."""

    cluster: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class SharedServiceSpec:
    """What is served in one cluster and used in others."""

    routing_key: str
    connectors: tuple[ConnectorSpec, ...] = ()
    listeners: tuple[ListenerSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class MulticlusterSpec:
    """The network of sites that the scenario itself asks for; manifests may hold the same, and more.

    `usual` holds what a site would be in each cluster unless asked otherwise.
    """

    router: str = "auto"
    sites: tuple[SiteSpec, ...] = ()
    links: tuple[SiteLinkSpec, ...] = ()
    services: tuple[SharedServiceSpec, ...] = ()
    usual: tuple[SiteSpec, ...] = field(default=(), metadata={"derived": True})

    def site(self, cluster: str) -> SiteSpec:
        """Where and how a cluster's router runs, should it have a site, whoever makes that."""
        return next(site for site in (*self.sites, *self.usual) if site.cluster == cluster)


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """A file or folder of manifests: `written` as in the scenario, `path` from the working directory."""

    written: str
    path: Path
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario; `file` is where it was read, as the user named it."""

    name: str
    clusters: tuple[ClusterSpec, ...]
    underlay: UnderlaySpec
    manifests: tuple[ManifestRef, ...] = ()
    multicluster: MulticlusterSpec = MulticlusterSpec()
    file: str = field(default="", compare=False)

    def host_addresses(self) -> dict[str, str]:
        """The addresses of all hosts of all clusters, by name."""
        hosts = (host for cluster in self.clusters for host in cluster.host_addresses().items())
        return {name: str(address) for name, address in hosts}

    def cluster(self, name: str) -> ClusterSpec:
        """The cluster called `name`; NotFound."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        hint = names.did_you_mean(name, [cluster.name for cluster in self.clusters])
        raise NotFound(f"no cluster '{name}' in the scenario", hint=hint)
