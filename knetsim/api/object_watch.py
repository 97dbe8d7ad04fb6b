"""One kind of objects followed in etcd: the full list, SYNCED, every change; see store.Watch for what is promised.

The watch keeps the objects it has told (the same dicts, not copies), so that it can tell ADDED from MODIFIED, give a
deleted object's last state, and, when etcd has compacted the history it would need, tell the difference between that
and a new list.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator

from knetsim.api.etcd import Compacted, Entry, Etcd, KeyChange, PrefixWatch
from knetsim.api.objects import Object, read_object, uid_of
from knetsim.api.store import ADDED, DELETED, MODIFIED, SYNCED, Change
from knetsim.errors import StoreUnavailable

_log = logging.getLogger(__name__)


class ObjectWatch:
    """An iterator of Change over all objects below an etcd prefix."""

    def __init__(self, etcd: Etcd, prefix: str) -> None:
        self._etcd, self._prefix = etcd, prefix
        self._closed = threading.Event()
        self._lock = threading.Lock()  # between `close` and the beginning of the next etcd watch
        self._stream: PrefixWatch | None = None
        self._known: dict[str, Object] = {}
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
        self._ready.extend(self._compare(entries, revision))
        if not self._synced:
            self._synced = True
            self._ready.append(Change(SYNCED, {}))
        with self._lock:
            if not self._closed.is_set():
                self._stream = self._etcd.watch_prefix(self._prefix, revision + 1)

    def _compare(self, entries: Iterable[Entry], revision: int) -> Iterator[Change]:
        listed = {entry.key: entry for entry in entries}
        for key in [key for key in self._known if key not in listed]:
            yield Change(DELETED, _as_of(self._known.pop(key), revision))
        for key, entry in listed.items():
            before = self._known.get(key)
            if before is not None and before["metadata"]["resourceVersion"] == str(entry.revision):
                continue
            yield from self._set(key, entry.value, entry.revision)

    def _tell(self, changes: Iterable[KeyChange]) -> Iterator[Change]:
        for key, value, revision in changes:
            if value is not None:
                yield from self._set(key, value, revision)
            elif (before := self._known.pop(key, None)) is not None:
                yield Change(DELETED, _as_of(before, revision))

    def _set(self, key: str, value: bytes, revision: int) -> Iterator[Change]:
        before = self._known.get(key)
        obj = read_object(key, value, revision)
        if obj is None:
            return
        self._known[key] = obj
        if before is None:
            yield Change(ADDED, obj)
        elif uid_of(before) == uid_of(obj):
            yield Change(MODIFIED, obj)
        else:  # deleted and made again in a gap
            yield Change(DELETED, _as_of(before, revision))
            yield Change(ADDED, obj)


def _as_of(obj: Object, revision: int) -> Object:
    """The last state of a deleted object; its resourceVersion is that of the deletion, as in Kubernetes."""
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
