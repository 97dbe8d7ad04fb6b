"""The heartbeat of Nodes: their Leases are renewed every ten seconds, as long as the worker itself reaches the store.

Reality: each kubelet renews its Node's Lease at the API server; when its machine is cut off, the renewals end, and 40
s later the cluster takes the Node for lost. Ours writes for all workers of a cluster from one process that reaches
the store by another way, so before it renews a worker's Lease it looks whether the worker could have: by a TCP
connection from the worker's own network namespace to the API server (or to an etcd member). The workers' beats are
spread over the ten seconds; who does not get through tries on every two. Whoever is about to do what the store says
asks too (`reaches_now`): a worker that was cut off since its last beat has not heard of it.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from knetsim.api.loop import Clock, Loop
from knetsim.errors import KnetsimError

BEAT_SECONDS = 10.0
#: who does not reach the store tries again after so many seconds
RETRY_SECONDS = 2.0
#: what was seen so many seconds ago is still true
_FRESH_SECONDS = 1.0
_TURN = "turn"  # the one key of the loop

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Beat:
    """What is known of one Node's heartbeat: whether it reached the store at the last look, when it last renewed its
    Lease (by the wall clock), and when the last look was (by the steady one)."""

    reached: bool = True
    last: float = 0.0
    looked: float = 0.0


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
        self._schedule, self._retry = Schedule(every), min(RETRY_SECONDS, every)
        self._beats: dict[str, Beat] = {}
        self._lock = threading.Lock()
        self._loop = Loop("heartbeat", self._take_turns, self._note_failure, threads=1, clock=steady)

    def add(self, node: str) -> None:
        """Beat for this Node too; its Lease has just been written."""
        with self._lock:
            self._beats[node] = Beat(last=self._wall(), looked=self._steady())
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

    def reaches_now(self, node: str) -> bool:
        """Whether the Node's worker reaches the store; looks, unless it has just been seen.

        It says no at once of one that did not at the last look: that one's next turn is soon.
        """
        with self._lock:
            beat = self._beats.get(node)
            if beat is None or not beat.reached or self._steady() < beat.looked + _FRESH_SECONDS:
                return beat is None or beat.reached
        reached = node in self._find_reachable([node])
        self._note(node, beat, reached)
        return reached

    def _note(self, node: str, beat: Beat, reached: bool) -> None:
        """What a look has shown. That a worker is back is only believed with its next beat."""
        with self._lock:
            beat.looked = self._steady()
            lost, beat.reached = beat.reached and not reached, beat.reached and reached
        if lost:
            _log.warning("%s does not reach the store any more: its heartbeat ceases", node)
            self._loop.add(_TURN)

    def status(self) -> dict[str, Beat]:
        """What is known of each Node's heartbeat."""
        with self._lock:
            return {node: replace(beat) for node, beat in self._beats.items()}

    def _take_turns(self, _: str) -> float | None:
        """Beat for those whose turn it is; the seconds until somebody's next turn."""
        now = self._steady()
        with self._lock:
            nodes = self._schedule.take(now)
            lost = [node for node, beat in self._beats.items() if not beat.reached and now >= beat.looked + self._retry]
        self.beat(list(dict.fromkeys([*nodes, *lost])))
        with self._lock:
            due = [beat.looked + self._retry for beat in self._beats.values() if not beat.reached]
            if (turn := self._schedule.next_due()) is not None:
                due.append(turn)
        return max(min(due) - self._steady(), 0.0) if due else None

    def _note_failure(self, _: str, error: Exception, pause: float) -> None:
        _log.warning("heartbeats are late by %g s: %s", pause, error)

    def beat(self, nodes: Sequence[str]) -> None:
        """One beat for each of the Nodes."""
        reached = self._find_reachable(nodes) if nodes else set()
        for node in nodes:
            beat = self._beats[node]
            self._note(node, beat, node in reached)
            if node not in reached:
                continue
            try:
                self._renew(node)
                if not beat.reached:
                    self._return(node, beat)
            except KnetsimError as error:
                _log.warning("the heartbeat of %s is lost: %s", node, error)
                continue
            beat.last = self._wall()

    def _return(self, node: str, beat: Beat) -> None:
        """A worker is back: what it is now to look at finds it so."""
        beat.reached = True
        try:
            self._regained(node)
        except KnetsimError:
            beat.reached = False  # it could not be said: next time
            raise
