"""Writes the objects that a site's controller has beside what users write: Services, Secrets, Links of tokens.

What cannot be written is told, and holds up nothing else; what an informer has not heard of yet is looked at later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from knetsim.api.objects import Object, describe, key_of, name_of, namespace_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, Conflict, NotFound, ObjectError
from knetsim.node.skupper.objects import is_ours


class ObjectWriter:
    """`later` is called when something has changed meanwhile: it wants another look, not at once."""

    def __init__(self, store: Store, later: Callable[[], None]) -> None:
        self._store, self._later = store, later

    def write(self, obj: Object) -> str:
        """Create an object, or replace the one whose resourceVersion it has; why that cannot be, or empty."""
        try:
            if "resourceVersion" in obj["metadata"]:
                self._store.update(obj)
            else:
                self._store.create(obj)
        except AlreadyExists:
            return self._explain_present(obj)
        except (NotFound, Conflict):
            self._later()
        except ObjectError as refusal:
            return f"{describe(obj)}: {refusal}"
        return ""

    def _explain_present(self, obj: Object) -> str:
        self._later()  # an informer has not heard of it yet: it will
        try:
            present = self._store.get(obj["kind"], name_of(obj), namespace_of(obj))
        except NotFound:
            return ""
        return "" if is_ours(present) else f"there is a {describe(obj)} already, which is not Skupper's"

    def put(self, wanted: Iterable[Object], present: Iterable[Object]) -> list[tuple[Object, str]]:
        """Have the wanted objects be there, and none of the `present` ones that are not wanted; what could not be
        written, and why."""
        known = {(obj["kind"], key_of(obj)): obj for obj in present}
        refused = []
        for obj in wanted:
            before = known.pop((obj["kind"], key_of(obj)), None)
            merged = merge(before, obj) if before is not None else obj
            if merged != before and (why := self.write(merged)):
                refused.append((obj, why))
        for obj in known.values():
            self.delete(obj)
        return refused

    def delete(self, obj: Object) -> None:
        """Delete an object, if it is still the same."""
        try:
            self._store.delete(obj["kind"], name_of(obj), namespace_of(obj), uid=uid_of(obj))
        except (NotFound, Conflict):
            pass  # gone already

    def make(self, obj: Object) -> str:
        """Create an object whose annotations say what it was made of; why it is not there, or empty. Another of its
        name, which an informer has not heard of yet, does not stand for it."""
        fault = self.write(obj)
        if not fault and self._find_made(obj) is None:
            self._later()
            fault = f"there is another {describe(obj)}"
        return fault

    def take_back(self, obj: Object) -> None:
        """Delete what `make` has created, if it is still there."""
        made = self._find_made(obj)
        if made is not None:
            self.delete(made)

    def _find_made(self, obj: Object) -> Object | None:
        try:
            present = self._store.get(obj["kind"], name_of(obj), namespace_of(obj))
        except NotFound:
            return None
        annotations = present["metadata"].get("annotations") or {}
        return present if obj["metadata"]["annotations"].items() <= annotations.items() else None

    def write_status(self, obj: Object, status: Object) -> None:
        """Write an object's status, if it is still the same."""
        try:
            self._store.update_status({**obj, "status": status})
        except (NotFound, Conflict):
            pass  # gone, or another of its name


def merge(before: Object, wanted: Object) -> Object:
    """`before` with what is wanted of it; what others have filled in stays."""
    metadata = {**before["metadata"], **wanted["metadata"]}
    for field in ("annotations", "labels"):
        if wanted["metadata"].get(field):
            metadata[field] = {**(before["metadata"].get(field) or {}), **wanted["metadata"][field]}
    merged = {**before, **wanted, "metadata": metadata}
    if "spec" in wanted:
        merged["spec"] = {**before["spec"], **wanted["spec"]}
    return merged
