"""Leases that are kept alive: one thread renews all of a client's at a third of their time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from knetsim.errors import NotFound, StoreUnavailable

#: called with the lease's number when it ran out although it was renewed
LostFunction = Callable[[int], None]


@dataclass(slots=True)
class _Kept:
    seconds: int
    due: float
    on_lost: LostFunction | None


class LeaseKeeper:
    """Renews leases by `renew(lease) -> seconds it lives from now`. Its thread runs only while there is one to keep."""

    def __init__(self, renew: Callable[[int], int]) -> None:
        self._renew = renew
        self._changed = threading.Condition()
        self._leases: dict[int, _Kept] = {}
        self._running = False

    def keep(self, lease: int, seconds: int, on_lost: LostFunction | None) -> None:
        """Renew `lease`, which lives for `seconds`, from now on."""
        with self._changed:
            self._leases[lease] = _Kept(seconds, time.monotonic() + seconds / 3, on_lost)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="etcd leases", daemon=True).start()
            self._changed.notify()

    def forget(self, lease: int) -> None:
        """Renew it no more."""
        with self._changed:
            self._leases.pop(lease, None)
            self._changed.notify()

    def close(self) -> None:
        """Renew none any more."""
        with self._changed:
            self._leases.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (lease := self._next_due()) is not None:
            try:
                seconds: int | None = self._renew(lease)
            except NotFound:
                seconds = None
            except StoreUnavailable:
                seconds = 0  # etcd without a leader ends no lease, so it is worth trying again
            lost = self._note(lease, seconds)
            if lost is not None:
                lost(lease)

    def _next_due(self) -> int | None:
        """Waits for the first lease that is due; None when none is left, and the thread is to end."""
        with self._changed:
            while self._leases:
                lease, kept = min(self._leases.items(), key=lambda item: item[1].due)
                pause = kept.due - time.monotonic()
                if pause <= 0:
                    return lease
                self._changed.wait(pause)
            self._running = False
            return None

    def _note(self, lease: int, seconds: int | None) -> LostFunction | None:
        """Sets when the lease is due again (`seconds` 0: soon); None: it is lost, and who wants to know is returned."""
        with self._changed:
            kept = self._leases.get(lease)
            if kept is None:
                return None  # forgotten meanwhile
            if seconds is None:
                del self._leases[lease]
                return kept.on_lost
            kept.due = time.monotonic() + (seconds / 3 if seconds else min(1.0, kept.seconds / 10))
            return None
