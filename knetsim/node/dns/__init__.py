"""Cluster DNS as objects want it: what the name server knows, and by which Service it is reached.

    objects.py    pure: Services and EndpointSlices → names      feed.py         kept up to date from informers
    manifests.py  pure: the Service, and CoreDNS as kubeadm deploys it (coredns.yaml)

The server itself, and the design note, are in dataplane/dns; who runs which is put together in cluster_dns.py.
"""

from knetsim.node.dns.feed import NamesFeed
from knetsim.node.dns.manifests import (
    DEPLOYMENT,
    EMBEDDED_PORT,
    NAMESPACE,
    SELECTOR,
    SERVICE,
    build_coredns,
    build_embedded,
    dns_address,
)
from knetsim.node.dns.objects import read_names

__all__ = [
    "DEPLOYMENT",
    "EMBEDDED_PORT",
    "NAMESPACE",
    "SELECTOR",
    "SERVICE",
    "NamesFeed",
    "build_coredns",
    "build_embedded",
    "dns_address",
    "read_names",
]
