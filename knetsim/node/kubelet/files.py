"""The files that a kubelet gives each pod, /etc/hosts and /etc/resolv.conf; pure.

Sources: Kubernetes' pkg/kubelet/kubelet_pods.go (managedHostsFileContent), pkg/kubelet/network/dns/dns.go, containerd's
internal/cri/server (parseDNSOptions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from knetsim.api.objects import Object
from knetsim.node.kubelet.host_names import HostName

_HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
_HOSTS_OF_WORKER = "# Kubernetes-managed hosts file (host network).\n"
#: what a resolver can take
_MOST_SERVERS, _MOST_SEARCHES, _LONGEST_SEARCH_LINE, _LONGEST_SEARCH = 3, 32, 2048, 253

#: called with the text of an Event with the reason DNSConfigForming
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClusterDns:
    """The cluster's DNS: the addresses of its servers and the domain of its names."""

    servers: tuple[str, ...]
    domain: str = "cluster.local"


def build_hosts(pod: Object, ip: str, name: HostName, worker_file: str) -> str:
    """A pod's /etc/hosts: itself, and its `hostAliases`; on its worker's network the worker's own, `worker_file`."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        text = _HOSTS_OF_WORKER + worker_file
    else:
        text = f"{_HOSTS}{ip}\t" + (f"{name.full}\t" if name.domain else "") + f"{name.name}\n"
    if aliases := spec.get("hostAliases"):
        lines = [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) for alias in aliases]
        text += "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"
    return text


@dataclass(frozen=True, slots=True)
class _Resolver:
    """What a resolv.conf says; options in the order in which they were named."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = [f"search {' '.join(self.searches)}"] if self.searches else []
        lines += [f"nameserver {server}" for server in self.servers]
        if self.options:
            lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in self.options))
        return "".join(f"{line}\n" for line in lines)


def build_resolv_conf(pod: Object, dns: ClusterDns | None, worker_file: str, warn: Warn) -> str:
    """A pod's /etc/resolv.conf by its `dnsPolicy` and `dnsConfig`; without a cluster DNS, that of its worker.

    `warn` hears of what had to be left out.
    """
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    of_cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))
    if policy == "None":
        resolver = _Resolver()
    elif of_cluster and dns is not None:
        resolver = _first_cluster(pod, dns, _parse(worker_file))
    else:
        resolver = _parse(worker_file)
    if config := spec.get("dnsConfig"):
        resolver = _add(resolver, config)
    # a runtime that is told nothing gives the node's own file
    return str(_Resolver(_fit_servers(resolver, warn), _fit_searches(resolver, warn), resolver.options)) or worker_file


def _first_cluster(pod: Object, dns: ClusterDns, worker: _Resolver) -> _Resolver:
    namespace, domain = pod["metadata"]["namespace"], dns.domain
    searches = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *worker.searches)
    return _Resolver(dns.servers, _once(searches), (("ndots", "5"),))


def _parse(text: str) -> _Resolver:
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            servers.append(words[1])
        elif words and words[0] == "search":
            searches = tuple(word.removesuffix(".") for word in words[1:] if word != ".")
        elif words and words[0] == "options":
            options.update(_split_option(word) for word in words[1:])
    return _Resolver(tuple(servers), searches, tuple(options.items()))


def _add(resolver: _Resolver, config: Mapping[str, Any]) -> _Resolver:
    options = dict(resolver.options)
    options.update((option["name"], option.get("value") or "") for option in config.get("options") or ())
    return _Resolver(
        _once((*resolver.servers, *(config.get("nameservers") or ()))),
        _once((*resolver.searches, *(config.get("searches") or ()))),
        tuple(options.items()),
    )


def _split_option(word: str) -> tuple[str, str]:
    name, _, value = word.partition(":")
    return name, value


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _fit_servers(resolver: _Resolver, warn: Warn) -> tuple[str, ...]:
    servers = resolver.servers[:_MOST_SERVERS]
    if servers != resolver.servers:
        warn(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
            + " ".join(servers)
        )
    return servers


def _fit_searches(resolver: _Resolver, warn: Warn) -> tuple[str, ...]:
    searches = [search for search in resolver.searches[:_MOST_SEARCHES] if len(search) <= _LONGEST_SEARCH]
    while len(" ".join(searches)) > _LONGEST_SEARCH_LINE:
        searches.pop()
    if len(searches) != len(resolver.searches):
        warn(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
            + " ".join(searches)
        )
    return tuple(searches)
