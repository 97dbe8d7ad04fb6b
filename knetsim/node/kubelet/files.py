"""The files that a kubelet gives each pod, /etc/hosts and /etc/resolv.conf; pure.

Sources: Kubernetes' pkg/kubelet/kubelet_pods.go (managedHostsFileContent), pkg/kubelet/network/dns/dns.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from knetsim.api.objects import Object
from knetsim.node.kubelet.commands import build_hostname

_HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
fe00::\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True)
class ClusterDns:
    """The cluster's DNS: the addresses of its servers and the domain of its names."""

    servers: tuple[str, ...]
    domain: str = "cluster.local"


def build_hosts(pod: Object, ip: str, domain: str = "cluster.local") -> str:
    """A pod's /etc/hosts: itself, and its `hostAliases`."""
    spec, hostname = pod["spec"], build_hostname(pod)
    if subdomain := spec.get("subdomain"):
        hostname = f"{hostname}.{subdomain}.{pod['metadata']['namespace']}.svc.{domain}\t{hostname}"
    text = f"{_HOSTS}{ip}\t{hostname}\n"
    if aliases := spec.get("hostAliases"):
        lines = [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) for alias in aliases]
        text += "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"
    return text


def build_resolv_conf(pod: Object, dns: ClusterDns | None, worker_file: str) -> str:
    """A pod's /etc/resolv.conf by its `dnsPolicy`; without a cluster DNS, that of its worker."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "None":
        return ""
    if policy == "Default" or dns is None:
        return worker_file
    namespace = pod["metadata"]["namespace"]
    search = f"search {namespace}.svc.{dns.domain} svc.{dns.domain} {dns.domain}\n"
    return search + "".join(f"nameserver {server}\n" for server in dns.servers) + "options ndots:5\n"
