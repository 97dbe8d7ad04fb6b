"""Who answers names in a cluster: CoreDNS in its pods, or our own server; and the name server of its hosts.

The choice is `dns.server` of the scenario. `auto` is CoreDNS where it is installed and the cluster has Kubernetes' own
control plane, which alone can run a Deployment; else our own. With `none` pods have their worker's name server only.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from knetsim.api.informer import Informer
from knetsim.api.objects import Object
from knetsim.api.store import Store
from knetsim.control_choice import KUBERNETES
from knetsim.control_planes import Plane
from knetsim.dataplane.dns import ClusterZone, HostNames, HostZone, NameServer, find_unanswered
from knetsim.errors import MissingTool
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.dns import EMBEDDED_PORT, NAMESPACE, NamesFeed, build_coredns, build_embedded, dns_address
from knetsim.node.kubelet import ClusterDns
from knetsim.node.worker import Worker
from knetsim.scenario import ClusterSpec
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until

COREDNS, EMBEDDED, NONE = "coredns", "embedded", "none"
DOMAIN = "cluster.local"
WRITE_DEADLINE, ANSWER_DEADLINE = 60.0, 120.0
#: seconds within which a worker must have an answer; a name server on the same machine needs a thousandth of it
ANSWER_SECONDS = 1.0
_HOSTS_PORT = 53
#: a name that every server after the specification knows
_QUESTION = (f"dns-version.{DOMAIN}", "TXT")


def choose_dns(spec: ClusterSpec, control_plane: str) -> str:
    """Who answers names of the cluster. MissingTool when CoreDNS is demanded and cannot run."""
    wanted = spec.dns.server
    if wanted not in ("auto", COREDNS):
        return wanted
    if control_plane == KUBERNETES and find_program(COREDNS) is not None:
        return COREDNS
    if wanted == COREDNS:
        why = "it is not installed" if control_plane == KUBERNETES else "the control plane is knetsim's own"
        hint = "./utils/setup builds it, and Kubernetes' control plane; or say dns: {server: embedded}"
        raise MissingTool("CoreDNS cannot run", spec.name, why, hint)
    return EMBEDDED


def find_dns_address(spec: ClusterSpec, server: str) -> str:
    """Where the cluster's DNS is asked, whoever is the server; empty when nobody is."""
    return "" if server == NONE else str(dns_address(spec.services.cidr))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesParts:
    """What `ClusterNames` stands on. `services` and `slices` are running informers, the latter with the index BY_OWNER;
    `hosts` are all hosts of the simulation."""

    spec: ClusterSpec
    plane: Plane
    store: Store
    host: ControlPlaneHost
    workers: Sequence[Worker]
    hosts: HostNames
    services: Informer
    slices: Informer


class ClusterNames:
    """Names in one cluster; an add-on (addons.py), used once."""

    def __init__(self, server: str, parts: NamesParts) -> None:
        """`server` is what `choose_dns` chose."""
        self.server, self._parts = server, parts
        self.address = find_dns_address(parts.spec, server)
        self._namespaces = Informer(parts.store, "Namespace")
        self._feed = NamesFeed(parts.services, parts.slices, self._namespaces)
        self._listener = NameServer(f"names {parts.spec.name}")
        self._writer = ThreadPoolExecutor(1, f"write dns {parts.spec.name}")
        self._written: Future[None] | None = None
        self._served = False

    @property
    def resolver(self) -> ClusterDns | None:
        """What the kubelet writes into pods' resolv.conf; None without cluster DNS."""
        return ClusterDns((self.address,), DOMAIN) if self.address else None

    def start(self) -> None:
        """See Addon."""
        parts, hosts = self._parts, HostZone(self._parts.hosts)
        place, address = parts.host.place, parts.host.address
        self._listener.start()
        self._listener.listen(place, address, _HOSTS_PORT, [hosts])
        if self.server == NONE:
            return
        self._namespaces.start()
        if self.server == EMBEDDED:
            self._feed.start()
            zone = ClusterZone(DOMAIN, self._feed.names, self.address)
            self._listener.listen(place, address, EMBEDDED_PORT, [zone, hosts])
            objects = build_embedded(self.address, address)
        else:
            objects = build_coredns(self.address, DOMAIN)
        # nothing waits for it, and an API server needs some time for each
        self._written = self._writer.submit(self._write, objects)

    def _write(self, objects: Sequence[Object]) -> None:
        what = f"the namespace {NAMESPACE}, which the control plane makes"
        self._namespaces.wait_for(lambda known: known.get(None, NAMESPACE) is not None, WRITE_DEADLINE, what)
        for obj in objects:
            self._parts.plane.apply(obj)

    def wait_ready(self) -> None:
        """See Addon: its objects are written. Their pods are waited for like all others."""
        if self._written is not None:
            self._written.result()

    def wait_answered(self) -> None:
        """Wait until every worker gets answers; NotReady."""
        if self.server == NONE:
            return
        hint = "is its Service as it was? kubectl -n kube-system get service,endpointslices,pods"
        where = self._parts.spec.name
        for workers in (self._parts.workers[:1], self._parts.workers):  # all of them only when it is worth while
            wait_until("cluster DNS", lambda some=workers: self._explain(some), ANSWER_DEADLINE, where=where, hint=hint)  # type: ignore[misc]
        self._served = True

    def problems(self) -> list[tuple[str, str]]:
        """See Addon: workers whose questions to the Service's address are not answered."""
        what = self._explain(self._parts.workers) if self._served else ""
        return [(f"DNS of {self._parts.spec.name}", what)] if what else []

    def _explain(self, workers: Sequence[Worker]) -> str:
        places = {worker.name: worker.place for worker in workers}
        found = find_unanswered(places, self.address, *_QUESTION, ANSWER_SECONDS)
        reasons: dict[str, list[str]] = {}
        for worker, why in found.items():
            reasons.setdefault(why, []).append(worker)
        words = [
            f"{', '.join(hosts[:3])}{f' and {len(hosts) - 3} more' if len(hosts) > 3 else ''}: {why}"
            for why, hosts in reasons.items()
        ]
        return f"no answer from {self.address}: {'; '.join(words)}" if words else ""

    def stop(self) -> None:
        """See Addon."""
        self._served = False
        self._writer.shutdown(cancel_futures=True)
        self._feed.stop()
        self._namespaces.stop()
        self._listener.stop()
