"""An event loop of asyncio in a thread of its own, to which other threads give work and wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class LoopThread:
    """`start` once, `stop` once; `call` in between, from any other thread."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have `work` done in the loop; what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def stop(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Have `last` done, if it was started, and end loop and thread. Twice is once."""
        if self.loop.is_closed():
            return
        if self._thread.is_alive():
            self.call(last())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
        self.loop.close()
