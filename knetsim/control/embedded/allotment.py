"""Who has which ClusterIP and NodePort: a Service gets its own when it is written, as a kube-apiserver allots them.

The first address of `services.cidr` belongs to Service kubernetes.default. What users ask for themselves is best taken
from the lower band (up to 256 addresses, up to 128 ports), which is given away last. Unlike the real one, which draws
at random, addresses are handed out in their order: 100.64.1.0, 100.64.1.1 … Source: pkg/registry/core/service/
ipallocator, portallocator. The store is asked through `EtcdStore.admission`; thread-safe.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from knetsim.api.checks import Problems
from knetsim.api.objects import Object, describe, uid_of
from knetsim.api.service_rules import HEADLESS, needs_health_check, service_type
from knetsim.names import NODE_PORTS

#: seconds for which a Service that was allotted something may take to appear
_PATIENCE = 30.0
_LOWEST_BAND, _HIGHEST_BAND = 16, 256
_PORT_BAND = 86
_PORT_TYPES = ("NodePort", "LoadBalancer")
_HEALTH = "healthCheckNodePort"


@dataclass(slots=True)
class _Holding:
    uid: str
    until: float | None  # when it lapses unless its Service was seen; None: it was


class _Pool:
    """Numbers and who has them. `first` is where search begins; what lies below is taken last."""

    def __init__(self, numbers: range, first: int) -> None:
        self.numbers, self._first, self._next = numbers, first, first
        self._held: dict[int, _Holding] = {}

    def holder(self, number: int, now: float) -> str:
        """The uid of who has a number, or ""."""
        holding = self._held.get(number)
        if holding is None or (holding.until is not None and holding.until < now):
            return ""
        return holding.uid

    def take(self, number: int, uid: str, until: float | None) -> None:
        """Give a number to a Service."""
        self._held[number] = _Holding(uid, until)

    def release(self, number: int, uid: str) -> None:
        """Take a number back, if this Service has it."""
        holding = self._held.get(number)
        if holding is not None and holding.uid == uid:
            del self._held[number]

    def find(self, now: float) -> int | None:
        """A free number: the next one after the last that was found."""
        for number in self._order():
            if not self.holder(number, now):
                self._next = number + 1
                return number
        return None

    def _order(self) -> Iterator[int]:
        yield from range(self._next, self.numbers.stop)
        yield from range(self._first, min(self._next, self.numbers.stop))
        yield from range(self.numbers.start, self._first)


class Allotment:
    """The addresses and ports of a cluster's Services."""

    def __init__(self, network: ipaddress.IPv4Network, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.network, self._clock = network, clock
        self._lock = threading.Lock()
        base, size = int(network.network_address), network.num_addresses
        band = min(max(_LOWEST_BAND, size // _LOWEST_BAND), _HIGHEST_BAND)
        usable = range(base + 1, base + size - 1)
        self._addresses = _Pool(usable, min(base + band, usable.stop - 1))
        self._addresses.take(base + 1, "kubernetes.default", None)
        self._ports = _Pool(NODE_PORTS, NODE_PORTS.start + _PORT_BAND)

    def admit(self, service: Object, current: Object | None) -> Object:
        """A Service, new or changed, with what it was allotted; ObjectError when it asks for what another has.

        Twice is once: what a Service has it keeps.
        """
        if service.get("kind") != "Service" or service_type(service["spec"]) == "ExternalName":
            return service
        problems = Problems(describe(service))
        with self._lock:
            now = self._clock()
            spec = service["spec"] = dict(service["spec"])
            self._admit_address(spec, uid_of(service), now, problems)
            if service_type(spec) in _PORT_TYPES and spec.get("allocateLoadBalancerNodePorts") is not False:
                self._admit_ports(spec, uid_of(service), now, problems)
            if needs_health_check(spec):
                self._admit_health_check(spec, uid_of(service), now, problems)
        problems.raise_any()
        return service

    def _admit_address(self, spec: Object, uid: str, now: float, problems: Problems) -> None:
        address = spec.get("clusterIP")
        if address == HEADLESS:
            return
        if address:
            number = int(ipaddress.ip_address(address))
            if number not in self._addresses.numbers:
                what = f"{address} is not in the range of Services, {self.network} (services.cidr of the scenario)"
                problems.add("spec.clusterIP", what)
                return
            if self._addresses.holder(number, now) not in ("", uid):
                problems.add("spec.clusterIP", f"{address} is another Service's; leave it out and one is allotted")
                return
        else:
            found = self._addresses.find(now)
            if found is None:
                problems.add("spec.clusterIP", f"no address of {self.network} is left (services.cidr of the scenario)")
                return
            number = found
        self._hold(self._addresses, number, uid, now)
        spec["clusterIP"] = str(ipaddress.ip_address(number))
        spec["clusterIPs"] = [spec["clusterIP"]]

    def _admit_ports(self, spec: Object, uid: str, now: float, problems: Problems) -> None:
        spec["ports"] = [dict(port) for port in spec.get("ports") or ()]
        wanted: list[tuple[Object, str]] = [
            (port, f"spec.ports[{index}].nodePort") for index, port in enumerate(spec["ports"])
        ]
        given = dict.fromkeys(port["nodePort"] for port, _ in wanted if port.get("nodePort"))
        for number in given:
            path = next(path for port, path in wanted if port.get("nodePort") == number)
            if number not in NODE_PORTS:
                problems.add(path, f"{number} is no NodePort: they are {NODE_PORTS.start} to {NODE_PORTS.stop - 1}")
            elif self._ports.holder(number, now) not in ("", uid):
                problems.add(path, f"{number} is another Service's; leave it out and one is allotted")
            else:
                self._hold(self._ports, number, uid, now)
        for port, path in wanted:
            if not port.get("nodePort"):
                found = self._ports.find(now)
                if found is None:
                    problems.add(path, "no NodePort is left")
                    return
                self._hold(self._ports, found, uid, now)
                port["nodePort"] = found

    def _admit_health_check(self, spec: Object, uid: str, now: float, problems: Problems) -> None:
        """A NodePort where a load balancer asks for backends, which no port of the Service has."""
        given, own = spec.get(_HEALTH), {port.get("nodePort") for port in spec.get("ports") or ()}
        number = given or self._ports.find(now)
        if number is None:
            problems.add(f"spec.{_HEALTH}", "no NodePort is left")
        elif number not in NODE_PORTS:
            problems.add(f"spec.{_HEALTH}", f"{number} is no NodePort: they are {NODE_PORTS.start} to {NODE_PORTS[-1]}")
        elif number in own or self._ports.holder(number, now) not in ("", uid):
            problems.add(f"spec.{_HEALTH}", f"{number} is taken; leave it out and one is allotted")
        else:
            self._hold(self._ports, number, uid, now)
            spec[_HEALTH] = number

    def _hold(self, pool: _Pool, number: int, uid: str, now: float) -> None:
        if pool.holder(number, now) != uid:
            pool.take(number, uid, now + _PATIENCE)

    def observe(self, before: Object | None, after: Object | None) -> None:
        """A Service is there, has changed or is gone."""
        with self._lock:
            for service in (before, after):
                if service is None:
                    continue
                for pool, number in self._holdings(service):
                    if service is before:
                        pool.release(number, uid_of(service))
                    elif pool.holder(number, self._clock()) in ("", uid_of(service)):
                        pool.take(number, uid_of(service), None)

    def conflicts(self, service: Object) -> list[str]:
        """What a Service says is its own and another one has: it was written where nobody asked."""
        with self._lock:
            now = self._clock()
            return [
                str(number) if pool is self._ports else str(ipaddress.ip_address(number))
                for pool, number in self._holdings(service)
                if pool.holder(number, now) not in ("", uid_of(service))
            ]

    def _holdings(self, service: Object) -> Iterable[tuple[_Pool, int]]:
        spec = service.get("spec") or {}
        address = spec.get("clusterIP")
        if address and address != HEADLESS:
            number = int(ipaddress.ip_address(address))
            if number in self._addresses.numbers:
                yield self._addresses, number
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                yield self._ports, port["nodePort"]
        if spec.get(_HEALTH):
            yield self._ports, spec[_HEALTH]
