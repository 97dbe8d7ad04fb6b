"""An etcd in memory, at the seam between store and etcd: `EtcdStore(MemoryEtcd())` is a whole store without a process.

tests/unit/test_memory_etcd.py runs the store's contract, which real etcd members pass, with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from knetsim.api.etcd import Entry, Etcd, KeyChange, Stored, Swap
from knetsim.errors import ObjectError, StoreUnavailable

_BIGGEST = 1536 * 1024


@dataclass
class _Data:
    """What the clients of one etcd share."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    revision: int = 1
    stored: dict[str, Stored] = field(default_factory=dict)
    history: list[KeyChange] = field(default_factory=list)


class MemoryEtcd(Etcd):
    """The calls of `knetsim.api.etcd.Etcd` that a store makes. `broken` makes every one of them fail until it is reset.

    `MemoryEtcd(other)` is another client of the same data.
    """

    def __init__(self, other: MemoryEtcd | None = None) -> None:
        self.broken = False
        self._is_closed = False
        self._data = other._data if other else _Data()
        self._changed = self._data.changed

    @property
    def writes(self) -> int:
        """How many there have been."""
        return len(self._data.history)

    @property
    def closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _check(self) -> None:
        if self.broken or self._is_closed:
            raise StoreUnavailable("etcd does not answer")

    def get(self, key: str) -> Stored | None:
        with self._changed:
            self._check()
            return self._data.stored.get(key)

    def prefix(self, prefix: str, *, stop: threading.Event | None = None) -> tuple[list[Entry], int]:
        with self._changed:
            self._check()
            keys = sorted(key for key in self._data.stored if key.startswith(prefix))
            return [
                Entry(key, self._data.stored[key].value, self._data.stored[key].revision) for key in keys
            ], self._data.revision

    def swap(
        self,
        key: str,
        value: bytes | None,
        expected: int,
        *,
        lease: int = 0,
        guards: Mapping[str, int | None] | None = None,
    ) -> Swap:
        with self._changed:
            self._check()
            if value is not None and len(value) > _BIGGEST:
                raise ObjectError("is too large", why="etcd takes 1.5 MiB")
            guards = guards or {}
            found = {guard: self._data.stored.get(guard) for guard in guards}
            stand = all(one is not None and guards[guard] in (None, one.revision) for guard, one in found.items())
            current = self._data.stored.get(key)
            if not stand or (current.revision if current else 0) != expected:
                return Swap(False, self._data.revision, current, found)
            self._write(key, value, lease)
            return Swap(True, self._data.revision)

    def _write(self, key: str, value: bytes | None, lease: int = 0) -> None:
        self._data.revision += 1
        if value is None:
            self._data.stored.pop(key, None)
        else:
            self._data.stored[key] = Stored(value, self._data.revision, lease)
        self._data.history.append(KeyChange(key, value, self._data.revision))
        self._changed.notify_all()

    def delete_prefix(self, prefix: str) -> None:
        with self._changed:
            for key in [key for key in self._data.stored if key.startswith(prefix)]:
                self._write(key, None)

    def lease_grant(self, ttl: int) -> int:
        self._check()
        return 1

    def watch_prefix(self, prefix: str, from_revision: int) -> MemoryWatch:
        return MemoryWatch(self, prefix, from_revision)


class MemoryWatch:
    """Follows a prefix, as `PrefixWatch` does."""

    def __init__(self, etcd: MemoryEtcd, prefix: str, revision: int) -> None:
        self._etcd, self._prefix = etcd, prefix
        with etcd._changed:
            self._next = len(etcd._data.history) - sum(
                1 for change in etcd._data.history if change.revision >= revision
            )
        self._closed = False

    def __iter__(self) -> Iterator[list[KeyChange]]:
        return self

    def __next__(self) -> list[KeyChange]:
        etcd = self._etcd
        with etcd._changed:
            while not (self._closed or etcd.closed):
                new = [change for change in etcd._data.history[self._next :] if change.key.startswith(self._prefix)]
                self._next = len(etcd._data.history)
                if new:
                    return new
                etcd._changed.wait()
        raise StopIteration

    def close(self) -> None:
        with self._etcd._changed:
            self._closed = True
            self._etcd._changed.notify_all()
