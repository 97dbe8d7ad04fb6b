"""Which backends of a Service's port a worker uses, as kube-proxy decides it (pkg/proxy/topology.go); pure.

Ready backends are used; when there is none, those that end but still serve, so that a rolling update loses nothing.
Hints (topology-aware routing, trafficDistribution) narrow the ready ones down, unless a hint is missing somewhere or
nobody is meant for this worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from knetsim.dataplane.services.ports import Backend, ServicePlace, ServicePort


@dataclass(frozen=True, slots=True)
class Choice:
    """The backends for traffic with the policy Cluster and with Local, and whether there is any on any worker."""

    cluster: tuple[Backend, ...]
    local: tuple[Backend, ...]
    anywhere: bool

    @property
    def all(self) -> tuple[Backend, ...]:
        """Every backend that the worker may send to, in order."""
        return tuple(sorted({*self.cluster, *self.local}, key=_order))


def choose_backends(port: ServicePort, place: ServicePlace) -> Choice:
    """The backends of `port` for the worker `place`."""
    backends = sorted(port.backends, key=_order)
    cluster: tuple[Backend, ...] = ()
    local: tuple[Backend, ...] = ()
    if port.uses_cluster:
        ready = tuple(backend for backend in backends if backend.ready)
        cluster = _follow_hints(ready, place) or _ending(backends)
    if port.uses_local:
        own = [backend for backend in backends if backend.node and backend.node == place.node]
        local = tuple(backend for backend in own if backend.ready) or _ending(own)
    anywhere = any(backend.ready or (backend.serving and backend.terminating) for backend in backends)
    return Choice(cluster, local, anywhere)


def _order(backend: Backend) -> tuple[int, int]:
    return int(backend.address), backend.port


def _ending(backends: Sequence[Backend]) -> tuple[Backend, ...]:
    return tuple(backend for backend in backends if backend.serving and backend.terminating)


def _follow_hints(ready: tuple[Backend, ...], place: ServicePlace) -> tuple[Backend, ...]:
    if not ready:
        return ()
    if all(backend.nodes for backend in ready):
        meant = tuple(backend for backend in ready if place.node in backend.nodes)
        if meant:
            return meant
    if all(backend.zones for backend in ready):
        meant = tuple(backend for backend in ready if place.zone in backend.zones)
        if meant:
            return meant
    return ready
