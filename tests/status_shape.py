"""Whether a status has the documented shape (`knetsim/status.py`): every key, of its type, and no other."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict


def explain_mismatch(value: Any, shape: Any, path: str = "status") -> list[str]:
    """Where `value` differs from a TypedDict, list, dict, Literal, union or plain type; in words, else empty."""
    if is_typeddict(shape):
        return _mapping_mismatch(value, get_type_hints(shape), path)
    origin = get_origin(shape)
    if origin is list:
        if not isinstance(value, list):
            return [f"{path} is no list"]
        (item,) = get_args(shape)
        return [line for index, one in enumerate(value) for line in explain_mismatch(one, item, f"{path}[{index}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{path} is no mapping"]
        named, item = get_args(shape)
        keys = [line for key in value for line in explain_mismatch(key, named, f"a key of {path}")]
        return keys + [line for key, one in value.items() for line in explain_mismatch(one, item, f"{path}[{key}]")]
    if origin is Literal:
        return [] if value in get_args(shape) else [f"{path} is {value!r}"]
    if origin in (Union, types.UnionType):
        return [] if any(not explain_mismatch(value, one) for one in get_args(shape)) else [f"{path} is {value!r}"]
    if shape is float:
        shape = (int, float)
    exact = not (isinstance(value, bool) and shape is not bool)  # a truth value is an int to Python
    return [] if isinstance(value, shape) and exact else [f"{path} is {value!r}"]


def _mapping_mismatch(value: Any, hints: dict[str, Any], path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path} is no mapping"]
    lines = [f"{path}.{key} is missing" for key in hints.keys() - value.keys()]
    lines += [f"{path}.{key} is not documented" for key in value.keys() - hints.keys()]
    for key in hints.keys() & value.keys():
        lines += explain_mismatch(value[key], hints[key], f"{path}.{key}")
    return sorted(lines)
