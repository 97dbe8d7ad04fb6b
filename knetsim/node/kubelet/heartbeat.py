"""The heartbeat of Nodes: their Leases are renewed every ten seconds, as long as the worker itself reaches the store.

Reality: each kubelet renews its Node's Lease at the API server; when its machine is cut off, the renewals end, and 40
s later the cluster takes the Node for lost. Ours writes for all workers of a cluster from one process that reaches
the store by another way, so before it renews a worker's Lease it looks whether the worker could have: by a TCP
connection from the worker's own network namespace to an etcd member. The workers' beats are spread over the ten
seconds.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from knetsim.api.loop import Clock, Loop
from knetsim.errors import KnetsimError

BEAT_SECONDS = 10.0
_TURN = "turn"  # the one key of the loop

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Beat:
    """What is known of one Node's heartbeat: whether it reached the store at the last look, and when it last did."""

    reached: bool = True
    last: float = 0.0


class Schedule:
    """Whose turn it is; times are what the caller says they are."""

    def __init__(self, every: float = BEAT_SECONDS) -> None:
        self._every = every
        self._due: list[tuple[float, str]] = []

    def add(self, node: str, now: float) -> None:
        """From now on; the first time after a part of the period that depends on the name alone."""
        heapq.heappush(self._due, (now + self._every * (zlib.crc32(node.encode()) % 1000) / 1000, node))

    def take(self, now: float) -> list[str]:
        """Those whose turn it is; their next turn is a period later."""
        nodes = []
        while self._due and self._due[0][0] <= now:
            moment, node = self._due[0]
            missed = (now - moment) // self._every  # what was missed is not made up for
            heapq.heapreplace(self._due, (moment + self._every * (missed + 1), node))
            nodes.append(node)
        return nodes

    def next_due(self) -> float | None:
        """When it is somebody's turn again."""
        return self._due[0][0] if self._due else None


class Heartbeat:
    """One thread that beats for all Nodes.

    `find_reachable` tells which Nodes reach the store, `renew` writes one Node's Lease, `regained` is called with a
    Node that reaches the store again.
    """

    def __init__(
        self,
        find_reachable: Callable[[Collection[str]], set[str]],
        renew: Callable[[str], None],
        regained: Callable[[str], None],
        *,
        every: float = BEAT_SECONDS,
        wall: Clock = time.time,
        steady: Clock = time.monotonic,
    ) -> None:
        self._find_reachable, self._renew, self._regained = find_reachable, renew, regained
        self._wall, self._steady = wall, steady
        self._schedule = Schedule(every)
        self._beats: dict[str, Beat] = {}
        self._lock = threading.Lock()
        self._loop = Loop("heartbeat", self._take_turns, self._note_failure, threads=1, clock=steady)

    def add(self, node: str) -> None:
        """Beat for this Node too; its Lease has just been written."""
        with self._lock:
            self._beats[node] = Beat(last=self._wall())
            self._schedule.add(node, self._steady())
        self._loop.add(_TURN)

    def start(self) -> None:
        """Begin to beat."""
        self._loop.start()

    def stop(self) -> None:
        """Cease to beat. Twice is once."""
        self._loop.stop()

    def reached(self, node: str) -> bool:
        """Whether the Node's worker reached the store at the last look."""
        with self._lock:
            beat = self._beats.get(node)
            return beat is None or beat.reached

    def status(self) -> dict[str, Beat]:
        """What is known of each Node's heartbeat."""
        with self._lock:
            return {node: Beat(beat.reached, beat.last) for node, beat in self._beats.items()}

    def _take_turns(self, _: str) -> float | None:
        """Beat for those whose turn it is; the seconds until somebody's next turn."""
        with self._lock:
            nodes = self._schedule.take(self._steady())
        self.beat(nodes)
        with self._lock:
            due = self._schedule.next_due()
        return None if due is None else max(due - self._steady(), 0.0)

    def _note_failure(self, _: str, error: Exception, pause: float) -> None:
        _log.warning("heartbeats are late by %g s: %s", pause, error)

    def beat(self, nodes: Sequence[str]) -> None:
        """One beat for each of the Nodes."""
        reached = self._find_reachable(nodes) if nodes else set()
        for node in nodes:
            beat = self._beats[node]
            if node not in reached:
                if beat.reached:
                    _log.warning("%s does not reach the store any more: its heartbeat ceases", node)
                beat.reached = False
                continue
            try:
                self._renew(node)
                if not beat.reached:
                    self._regained(node)
            except KnetsimError as error:
                _log.warning("the heartbeat of %s is lost: %s", node, error)
                continue
            beat.reached, beat.last = True, self._wall()
