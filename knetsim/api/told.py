"""What a watch has told so far: so that it can tell ADDED from MODIFIED, and the difference to a new list.

The objects are kept as they were told (the same dicts, not copies).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from knetsim.api.objects import Object, uid_of
from knetsim.api.store import ADDED, DELETED, MODIFIED, Change

#: an object of a list: its key, its resourceVersion, and what reads it (None: it is no object)
Listed = tuple[str, str, Callable[[], Object | None]]


class Told:
    """The objects that exist by what was told, by key. Its methods give the changes to tell."""

    def __init__(self) -> None:
        self._known: dict[str, Object] = {}

    def compare(self, listed: Iterable[Listed], revision: str) -> Iterator[Change]:
        """What has become of all objects up to the `revision` of a full list."""
        entries = {key: (version, read) for key, version, read in listed}
        for key in [key for key in self._known if key not in entries]:
            yield from self.remove(key, revision)
        for key, (version, read) in entries.items():
            before = self._known.get(key)
            if before is None or before["metadata"].get("resourceVersion") != version:
                yield from self.set(key, read(), version)

    def set(self, key: str, obj: Object | None, revision: str) -> Iterator[Change]:
        """An object as it is since `revision`; None when it could not be read, which changes nothing."""
        if obj is None:
            return
        before = self._known.get(key)
        self._known[key] = obj
        if before is None:
            yield Change(ADDED, obj)
        elif uid_of(before) == uid_of(obj):
            yield Change(MODIFIED, obj)
        else:  # deleted and made again in a gap
            yield Change(DELETED, _as_of(before, revision))
            yield Change(ADDED, obj)

    def remove(self, key: str, revision: str, last: Object | None = None) -> Iterator[Change]:
        """An object that was deleted in `revision`, with its last state when that is known."""
        before = self._known.pop(key, None)
        if before is not None:
            yield Change(DELETED, last or _as_of(before, revision))


def _as_of(obj: Object, revision: str) -> Object:
    """The last state of a deleted object; its resourceVersion is that of the deletion, as in Kubernetes."""
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": revision}}
