"""The work queue under every agent and controller: keys in, `reconcile(key)` out, until what is matches what is wanted.

Level, not edge: a key only says that there is a reason to look, so a hundred reasons that come while the key waits are
one look, and a reason that comes during a look is one more look after it. Several threads serve a queue, but never one
key at the same time. What fails is told (`on_failure`: an Event on the object), tried again after a back-off that
doubles, and does not hold up other keys. Every `resync_seconds` all keys are looked at again, spread over the period,
so that what was changed behind the agent's back is noticed. As client-go's workqueue under Kubernetes' controllers.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from knetsim.errors import KnetsimError

_log = logging.getLogger(__name__)

Clock = Callable[[], float]
#: looks at the object named by the key; the seconds until it wants to be called again, or None
Reconcile = Callable[[str], float | None]
#: called with (key, error, seconds until the next attempt)
Failed = Callable[[str, Exception, float], None]


@dataclass(slots=True)
class _Entry:
    """What the queue knows of one key that is not at rest."""

    queued: bool = False
    running: bool = False
    again: bool = False  # a reason came while it was running
    due: float | None = None  # when to look at it in any case
    pause: float = 0.0  # the back-off after its last failure


class WorkQueue:
    """The queue, without threads and without a lock; times are what the caller says they are."""

    def __init__(self, first_pause: float = 0.2, longest_pause: float = 60.0) -> None:
        """The back-off after failures doubles from `first_pause` to `longest_pause` seconds."""
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._entries: dict[str, _Entry] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, str]] = []
        self._running = 0

    @property
    def busy(self) -> bool:
        """Whether a key is waiting to be looked at now, or is being looked at."""
        return bool(self._ready) or self._running > 0

    def add(self, key: str) -> None:
        """There is a reason to look at `key`: now, or as soon as the look that is going on has ended."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.running:
            entry.again = True
        elif not entry.queued:
            entry.queued = True
            self._ready.append(key)

    def add_at(self, key: str, moment: float) -> None:
        """Look at `key` at `moment`, or earlier when there is a reason."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.due is None or moment < entry.due:
            entry.due = moment
            heapq.heappush(self._later, (moment, key))

    def next_due(self) -> float | None:
        """When the first of the keys that wait for their time is due."""
        while self._later:
            moment, key = self._later[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == moment:
                return moment
            heapq.heappop(self._later)  # it was brought forward, or looked at meanwhile
        return None

    def take(self, now: float) -> str | None:
        """The next key to look at, which is then running until `done`; None when there is none yet."""
        while (moment := self.next_due()) is not None and moment <= now:
            _, key = heapq.heappop(self._later)
            self._entries[key].due = None
            self.add(key)
        if not self._ready:
            return None
        key = self._ready.popleft()
        entry = self._entries[key]
        entry.queued, entry.running, entry.due = False, True, None
        self._running += 1
        return key

    def next_pause(self, key: str) -> float:
        """The back-off if the look at `key` that is going on fails."""
        return min(max(self._entries[key].pause * 2, self._first_pause), self._longest_pause)

    def done(self, key: str, now: float, *, requeue_after: float | None = None, failed: bool = False) -> None:
        """The look at `key` has ended; look again after `requeue_after` seconds, or after a back-off if it failed."""
        entry = self._entries[key]
        entry.pause = self.next_pause(key) if failed else 0.0
        entry.running = False
        self._running -= 1
        if entry.again:
            entry.again = False
            self.add(key)
        if failed:
            self.add_at(key, now + entry.pause)
        elif requeue_after is not None:
            self.add_at(key, now + requeue_after)
        elif not entry.queued and entry.due is None:
            del self._entries[key]


class Loop:
    """Threads that serve a work queue. `add` from anywhere; nothing runs before `start`, nothing after `stop`."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        on_failure: Failed,
        *,
        threads: int = 2,
        keys: Callable[[], Iterable[str]] = tuple,
        resync_seconds: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`keys` are those to be looked at again every `resync_seconds` (None: never); it must not call this loop."""
        self.name = name
        self._reconcile, self._on_failure = reconcile, on_failure
        self._keys, self._resync_seconds, self._clock = keys, resync_seconds, clock
        self._queue = WorkQueue()
        lock = threading.Lock()
        self._changed, self._idle = threading.Condition(lock), threading.Condition(lock)
        self._stopping = False
        self._next_resync = clock() + resync_seconds if resync_seconds else None
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin to look at keys."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no further key; returns when the looks that are going on have ended. Twice is once."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def add(self, key: str) -> None:
        """There is a reason to look at `key`."""
        with self._changed:
            self._queue.add(key)
            self._changed.notify()

    def add_after(self, key: str, seconds: float) -> None:
        """Look at `key` in `seconds` at the latest."""
        with self._changed:
            self._queue.add_at(key, self._clock() + seconds)
            self._changed.notify()

    def look_at_clock(self) -> None:
        """The clock has jumped: a test's does."""
        with self._changed:
            self._changed.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no key is waiting to be looked at now; False when that took longer than `timeout` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._queue.busy and not self._is_due(), timeout)

    def _is_due(self) -> bool:
        """Whether there is something to look at by now."""
        due = self._next_due()
        return due is not None and due <= self._clock()

    def _next_due(self) -> float | None:
        """When there is something to look at, unless a reason comes before."""
        return min((due for due in (self._queue.next_due(), self._next_resync) if due is not None), default=None)

    def _serve(self) -> None:
        while (key := self._take()) is not None:
            requeue_after, failed = None, False
            try:
                requeue_after = self._reconcile(key)
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to this one object, which is told so
                failed = True
                self._tell(key, error)
            with self._changed:
                self._queue.done(key, self._clock(), requeue_after=requeue_after, failed=failed)

    def _tell(self, key: str, error: Exception) -> None:
        if not isinstance(error, KnetsimError | OSError):
            _log.error("%s: reconciling %s failed", self.name, key, exc_info=error)  # a mistake of ours: with its trace
        with self._changed:
            pause = self._queue.next_pause(key)
        try:
            self._on_failure(key, error, pause)
        except Exception:  # noqa: BLE001 - the thread serves all other objects too
            _log.exception("%s: the failure of %s could not be told", self.name, key)

    def _take(self) -> str | None:
        """The next key, as soon as there is one; None at the end."""
        with self._changed:
            while not self._stopping:
                now = self._clock()
                self._resync(now)
                key = self._queue.take(now)
                if not self._queue.busy:
                    self._idle.notify_all()
                if key is not None:
                    self._changed.notify()  # another one watches the clock, and takes what else there is
                    return key
                due = self._next_due()
                self._changed.wait(None if due is None else max(0.0, due - now))
            return None

    def _resync(self, now: float) -> None:
        """When it is time, give every key its moment within the coming period."""
        if self._next_resync is None or self._resync_seconds is None or now < self._next_resync:
            return
        self._next_resync = now + self._resync_seconds
        keys = list(self._keys())
        for number, key in enumerate(keys):
            self._queue.add_at(key, now + self._resync_seconds * number / len(keys))
