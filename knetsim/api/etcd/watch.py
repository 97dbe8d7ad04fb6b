"""A watch of all keys with a prefix that outlives the members it runs on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import grpc
from etcd3 import etcdrpc

from knetsim.api.etcd.members import LEADER_REQUIRED, Compacted, Member

#: seconds of pause before all members are tried once more
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
#: a stream that lived for so many seconds was no failure
_LASTING = 1.0


class KeyChange(NamedTuple):
    """One step of a watch: the new value, or None when the key was deleted (or its lease ended), in `revision`."""

    key: str
    value: bytes | None
    revision: int


class PrefixWatch:
    """An iterator of lists of changes, in order, each change once; it looks for a member as long as it takes.

    Raises Compacted when the history it needs is gone. `close` ends it from any thread.
    """

    def __init__(
        self, members: Sequence[Member], first: int, prefix: str, revision: int, client_closed: threading.Event
    ) -> None:
        self._members, self._index, self._client_closed = members, first, client_closed
        self._prefix, self._next_revision = prefix, revision
        self._closed = threading.Event()
        self._lock = threading.Lock()  # between `close` and the opening of the next stream
        self._stream: Any = None
        self._opened = 0.0
        self._failures, self._pause = 0, FIRST_PAUSE

    def __iter__(self) -> Iterator[list[KeyChange]]:
        return self

    def __next__(self) -> list[KeyChange]:
        while True:
            try:
                stream = self._stream or self._open()
                if stream is None:
                    raise StopIteration
                answer = next(stream, None)
            except (grpc.RpcError, ValueError):  # ValueError: the channel was closed
                answer = None
            if answer is None or (answer.canceled and not answer.compact_revision):
                self._move_on()
            elif changes := self._take(answer):
                return changes

    def close(self) -> None:
        """End the iteration, now and for good."""
        with self._lock:
            self._closed.set()
            stream = self._stream
        if stream is not None:
            stream.cancel()

    def _open(self) -> Any:
        """A stream from the next revision on, or None when the watch is over."""
        start = self._prefix.encode()
        create = etcdrpc.WatchCreateRequest(key=start, range_end=prefix_end(start), start_revision=self._next_revision)
        # The one request, and then this side says nothing more: etcd keeps telling, and gRPC needs no thread to wait
        # for further requests.
        request = iter((etcdrpc.WatchRequest(create_request=create),))
        with self._lock:
            if self._closed.is_set() or self._client_closed.is_set():
                return None
            self._stream = self._members[self._index].watch(request, metadata=LEADER_REQUIRED)
            self._opened = time.monotonic()
            return self._stream

    def _move_on(self) -> None:
        """The stream has ended: go on with the next member, after a pause once all have failed in a row."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()  # when etcd has ended only the watch; harmless when the stream is over
        self._index = (self._index + 1) % len(self._members)
        if time.monotonic() - self._opened > _LASTING:
            self._failures, self._pause = 0, FIRST_PAUSE
        self._failures += 1
        if self._failures >= len(self._members):
            self._closed.wait(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _take(self, answer: Any) -> list[KeyChange]:
        if answer.compact_revision:
            self.close()
            raise Compacted(self._prefix, int(answer.compact_revision))
        changes = [
            KeyChange(event.kv.key.decode(), event.kv.value if event.type == 0 else None, event.kv.mod_revision)
            for event in answer.events
            if event.kv.mod_revision >= self._next_revision
        ]
        if changes:
            # Not the revision in the answer's header: while etcd catches up with the past, that is ahead of what it has
            # told. All changes of one revision come in one answer, so the next one is free of what was told.
            self._next_revision = changes[-1].revision + 1
            self._failures, self._pause = 0, FIRST_PAUSE
        return changes


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`: etcd's convention. UTF-8 never ends with the byte 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
