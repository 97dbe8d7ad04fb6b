"""The real kube-proxy of one worker: its configuration and command line; pure.

Unmodified, in its mode nftables, in the worker's namespaces. What differs from a machine: the number of tracked
connections belongs to the whole kernel and cannot be set from a network namespace, so kube-proxy is told to leave
connection tracking alone (with the defaults it ends at once: nf_conntrack_max, permission denied). It owns the tables
`ip kube-proxy` and `ip6 kube-proxy`, which stay when it ends. What a worker needs beside (bridged frames, a route) is
host.py's, with either proxy.
Commands: `C0w1 nft list table ip kube-proxy`, `C0w1 curl localhost:10256/healthz`. Cost: 60 MB a worker, and a second
until a change is in the kernel (minSyncPeriod).
"""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

CONFIG_NAME = "kube-proxy.yaml"
LOG_NAME = "kube-proxy.log"
HEALTHZ_PORT = 10256
#: for the node itself, on its loopback address
STATUS_PORT = 10249


def build_config(node: str, pod_network: IPv4Network, kubeconfig: Path) -> dict[str, Any]:
    """The configuration file of the kube-proxy on the Node `node`, which must exist with an address.

    Source: kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node,
        "clusterCIDR": str(pod_network),
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": f"0.0.0.0:{HEALTHZ_PORT}",
    }


def build_argv(program: str, directory: Path) -> list[str]:
    """The command line, for a configuration file in the worker's `directory`."""
    return [program, f"--config={directory / CONFIG_NAME}"]
