"""Events are written by a thread of their own: they are the least important thing to write, and no pod waits for
one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

#: so many may wait; what comes then is dropped, as everything that a store which does not answer cannot take
_WAITING = 10_000


class EventQueue:
    """Calls what is put into it, one after the other."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(_WAITING)
        self._dropping = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def put(self, telling: Callable[[], None]) -> None:
        """Have `telling` called soon."""
        try:
            self._queue.put_nowait(telling)
        except queue.Full:
            pass

    def stop(self) -> None:
        """Drop what has not been told. Twice is once."""
        self._dropping = True
        self.put(lambda: None)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._dropping:
            self._queue.get()()
