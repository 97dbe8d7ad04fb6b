"""What containers, pods and nodes use: samples of the kernel's counters, and how fast they grow.

A sample is taken when somebody asks, at most once in ten seconds; who asks first after a while gets two, a second
apart. Nobody asks: nothing is counted.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from knetsim.api.objects import Object, name_of, namespace_of
from knetsim.node.kubelet import Kubelet, KubeletWorker
from knetsim.node.kubelet.pod import PodRun
from knetsim.system.counters import Inode, Usage, find_pid_namespace, read_usage

_FRESH_SECONDS = 10.0
_SHORTEST_SECONDS = 1.0
#: a sample from before that says nothing of now
_OLD_SECONDS = 60.0

#: namespace, pod, container
ContainerKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at a moment: seconds since 1970, and of a clock that nobody sets."""

    wall: float
    steady: float
    containers: Mapping[ContainerKey, Usage] = field(default_factory=dict)
    pids: Mapping[ContainerKey, int] = field(default_factory=dict)
    nodes: Mapping[str, Usage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rates:
    """Two samples, the later one first."""

    now: Sample
    before: Sample

    @property
    def window(self) -> float:
        """Seconds between them."""
        return self.now.steady - self.before.steady

    def container(self, key: ContainerKey) -> tuple[Usage, int]:
        """What a container has used, and of how many nanoseconds of CPU it uses a second."""
        usage = self.now.containers.get(key, Usage())
        same = self.now.pids.get(key) == self.before.pids.get(key)
        return usage, self._rate(usage.cpu, self.before.containers.get(key, Usage()).cpu if same else 0)

    def node(self, name: str) -> tuple[Usage, int]:
        """The same of a node."""
        usage = self.now.nodes.get(name, Usage())
        return usage, self._rate(usage.cpu, self.before.nodes.get(name, Usage()).cpu)

    def _rate(self, now: int, before: int) -> int:
        return max(0, round((now - before) / self.window))


class UsageWatch:
    """Takes the samples. To be asked in one event loop only."""

    def __init__(self, kubelet: Kubelet, workers: Callable[[], Iterable[KubeletWorker]]) -> None:
        self._kubelet, self._workers = kubelet, workers
        self._samples: list[Sample] = []
        self._lock = asyncio.Lock()

    async def rates(self) -> Rates:
        """What is used now."""
        async with self._lock:
            now = time.monotonic()
            if not self._samples or now - self._samples[-1].steady > _OLD_SECONDS:
                first = await self._take()
                await asyncio.sleep(_SHORTEST_SECONDS)  # whoever asks may be gone after it
                self._samples = [first, await self._take()]
            elif now - self._samples[-1].steady > _FRESH_SECONDS:
                self._samples = [self._samples[-1], await self._take()]
            return Rates(self._samples[-1], self._samples[-2])

    async def _take(self) -> Sample:
        return await asyncio.to_thread(read_sample, self._kubelet.runs(), list(self._workers()))


def read_sample(runs: Iterable[PodRun], workers: Iterable[KubeletWorker]) -> Sample:
    """Look at all processes, and whose they are."""
    wall, steady = time.time(), time.monotonic()
    used = read_usage()
    by_pids: dict[Inode, Usage] = {}
    for (pids, _), usage in used.items():
        by_pids[pids] = by_pids.get(pids, Usage()) + usage
    containers: dict[ContainerKey, Usage] = {}
    first: dict[ContainerKey, int] = {}
    nodes: dict[str, Usage] = {}
    for run in runs:
        node = run.sandbox.worker.node
        for name, pid in run.processes().items():
            key = (*run.key, name)
            containers[key] = by_pids.get(find_pid_namespace(pid), Usage())
            first[key] = pid
            nodes[node] = nodes.get(node, Usage()) + containers[key]
    ours = os.stat("/proc/self/ns/pid").st_ino
    for worker in workers:  # its daemons, as flanneld
        net = os.fstat(worker.place.namespaces.net).st_ino
        nodes[worker.node] = nodes.get(worker.node, Usage()) + used.get((ours, net), Usage())
    return Sample(wall, steady, containers, first, nodes)


def running_containers(pod: Object) -> list[str]:
    """The containers of a pod that run, also those that only hold its network."""
    status = pod.get("status") or {}
    fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    return [one["name"] for field in fields for one in status.get(field) or () if "running" in (one.get("state") or {})]


def key_of_container(pod: Object, container: str) -> ContainerKey:
    """How a container's usage is found."""
    return namespace_of(pod), name_of(pod), container
