"""The downward API: what a pod may ask about itself, for a variable or a file; pure.

Sources: Kubernetes' pkg/fieldpath/fieldpath.go, pkg/kubelet/kubelet_pods.go (podFieldSelectorRuntimeValue),
pkg/api/v1/resource/helpers.go, pkg/kubelet/kubelet_resources.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knetsim.api.objects import Object
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.quantities import divide_quantity, read_quantity

_SUBSCRIPT = re.compile(r"^(metadata\.(?:labels|annotations))\['(.*)'\]$")
_GO_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
} | {"\v": "\\v"}
#: resources of which a container without a limit may have all that its Node has
_LIMITED_BY_NODE = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a pod is reached, and its worker; of a pod without a network yet `pod` is empty."""

    pod: str
    host: str


def read_field(pod: Object, path: str, addresses: Addresses | None = None) -> str:
    """What `fieldRef` of a pod says. KnetsimError for a path that there is not.

    Fields of spec and status are for variables only, which are made when the addresses are known.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    if match := _SUBSCRIPT.match(path):
        return str((metadata.get(match[1].partition(".")[2]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(metadata.get(path.partition(".")[2]) or {})
    if path in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(metadata.get(path.partition(".")[2], ""))
    if addresses is not None:
        known = {
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "status.hostIP": addresses.host,
            "status.hostIPs": addresses.host,
            "status.podIP": addresses.pod,
            "status.podIPs": addresses.pod,
        }
        if path in known:
            return str(known[path])
    raise KnetsimError(f"unsupported fieldPath: {path}")


def format_map(pairs: Mapping[str, str]) -> str:
    """Labels or annotations as lines `key="value"`, sorted, the values as Go quotes strings."""
    return "\n".join(f"{key}={quote_go(pairs[key])}" for key in sorted(pairs))


def quote_go(text: str) -> str:
    """A string as Go's strconv.Quote writes it."""
    return '"' + "".join(_quote_character(character) for character in text) + '"'


def _quote_character(character: str) -> str:
    if character in _GO_ESCAPES:
        return _GO_ESCAPES[character]
    if character == " " or character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def read_resource(
    pod: Object, selector: Mapping[str, Any], allocatable: Mapping[str, str], container: Mapping[str, Any] | None = None
) -> str:
    """What `resourceFieldRef` says: of `container`, unless it names another one. KnetsimError when there is none such.

    A container without a limit may have what its Node can give, `allocatable`.
    """
    name = selector.get("containerName")
    if name or container is None:
        container = _find_container(pod, name or "")
    kind, _, resource = str(selector.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not (resource in _LIMITED_BY_NODE or resource.startswith("hugepages-")):
        raise KnetsimError(f"unsupported container resource : {selector.get('resource', '')}")
    quantity = ((container.get("resources") or {}).get(kind) or {}).get(resource, "0")
    if kind == "limits" and resource in _LIMITED_BY_NODE and not read_quantity(quantity):
        quantity = allocatable.get(resource, "0")
    return str(divide_quantity(quantity, selector.get("divisor"), milli=resource == "cpu"))


def _find_container(pod: Object, name: str) -> Mapping[str, Any]:
    for field in ("containers", "initContainers"):
        for container in pod["spec"].get(field) or ():
            if container["name"] == name:
                found: Mapping[str, Any] = container
                return found
    raise KnetsimError(f"container {name} not found")
