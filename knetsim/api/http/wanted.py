"""What a writer wants: the object as it is sent to the server, and whether what is there is what was wanted. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from knetsim import names
from knetsim.api.http.resources import Resource
from knetsim.api.objects import Object, describe, name_of, namespace_of
from knetsim.errors import ObjectError

#: the letters of which Kubernetes makes names: none that could make a word
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
#: what the server sets, whatever is sent
_NOT_ASKED = frozenset(("resourceVersion", "uid", "generation", "creationTimestamp", "deletionTimestamp", "selfLink"))
#: so much of a generateName stays, that the name is 63 letters long at most
_LONGEST_BASE = 58


def given_name(obj: Mapping[str, Any]) -> str:
    """`metadata.name`; ObjectError when there is none."""
    name = name_of(obj)
    if not name:
        raise ObjectError("metadata.name is missing", describe(obj), field="metadata.name")
    return name


def name_base(obj: Mapping[str, Any]) -> str:
    """What a name that is drawn begins with, or ""."""
    metadata = obj.get("metadata")
    base = metadata.get("generateName") if isinstance(metadata, Mapping) else None
    return base if isinstance(base, str) else ""


def draw_name(base: str) -> str:
    """A name that begins with `base`, as the server would make it; none at all without a base: it is then refused."""
    return base[:_LONGEST_BASE] + "".join(random.choices(_NAME_LETTERS, k=5)) if base else ""


def expected_version(obj: Mapping[str, Any]) -> str:
    """The resourceVersion that a write expects, or ""."""
    metadata = obj.get("metadata")
    return str(metadata.get("resourceVersion") or "") if isinstance(metadata, Mapping) else ""


def place_of(resource: Resource, obj: Mapping[str, Any]) -> str:
    """The namespace in which it is stored: `default` unless said, "" when its kind lives in none."""
    return (namespace_of(obj) or names.DEFAULT_NAMESPACE) if resource.namespaced else ""


def place_object(obj: Mapping[str, Any], name: str, place: str) -> Object:
    """The object, with metadata of its own, where it is stored; its worker goes by both its names."""
    given = obj.get("metadata")
    if not isinstance(given, Mapping):
        what = "metadata is missing" if given is None else "metadata must be a mapping"
        raise ObjectError(what, describe(obj), hint="metadata: {name: …}", field="metadata")
    metadata = {**given, "name": name, **({"namespace": place} if place else {})}
    metadata.pop("managedFields", None)
    placed = {**obj, "metadata": metadata}
    spec = obj.get("spec")
    if obj.get("kind") == "Pod" and isinstance(spec, Mapping) and isinstance(spec.get("nodeName"), str):
        placed["spec"] = {**spec, "nodeName": spec["nodeName"].lower()}
    return placed


def asked_of(wanted: Object) -> Object:
    """What a writer decides of an object: neither its status nor its version."""
    metadata = {field: value for field, value in wanted["metadata"].items() if field not in _NOT_ASKED}
    return {**{field: value for field, value in wanted.items() if field != "status"}, "metadata": metadata}


def holds(current: Any, wanted: Any) -> bool:
    """Whether all that is wanted is in what the server made of it: it adds defaults, and leaves out what is empty."""
    if isinstance(wanted, Mapping):
        present = current if isinstance(current, Mapping) else {}
        return all(holds(present.get(field), value) for field, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(current, list):
            return not wanted
        return len(current) == len(wanted) and all(holds(*pair) for pair in zip(current, wanted, strict=True))
    return bool(current == wanted) or (current is None and not wanted)
