"""An in-memory copy of one kind, kept up to date by one watch, for all agents that read it.

Objects are handed out as they are, shared by all readers: nobody may change them (write through the store, on a copy).
A change is stored before the functions that wait for changes are called, and those are called one after the other in
the informer's thread: they put a key into a queue and return.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from knetsim.api.objects import Object, key_of, make_key, revision_of
from knetsim.api.store import DELETED, SYNCED, Store, Watch
from knetsim.errors import NotReady

_log = logging.getLogger(__name__)

#: called with (key, the object before or None, the object now or None when it is gone)
ChangeFunction = Callable[[str, Object | None, Object | None], None]
#: the names under which an object is found in an index: `lambda pod: [pod["spec"].get("nodeName", "")]`
IndexFunction = Callable[[Object], Iterable[str]]

#: how long `wait_current` waits for objects before it asks which there are
_LIST_AGAIN_SECONDS = 1.0

#: name → key → object
Index = dict[str, dict[str, Object]]


class Informer:
    """All objects of a kind (in one namespace, when given). `start`, then read; `wait_synced` before relying on it."""

    def __init__(
        self, store: Store, kind: str, namespace: str | None = None, *, indexes: dict[str, IndexFunction] | None = None
    ) -> None:
        self.kind = kind
        self._store, self._namespace = store, namespace
        self._objects: dict[str, Object] = {}
        self._index_functions = dict(indexes or {})
        self._indexes: dict[str, Index] = {name: {} for name in self._index_functions}
        self._functions: list[ChangeFunction] = []
        self._changed = threading.Condition()
        self._telling = threading.RLock()  # so that a function that is added hears of every object once, and in order
        self._synced = False
        self._watch: Watch | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def on_change(self, function: ChangeFunction) -> None:
        """Call `function` for every object that is there, as if it were new, and then for every change."""
        with self._telling:
            with self._changed:
                present = list(self._objects.items())
                self._functions.append(function)
            for key, obj in present:
                function(key, None, obj)

    def forget(self, function: ChangeFunction) -> None:
        """Call `function` no more."""
        with self._telling:
            if function in self._functions:
                self._functions.remove(function)

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._watch = self._store.watch(self.kind, self._namespace)
        self._thread = threading.Thread(
            target=self._follow, args=(self._watch,), name=f"informer {self.kind}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the watch and its thread; what is known stays readable."""
        self._stopped = True
        if self._watch is not None:
            self._watch.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, namespace: str | None, name: str) -> Object | None:
        """The object, or None."""
        return self._objects.get(make_key(name, namespace))

    def by_key(self, key: str) -> Object | None:
        """The object that queues call `key`, or None."""
        return self._objects.get(key)

    def items(self) -> list[Object]:
        """All objects, in no order."""
        with self._changed:
            return list(self._objects.values())

    def find(self, index: str, name: str) -> list[Object]:
        """The objects that the index function `index` gives the name `name`."""
        with self._changed:
            return list(self._indexes[index].get(name, {}).values())

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def synced(self) -> bool:
        """Whether the full list has been read once."""
        return self._synced

    def wait_synced(self, timeout: float) -> None:
        """Wait until the full list was read and told; NotReady after `timeout` seconds."""
        self.wait_for(lambda informer: informer.synced, timeout, f"the first list of {self.kind} objects")

    def wait_for(self, condition: Callable[[Informer], bool], timeout: float, what: str) -> None:
        """Wait until `condition(self)`, tried after every change; NotReady naming `what` after `timeout` seconds."""
        end = time.monotonic() + timeout
        with self._changed:
            while not condition(self):
                if not self._changed.wait(end - time.monotonic()):
                    raise NotReady(what, f"informer {self.kind}", f"not seen within {timeout:g} s")

    def wait_current(self, timeout: float) -> None:
        """Wait until all that is stored now was told, as it is now or later; NotReady after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            stored = {key_of(obj): revision_of(obj) for obj in self._store.list(self.kind, self._namespace).items}
            try:
                left = end - time.monotonic()
                self.wait_for(lambda known: known._covers(stored), min(left, _LIST_AGAIN_SECONDS), "what is stored now")  # noqa: B023
                break
            except NotReady:  # or something was deleted meanwhile, and is waited for in vain
                if time.monotonic() >= end:
                    raise
        with self._telling:
            pass  # the functions have been called too

    def _covers(self, stored: dict[str, int]) -> bool:
        return all(
            (obj := self._objects.get(key)) is not None and revision_of(obj) >= version
            for key, version in stored.items()
        )

    # --- following ----------------------------------------------------------------------------------------------------

    def _follow(self, watch: Watch) -> None:
        for change in watch:
            if self._stopped:
                return
            if change.type == SYNCED:
                with self._changed:
                    self._synced = True
                    self._changed.notify_all()
            else:
                self._apply(change.object, gone=change.type == DELETED)

    def _apply(self, obj: Object, *, gone: bool) -> None:
        key, after = key_of(obj), None if gone else obj
        with self._telling:
            with self._changed:
                before = self._objects.pop(key, None)
                if after is not None:
                    self._objects[key] = after
                for name, names_of in self._index_functions.items():
                    _reindex(self._indexes[name], names_of, key, before, after)
                self._changed.notify_all()
            for function in self._functions:
                function(key, before, after)


def _reindex(index: Index, names_of: IndexFunction, key: str, before: Object | None, after: Object | None) -> None:
    for name in names_of(before) if before is not None else ():
        entries = index[name]
        entries.pop(key, None)
        if not entries:
            del index[name]
    if after is not None:
        for name in names_of(after):
            index.setdefault(name, {})[key] = after
