"""Selectors of labels as text, as `kubectl get -l` and Skupper's Connectors take them; pure.

Source: Kubernetes' apimachinery, pkg/labels/selector.go (Parse): `app=web`, `tier != test`, `zone in (a, b)`,
`zone notin (c)`, `app`, `!app`, joined by commas, all of which must hold.
"""

from __future__ import annotations

import re

from knetsim.dataplane.policy.selectors import Requirement, Selector, build_selector

_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_SET = re.compile(r"(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(r"(?P<key>[^=!\s]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^=!\s]*)")
#: a comma that is not within parentheses
_COMMA = re.compile(r",(?![^()]*\))")


def read_selector(text: str) -> Selector:
    """The selector that a text is. ValueError when it is none, or empty: that would mean every pod."""
    if not text.strip():
        raise ValueError("it is empty")
    return build_selector([_read_requirement(part.strip()) for part in _COMMA.split(text)])


def _read_requirement(part: str) -> Requirement:
    if found := _SET.fullmatch(part):
        values = tuple(_check(_VALUE, value.strip()) for value in found["values"].split(","))
        return Requirement(_check(_KEY, found["key"]), "In" if found["operator"] == "in" else "NotIn", values)
    if found := _EQUAL.fullmatch(part):
        operator = "NotIn" if found["operator"] == "!=" else "In"
        return Requirement(_check(_KEY, found["key"]), operator, (_check(_VALUE, found["value"]),))  # type: ignore[arg-type]
    if part.startswith("!"):
        return Requirement(_check(_KEY, part[1:].strip()), "DoesNotExist")
    return Requirement(_check(_KEY, part), "Exists")


def _check(pattern: re.Pattern[str], text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no {'key' if pattern is _KEY else 'value'} of a label")
    return text
