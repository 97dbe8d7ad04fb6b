"""Checks of addresses, and of what else is shared on a wire.

Inside a cluster an address must mean one thing: a pod, a Service, or a host. Between clusters, hosts must differ (the
underlay is one layer 2), while pod networks and Service networks may be the same; that is what the default scenario
shows. A pod network may lie inside the underlay's network (10.244.0.0/16 in 10.0.0.0/8, say): the route to a
worker's subnet is longer than the one to the underlay and wins. It must only stay clear of the subnets of hosts.

What clashes on one underlay, and what does not
    Same VNI and same port in two clusters: no clash, and the default. A VXLAN device sends only to the workers of its
    own cluster (flannel fills the FDB from the cluster's own etcd, with unicast addresses, learning off), and every
    worker has a network namespace, thus a UDP port space, of its own. A packet can only reach a foreign VTEP if two
    hosts have one address, and that is refused.
    Different VNIs or ports in two clusters: no clash either; devices of different clusters never meet.
    A VXLAN port that something else on a *worker* receives on: a clash, because the kernel's VXLAN socket is bound to
    it in the worker's namespace. That is UDP 53, where a name server may listen, and 30000 to 32767, the node ports: a
    Service that is given the same node port would have kube-proxy's rules translate the overlay's own packets before
    the socket sees them. The kubelet (10250), etcd (2379, 2380) and the API server (6443) are TCP.
    A VNI whose device name does not fit: flannel calls it flannel.VNI, so the schema ends at 9999999.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from knetsim import names
from knetsim.errors import Problem
from knetsim.scenario.document import KeyPath
from knetsim.scenario.draft import Draft, cluster_path
from knetsim.scenario.resolve import DEFAULT_POD_NETWORK, DEFAULT_SERVICE_CIDR, ETCD_PREFIX_MAX, default_etcd_subnet
from knetsim.scenario.spec import ClusterSpec, HostGwBackend, PodNetworkSpec, VxlanBackend

_SPECIAL = (
    (IPv4Network("0.0.0.0/8"), "'this network', which is never an address"),
    (IPv4Network("127.0.0.0/8"), "loopback, which never leaves a host"),
    (IPv4Network("169.254.0.0/16"), "link-local, which is never routed"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("240.0.0.0/4"), "reserved"),
)

#: UDP ports on which a worker receives something else
_WORKER_PORTS = (
    (range(53, 54), "a name server may listen there"),
    (names.NODE_PORTS, "these are the node ports of Services"),
)

# kube-apiserver takes no ClusterIP range with more than 20 bits, and wants room for its own Service and the DNS'
_SERVICE_PREFIXES = range(12, 29)


def check_special(draft: Draft) -> Iterator[Problem]:
    """Networks in ranges that the kernel treats specially."""
    scenario = draft.scenario
    places: list[tuple[KeyPath, IPv4Network]] = [(("spec", "underlay", "network"), scenario.underlay.network)]
    for cluster in scenario.clusters:
        places.append((cluster_path(cluster, "podNetwork", "network"), cluster.pod_network.network))
        places.append((cluster_path(cluster, "services", "cidr"), cluster.services.cidr))
    for path, network in places:
        for special, meaning in _SPECIAL:
            if draft.sound(path) and network.overlaps(special):
                hint = "choose another, for example one in 10.0.0.0/8 or 100.64.0.0/10"
                yield draft.problem(path, f"{path[-1]} {network} holds addresses of {special}: {meaning}", hint)
                break


def check_host_subnets(draft: Draft) -> Iterator[Problem]:
    """The subnets of the clusters' hosts lie in the underlay's network and apart from each other."""
    underlay, underlay_sound = draft.scenario.underlay.network, draft.sound(("spec", "underlay"))
    done: list[ClusterSpec] = []
    for cluster in draft.scenario.clusters:
        path = cluster_path(cluster, "subnet")
        if not draft.sound(path) or not (underlay_sound or draft.written(path)):
            continue
        if underlay_sound and not cluster.subnet.subnet_of(underlay):
            yield _outside(draft, cluster, underlay)
            continue
        for other in done:
            if cluster.subnet.overlaps(other.subnet):
                yield _host_overlap(draft, cluster, other)
        done.append(cluster)


def _outside(draft: Draft, cluster: ClusterSpec, underlay: IPv4Network) -> Problem:
    path = cluster_path(cluster, "subnet")
    if draft.written(path):
        what = f"subnet {cluster.subnet} is not in the underlay's network {underlay}"
        return draft.problem(path, what, "all hosts are neighbours on the underlay; change one of the two")
    what = f"the underlay's network {underlay} has no subnet left for cluster number {cluster.index + 1}"
    return draft.problem(path, what, "give the clusters smaller ones with 'subnet'")


def _host_overlap(draft: Draft, cluster: ClusterSpec, other: ClusterSpec) -> Problem:
    path = cluster_path(cluster, "subnet")
    if not draft.written(path) and draft.written(cluster_path(other, "subnet")):
        cluster, other = other, cluster  # show the one that somebody wrote
        path = cluster_path(cluster, "subnet")
    what = f"subnet {cluster.subnet} of cluster {cluster.name} overlaps {other.subnet} of cluster {other.name}"
    return draft.problem(path, what, "hosts of all clusters share one layer 2; each cluster needs a subnet of its own")


def check_host_room(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """etcd members, the control plane's host and the workers find addresses."""
    subnet, etcd = cluster.subnet, cluster.etcd.subnet
    path, etcd_path = cluster_path(cluster, "subnet"), cluster_path(cluster, "etcd", "subnet")
    if subnet.prefixlen >= ETCD_PREFIX_MAX:
        what = f"subnet {subnet} is too small for etcd members, control plane and workers"
        yield draft.problem(path, what, f"a /{ETCD_PREFIX_MAX - 1} is the least")
    elif etcd.prefixlen > ETCD_PREFIX_MAX:
        what = f"etcd.subnet {etcd} has no room for the members and, as tenth, the control plane's host"
        yield draft.problem(etcd_path, what, f"a /{ETCD_PREFIX_MAX} is the least")
    elif not etcd.subnet_of(subnet):
        what = f"etcd.subnet {etcd} is not in the cluster's subnet {subnet}"
        yield draft.problem(etcd_path, what, f"for example {default_etcd_subnet(subnet)}")
    elif draft.sound(cluster_path(cluster, "workers")) and cluster.worker_room < len(cluster.workers):
        what = (
            f"subnet {subnet} has {cluster.worker_room} addresses behind etcd.subnet {etcd}, "
            f"but {cluster.name} has {len(cluster.workers)} workers"
        )
        written = path if draft.written(path) else etcd_path
        yield draft.problem(written, what, "take a larger subnet, and a small etcd.subnet at its start")


def check_cluster_overlaps(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """Inside a cluster an address is a pod's, a Service's or a host's, and of no two of them."""
    pods, services = cluster.pod_network.network, cluster.services.cidr
    pods_path = cluster_path(cluster, "podNetwork", "network")
    services_path = cluster_path(cluster, "services", "cidr")
    for kind, network, path, usual in (
        ("podNetwork.network", pods, pods_path, DEFAULT_POD_NETWORK),
        ("services.cidr", services, services_path, DEFAULT_SERVICE_CIDR),
    ):
        covered = [
            other
            for other in draft.scenario.clusters
            if draft.sound(cluster_path(other, "subnet")) and network.overlaps(other.subnet)
        ]
        if covered:
            shown = path if draft.written(path) else cluster_path(covered[0], "subnet")
            hosts = ", ".join(f"{other.name} ({other.subnet})" for other in covered)
            what = f"{kind} {network} of cluster {cluster.name} covers the hosts of {hosts}"
            yield draft.problem(shown, what, f"{cluster.name} could not reach them; {usual} is usual")
    if pods.overlaps(services):
        shown = services_path if draft.written(services_path) else pods_path
        what = f"services.cidr {services} and podNetwork.network {pods} of cluster {cluster.name} overlap"
        yield draft.problem(shown, what, f"an address is a pod's or a Service's; {DEFAULT_SERVICE_CIDR} is usual")


def check_service_cidr(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """The size of the range of ClusterIPs."""
    cidr = cluster.services.cidr
    if cidr.prefixlen not in _SERVICE_PREFIXES:
        low, high = _SERVICE_PREFIXES[0], _SERVICE_PREFIXES[-1]
        what = f"services.cidr {cidr} must have a prefix length from {low} to {high}"
        yield draft.problem(cluster_path(cluster, "services", "cidr"), what, f"for example {DEFAULT_SERVICE_CIDR}")


def check_pod_network(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """Flannel's own conditions (its CheckNetworkConfig), and a subnet for every worker."""
    pods = cluster.pod_network
    path = cluster_path(cluster, "podNetwork")
    if pods.subnet_len < pods.network.prefixlen + 2:
        what = (
            f"four subnets of /{pods.subnet_len} do not fit into the pod network {pods.network}; flannel demands that"
        )
        shown = (*path, "subnetLen") if draft.written((*path, "subnetLen")) else (*path, "network")
        least = pods.network.prefixlen + 2
        yield draft.problem(shown, what, f"subnetLen {least} or more" if least <= 30 else "take a larger network")
        return
    problems = [*_range_problems(draft, path, pods)]
    yield from problems
    if problems or not draft.sound(cluster_path(cluster, "workers")):
        return
    if pods.subnet_count < len(cluster.workers):
        what = (
            f"the pod network has {pods.subnet_count} subnets of /{pods.subnet_len} from {pods.subnet_min} "
            f"to {pods.subnet_max}, but {cluster.name} has {len(cluster.workers)} workers"
        )
        yield draft.problem(path, what, _more_subnets(pods, len(cluster.workers)))


def _range_problems(draft: Draft, path: KeyPath, pods: PodNetworkSpec) -> Iterator[Problem]:
    size = 1 << (32 - pods.subnet_len)
    for key, address in (("subnetMin", pods.subnet_min), ("subnetMax", pods.subnet_max)):
        aligned = address - int(address) % size
        if address not in pods.network:
            what = f"{key} {address} is not in the pod network {pods.network}"
            last = pods.network.broadcast_address - (size - 1)
            yield draft.problem((*path, key), what, f"its subnets are {pods.network.network_address} to {last}")
        elif address != aligned:
            what = f"{key} {address} is not the first address of a /{pods.subnet_len}"
            yield draft.problem((*path, key), what, f"the subnet of that address begins at {aligned}")
    if pods.subnet_min > pods.subnet_max and pods.subnet_min in pods.network and pods.subnet_max in pods.network:
        what = f"subnetMin {pods.subnet_min} is after subnetMax {pods.subnet_max}"
        shown = "subnetMin" if draft.written((*path, "subnetMin")) else "subnetMax"
        yield draft.problem((*path, shown), what)


def _more_subnets(pods: PodNetworkSpec, workers: int) -> str:
    """The hint that makes room for so many workers: the largest subnets that do."""
    space = (int(pods.subnet_max) - int(pods.subnet_min)) + (1 << (32 - pods.subnet_len))
    for length in range(pods.subnet_len + 1, 31):
        if space >> (32 - length) >= workers:
            return f"subnetLen {length} makes {space >> (32 - length)}"
    return "take a larger network, or widen subnetMin to subnetMax"


def check_backend(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """VXLAN's port is free on the workers; host-gw has no VXLAN settings."""
    path = cluster_path(cluster, "podNetwork", "backend")
    match cluster.pod_network.backend:
        case VxlanBackend(port=port):
            for ports, reason in _WORKER_PORTS:
                if port in ports:
                    what = f"port {port} cannot be VXLAN's: {reason}"
                    yield draft.problem((*path, "port"), what, "8472 is Linux' own, 4789 the standard's")
        case HostGwBackend():
            for key in ("vni", "port"):
                if draft.written((*path, key)):
                    hint = "remove it, or take type vxlan"
                    yield draft.document.problem((*path, key), f"backend host-gw has no '{key}'", hint, at_key=True)
