"""Which state of which object is there: what an update compares, and need not read when it was seen before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from knetsim.api.objects import uid_of

#: the versions of so many objects are remembered
_RECENT = 4096


class Version(NamedTuple):
    """Which object of a name, and which state of it."""

    revision: str
    uid: str

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Self:
        """The version that an object from the server is."""
        return cls(str(obj["metadata"]["resourceVersion"]), uid_of(obj))


class RecentVersions:
    """The versions of the objects read or written last, by (kind, key): an update needs no read first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: OrderedDict[tuple[str, str], Version] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Version | None:
        """The newest that is known, or None."""
        with self._lock:
            return self._versions.get(key)

    def put(self, key: tuple[str, str], version: Version) -> None:
        """Remember it."""
        with self._lock:
            self._versions[key] = version
            self._versions.move_to_end(key)
            if len(self._versions) > _RECENT:
                self._versions.popitem(last=False)

    def drop(self, key: tuple[str, str]) -> None:
        """Forget it: the object is gone."""
        with self._lock:
            self._versions.pop(key, None)
