"""What the Services of a cluster want of every worker: objects in, `Rules` per worker out; no thread, no kernel.

An address belongs to one Service. When two claim it (the API server prevents that, a write past it does not), the older
one has it, the other gets no rules and a problem that says so, until the address is free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from knetsim.api.objects import Object, key_of
from knetsim.dataplane.services.ports import ServicePlace, ServicePort
from knetsim.dataplane.services.rules import build_service, depends_on_worker
from knetsim.dataplane.services.table import Rules
from knetsim.errors import ObjectError
from knetsim.node.service_objects import read_service

#: an address as Services claim it: `100.64.0.1`, `10.1.1.1 . tcp . 80`, `nodeport . tcp . 30080`
Claim = str
#: who came first: the creation time as Kubernetes writes it, then the key
_Rank = tuple[str, str]


def find_claims(ports: Iterable[ServicePort]) -> set[Claim]:
    """What a Service claims for itself alone; pure."""
    claims: set[Claim] = set()
    for port in ports:
        claims.add(str(port.cluster_ip))
        claims |= {f"{address} . {port.protocol} . {port.port}" for address in port.external_ips}
        if port.node_port:
            claims.add(f"nodeport . {port.protocol} . {port.node_port}")
    return claims


class ServiceTable:
    """All Services as rules; used by one thread."""

    def __init__(self) -> None:
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._ranks: dict[str, _Rank] = {}
        self._claimants: dict[Claim, set[str]] = {}
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

    def update(self, key: str, service: Object | None, slices: Sequence[Object]) -> set[str]:
        """Take in what the Service `key` and its slices are now; the Services whose rules change by it."""
        ports, problem = _read(service, slices)
        self._note_problem(key, problem)
        rank = (service["metadata"].get("creationTimestamp") or "", key) if service else ("", key)
        before = self._ports.get(key, ())
        if ports == before and rank == self._ranks.get(key, rank):
            return set()
        touched = self._claim(key, find_claims(before), find_claims(ports))
        self._ports.pop(key, None)
        self._ranks.pop(key, None)
        if ports:
            self._ports[key], self._ranks[key] = ports, rank
        self._common.pop(key, None)
        for other in touched | {key}:
            self._note_problem(other, problem if other == key and problem else self._rivalry(other))
        return touched | {key}

    def rules(self, key: str, place: ServicePlace) -> Rules | None:
        """What the worker `place` shall have of a Service; None for nothing. The same object for all workers, unless
        the Service means different things on them."""
        ports = self._ports.get(key)
        if ports is None or self._rivalry(key):
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

    def _rivalry(self, key: str) -> str:
        """Why a Service has no rules though it has ports: an older one has its address; empty when none has."""
        for claim in sorted(find_claims(self._ports.get(key, ()))):
            first = min(self._claimants[claim], key=lambda each: self._ranks[each])
            if first != key:
                return f"{claim} belongs to Service {first}"
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
