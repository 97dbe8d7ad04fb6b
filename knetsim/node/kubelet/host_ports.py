"""The hostPorts of a worker's pods, as its pods come and go."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from knetsim.dataplane.host_ports import HostPort, WorkerHostPorts, merge_ports
from knetsim.dataplane.pod import WorkerPlace


def read_host_ports(spec: Mapping[str, Any], ip: str) -> list[HostPort]:
    """What a pod with the address `ip` asks of its worker; nothing when it has its worker's network anyway, nor by an
    address of IPv6, of which the worker has none."""
    if spec.get("hostNetwork"):
        return []
    return [
        HostPort(port["hostPort"], port.get("protocol") or "TCP", ip, port["containerPort"], port.get("hostIP") or "")
        for container in _containers(spec)
        for port in container.get("ports") or ()
        if port.get("hostPort") and ":" not in (port.get("hostIP") or "")
    ]


def _containers(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Those that run all the time."""
    yield from (one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always")
    yield from spec["containers"]


class HostPorts:
    """One worker's; any thread may use it."""

    def __init__(self, worker: WorkerPlace) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._by_pod: dict[str, list[HostPort]] = {}
        self._table: WorkerHostPorts | None = None

    def put(self, pod: str, ports: list[HostPort]) -> None:
        """Have the ports of the pod with the uid `pod`, and no others of it, lead there. CommandError, MissingTool."""
        with self._lock:
            if self._by_pod.get(pod, []) == ports:
                return
            wanted = {**self._by_pod, pod: ports}
            if not ports:
                del wanted[pod]
            if self._table is None:
                self._table = WorkerHostPorts(self._worker.namespaces, self._worker.lease.subnet)
            self._table.apply(merge_ports(wanted))
            self._by_pod = wanted  # not before: what was refused is to be tried again

    def repair(self) -> str:
        """Put right what somebody has changed by hand; what was done, or ""."""
        with self._lock:
            return self._table.repair() if self._table is not None else ""

    def close(self) -> None:
        """Let go of the kernel; the rules stay."""
        with self._lock:
            if self._table is not None:
                self._table.close()
