"""What the Services of a cluster want of every worker: objects in, `Rules` per worker out; no thread, no kernel.

What leads to a Service leads to one. Two may claim it: a ClusterIP or a NodePort by writes past the API server, which
prevents that, an external address by the API itself, which does not. The older one has it, but a Service always has its
own ClusterIP. The other does without: without a contested external address or NodePort the rest of it is served,
without its ClusterIP nothing is. A problem says so until what it claims is free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from knetsim.api.objects import Object, key_of
from knetsim.dataplane.services.ports import ServicePlace, ServicePort
from knetsim.dataplane.services.rules import build_service, depends_on_worker
from knetsim.dataplane.services.table import Rules
from knetsim.errors import ObjectError
from knetsim.node.service_objects import read_service

#: what leads to a Service: `100.64.0.1` (a ClusterIP), `10.1.1.1 . tcp . 80`, `nodeport . tcp . 30080`
Claim = str
#: who comes first: who claims its own ClusterIP, then the creation time as Kubernetes writes it, then the key
_Rank = tuple[bool, str, str]


def find_claims(ports: Iterable[ServicePort]) -> set[Claim]:
    """What a Service claims for itself alone; pure."""
    claims: set[Claim] = set()
    for port in ports:
        claims.add(str(port.cluster_ip))
        claims |= {_front(port, address) for address in (port.cluster_ip, *port.outside_ips)}
        if port.node_port:
            claims.add(_front(port, "nodeport"))
    return claims


def _front(port: ServicePort, address: object) -> Claim:
    number = port.node_port if address == "nodeport" else port.port
    return f"{address} . {port.protocol} . {number}"


def without_claims(ports: Iterable[ServicePort], lost: Collection[Claim]) -> tuple[ServicePort, ...]:
    """The ports of a Service that does without `lost`; none when another one has its ClusterIP. Pure."""
    return tuple(
        replace(
            port,
            external_ips=tuple(each for each in port.external_ips if _front(port, each) not in lost),
            balancer_ips=tuple(each for each in port.balancer_ips if _front(port, each) not in lost),
            node_port=0 if _front(port, "nodeport") in lost else port.node_port,
        )
        for port in ports
        if str(port.cluster_ip) not in lost
    )


class ServiceTable:
    """All Services as rules; used by one thread."""

    def __init__(self, *, sctp: bool = True) -> None:
        """`sctp`: whether programs on this kernel can speak it."""
        self._sctp = sctp
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._created: dict[str, str] = {}
        self._claimants: dict[Claim, set[str]] = {}
        self._served: dict[str, tuple[ServicePort, ...]] = {}
        self._common: dict[str, Rules] = {}
        self.problems: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def keys(self) -> Collection[str]:
        """The Services that have ports."""
        return self._ports.keys()

    def ports(self, key: str) -> tuple[ServicePort, ...]:
        """The ports of a Service, or none."""
        return self._ports.get(key, ())

    def served(self, key: str) -> tuple[ServicePort, ...]:
        """The same without what another Service has."""
        return self._served.get(key, ())

    def all_served(self) -> dict[str, tuple[ServicePort, ...]]:
        """The same of every Service."""
        return dict(self._served)

    def update(self, key: str, service: Object | None, slices: Sequence[Object]) -> set[str]:
        """Take in what the Service `key` and its slices are now; the Services whose rules change by it."""
        ports, problem = _read(service, slices)
        created = (service["metadata"].get("creationTimestamp") or "") if service else ""
        before = self._ports.get(key, ())
        if ports == before and created == self._created.get(key, created):
            if not ports:
                self._note_problem(key, problem)
            return set()
        self._ports.pop(key, None)
        self._created.pop(key, None)
        if ports:
            self._ports[key], self._created[key] = ports, created
        touched = self._claim(key, find_claims(before), find_claims(ports)) | {key}
        for each in touched:
            self._serve(each, problem if each == key else "")
        return touched

    def rules(self, key: str, place: ServicePlace) -> Rules | None:
        """What the worker `place` shall have of a Service; None for nothing. The same object for all workers, unless
        the Service means different things on them."""
        ports = self._served.get(key)
        if not ports:
            return None
        if depends_on_worker(ports):
            return build_service(ports, place)
        if key not in self._common:
            self._common[key] = build_service(ports, place)
        return self._common[key]

    def _claim(self, key: str, before: set[Claim], after: set[Claim]) -> set[str]:
        """Change what `key` claims; the others that claim one of these too."""
        others: set[str] = set()
        for claim in before - after:
            claimants = self._claimants[claim]
            claimants.discard(key)
            others |= claimants
            if not claimants:
                del self._claimants[claim]
        for claim in after:
            claimants = self._claimants.setdefault(claim, set())
            claimants.add(key)
            others |= claimants
        return others - {key}

    def _serve(self, key: str, problem: str) -> None:
        """Work out what of a Service is served, and what is wrong with it."""
        self._common.pop(key, None)
        self._served.pop(key, None)
        lost = self._lost(key)
        if ports := self._ports.get(key):
            self._served[key] = without_claims(ports, lost) if lost else ports
        self._note_problem(key, problem or self._explain(key, lost))

    def _lost(self, key: str) -> dict[Claim, str]:
        """What the Service claims and another one has, and who."""
        found = {}
        for claim in find_claims(self._ports.get(key, ())):
            claimants = self._claimants[claim]
            first = key if len(claimants) == 1 else min(claimants, key=lambda each: self._rank(claim, each))
            if first != key:
                found[claim] = first
        return found

    def _rank(self, claim: Claim, key: str) -> _Rank:
        own = str(self._ports[key][0].cluster_ip)
        return claim.partition(" ")[0] != own, self._created[key], key

    def _explain(self, key: str, lost: Mapping[Claim, str]) -> str:
        """What is wrong with a Service that could be read; empty when nothing is."""
        if lost:
            claim = min(lost)
            return f"{claim} belongs to Service {lost[claim]}"
        if not self._sctp and any(port.protocol == "sctp" for port in self.ports(key)):
            return "this kernel has no SCTP (modprobe sctp): its rules are there, but no program can use them"
        return ""

    def _note_problem(self, key: str, problem: str) -> None:
        if problem:
            self.problems[key] = problem
        else:
            self.problems.pop(key, None)


def _read(service: Object | None, slices: Sequence[Object]) -> tuple[tuple[ServicePort, ...], str]:
    if service is None:
        return (), ""
    try:
        return read_service(service, sorted(slices, key=key_of)), ""
    except ObjectError as error:
        return (), str(error)
