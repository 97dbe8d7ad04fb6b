"""Skupper's kinds of objects as CustomResourceDefinitions, and their schemas for the store that has no API server.

What the kinds are stands in skupper.yaml, which is read when first needed. Where Kubernetes' API server runs it gets
`build_definitions()` at its start (control_planes.py) and checks the objects itself; where none does, openapi.py checks
them against the very same schemas. Columns are those of kubectl's tables, by the path of what they show.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from knetsim.api.objects import KINDS, Object
from knetsim.api.schemas import Schema

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def build_definitions() -> list[Object]:
    """The CustomResourceDefinitions of all kinds of KINDS that need one."""
    return [_build_definition(name, written) for name, written in _read().items()]


def schema_of(name: str) -> Schema | None:
    """The schema of a kind that is defined here ("Site"), of its status ("SiteStatus"); None for all others."""
    kind, status = (name, False) if name in KINDS else (name.removesuffix("Status"), name.endswith("Status"))
    row = KINDS.get(kind)
    if row is None or not row.custom:
        return None
    schema = _build_schema(kind, _read()[kind])
    return schema["properties"]["status"] if status else schema


def _build_definition(name: str, written: Mapping[str, Any]) -> Object:
    group, _, version = KINDS[name].api_version.partition("/")
    schema = _build_schema(name, written)
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_build_column(schema, *column) for column in written["columns"].items()],
    }
    called = {"kind": name, "plural": written["plural"], "singular": name.lower()}
    if "shortNames" in written:
        called["shortNames"] = written["shortNames"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{written['plural']}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": called, "versions": [served]},
    }


def _build_column(schema: Schema, name: str, path: str) -> Object:
    shown: Any = schema
    for field in path.split(".")[1:]:
        shown = shown["properties"][field]
    return {"name": name, "type": shown["type"], "description": shown["description"], "jsonPath": path}


def _build_schema(name: str, written: Mapping[str, Any]) -> Object:
    """The schema of a whole object; what its conditions mean stands with them."""
    status = written["status"]
    conditions = status["properties"]["conditions"]
    meanings = "; ".join(f"{kind}: {words}" for kind, words in written["conditions"].items())
    told = {**conditions, "description": f"{conditions['description']} {meanings}."}
    spec = written["spec"]
    return {
        "type": "object",
        "description": written["description"],
        "required": ["spec"] if spec.get("required") else [],
        "properties": {"spec": spec, "status": {**status, "properties": {**status["properties"], "conditions": told}}},
    }


@functools.cache
def _read() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("skupper.yaml").read_bytes()
    kinds: dict[str, Any] = yaml.load(text, _LOADER)["kinds"]
    return kinds
