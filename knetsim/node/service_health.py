"""What a worker says of its Services when it is asked by HTTP: to load balancers, and to whoever asks how it is.

What kube-proxy does. A load balancer whose Service has externalTrafficPolicy: Local asks every node's
`healthCheckNodePort` whether it has a backend: 200 if so, 503 if not, and how many in a header by which balancers weigh
nodes. Port 10256 tells whether kube-proxy keeps up (/healthz) and lives (/livez), port 10249, for the node itself, its
mode (/proxyMode). What ours does: the same ports, codes, headers and fields for workers with the emulator, by one
thread for all of them; the real kube-proxy answers for itself.
How it differs: /healthz never speaks of a Node that the cluster autoscaler wants to delete (there is none), and 10249
has no metrics. Commands: `C0w1 curl -s localhost:10256/healthz`, `C0w1 curl -is localhost:HEALTHCHECKNODEPORT`.
Source: pkg/proxy/healthcheck (service_health.go, proxy_health.go).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address

from knetsim.api.objects import format_micro_time, split_key
from knetsim.dataplane.services.kube_proxy import HEALTHZ_PORT, STATUS_PORT
from knetsim.dataplane.services.ports import ServicePort
from knetsim.errors import KernelError
from knetsim.system.netns import Namespaces
from knetsim.system.small_http import HttpAnswer, Listening, SmallHttp

_ANYWHERE, _LOOPBACK = "0.0.0.0", "127.0.0.1"
_JSON = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_WEIGHT = "X-Load-Balancing-Endpoint-Weight"
_MODE = "nftables"
#: a worker that could not follow for so many seconds is not healthy: twice kube-proxy's syncPeriod
_LATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What a load balancer learns of a Service on one worker: on which port, and how many backends are ready there."""

    port: int
    backends: int


def build_health_check(ports: Iterable[ServicePort], node: str) -> HealthCheck | None:
    """The check of a Service with these ports on the Node `node`; None when nobody asks. A pod counts once, whatever
    its ports; pure."""
    given = list(ports)
    port = next((each.health_port for each in given if each.health_port), 0)
    if not port:
        return None
    ready: set[IPv4Address] = {
        backend.address for each in given for backend in each.backends if backend.ready and backend.node == node
    }
    return HealthCheck(port, len(ready))


def build_check_answer(key: str, backends: int, healthy: bool) -> HttpAnswer:
    """What a load balancer is told of the Service `key`; pure."""
    namespace, name = split_key(key)
    told = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": backends,
        "serviceProxyHealthy": healthy,
    }
    status = HTTPStatus.OK if backends and healthy else HTTPStatus.SERVICE_UNAVAILABLE
    return HttpAnswer(status, json.dumps(told, indent="\t"), {**_JSON, _WEIGHT: str(backends)})


def build_proxy_answer(path: str, healthy: bool, updated: float, now: float) -> HttpAnswer:
    """What port 10256 says; `updated` is when the worker's rules were last as they should be, in seconds since 1970,
    as is `now`; pure."""
    if path not in ("/healthz", "/livez"):
        return _NOT_FOUND
    at = format_micro_time(now if healthy else updated)
    told: dict[str, object] = {"lastUpdated": at, "currentTime": format_micro_time(now)}
    if path == "/healthz":
        told["nodeEligible"] = True
    told |= {
        "healthy": healthy,
        "status": {"IPv4": {"lastUpdated": format_micro_time(updated), "healthy": healthy}},
    }
    status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
    return HttpAnswer(status, json.dumps(told, separators=(",", ":")), _JSON)


_NOT_FOUND = HttpAnswer(HTTPStatus.NOT_FOUND, "404 page not found\n", _TEXT)


def answer_status(path: str) -> HttpAnswer:
    """What port 10249 says; pure."""
    if path == "/proxyMode":
        return HttpAnswer(HTTPStatus.OK, _MODE, _TEXT)
    return HttpAnswer(HTTPStatus.OK, "ok", _TEXT) if path == "/healthz" else _NOT_FOUND


@dataclass(slots=True)
class _Open:
    """A Service's port on one worker."""

    check: HealthCheck
    listening: Listening


class ServiceHealth:
    """The ports of one worker. Used by one thread at a time; the server's thread only reads what is whole."""

    def __init__(self, server: SmallHttp, place: Namespaces, clock: Callable[[], float] = time.time) -> None:
        self._server, self._place, self._clock = server, place, clock
        self._checks: dict[str, _Open] = {}
        self._fixed: list[Listening] = []
        self._updated = clock()
        self._failing: float | None = None  # since when
        self.failed: set[str] = set()

    def start(self) -> None:
        """Listen for those who ask how the worker is. KernelError when a port is taken. Twice is once."""
        fixed = ((_ANYWHERE, HEALTHZ_PORT, self._answer_proxy), (_LOOPBACK, STATUS_PORT, answer_status))
        for address, port, answer in fixed[len(self._fixed) :]:
            self._fixed.append(self._server.listen(self._place, address, port, answer))

    def note(self, good: bool) -> None:
        """Whether the worker's rules are as they should be now."""
        now = self._clock()
        if good:
            self._updated, self._failing = now, None
        elif self._failing is None:
            self._failing = now

    @property
    def healthy(self) -> bool:
        """Whether the rules are not late."""
        return self._failing is None or self._clock() < self._failing + _LATE_SECONDS

    def apply(self, wanted: Mapping[str, HealthCheck | None]) -> dict[str, str]:
        """Have the checks of these Services as given (None: no more). Why some cannot be that could so far, key →
        reason; all that cannot be are `failed`, to be tried again."""
        for key, check in wanted.items():  # first what goes: its port may be another's now
            known = self._checks.get(key)
            if known is not None and (check is None or known.check.port != check.port):
                self._server.close(known.listening)
                del self._checks[key]
        reasons = {}
        for key, check in wanted.items():
            why = self._ensure(key, check) if check is not None else ""
            if why and key not in self.failed:
                reasons[key] = why
            (self.failed.add if why else self.failed.discard)(key)
        return reasons

    def _ensure(self, key: str, check: HealthCheck) -> str:
        """Have a check; why it cannot be, or nothing."""
        if key in self._checks:
            self._checks[key].check = check
            return ""
        try:
            self._open(key, check)
        except KernelError as error:
            return f"port {check.port}: {error.why}"
        return ""

    def _open(self, key: str, check: HealthCheck) -> None:
        listening = self._server.listen(self._place, _ANYWHERE, check.port, lambda path: self._answer_check(key))
        self._checks[key] = _Open(check, listening)

    def _answer_check(self, key: str) -> HttpAnswer:
        known = self._checks.get(key)
        return build_check_answer(key, known.check.backends if known else 0, self.healthy)

    def _answer_proxy(self, path: str) -> HttpAnswer:
        return build_proxy_answer(path, self.healthy, self._updated, self._clock())
