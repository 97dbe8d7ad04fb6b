"""Services of type LoadBalancer: an address of the underlay each, and a worker that answers for it.

What MetalLB does in layer 2 mode, on clusters without a cloud: a controller gives each Service an address of a pool and
writes it into its status; of the speakers on the nodes one answers ARP for it, and another takes over when that one
fails. The packets then belong to kube-proxy's rules, which know the address from the status.
What ours does: the same in one thread for all workers of a cluster. A worker may answer when its Node is Ready and its
link is up; with externalTrafficPolicy: Local, when it has a ready backend, too. Where MetalLB asks memberlist, a link
that goes down is seen at once here, and a worker that is only cut off when its Node is NotReady.
How it differs: a Service without backends is announced (with the policy Cluster), so that who asks is refused at once;
no address is shared by two Services. As with MetalLB the address is on no interface, so ping is not answered.

    Store ──watch──> [load balancers C0] ──allot──> status.loadBalancer
                                         └─choose──> Announcer: ARP, one socket per worker that answers

Commands: `kubectl get service -o wide`, `kubectl describe service`, `C0e1 ip neigh`, `C0e1 curl 10.1.255.1`.
Cost: nothing without such a Service; with one, a socket and a watch over links.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, key_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import NotFound, NotReady
from knetsim.node.load_balancer_pool import (
    Allotment,
    Pool,
    allot,
    choose_announcer,
    find_local_nodes,
    is_ours,
    may_announce,
    read_addresses,
)
from knetsim.node.service_objects import BY_OWNER
from knetsim.system.arp import Announcer
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces
from knetsim.system.sysctl import write_sysctl

RESYNC_SECONDS = 15.0
LIST_DEADLINE = 60.0
_ALL = "services"

#: called with (the object, a reason, a message)
Tell = Callable[[Object, str, str], None]


@dataclass(frozen=True, slots=True)
class BalancingWorker:
    """A worker; `interface` is the one on the underlay."""

    name: str
    node: str
    namespaces: Namespaces
    netlink: Netlink
    interface: str


class LoadBalancers:
    """Controller and speakers of one cluster; an add-on."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        nodes: Informer,
        services: Informer,
        slices: Informer,
        workers: Iterable[BalancingWorker],
        pool: Pool | None,
        *,
        tell: Tell = lambda obj, reason, message: None,
        note: Tell = lambda obj, reason, message: None,
    ) -> None:
        """`nodes`, `services` and `slices` are running informers, the last one with the index BY_OWNER. `tell` is for
        warnings, `note` for what is as it should be."""
        self._cluster, self._store, self._nodes, self._pool = cluster, store, nodes, pool
        self._services, self._slices = services, slices
        self._tell, self._note = tell, note
        self._workers = {worker.node: worker for worker in workers}
        self._announcer: Announcer | None = None
        self._progress = threading.Condition()
        self._seen: dict[str, str] = {}  # uids of the Services that were looked at
        self._problems: dict[str, str] = {}
        self._homes: dict[str, str] = {}  # which Node answers for a Service
        self._error = ""
        self._loop = Loop(
            f"load balancers {cluster}",
            self._reconcile,
            self._failed,
            threads=1,
            keys=lambda: [_ALL] if self._seen else [],
            resync_seconds=RESYNC_SECONDS,
        )

    # --- the add-on

    def start(self) -> None:
        """Begin; returns at once."""
        self._services.on_change(self._service_changed)
        self._nodes.on_change(self._node_changed)
        self._loop.start()

    def wait_ready(self) -> None:
        """Wait until every Service that is known by now has its address, or was told why not; NotReady."""
        wanted = {key_of(each): uid_of(each) for each in self._store.list("Service").items if is_ours(each)}
        with self._progress:
            if not self._progress.wait_for(lambda: wanted.items() <= self._seen.items(), LIST_DEADLINE):
                raise NotReady(f"load balancers of {self._cluster} have no addresses", why=self._error)

    def problems(self) -> list[tuple[str, str]]:
        """Services without an address, or without a worker that answers for it."""
        with self._progress:
            found = [(f"Service {self._cluster}/{key}", why) for key, why in sorted(self._problems.items())]
            return found + ([(f"load balancers of {self._cluster}", self._error)] if self._error else [])

    def homes(self) -> dict[str, str]:
        """Which Node answers for each Service's address."""
        with self._progress:
            return dict(self._homes)

    def stop(self) -> None:
        """Cease to answer. Twice is once."""
        self._nodes.forget(self._node_changed)
        self._services.forget(self._service_changed)
        self._slices.forget(self._slice_changed)
        self._loop.stop()
        if self._announcer is not None:
            self._announcer.close()

    # --- changes

    def _service_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if any(each is not None and (is_ours(each) or read_addresses(each)) for each in (before, after)):
            self._loop.add(_ALL)

    def _slice_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        self._loop.add(_ALL)

    def _node_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        could, can = (each is not None and may_announce(each) for each in (before, after))
        if could != can and self._seen:
            self._loop.add(_ALL)

    def _reconcile(self, key: str) -> float | None:
        services = {key_of(each): each for each in self._services.items()}
        ours = {key: each for key, each in services.items() if is_ours(each)}
        if ours:
            self._follow()
        allotment = allot(services.values(), self._pool)
        for key, service in services.items():
            self._write_address(key, service, allotment)
        homes = self._announce(ours, allotment)
        problems = {**allotment.problems, **_find_homeless(allotment, homes, ours)}
        for key, what in allotment.problems.items():
            if self._problems.get(key) != what or self._seen.get(key) != uid_of(ours[key]):
                self._tell(ours[key], "AllocationFailed", f"failed to allocate an address: {what}")
        with self._progress:
            self._seen = {key: uid_of(each) for key, each in ours.items()}
            self._problems, self._homes, self._error = problems, homes, ""
            self._progress.notify_all()
        return None

    def _follow(self) -> None:
        """From the first such Service on."""
        if self._announcer is None:
            self._announcer = Announcer(self._cluster, lambda host: self._loop.add(_ALL))
            self._slices.on_change(self._slice_changed)

    # --- addresses

    def _write_address(self, key: str, service: Object, allotment: Allotment) -> None:
        """Have the status say the address; a Service that is none of ours and of no other class says none."""
        address = allotment.addresses.get(key)
        if not is_ours(service) and service["spec"].get("type") == "LoadBalancer":
            return  # another class', or about to go
        wanted = [str(address)] if address is not None else []
        if read_addresses(service) == wanted:
            return
        balancer = {"ingress": [{"ip": text, "ipMode": "VIP"} for text in wanted]} if wanted else {}
        try:
            self._store.update_status(
                {**service, "status": {**(service.get("status") or {}), "loadBalancer": balancer}}
            )
        except NotFound:
            return  # gone meanwhile
        if wanted:
            self._note(service, "IPAllocated", f'Assigned IP ["{address}"]')

    # --- who answers

    def _announce(self, ours: Mapping[str, Object], allotment: Allotment) -> dict[str, str]:
        """Have a worker answer for each address; which, by Service."""
        announcer = self._announcer
        if announcer is None:
            return {}
        able = {node for node in self._workers if self._is_able(node)}
        homes: dict[str, str] = {}
        wanted: dict[str, set[IPv4Address]] = {node: set() for node in self._workers}
        for key, address in allotment.addresses.items():
            nodes = able
            if ours[key]["spec"].get("externalTrafficPolicy") == "Local":
                nodes = able & find_local_nodes(self._slices.find(BY_OWNER, key))
            home = choose_announcer(address, nodes)
            if home is not None:
                homes[key] = home
                wanted[home].add(address)
        # first those that cease: two that answer would be worse than nobody for a moment
        for keep in (True, False):
            for node, addresses in wanted.items():
                worker = self._workers[node]
                now = addresses & announcer.addresses(worker.name) if keep else addresses
                if now and not announcer.addresses(worker.name):
                    _keep_from_redirecting(worker)
                announcer.announce(worker.name, worker.namespaces, worker.interface, now)
        for key, home in homes.items():
            if self._homes.get(key) != home:
                self._note(ours[key], "nodeAssigned", f'announcing from node "{home}" with protocol "layer2"')
        return homes

    def _is_able(self, name: str) -> bool:
        """Whether a worker can answer: its Node is Ready, its link has a carrier."""
        node = self._nodes.get(None, name)
        if node is None or not may_announce(node):
            return False
        link = self._workers[name].netlink.link(self._workers[name].interface)
        return link is not None and link.up and link.carrier

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        with self._progress:
            self._error = str(error)


def _keep_from_redirecting(worker: BalancingWorker) -> None:
    """What comes for an address that nobody serves would go out where it came in, and the kernel would tell the sender
    so; having said that, it holds back for a second what the sender waits for, that it is refused (net/ipv4/route.c:
    ip_rt_send_redirect, one limit for both)."""
    settings = {f"net.ipv4.conf.{name}.send_redirects": "0" for name in ("all", worker.interface)}
    write_sysctl(worker.namespaces, settings)


def _find_homeless(allotment: Allotment, homes: Mapping[str, str], ours: Mapping[str, Object]) -> dict[str, str]:
    found = {}
    for key in allotment.addresses.keys() - homes.keys():
        local = ours[key]["spec"].get("externalTrafficPolicy") == "Local"
        found[key] = f"no worker can answer for {allotment.addresses[key]}" + (
            ", as none has a backend" if local else ""
        )
    return found
