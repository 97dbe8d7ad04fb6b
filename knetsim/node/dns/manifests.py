"""The objects by which a cluster has DNS: CoreDNS as kubeadm deploys it, or the Service of our own server; pure.

Either way it is the Service `kube-dns` in kube-system, at the tenth address of the range, where tools look for it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from string import Template

import yaml

from knetsim.api.objects import Object

NAMESPACE, SERVICE, DEPLOYMENT = "kube-system", "kube-dns", "coredns"
#: by which its pods are found, in every cluster
SELECTOR = ("k8s-app", "kube-dns")
#: where our own server listens: port 53 of that host is the hosts' name server
EMBEDDED_PORT = 1053
_OFFSET = 10
_COREDNS = Path(__file__).with_name("coredns.yaml")


def dns_address(services: IPv4Network) -> IPv4Address:
    """The address of cluster DNS in a range of ClusterIPs: the tenth, as kubeadm chooses it."""
    return services.network_address + _OFFSET


def build_coredns(address: str, domain: str) -> list[Object]:
    """Everything of CoreDNS, in the order in which it is written."""
    text = Template(_COREDNS.read_text(encoding="utf-8")).substitute(ADDRESS=address, DOMAIN=domain)
    return list(yaml.safe_load_all(text))


def build_embedded(address: str, server: str) -> list[Object]:
    """The Service of our own server, and its one endpoint: the host `server`."""
    ports = [{"name": "dns", "protocol": "UDP"}, {"name": "dns-tcp", "protocol": "TCP"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            "labels": {SELECTOR[0]: SELECTOR[1], "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "clusterIP": address,
            "ports": [{**port, "port": 53, "targetPort": EMBEDDED_PORT} for port in ports],
        },
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": SERVICE,
                "endpointslice.kubernetes.io/managed-by": "knetsim.io",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [server], "conditions": {"ready": True}}],
        "ports": [{**port, "port": EMBEDDED_PORT} for port in ports],
    }
    return [service, endpoints]
