"""How real each part of a simulation is: the real program, one of ours in its place, or something simpler; data.

A row for every part of a Kubernetes cluster, or for each variant in which it can run here: what it is, and what differs
from the real thing. `resolve` says which of them run in a given simulation, and where.

`real` is the program or the kernel's own code that clusters run. `embedded` is ours, and speaks the same wire format:
both can serve one cluster. `simplified` is ours, and does less. What is `absent` is refused, never pretended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from knetsim.status import Status

Reality = Literal["real", "embedded", "simplified", "absent"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part in one of its variants, which scenario and status call `variant`; empty for a part that is not here."""

    name: str
    variant: str
    reality: Reality
    differs: str
    where: str = ""  # which clusters or workers of a running simulation use it; empty for all


#: parts that are there where a cluster has a site
_SKUPPER_ROUTER, _SKUPPER = "Skupper router", "Skupper controller"

_KUBERNETES = (
    "kube-apiserver, kube-controller-manager and kube-scheduler, unmodified, one of each and without leader election; "
    "objects are stored as JSON, limits on requests a second are far higher"
)
_CONTROL_PLANE = (
    "agents read and write etcd, in kube-apiserver's own keys, checked against its own OpenAPI structure. Pods are "
    "bound by node affinity, taints and load; Services get their addresses, EndpointSlices are kept. No users and "
    "rights, no other controllers: Deployments and their kin, custom resources, affinity between pods and topology "
    "spread are refused; pods of a worker that died leave the EndpointSlices, and are not moved"
)
_KUBELET = (
    "one process serves all workers: pods, probes, hooks, volumes, status, Events, Leases and the HTTP API behind "
    "kubectl's exec, logs, port-forward and top. What it cannot carry out is an Event on the pod and a problem of the "
    "status"
)
_CONTAINERS = (
    "mount and pid namespaces of their own; an image is a program of this machine with the image's own files over the "
    "machine's, as docs/images.md says. Limits on memory and CPU are enforced where control groups can be made"
)
_WORKER = "network, mount, UTS and IPC namespaces instead of a machine; CPU, memory and clock are shared"
_UNDERLAY = "one kernel is all machines and switches; links have no delay and no speed limit"
_NATIVE = "the same links, addresses and routes, by netlink and without programs; MACs are not random"
_AGENT = "flannel's leases, device, routes, ARP and FDB entries; one process for all workers, which repairs drift"
_EMULATOR = (
    "kube-proxy's nftables mode: same hooks, maps, choices of backends and health checks, one process for all "
    "workers; it counts connections, repairs its table, serves a contested address for the older Service; Services "
    "with only a ClusterIP share chains and two maps, where kube-proxy has chains and a map for each; TCP connections "
    "that a pod at its end never answered are forgotten with it, which kube-proxy leaves; no metrics"
)
_POLICY = (
    "the whole API in nftables, by one process for all workers; what the API leaves open: a policy counts for "
    "connections that exist too, other nodes and pods with hostNetwork are meant by ipBlock alone. IPv4 is judged, as "
    "the pod network is: link-local IPv6 between pods of one worker is not; without br_netfilter they are not at all, "
    "which the status tells"
)
_COREDNS = (
    "deployed as kubeadm does, asked each second whether it is ready; built without plugins for clouds, tracing and "
    "encrypted transports. It forwards to a name server that knows the simulation's hosts and no other name"
)
_NAMES = (
    "the records of the Kubernetes DNS specification 1.1, from one thread on the control plane's host; no Corefile, no "
    "pods of its own"
)

_LOAD_BALANCER = (
    "MetalLB's layer 2 mode: an address of a pool each, one worker answers ARP for it, another takes over; no BGP, no "
    "address for two Services, and a link that goes down is noticed at once"
)
_INGRESS = (
    "Debian's nginx; what configures it is ours, after ingress-nginx: Services instead of pods as upstreams, few of "
    "its annotations, no Lua, no admission webhook"
)

_SKROUTERD = (
    "one interior router a cluster, in its worker's network namespace; its configuration and certificates come from "
    "knetsim's controller"
)
_ROUTER = (
    "skrouterd's protocol between routers, its configuration, its management and its choice of backends, so both form "
    "one network; Python, in one thread. No edge routers, no TLS at the ends of a service, no listener with several "
    "routing keys, no policies, nothing for the network observer (VanFlow)"
)
_SITES = (
    "skupper.io/v2alpha1 with its own words in statuses, one Site and one router a cluster where Skupper has one a "
    "namespace; a listener's Service leads to a port of the router's worker. Tokens are redeemed within the engine, "
    "without HTTPS; edge, ha, MultiKeyListener and types other than tcp are refused in the status"
)

PARTS: tuple[Part, ...] = (
    Part("packets", "Linux kernel", "real", "nothing: every byte crosses the kernel's own data path"),
    Part("underlay", "Linux bridges", "simplified", _UNDERLAY),
    Part("worker", "Mininet host", "simplified", _WORKER),
    Part("etcd", "etcd", "real", "no TLS, no fsync: the data ends with the simulation"),
    Part("control plane", "kubernetes", "real", _KUBERNETES),
    Part("control plane", "embedded", "simplified", _CONTROL_PLANE),
    Part("kubelet", "knetsim's", "simplified", _KUBELET),
    Part("containers", "processes", "simplified", _CONTAINERS),
    Part("pod wiring", "plugins", "real", "the CNI plugins flannel, bridge and host-local; no portmap (no hostPort)"),
    Part("pod wiring", "native", "embedded", _NATIVE),
    Part("pod network", "flanneld", "real", "masquerading is knetsim's nft table, for both agents"),
    Part("pod network", "embedded", "embedded", _AGENT),
    Part("kube-proxy", "kube-proxy", "real", "it leaves connection tracking's limits alone: they are the kernel's"),
    Part("kube-proxy", "emulator", "embedded", _EMULATOR),
    Part("cluster DNS", "coredns", "real", _COREDNS),
    Part("cluster DNS", "embedded", "embedded", _NAMES),
    Part("NetworkPolicy", "knetsim's", "embedded", _POLICY),
    Part("load balancer", "ARP", "embedded", _LOAD_BALANCER),
    Part("ingress", "nginx", "real", _INGRESS),
    Part(_SKUPPER_ROUTER, "skrouterd", "real", _SKROUTERD),
    Part(_SKUPPER_ROUTER, "embedded", "embedded", _ROUTER),
    Part(_SKUPPER, "knetsim's", "simplified", _SITES),
)

#: parts that are chosen for each worker, or for each cluster, and where a status says what was chosen
_WORKER_KEYS: dict[str, Literal["agent", "cni", "proxy"]] = {
    "pod network": "agent",
    "pod wiring": "cni",
    "kube-proxy": "proxy",
}
_CLUSTER_KEYS: dict[str, Literal["controlPlane", "dnsServer"]] = {
    "control plane": "controlPlane",
    "cluster DNS": "dnsServer",
}
_NAMES_MAX = 4


def resolve(status: Status | None = None) -> list[Part]:
    """Every part in every variant; with the status of a simulation, those that run in it, and where they do."""
    if status is None:
        return list(PARTS)
    found = ((part, find_users(part, status)) for part in PARTS)
    return [replace(part, where=_join(users)) for part, users in found if users is not None]


def find_users(part: Part, status: Status) -> list[str] | None:
    """The clusters, or the workers of those that are mixed, which use the variant; None when none does, [] for all.

    Only parts that can be chosen are looked for; the others are everywhere.
    """
    if part.name in (_SKUPPER_ROUTER, _SKUPPER):
        wanted = (site for site in status["sites"] if part.name == _SKUPPER or site["kind"] == part.variant)
        return [site["cluster"] for site in wanted] or None
    if part.name not in _WORKER_KEYS and part.name not in _CLUSTER_KEYS:
        return []
    users: list[str] = []
    for cluster in status["clusters"]:
        if part.name in _CLUSTER_KEYS:
            users += [cluster["name"]] if cluster[_CLUSTER_KEYS[part.name]] == part.variant else []
            continue
        key = _WORKER_KEYS[part.name]
        workers = [worker["name"] for worker in cluster["workers"] if worker[key] == part.variant]
        users += [cluster["name"]] if workers and len(workers) == len(cluster["workers"]) else workers
    return users or None


def _join(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_MAX
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_NAMES_MAX])} and {more} more"
