"""One kind of objects followed through the API server: see store.Watch for what is promised.

It has a connection of its own, for lists and streams alike, so that `close` ends it whatever it waits for. A stream
that ends is resumed where it ended: after the last change it told, or the last bookmark, by which the server says how
far nothing has happened. When the server does not keep that history any more (410), the difference between what was
told and a new list is told.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from urllib3.exceptions import HTTPError

from knetsim.api.http.client import FIRST_PAUSE, LONGEST_PAUSE, ApiClient
from knetsim.api.http.connection import Answer
from knetsim.api.http.failures import Expired, Unserved, error_of, is_ok, status_error
from knetsim.api.http.resources import Resource
from knetsim.api.objects import Object, key_of
from knetsim.api.store import DELETED, SYNCED, Change
from knetsim.api.told import Told
from knetsim.errors import KnetsimError, StoreUnavailable

_log = logging.getLogger(__name__)

#: objects of one answer: while a longer one is read, all other threads would stand still
PAGE: Final = 500
_LIST_SECONDS = 30.0
#: seconds after which the server ends a stream; it sends a bookmark every minute, and one before that
_STREAM_SECONDS = 600
#: a stream without a byte for so many seconds has a server that hangs
_SILENCE = 100.0
#: a stream that lived for so many seconds was no failure
_LASTING = 1.0


class ObjectReader:
    """Objects as the server tells them, made complete: lists leave out what all their items have in common."""

    def __init__(self, kind: str, api_version: str) -> None:
        self.kind, self.api_version = kind, api_version

    def complete(self, obj: Object) -> Object:
        """The same object with `kind` and `apiVersion`, and without the book-keeping of who wrote which field."""
        obj["metadata"].pop("managedFields", None)
        return obj if "kind" in obj else {"kind": self.kind, "apiVersion": self.api_version, **obj}


class HttpWatch:
    """An iterator of Change over all objects of a kind, or of those in one namespace."""

    def __init__(self, client: ApiClient, resource: Resource, reader: ObjectReader, namespace: str) -> None:
        self._resource, self._reader, self._namespace = resource, reader, namespace
        self._client, self._channel = client, client.channel()
        self._what = resource.path(namespace)
        self._closed = threading.Event()
        self._told, self._ready = Told(), deque[Change]()
        self._synced = False
        self._revision = ""  # "": list first
        self._lines: Iterator[bytes] | None = None
        self._opened = 0.0
        self._pause = 0.0

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        while not self._is_over():
            if self._ready:
                return self._ready.popleft()
            try:
                self._advance()
            except Expired as error:
                _log.info("%s: %s; listing again", self._what, error)
                self._restart()
            except (KnetsimError, HTTPError, OSError, ValueError, LookupError) as error:
                # The last two: what came was no event.
                if not self._is_over():
                    self._wait(error)
        self._channel.close()
        raise StopIteration

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._closed.set()
        self._channel.cut()

    def _is_over(self) -> bool:
        return self._closed.is_set() or self._client.closed

    def _advance(self) -> None:
        """One step: the list, the beginning of a stream, or its next line."""
        if not self._revision:
            self._list()
        elif self._lines is None:
            self._lines = self._open()
        else:
            line = next(self._lines, None)
            if line is None:
                self._lines = None  # the server ends every stream after a while
                if time.monotonic() - self._opened < _LASTING:
                    raise StoreUnavailable("the stream ended as soon as it began", self._what)
            else:
                self._take(json.loads(line))

    def _list(self) -> None:
        items, revision = read_list(self._get, self._resource, self._namespace, self._reader)
        listed = [(key_of(obj), obj["metadata"]["resourceVersion"], lambda obj=obj: obj) for obj in items]
        self._ready.extend(self._told.compare(listed, revision))
        if not self._synced:
            self._synced = True
            self._ready.append(Change(SYNCED, {}))
        self._revision = revision

    def _get(self, path: str) -> Answer:
        answer = self._channel.get(path, _LIST_SECONDS)
        if self._client.is_awaited(path, answer):
            raise Unserved("the API server does not serve this kind", self._what)
        return answer

    def _open(self) -> Iterator[bytes]:
        seconds = int(_STREAM_SECONDS * random.uniform(1.0, 1.5))  # so that not all end at the same moment
        path = self._resource.path(
            self._namespace,
            watch="1",
            allowWatchBookmarks="true",
            resourceVersion=self._revision,
            timeoutSeconds=seconds,
        )
        answer, pieces = self._channel.stream(path, _SILENCE)
        if not is_ok(answer):
            raise error_of(answer, self._what)
        self._opened = time.monotonic()
        return split_lines(pieces)

    def _take(self, event: dict[str, Any]) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            raise status_error(obj, obj.get("code", 0), self._what)
        self._pause = 0.0
        revision = obj["metadata"]["resourceVersion"]
        if kind != "BOOKMARK":
            obj = self._reader.complete(obj)
            key = key_of(obj)
            if kind == DELETED:
                self._ready.extend(self._told.remove(key, revision, obj))
            else:
                self._ready.extend(self._told.set(key, obj, revision))
        self._revision = revision

    def _restart(self) -> None:
        """Take a new list, on a new connection."""
        self._revision, self._lines = "", None
        self._channel.close()

    def _wait(self, error: Exception) -> None:
        """The stream or the server is lost: resume, at once the first time, and then after longer and longer pauses."""
        self._lines = None
        self._channel.close()
        # A lost connection is nothing to tell; a server that is away is, once.
        level = {0.0: logging.INFO, FIRST_PAUSE: logging.WARNING}.get(self._pause, logging.DEBUG)
        if isinstance(error, Unserved):  # its definition was written a moment ago
            level = logging.DEBUG
        _log.log(level, "%s: %s; trying on", self._what, error)
        if self._closed.wait(self._pause):
            return
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)


def read_list(
    get: Callable[[str], Answer], resource: Resource, namespace: str, reader: ObjectReader
) -> tuple[list[Object], str]:
    """All objects of a kind sorted by key, read in pieces that are all of the same revision, and that revision."""
    items: list[Object] = []
    begun = ""
    while True:
        answer = get(resource.path(namespace, limit=PAGE, **({"continue": begun} if begun else {})))
        if not is_ok(answer):
            raise error_of(answer, resource.path(namespace))
        page = answer.json
        if not isinstance(page, dict):
            raise StoreUnavailable("the API server does not answer with JSON", resource.path(namespace))
        items += [reader.complete(obj) for obj in page.get("items") or ()]
        begun = page["metadata"].get("continue") or ""
        if not begun:
            items.sort(key=key_of)
            return items, str(page["metadata"]["resourceVersion"])


def split_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a stream, whatever pieces it comes in; what is behind the last end of line was cut off."""
    begun: list[bytes] = []
    for piece in pieces:
        *lines, rest = piece.split(b"\n")
        for line in lines:
            begun.append(line)
            yield b"".join(begun)
            begun = []
        if rest:
            begun.append(rest)
