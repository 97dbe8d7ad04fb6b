"""Names, addresses and selectors as Kubernetes wants them written: the checks that rules of several kinds share.

Sources: apimachinery's pkg/util/validation and pkg/api/validation, k8s.io/kubernetes pkg/apis/core/validation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Any

from knetsim import names
from knetsim.api.checks import Check, Problems, is_integer, matching

LABEL_WORDS = "lower case letters, digits and '-', at most 63, beginning and ending with a letter or digit"
SUBDOMAIN_WORDS = "lower case letters, digits, '-' and '.', at most 253, beginning and ending with a letter or digit"

_QUALIFIED_NAME = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")

label_name = matching(names.DNS_LABEL, f"name: {LABEL_WORDS}")
subdomain = matching(names.DNS_SUBDOMAIN, f"name: {SUBDOMAIN_WORDS}")
env_name = matching(re.compile(r"[\x20-\x3c\x3e-\x7e]+"), "name of a variable: printable characters without '='")
file_key = matching(re.compile(r"(?!\.\.)(?!\.$)[-._a-zA-Z0-9]{1,253}"), "key: letters, digits, '-', '_' and '.'")
port_name = matching(_PORT_NAME, "port name: lower case letters, digits, '-', at most 15, one letter at least")
volume_path = matching(re.compile(r"(?!/)(?!(.*/)?\.\.(/|$)).*", re.DOTALL), "path below the volume, without '..'")


def address(value: Any, path: str, problems: Problems) -> None:
    """An IP address, IPv4 or IPv6; leading zeros are none."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        problems.add(path, f"{value!r} is no IP address")


def cidr(value: Any, path: str, problems: Problems) -> None:
    """A network as 10.1.0.0/16."""
    try:
        if "/" not in value:
            raise ValueError
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        problems.add(path, f"{value!r} is no network, as 10.1.0.0/16")


def port_or_name(value: Any, path: str, problems: Problems) -> None:
    """A port's number, or its name in the pod."""
    if is_integer(value):
        if not 1 <= value <= 65535:
            problems.add(path, f"must be a port from 1 to 65535, not {value}")
    else:
        port_name(value, path, problems)


def optional(check_text: Check) -> Check:
    """A check for text that is not empty: "" is not given."""

    def check(value: Any, path: str, problems: Problems) -> None:
        if value != "":
            check_text(value, path, problems)

    return check


def exactly_one(fields: Collection[str], what: str) -> Check:
    """A mapping with one of these fields, and no second one."""

    def check(value: Any, path: str, problems: Problems) -> None:
        given = [field for field in fields if value.get(field) is not None]
        if not given:
            problems.add(path, f"needs {what}: {', '.join(fields)}")
        elif len(given) > 1:
            problems.add(path, f"has more than one {what.removeprefix('one ')}: {', '.join(given)}")

    return check


def unique(field: str) -> Check:
    """A list of mappings in which no value of a field is there twice."""

    def check(value: Any, path: str, problems: Problems) -> None:
        seen = set()
        for index, item in enumerate(value):
            mark = item.get(field)
            if mark is not None and mark != "" and mark in seen:
                problems.add(f"{path}[{index}].{field}", f"{mark!r} is there twice")
            seen.add(mark)

    return check


def labels(value: Any, path: str, problems: Problems) -> None:
    """Label keys (`[prefix/]name`) and values as Kubernetes takes them."""
    for key, word in value.items():
        label_key(key, path, problems)
        if not _LABEL_VALUE.fullmatch(word):
            problems.add(f"{path}[{key}]", f"{word!r} is no label value: at most 63 letters, digits, '-', '_', '.'")


def label_key(value: Any, path: str, problems: Problems) -> None:
    """`name` or `example.com/name`."""
    prefix, slash, name = value.rpartition("/")
    if not _QUALIFIED_NAME.fullmatch(name) or (slash and not names.DNS_SUBDOMAIN.fullmatch(prefix)):
        problems.add(path, f"{value!r} is no label key: [DNS name/] and at most 63 letters, digits, '-', '_', '.'")


def requirement(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    """One line of a selector's matchExpressions."""
    operator, values = value["operator"], value.get("values") or []
    if operator in ("In", "NotIn") and not values:
        problems.add(f"{path}.values", f"the operator {operator} needs values")
    elif operator in ("Exists", "DoesNotExist") and values:
        problems.add(f"{path}.values", f"the operator {operator} takes no values")
    elif operator in ("Gt", "Lt") and (len(values) != 1 or not re.fullmatch(r"-?\d+", values[0])):
        problems.add(f"{path}.values", f"the operator {operator} takes one whole number, in quotes")
