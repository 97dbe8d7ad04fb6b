"""Checks of what leads into a cluster from outside: load balancers' addresses, workers with an ingress.

Addresses of load balancers are found by ARP, so they must be neighbours of whoever asks: in the underlay's network, and
nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from knetsim import names
from knetsim.errors import Problem
from knetsim.scenario.draft import Draft, cluster_path
from knetsim.scenario.spec import AddressPool, ClusterSpec


def check_load_balancers(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """The pool is in the underlay, and none of its addresses is a host's, a pod's, a Service's or another cluster's."""
    pool, path = cluster.services.load_balancers, cluster_path(cluster, "services", "loadBalancers")
    if pool is None or not draft.written(path):
        return
    what = f"loadBalancers {pool} of cluster {cluster.name}"
    underlay = draft.scenario.underlay.network
    if draft.sound(("spec", "underlay")) and not (pool.first in underlay and pool.last in underlay):
        example = IPv4Network((cluster.subnet.broadcast_address, 28), strict=False)
        hint = f"hosts look for neighbours only there, for example {example}"
        yield draft.problem(path, f"{what} is not in the underlay's network {underlay}", hint)
    for word, network in (("pod network", cluster.pod_network.network), ("services.cidr", cluster.services.cidr)):
        if pool.overlaps(network.network_address, network.broadcast_address):
            yield draft.problem(path, f"{what} overlaps the {word} {network}", "an address means one thing")
    yield from _check_others(draft, cluster, pool, what)


def _check_others(draft: Draft, cluster: ClusterSpec, pool: AddressPool, what: str) -> Iterator[Problem]:
    path = cluster_path(cluster, "services", "loadBalancers")
    for other in draft.scenario.clusters:
        if not all(draft.sound(cluster_path(other, key)) for key in ("subnet", "etcd", "workers")):
            continue
        host = next((host for host, address in other.host_addresses().items() if address in pool), "")
        if host:
            yield draft.problem(path, f"{what} holds the address of {host}", "the end of the subnet is usually free")
        theirs = other.services.load_balancers
        first = draft.written(cluster_path(other, "services", "loadBalancers")) and other.index > cluster.index
        if other is not cluster and not first and theirs is not None and pool.overlaps(theirs.first, theirs.last):
            yield draft.problem(path, f"{what} overlaps {theirs} of cluster {other.name}", "all share one layer 2")


def check_ingress(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """The workers are the cluster's, each once; the ports are free there, and two."""
    path = cluster_path(cluster, "ingress")
    known = [worker.name for worker in cluster.workers]
    for index, name in enumerate(cluster.ingress.workers):
        if not draft.written((*path, "workers", index)):
            continue
        if name not in known:
            what = f"ingress.workers: cluster {cluster.name} has no worker '{name}'"
            yield draft.problem((*path, "workers", index), what, names.did_you_mean(name, known))
        elif name in cluster.ingress.workers[:index]:
            yield draft.problem((*path, "workers", index), f"ingress.workers: '{name}' is there twice", "remove one")
    for key, port in (("httpPort", cluster.ingress.http_port), ("httpsPort", cluster.ingress.https_port)):
        owner = names.find_port_owner(names.WORKER_PORTS, "0.0.0.0", port)
        if owner:
            yield draft.problem((*path, key), f"{key} {port} is taken on every worker by {owner}", "for example 8001")
    if cluster.ingress.http_port == cluster.ingress.https_port:
        key = "httpsPort" if draft.written((*path, "httpsPort")) else "httpPort"
        yield draft.problem((*path, key), f"httpPort and httpsPort are both {cluster.ingress.http_port}", "choose two")
