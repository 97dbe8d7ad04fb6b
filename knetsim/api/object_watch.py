"""One kind of objects followed in etcd: the full list, SYNCED, every change; see store.Watch for what is promised.

When etcd has compacted the history it would need, the difference between what was told (told.py) and a new list is
told.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

from knetsim.api.etcd import Compacted, Etcd, KeyChange, PrefixWatch
from knetsim.api.objects import read_object
from knetsim.api.store import SYNCED, Change
from knetsim.api.told import Told
from knetsim.errors import StoreUnavailable

_log = logging.getLogger(__name__)


class ObjectWatch:
    """An iterator of Change over all objects below an etcd prefix."""

    def __init__(self, etcd: Etcd, prefix: str) -> None:
        self._etcd, self._prefix = etcd, prefix
        self._closed = threading.Event()
        self._lock = threading.Lock()  # between `close` and the beginning of the next etcd watch
        self._stream: PrefixWatch | None = None
        self._told = Told()
        self._ready: deque[Change] = deque()
        self._synced = False

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        while not self._closed.is_set():
            if self._ready:
                return self._ready.popleft()
            try:
                if self._stream is None:
                    self._begin()
                else:
                    self._ready.extend(self._tell(next(self._stream)))
            except Compacted as error:
                _log.info("%s: %s; listing again", self._prefix, error)
                self._stream = None
            except StoreUnavailable as error:
                if self._etcd.closed or self._closed.is_set():
                    break
                _log.warning("%s: %s; trying on", self._prefix, error)
            except StopIteration:
                break  # the stream was closed, or the whole client
        raise StopIteration

    def close(self) -> None:
        """End the iteration, from any thread."""
        with self._lock:
            self._closed.set()
            if self._stream is not None:
                self._stream.close()

    def _begin(self) -> None:
        """List, queue the difference to what was told, and follow what comes after."""
        entries, revision = self._etcd.prefix(self._prefix, stop=self._closed)
        listed = [(entry.key, str(entry.revision), partial(read_object, *entry)) for entry in entries]
        self._ready.extend(self._told.compare(listed, str(revision)))
        if not self._synced:
            self._synced = True
            self._ready.append(Change(SYNCED, {}))
        with self._lock:
            if not self._closed.is_set():
                self._stream = self._etcd.watch_prefix(self._prefix, revision + 1)

    def _tell(self, changes: Iterable[KeyChange]) -> Iterator[Change]:
        for key, value, revision in changes:
            if value is None:
                yield from self._told.remove(key, str(revision))
            else:
                yield from self._told.set(key, read_object(key, value, revision), str(revision))
