"""Pods that somebody else must agree to before anything runs in them: a wiring around a wiring.

Kubernetes lets no container start before the pod's NetworkPolicies hold. Network plugins keep that promise where they
wire the pod: the CNI ADD does not return before. So it is here, whoever wires.
"""

from __future__ import annotations

from typing import Protocol

from knetsim.dataplane.pod.wiring import PodNetwork, PodPlace, Wired, WorkerPlace


class PodGuard(Protocol):
    """Who is asked."""

    def admit(self, worker: WorkerPlace, pod: PodPlace, address: str) -> None:
        """The pod has this address, and nothing runs in it yet; when this returns something may. NotReady."""

    def release(self, pod: PodPlace) -> None:
        """The pod's address is free."""


class GuardedWiring:
    """Wires pods as `inner` does, and asks the guard; implements `PodNetwork`."""

    def __init__(self, inner: PodNetwork, guard: PodGuard) -> None:
        self.name = inner.name
        self._inner, self._guard = inner, guard

    def add(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """Wire the pod and have it admitted; when it is not, nothing of it is left."""
        wired = self._inner.add(worker, pod)
        try:
            self._guard.admit(worker, pod, wired.ip)
        except BaseException:
            self.remove(worker, pod)
            raise
        return wired

    def adopt(self, worker: WorkerPlace, pod: PodPlace) -> Wired | None:
        """Take over a pod, and have it admitted before its containers are started anew."""
        wired = self._inner.adopt(worker, pod)
        if wired is not None:
            self._guard.admit(worker, pod, wired.ip)
        return wired

    def check(self, worker: WorkerPlace, pod: PodPlace) -> list[str]:
        """What is not as `add` made it, in words."""
        return self._inner.check(worker, pod)

    def repair(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """Make it as `add` made it; with the same address, unless it was not wired at all."""
        wired = self._inner.repair(worker, pod)
        self._guard.admit(worker, pod, wired.ip)
        return wired

    def remove(self, worker: WorkerPlace, pod: PodPlace) -> None:
        """Unwire the pod; only then it is released: until its last packet its policies hold."""
        self._inner.remove(worker, pod)
        self._guard.release(pod)

    def ensure_bridge(self, worker: WorkerPlace) -> list[str]:
        """Make or repair what the pods of a worker share; what had to be done, in words."""
        return self._inner.ensure_bridge(worker)
