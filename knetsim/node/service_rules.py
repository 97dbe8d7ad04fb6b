"""The kube-proxy of a cluster's workers: Services and EndpointSlices in, every worker's nft table kept as they say.

What kube-proxy does. A daemon on every node watches Services and EndpointSlices and keeps a table of its node up to
date. What ours does: the same with one watch of each kind and one thread for all workers of a cluster; a Service is
translated once, and its rules are the same text for all workers unless a traffic policy or a hint differs.
How it differs: one change is in the kernel without waiting for others (kube-proxy waits a second, minSyncPeriod), and
those that come while a worker is at work are one transaction; a table that was changed by hand is made whole again
within `RESYNC_SECONDS`, where kube-proxy waits an hour.

    Store ──watch──> informers ──keys──> [services C0] ──> ServiceTable ──Rules──> WorkerServices, one per worker
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object
from knetsim.api.store import Store
from knetsim.dataplane.services.counters import AddressCounter, BackendCounter, read_counters
from knetsim.dataplane.services.host import ensure_bridge_filter, ensure_service_route, has_bridge_filter
from knetsim.dataplane.services.ports import ServicePlace, ServicePort
from knetsim.dataplane.services.stale import find_losers, may_be_stale
from knetsim.dataplane.services.table import Rules
from knetsim.dataplane.services.worker import WorkerServices
from knetsim.errors import KernelError, NotReady
from knetsim.node.service_health import ServiceHealth, build_health_check
from knetsim.node.service_objects import BY_OWNER, index_by_owner, service_of
from knetsim.node.service_table import ServiceTable
from knetsim.system.features.modules import find_module
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces
from knetsim.system.small_http import SmallHttp

#: seconds between two looks at a worker of which nothing was heard
RESYNC_SECONDS = 15.0
ZONE_LABEL = "topology.kubernetes.io/zone"
LIST_DEADLINE = 60.0

#: called with (worker, reason, message) when something failed or had to be repaired
Tell = Callable[[str, str, str], None]
#: called with (Service, reason, message) when something of it cannot be carried out
TellService = Callable[[Object, str, str], None]


@dataclass(frozen=True, slots=True)
class ServiceWorker:
    """A worker, or the control plane's host. `interface` is the one on the underlay, with `address`; `subnet` the
    worker's part of the pod network."""

    name: str
    node: str
    namespaces: Namespaces
    netlink: Netlink
    interface: str
    address: IPv4Address
    subnet: IPv4Network | None = None
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How far a worker is. `services` are in its kernel, `pending` not yet as they shall be."""

    worker: str
    services: int
    pending: int
    transactions: int
    repairs: int
    error: str


@dataclass
class _Worker:
    """A worker while the rules are served."""

    worker: ServiceWorker
    kernel: WorkerServices
    health: ServiceHealth
    desired: dict[str, Rules] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    losers: set[str] = field(default_factory=set)  # paths of ports that have lost a backend
    applied_once: bool = False
    host_checked: float = 0.0
    repairs: int = 0
    error: str = ""


class ServiceRules:
    """Services on the workers of one cluster; one use: start, stop."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        workers: Iterable[ServiceWorker],
        *,
        pod_network: IPv4Network,
        service_network: IPv4Network,
        nodes: Informer | None = None,
        repair: bool = True,
        resync_seconds: float = RESYNC_SECONDS,
        tell: Tell = lambda worker, reason, message: None,
        tell_service: TellService = lambda service, reason, message: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`nodes`: a running informer, whose zones count once they are told; a worker has its `zone` until then."""
        self.cluster = cluster
        self.services = Informer(store, "Service")
        # by owner for the cluster's other agents, which read it too
        self.slices = Informer(store, "EndpointSlice", indexes={"service": _services_of, BY_OWNER: index_by_owner})
        self._pod_network, self._service_network = pod_network, service_network
        self._repair, self._resync_seconds, self._clock = repair, resync_seconds, clock
        self._tell, self._tell_service, self._nodes = tell, tell_service, nodes
        self._table = ServiceTable(sctp=bool(find_module("sctp")))
        self._health = SmallHttp(f"service health {cluster}")
        self._pending: set[str] = set()
        self._zones: dict[str, str] = {}  # Node → zone, of those that are new
        self._progress = threading.Condition()
        self._workers = {worker.name: self._prepare(worker) for worker in workers}
        self._loop = Loop(
            f"services {cluster}",
            self._reconcile,
            self._failed,
            threads=1,
            keys=lambda: list(self._workers),
            resync_seconds=resync_seconds if repair else None,
        )

    # --- for the cluster

    def start(self) -> None:
        """Read all Services and begin; returns before they are in the kernels (see `wait_synced`). NotReady."""
        for informer in (self.services, self.slices):
            informer.start()
        for informer in (self.services, self.slices):
            informer.wait_synced(LIST_DEADLINE)
        self.services.on_change(lambda key, before, after: self._look_at({key}))
        self.slices.on_change(lambda key, before, after: self._look_at(_services_of(before, after)))
        if self._nodes is not None:
            self._nodes.on_change(self._node_changed)
        self._look_at(set())
        self._loop.start()

    def stop(self) -> None:
        """End watches and thread; the rules stay in the kernels. Twice is once."""
        for informer in (self.services, self.slices):
            informer.stop()
        if self._nodes is not None:
            self._nodes.forget(self._node_changed)
        self._loop.stop()
        self._health.stop()
        for each in self._workers.values():
            each.kernel.close()

    def wait_synced(self, timeout: float) -> None:
        """Wait until every worker has all that was heard of so far; NotReady after `timeout` seconds."""
        with self._progress:
            if not self._progress.wait_for(lambda: not self._behind(), timeout):
                behind = self._behind()
                raise NotReady(
                    f"Services of {self.cluster} are not in every kernel after {timeout:g} s",
                    why="; ".join(behind[:3]) + (f"; and {len(behind) - 3} more" if len(behind) > 3 else ""),
                    hint=f"see {self.cluster}'s Events: Service rules that failed are told there",
                )

    def status(self) -> list[ServiceStatus]:
        """How far each worker is, in their order."""
        with self._progress:
            waiting = len(self._pending)
            return [
                ServiceStatus(
                    worker=each.worker.name,
                    services=len(each.desired),
                    pending=len(each.changed) + waiting,
                    transactions=each.kernel.transactions,
                    repairs=each.repairs,
                    error=each.error,
                )
                for each in self._workers.values()
            ]

    def hosts(self) -> list[str]:
        """The hosts whose tables are kept here, in their order."""
        return list(self._workers)

    def read_counters(self, host: str) -> tuple[list[AddressCounter], list[BackendCounter]]:
        """What a host's table has counted. CommandError when the table is gone at this moment."""
        return read_counters(self._workers[host].kernel.nft)

    def served(self) -> dict[str, tuple[ServicePort, ...]]:
        """The Services that have rules, with their ports: key → ports."""
        with self._progress:
            return self._table.all_served()

    def problems(self) -> dict[str, str]:
        """Services that have no rules though they should: key → why."""
        with self._progress:
            return dict(self._table.problems)

    # --- changes

    def _look_at(self, keys: set[str]) -> None:
        with self._progress:
            self._pending |= keys
        for name in self._workers:
            self._loop.add(name)

    def _node_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if after is None or _zone_of(after) == (_zone_of(before) if before is not None else None):
            return
        with self._progress:
            self._zones[key] = _zone_of(after)
        self._look_at(set())

    def _behind(self) -> list[str]:
        if self._pending or self._zones:
            return [f"{len(self._pending)} Services and {len(self._zones)} Nodes not looked at yet"]
        return [
            f"{each.worker.name}: {each.error or f'{len(each.changed)} Services'}"
            for each in self._workers.values()
            if each.changed or not each.applied_once or each.error
        ]

    def _translate(self) -> None:
        """Take in what was heard of since the last time, for all workers."""
        with self._progress:
            pending, self._pending = self._pending, set()
            zones, self._zones = self._zones, {}
            for each in self._workers.values():
                self._move(each, zones.get(each.worker.node, each.kernel.place.zone))
            known = dict(self._table.problems)
            for key in pending:
                before = self._table.served(key)
                for changed in self._table.update(key, self.services.by_key(key), self.slices.find("service", key)):
                    for each in self._workers.values():
                        _set_desired(each, changed, self._table.rules(changed, each.kernel.place))
                if losers := find_losers(before, self._table.served(key)):
                    for each in self._workers.values():
                        each.losers |= losers
            problems = dict(self._table.problems)
        for key, what in problems.items():
            if known.get(key) != what and (service := self.services.by_key(key)) is not None:
                self._tell_service(service, "ServiceNotServed", what)

    def _move(self, each: _Worker, zone: str) -> None:
        """The worker is in that zone now."""
        if zone != each.kernel.place.zone:
            each.kernel.place = replace(each.kernel.place, zone=zone)
            for key in self._table.all_served():
                _set_desired(each, key, self._table.rules(key, each.kernel.place))

    # --- one worker

    def _prepare(self, worker: ServiceWorker) -> _Worker:
        place = ServicePlace(
            worker.node,
            worker.address,
            self._pod_network,
            self._service_network,
            worker.zone,
            routed=None if has_bridge_filter(worker.namespaces) else worker.subnet,
        )
        return _Worker(worker, WorkerServices(worker.namespaces, place), ServiceHealth(self._health, worker.namespaces))

    def _reconcile(self, name: str) -> float | None:
        each = self._workers[name]
        self._translate()
        due = self._ensure_host(each)
        if self._repair and (drift := each.kernel.find_drift(thorough=due)):
            self._repaired(each, drift)
        with self._progress:
            changed, losers = set(each.changed), set(each.losers)
        again = each.kernel.apply(each.desired, changed)
        ports = (port for key in changed for port in self._table.served(key))
        each.kernel.forget_stale(may_be_stale(ports, losers))
        self._answer_checks(each, changed)
        with self._progress:
            each.changed -= changed
            each.losers -= losers
            each.applied_once, each.error = True, ""
            self._progress.notify_all()
        return again

    def _answer_checks(self, each: _Worker, changed: set[str]) -> None:
        """Have load balancers told of these Services' backends on the worker, now that its rules are there."""
        each.health.note(True)
        node = each.worker.node
        checks = {key: build_health_check(self._table.served(key), node) for key in changed | each.health.failed}
        for key, why in each.health.apply(checks).items():
            if (service := self.services.by_key(key)) is not None:
                self._tell_service(service, "FailedToStartServiceHealthcheck", f"{node} cannot listen on {why}")

    def _ensure_host(self, each: _Worker) -> bool:
        """The kernel's settings beside rules, and its own answers, at the start and then with every resync; whether it
        was time for that."""
        now, worker, again = self._clock(), each.worker, each.applied_once
        if again and (not self._repair or now < each.host_checked + self._resync_seconds / 2):
            return False
        each.host_checked = now
        wrong = ensure_host(worker, self._service_network)
        if wrong and again:
            self._repaired(each, "; ".join(wrong))
        if worker.subnet is not None:  # a Node; the control plane's host is none
            try:
                each.health.start()
            except KernelError as error:
                self._tell(worker.name, "ServicesNotTold", str(error))
        return True

    def _repaired(self, each: _Worker, what: str) -> None:
        with self._progress:
            each.repairs += 1
        self._tell(each.worker.name, "ServicesRepaired", what)

    def _failed(self, name: str, error: Exception, pause: float) -> None:
        self._workers[name].health.note(False)
        with self._progress:
            self._workers[name].error = str(error)
            self._progress.notify_all()
        self._tell(name, "ServicesFailed", f"{error}; the next attempt makes the whole table, in {pause:.1f} s")


def ensure_host(worker: ServiceWorker, service_network: IPv4Network) -> list[str]:
    """Have what a host needs beside rules, whoever makes those; what was not so, in words."""
    wrong = []
    if ensure_bridge_filter(worker.namespaces):
        wrong.append("bridged frames were hidden from the packet filter")
    if ensure_service_route(worker.netlink, worker.interface, worker.address, service_network):
        wrong.append(f"there was no route to {service_network}")
    return wrong


def _zone_of(node: Object) -> str:
    return str((node["metadata"].get("labels") or {}).get(ZONE_LABEL, ""))


def _services_of(*slices: Object | None) -> set[str]:
    return {key for each in slices if each is not None and (key := service_of(each))}


def _set_desired(each: _Worker, key: str, rules: Rules | None) -> None:
    if rules is None:
        each.desired.pop(key, None)
    else:
        each.desired[key] = rules
    each.changed.add(key)
