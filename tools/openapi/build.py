#!/usr/bin/env python3
"""Reads Kubernetes' OpenAPI documents and writes knetsim/api/openapi.json: names, types, required fields, enums.

    kubectl proxy & tools/openapi/build.py http://127.0.0.1:8001          from a server that runs
    tools/openapi/build.py DIRECTORY                                      from documents that were saved before

A saved document is the answer to `kubectl get --raw /openapi/v3/api/v1`, called after its path: `api_v1.json`,
`apis_discovery.k8s.io_v1.json` …, and `version.json` the one to `/version`. Facts only: no descriptions, no defaults.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parents[2] / "knetsim/api/openapi.json"

#: what the embedded control plane stores: kind → the document that has it
KINDS = {
    **dict.fromkeys(
        ("Namespace", "Node", "Pod", "Service", "ConfigMap", "Secret", "ServiceAccount", "Event"), "api/v1"
    ),
    "EndpointSlice": "apis/discovery.k8s.io/v1",
    **dict.fromkeys(("NetworkPolicy", "Ingress", "IngressClass"), "apis/networking.k8s.io/v1"),
    "Lease": "apis/coordination.k8s.io/v1",
}
#: types that are values: their schema says `string` or nothing, their meaning is in Kubernetes' code
VALUES = {
    "FieldsV1": "object",
    "IntOrString": "int-or-string",
    "MicroTime": "micro-time",
    "Quantity": "quantity",
    "Time": "time",
}


def read_document(source: str, path: str) -> Any:
    """One document of a server or of a directory."""
    if "://" in source:
        with urllib.request.urlopen(f"{source.rstrip('/')}/{path}") as answer:
            return json.load(answer)
    saved = path.removeprefix("openapi/v3/").replace("/", "_")
    return json.loads((Path(source) / f"{saved}.json").read_text())


def short(name: str) -> str:
    """`io.k8s.api.core.v1.Pod` → `Pod`."""
    return name.rpartition(".")[2]


def reference(schema: dict[str, Any]) -> str:
    """The type to which a schema refers, or ""."""
    for part in (schema, *schema.get("allOf", ())):
        if "$ref" in part:
            return str(part["$ref"].rpartition("/")[2])
    return ""


def build_type(schema: dict[str, Any]) -> Any:
    """A field's type: a word, the words of an enum, `{"list": type}` or `{"map": type}`."""
    if name := reference(schema):
        return VALUES.get(short(name), short(name))
    if "enum" in schema:
        return sorted(schema["enum"])
    kind = schema.get("type", "object")
    if kind == "array":
        return {"list": build_type(schema["items"])}
    if kind == "object":
        return {"map": build_type(schema["additionalProperties"])} if "additionalProperties" in schema else "object"
    return schema.get("format", kind) if kind in ("integer", "string") else kind


def build_fields(schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of a type; `!` behind a name: required."""
    required = schema.get("required", ())
    return {
        name + ("!" if name in required else ""): build_type(field)
        for name, field in sorted(schema.get("properties", {}).items())
    }


def references(schema: Any) -> Iterator[str]:
    """All types named in a schema."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def build_types(schemas: dict[str, Any]) -> dict[str, Any]:
    """The types that the kinds lead to, by their short names."""
    found: dict[str, str] = {}
    waiting = [name for name in schemas if name.startswith("io.k8s.api.") and short(name) in KINDS]
    while waiting:
        name = waiting.pop()
        if short(name) in VALUES or found.get(short(name)) == name:
            continue
        if short(name) in found:
            raise SystemExit(f"two types are called {short(name)}: {name}, {found[short(name)]}")
        found[short(name)] = name
        waiting += references(schemas[name])
    return {word: build_fields(schemas[name]) for word, name in sorted(found.items())}


def build_structure(source: str) -> str:
    """The file's text, from a server or from saved documents."""
    schemas: dict[str, Any] = {}
    for path in dict.fromkeys(KINDS.values()):
        schemas.update(read_document(source, f"openapi/v3/{path}")["components"]["schemas"])
    structure = {"release": read_document(source, "version")["gitVersion"], "types": build_types(schemas)}
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(fields)}" for name, fields in structure["types"].items())
    return f'{{"release":{json.dumps(structure["release"])},"types":{{\n{lines}\n}}}}\n'


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="URL|DIRECTORY")
    RESULT.write_text(build_structure(parser.parse_args().source))


if __name__ == "__main__":
    main()
