"""Between plain JSON values and the dataclasses: defaults on the way in, everything written out on the way back.

`build_scenario` takes what the structure check left sound, so it never meets a wrong type; what was cut out gets its
default, and `checks` knows better than to complain about it. `scenario_to_json` is the way back: its result is a
scenario file again, and reading it gives the same scenario.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from knetsim.scenario.document import Document
from knetsim.scenario.spec import (
    API_VERSION,
    KIND,
    NO_POOL,
    AddressPool,
    ClusterSpec,
    ConnectorSpec,
    DnsSpec,
    EtcdSpec,
    HostGwBackend,
    IngressSpec,
    ListenerSpec,
    ManifestRef,
    MulticlusterSpec,
    PodNetworkSpec,
    Scenario,
    ServicesSpec,
    SharedServiceSpec,
    SiteLinkSpec,
    SiteSpec,
    UnderlaySpec,
    VxlanBackend,
    WorkerSpec,
)

DEFAULT_UNDERLAY = "10.0.0.0/8"
DEFAULT_POD_NETWORK = "11.0.0.0/8"
DEFAULT_POD_RANGE = ("11.10.0.0", "11.99.0.0")
DEFAULT_SUBNET_LEN = 20
DEFAULT_SERVICE_CIDR = "100.64.0.0/16"
DEFAULT_ETCD_MEMBERS = 3

_ADDRESS_MAX = (1 << 32) - 1
_POD_RANGE_PREFIX = 16  # both ends of the range begin a /16
_CLUSTER_PREFIX = 16
_ETCD_PREFIX = 24
_POOL_SIZE = 256
#: holds the members' nine addresses and the control plane's tenth
ETCD_PREFIX_MAX = 28

Plain = dict[str, Any]


def build_scenario(document: Document, sound: Plain) -> Scenario:
    """The scenario of a document; `sound` is its value without what the structure check found wrong.

    Clusters and manifests that were cut out are None in their lists, so that the others keep their numbers.
    """
    spec = sound.get("spec") or {}
    underlay = spec.get("underlay") or {}
    network = IPv4Network(underlay.get("network", DEFAULT_UNDERLAY))
    clusters = [
        build_cluster(cluster, index, network)
        for index, cluster in enumerate(spec.get("clusters") or [])
        if cluster is not None
    ]
    folder = Path(document.file).parent
    manifests = [
        ManifestRef(written, folder / written, *document.where(("spec", "manifests", index)))
        for index, written in enumerate(spec.get("manifests") or [])
        if written is not None
    ]
    name = (sound.get("metadata") or {}).get("name", "")
    underlay_spec = UnderlaySpec(underlay.get("type", "switch"), network)
    multicluster = build_multicluster(spec.get("multicluster"), clusters)
    return Scenario(name, tuple(clusters), underlay_spec, tuple(manifests), multicluster, document.file)


def default_subnet(underlay: IPv4Network, index: int) -> IPv4Network:
    """The subnet of cluster number `index`: 10.(index+1).0.0/16 in 10.0.0.0/8; outside of it when no room is left."""
    prefix = min(max(_CLUSTER_PREFIX, underlay.prefixlen + 4), ETCD_PREFIX_MAX)
    number = min((int(underlay.network_address) >> (32 - prefix)) + index + 1, (1 << prefix) - 1)
    return IPv4Network((number << (32 - prefix), prefix))


def default_etcd_subnet(subnet: IPv4Network) -> IPv4Network:
    """The first /24 of the cluster's subnet, or the first sixteenth of a small one."""
    prefix = min(max(_ETCD_PREFIX, subnet.prefixlen + 4), ETCD_PREFIX_MAX)
    return IPv4Network((subnet.network_address, max(prefix, subnet.prefixlen)))


def build_cluster(plain: Plain, index: int, underlay: IPv4Network) -> ClusterSpec:
    """A cluster with everything filled in; one whose name was cut out is called `number 2` in messages."""
    subnet = IPv4Network(plain["subnet"]) if "subnet" in plain else default_subnet(underlay, index)
    etcd, services = plain.get("etcd") or {}, plain.get("services") or {}
    pod_network = build_pod_network(plain.get("podNetwork") or {})
    cidr = IPv4Network(services.get("cidr", DEFAULT_SERVICE_CIDR))
    proxy = services.get("proxy", "emulator")
    workers = build_workers(plain.get("workers"), pod_network, proxy)
    etcd_subnet = IPv4Network(etcd["subnet"]) if "subnet" in etcd else default_etcd_subnet(subnet)
    if "loadBalancers" in services:
        pool = AddressPool.parse(services["loadBalancers"])
    else:
        pool = default_pool(subnet, int(etcd_subnet.broadcast_address) + 1 + len(workers))
    return ClusterSpec(
        name=plain.get("name", f"number {index + 1}"),
        index=index,
        subnet=subnet,
        workers=workers,
        etcd=EtcdSpec(int(etcd.get("members", DEFAULT_ETCD_MEMBERS)), etcd_subnet),
        pod_network=pod_network,
        services=ServicesSpec(cidr, proxy, pool),
        dns=DnsSpec((plain.get("dns") or {}).get("server", "auto")),
        ingress=build_ingress(plain.get("ingress") or {}, workers),
        control_plane=plain.get("controlPlane", "auto"),
    )


def default_pool(subnet: IPv4Network, last_worker: int) -> AddressPool | None:
    """The end of the cluster's subnet, 254 addresses or a sixteenth of it, as far as no host is there; None when there
    is no room."""
    size = min(_POOL_SIZE, subnet.num_addresses // 16)
    first = max(int(subnet.broadcast_address) - size + 2, last_worker + 1)
    last = int(subnet.broadcast_address) - 1
    return AddressPool(IPv4Address(first), IPv4Address(last)) if first <= last else None


def build_ingress(plain: Plain, workers: tuple[WorkerSpec, ...]) -> IngressSpec:
    """Where Ingresses are served: on the first worker, unless the file says on which."""
    usual = IngressSpec(tuple(worker.name for worker in workers[:1]))
    return IngressSpec(
        tuple(name for name in plain.get("workers", usual.workers) if name is not None),
        int(plain.get("httpPort", usual.http_port)),
        int(plain.get("httpsPort", usual.https_port)),
    )


def build_workers(plain: Any, network: PodNetworkSpec, proxy: str) -> tuple[WorkerSpec, ...]:
    """`3` makes w1, w2, w3; a list entry takes from the cluster what it leaves out."""
    entries: list[Plain] = []
    if isinstance(plain, list):
        entries = [entry for entry in plain if entry is not None]
    elif plain is not None:
        entries = [{"name": f"w{number}"} for number in range(1, int(plain) + 1)]
    return tuple(
        WorkerSpec(
            name=entry.get("name", ""),
            labels=dict(entry.get("labels") or {}),
            proxy=entry.get("proxy", proxy),
            agent=entry.get("agent", network.agent),
            cni=entry.get("cni", network.cni),
        )
        for entry in entries
    )


def build_pod_network(plain: Plain) -> PodNetworkSpec:
    """Flannel's configuration. Without subnetMin and subnetMax: the usual range in the usual network, else flannel's
    own rule, which leaves out the first subnet (its address is the network's)."""
    network = IPv4Network(plain.get("network", DEFAULT_POD_NETWORK))
    length = int(plain.get("subnetLen", min(max(DEFAULT_SUBNET_LEN, network.prefixlen + 2), 30)))
    size = 1 << (32 - length)
    if str(network) == DEFAULT_POD_NETWORK and length >= _POD_RANGE_PREFIX:
        first, last = map(IPv4Address, DEFAULT_POD_RANGE)
    else:
        first = IPv4Address(min(int(network.network_address) + size, _ADDRESS_MAX))
        last = IPv4Address(max(int(network.broadcast_address) + 1 - size, 0))
    return PodNetworkSpec(
        network=network,
        subnet_len=length,
        subnet_min=IPv4Address(plain.get("subnetMin", first)),
        subnet_max=IPv4Address(plain.get("subnetMax", last)),
        backend=build_backend(plain.get("backend") or {}),
        agent=plain.get("agent", "auto"),
        cni=plain.get("cni", "auto"),
        type=plain.get("type", "flannel"),
    )


def build_backend(plain: Plain) -> VxlanBackend | HostGwBackend:
    """The backend that `type` names, vxlan by default."""
    if plain.get("type", "vxlan") == "host-gw":
        return HostGwBackend()
    return VxlanBackend(int(plain.get("vni", VxlanBackend().vni)), int(plain.get("port", VxlanBackend().port)))


def build_multicluster(plain: Plain | None, clusters: Sequence[ClusterSpec]) -> MulticlusterSpec:
    """The network of sites: one in every cluster, on its first worker, unless the file says in which and where; none
    without the key."""
    router = (plain or {}).get("router", "auto")
    first = {cluster.name: next((worker.name for worker in cluster.workers), "") for cluster in clusters}
    usual = tuple(build_site({"cluster": name}, worker, router) for name, worker in first.items())
    if plain is None:
        return MulticlusterSpec(usual=usual)
    written = _entries(plain, "sites")
    sites = tuple(build_site(site, first.get(site.get("cluster", ""), ""), router) for site in written)
    links = [
        SiteLinkSpec(link.get("from", ""), link.get("to", ""), int(link.get("cost", 1)))
        for link in _entries(plain, "links")
    ]
    services = [build_shared_service(service) for service in _entries(plain, "services")]
    return MulticlusterSpec(router, sites if "sites" in plain else usual, tuple(links), tuple(services), usual)


def build_site(plain: Plain, worker: str, router: str) -> SiteSpec:
    """A cluster's site; `worker` and `router` unless the file says others."""
    cluster = plain.get("cluster", "")
    name, where = plain.get("name", cluster.lower()), plain.get("worker", worker)
    return SiteSpec(cluster, name, where, plain.get("router", router))


def build_shared_service(plain: Plain) -> SharedServiceSpec:
    """What one routing key joins."""
    connectors = [
        ConnectorSpec(
            cluster=entry.get("cluster", ""),
            selector=dict(entry.get("selector") or {}),
            host=entry.get("host", ""),
            port=int(entry.get("port", 0)),
        )
        for entry in _entries(plain, "connectors")
    ]
    listeners = [
        ListenerSpec(entry.get("cluster", ""), entry.get("host", ""), int(entry.get("port", 0)))
        for entry in _entries(plain, "listeners")
    ]
    return SharedServiceSpec(plain.get("routingKey", ""), tuple(connectors), tuple(listeners))


def _entries(plain: Plain, key: str) -> list[Plain]:
    return [entry for entry in plain.get(key) or [] if entry is not None]


def scenario_to_json(scenario: Scenario) -> Plain:
    """The scenario as a scenario file's value, with nothing left to a default."""
    spec = {
        "clusters": [_to_json(cluster) for cluster in scenario.clusters],
        "underlay": _to_json(scenario.underlay),
        "multicluster": _to_json(scenario.multicluster),
        "manifests": [manifest.written for manifest in scenario.manifests],
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": scenario.name}, "spec": spec}


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, AddressPool):
        return str(value or NO_POOL)
    if dataclasses.is_dataclass(value):
        fields = [field for field in dataclasses.fields(value) if not field.metadata.get("derived")]
        parts = [(field, getattr(value, field.name)) for field in fields]
        shown = [(field, part) for field, part in parts if part or not field.metadata.get("omit_empty")]
        return {camel_case(field.name): _to_json(part) for field, part in shown}
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv4Address):
        return str(value)
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def camel_case(name: str) -> str:
    """The key of a field: `subnet_len` → `subnetLen`, `from_` (a word of Python) → `from`."""
    return re.sub("_([a-z])", lambda match: match[1].upper(), name.rstrip("_"))
