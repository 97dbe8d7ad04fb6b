"""ConfigMaps and Secrets: their keys, what is filled in, what cannot change. Pure.

Sources: Kubernetes' pkg/apis/core/validation (ValidateConfigMap, ValidateSecret), pkg/registry/core/secret/strategy.go.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from knetsim.api import words
from knetsim.api.checks import Problems
from knetsim.api.objects import Object
from knetsim.api.openapi import Rules

#: bytes of all values together
_LARGEST = 1024 * 1024
_OPAQUE = "Opaque"
#: what a Secret of a type must hold
_NEEDED_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _check_keys(field: str, value: Mapping[str, Any], problems: Problems) -> None:
    for key in value.get(field) or {}:
        words.file_key(key, f"{field}[{key}]", problems)


def _check_config_map(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    for field in ("data", "binaryData"):
        _check_keys(field, value, problems)
    for key in (value.get("data") or {}).keys() & (value.get("binaryData") or {}).keys():
        problems.add(f"data[{key}]", "is in binaryData too")
    size = sum(len(text.encode()) for text in (value.get("data") or {}).values())
    size += sum(len(text) * 3 // 4 for text in (value.get("binaryData") or {}).values())
    _check_size(size, problems)


def _check_secret(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    _check_keys("data", value, problems)
    data = value.get("data") or {}
    for key in _NEEDED_KEYS.get(value.get("type") or _OPAQUE, ()):
        if key not in data:
            problems.add(f"data[{key}]", f"is missing in a Secret of the type {value['type']}")
    _check_size(sum(len(text) * 3 // 4 for text in data.values()), problems)


def _check_size(size: int, problems: Problems) -> None:
    if size > _LARGEST:
        problems.add("data", f"holds {size} bytes, at most {_LARGEST} are stored")


CONFIG_RULES: dict[str, Rules] = {
    "ConfigMap": Rules(whole=_check_config_map),
    "Secret": Rules(whole=_check_secret),
}


def prepare_secret(obj: Object) -> None:
    """`stringData` is a way to write `data` without base64; it is not stored."""
    plain, data = obj.get("stringData"), obj.get("data")
    if not isinstance(plain, Mapping) or not isinstance(data, Mapping | None):
        return
    if any(not isinstance(text, str) for text in plain.values()):
        return  # which the checks will say
    obj["data"] = {**(data or {}), **{key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}}
    del obj["stringData"]


def fill_secret(obj: Object) -> None:
    """The type of a Secret that does not say it."""
    obj["type"] = obj.get("type") or _OPAQUE


def check_config_update(obj: Object, current: Object, problems: Problems) -> None:
    """What is immutable stays so; a Secret's type never changes."""
    if obj.get("type") != current.get("type"):
        problems.add("type", f"cannot change from {current.get('type')!r}; delete the Secret and make it anew")
    if not current.get("immutable"):
        return
    for field in ("data", "binaryData"):
        if json.dumps(obj.get(field) or {}, sort_keys=True) != json.dumps(current.get(field) or {}, sort_keys=True):
            problems.add(field, "cannot change: it is immutable; delete it and make it anew")
    if not obj.get("immutable"):
        problems.add("immutable", "cannot be taken back; delete it and make it anew")
