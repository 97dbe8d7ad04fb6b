"""One thread, many sockets and timers: what the whole router runs on.

Sockets are watched edge-triggered, once, for reading and writing alike: whoever reads or writes remembers what is left
to do and asks for another turn by `soon`, so nothing is re-registered while a stream stops and goes, and no stream
keeps others waiting.
"""

from __future__ import annotations

import heapq
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_LOG = logging.getLogger("SERVER")
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

#: what a mask of events means
READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
BROKEN = select.EPOLLHUP | select.EPOLLERR
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

Ready = Callable[[int], None]


@dataclass(order=True, slots=True)
class Timer:
    """A call in the future."""

    at: float
    number: int
    call: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """It is not called."""
        self.call = None


class Loop:
    """`run` until `stop`. All calls come from its own thread, `from_thread` excepted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._epoll = select.epoll()
        #: descriptor → what is called, and in which turn it came
        self._ready: dict[int, tuple[Ready, int]] = {}
        self._turn = 0
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[Timer] = []
        self._number = 0
        self._running = self._closed = False
        self._others: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wake, self._run_others)

    def watch(self, number: int, ready: Ready, *, level: bool = False) -> None:
        """Call `ready` with a mask whenever the socket's state changes; with `level`, as long as it can be read."""
        self._ready[number] = ready, self._turn
        self._epoll.register(number, select.EPOLLIN if level else _EVENTS)

    def unwatch(self, number: int) -> None:
        """To be called before the socket is closed. Twice is once."""
        if self._ready.pop(number, None) is not None:
            self._epoll.unregister(number)

    @property
    def is_idle(self) -> bool:
        """Whether nothing happens before the next event or timer."""
        return not self._soon

    def soon(self, call: Callable[[], None]) -> None:
        """After the events that are there now."""
        self._soon.append(call)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Once, in a while."""
        self._number += 1
        timer = Timer(self.now() + seconds, self._number, call)
        heapq.heappush(self._timers, timer)
        return timer

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Again and again, for ever."""

        def again() -> None:
            self.after(seconds, again)
            call()

        self.after(seconds, again)

    def from_thread(self, call: Callable[[], None]) -> None:
        """As `soon`, from any thread; nothing happens once the loop is closed."""
        with self._lock:
            if not self._closed:
                self._others.append(call)
                os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Until `stop`."""
        self._running = True
        while self._running:
            events = self._epoll.poll(self._patience())
            self._turn += 1
            for number, mask in events:
                ready, since = self._ready.get(number, (None, 0))
                # what came in this turn has the number of something that was closed in it: the event is not its own
                if ready is not None and since != self._turn:
                    self._guard(ready, mask)
            for _ in range(len(self._soon)):
                self._guard(self._soon.popleft())
            self._run_timers()

    def stop(self) -> None:
        """`run` returns after this turn."""
        self._running = False

    def close(self) -> None:
        """Give back what the kernel holds."""
        with self._lock:
            self._closed = True
        self._epoll.close()
        os.close(self._wake)

    def _patience(self) -> float:
        if self._soon:
            return 0
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].at - self.now()) if self._timers else -1

    def _run_timers(self) -> None:
        now = self.now()
        while self._timers and self._timers[0].at <= now:
            call = heapq.heappop(self._timers).call
            if call is not None:
                self._guard(call)

    def _run_others(self, _mask: int) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        with self._lock:
            calls, self._others = self._others, deque()
        for call in calls:
            self._guard(call)

    @staticmethod
    def _guard(call: Callable[..., None], *arguments: int) -> None:
        try:
            call(*arguments)
        except Exception:  # noqa: BLE001 - a mistake in what one stream asks for must not end all others
            _LOG.critical("a mistake of this router; it goes on", exc_info=True)
