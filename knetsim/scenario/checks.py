"""What a schema cannot say: which checks there are, what each reads, and when it can be trusted.

A check of a cluster names the keys that it reads. Where the structure of one of them is already known to be wrong, the
check is left out: complaints about a default that the user never meant would only confuse. So all mistakes come out at
once, and no mistake comes out twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from knetsim.errors import Problem
from knetsim.scenario import addressing, naming, outside, sites
from knetsim.scenario.draft import Draft, cluster_path
from knetsim.scenario.files import nearest_file
from knetsim.scenario.spec import ClusterSpec
from knetsim.scenario.wording import quote

_ClusterCheck = Callable[[Draft, ClusterSpec], Iterator[Problem]]


def check_proxies(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """The real kube-proxy asks an API server, and only Kubernetes' own control plane has one."""
    if cluster.control_plane != "embedded":
        return
    for index, worker in enumerate(cluster.workers):
        own = cluster_path(cluster, "workers", index, "proxy")
        path = own if draft.written(own) else cluster_path(cluster, "services", "proxy")
        if worker.proxy == "kube-proxy":
            what = f"proxy 'kube-proxy' of {worker.name} has no API server to ask: controlPlane is 'embedded'"
            yield draft.problem(path, what, "use emulator, or controlPlane kubernetes")
            return


def check_dns(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """CoreDNS is a Deployment that asks an API server: only Kubernetes' own control plane has both."""
    if cluster.control_plane == "embedded" and cluster.dns.server == "coredns":
        what = f"dns.server 'coredns' of {cluster.name} has no API server to ask: controlPlane is 'embedded'"
        yield draft.problem(cluster_path(cluster, "dns", "server"), what, "use embedded, or controlPlane kubernetes")


#: each check of a cluster, and the keys that it reads
_CLUSTER_CHECKS: tuple[tuple[_ClusterCheck, tuple[str, ...]], ...] = (
    (naming.check_worker_names, ("workers",)),
    (naming.check_interface_names, ("name", "workers", "etcd")),
    (naming.check_labels, ("workers",)),
    (addressing.check_host_room, ("subnet", "etcd")),
    (addressing.check_cluster_overlaps, ("podNetwork", "services", "subnet")),
    (addressing.check_service_cidr, ("services",)),
    (addressing.check_pod_network, ("podNetwork",)),
    (addressing.check_backend, ("podNetwork",)),
    (check_dns, ("dns", "controlPlane")),
    (outside.check_load_balancers, ("podNetwork", "services", "subnet", "etcd", "workers")),
    (outside.check_ingress, ("workers", "ingress")),
    (check_proxies, ("workers", "services", "controlPlane")),
)


def check_manifests(draft: Draft) -> Iterator[Problem]:
    """Each entry of `manifests` is there, once."""
    seen: dict[str, int] = {}
    for manifest in draft.scenario.manifests:
        file, line, column = draft.document.file, manifest.line, manifest.column
        try:
            manifest.path.stat()
        except OSError as error:
            what = f"manifests: {quote(manifest.written)} cannot be read: {error.strerror}"
            hint = nearest_file(manifest.path) or "paths are relative to the folder of the scenario file"
            yield Problem(file, line, column, what, hint)
            continue
        key = str(manifest.path)
        if key in seen:
            what = f"manifests: {quote(manifest.written)} is listed twice (first in line {seen[key]})"
            yield Problem(file, line, column, what, "remove one")
        seen.setdefault(key, line)


def find_semantic_problems(draft: Draft) -> list[Problem]:
    """Every mistake beyond the structure."""
    problems = [*naming.check_cluster_names(draft), *naming.check_clashes(draft)]
    problems += [*addressing.check_special(draft), *addressing.check_host_subnets(draft), *check_manifests(draft)]
    for cluster in draft.scenario.clusters:
        for check, reads in _CLUSTER_CHECKS:
            if all(draft.sound(cluster_path(cluster, key)) for key in reads):
                problems += check(draft, cluster)
    problems += sites.check_multicluster(draft)
    return problems
