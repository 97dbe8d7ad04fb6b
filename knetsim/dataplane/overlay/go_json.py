"""JSON as Go's decoder reads it into flannel's structures, but strictly: what Go would overlook is refused; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeVar

from knetsim.errors import ObjectError
from knetsim.names import did_you_mean

_T = TypeVar("_T")


def parse_object(text: str | bytes, where: str, known: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a JSON object by their names in lower case; with `known` only these. `where` is for ObjectError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ObjectError("not JSON", where, str(error)) from error
    if not isinstance(value, dict):
        raise ObjectError("not a JSON object", where, f"it is {type(value).__name__}")
    if known:
        refuse_unknown(value, known, where)
    return fold_names(value)


def fold_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their names in lower case: Go matches names without regard to it."""
    return {name.lower(): value for name, value in fields.items()}


def refuse_unknown(fields: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """ObjectError for a field that is not in `known`, with the one that was probably meant."""
    folded = {name.lower() for name in known}
    for name in fields:
        if name.lower() not in folded:
            raise ObjectError(f"unknown field {name!r}", where, "", did_you_mean(name, known), name)


def as_address(value: Any) -> IPv4Address:
    """A string that is an IPv4 address; ValueError otherwise, as from all of these."""
    return IPv4Address(as_text(value))


def as_network(value: Any) -> IPv4Network:
    """A string that is a network, as Go's net.ParseCIDR: the length in digits, bits behind it dropped."""
    if not re.fullmatch(r"[0-9.]+/[0-9]+", as_text(value)):
        raise ValueError(f"{value!r} is not a network such as 11.0.0.0/8")
    return IPv4Network(value, strict=False)


def as_text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    return value


def as_truth(value: Any) -> bool:
    """True or false, no number that stands for them."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def as_whole(low: int, high: int) -> Callable[[Any], int]:
    """What parses whole numbers in this range."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{value!r} is not a whole number from {low} to {high}")
        return value

    return parse


def take(fields: Mapping[str, Any], name: str, where: str, parse: Callable[[Any], _T], default: _T | None = None) -> _T:
    """The field `name`, parsed; the default where it is missing or null; ObjectError when it is wrong or needed."""
    value = fields.get(name.lower())
    if value is None:
        if default is None:
            raise ObjectError(f"{name} is missing", where, field=name)
        return default
    try:
        return parse(value)
    except ValueError as error:
        raise ObjectError(f"{name} is wrong", where, str(error), field=name) from error
