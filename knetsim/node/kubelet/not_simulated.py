"""What of a pod's spec is accepted and not carried out, as a table: dotted path → what happens instead.

A kubelet without containers cannot do everything that a spec can ask for. Nothing of it is silent: each row that a pod
uses is an Event `NotSimulated` on it, once, and a line of `knetsim status`. `[]` in a path is every item of a list. A
value that asks for nothing (null, false, empty, a default) does not count. Limits count where the machine gives no
control groups for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from knetsim.api.objects import Object

_LIMIT = "it is counted and not enforced: more may be used"
_CONTAINER_PATHS = {
    "securityContext.seLinuxOptions": "there is no SELinux here; the container runs without labels",
    "securityContext.seccompProfile": "no system call is filtered",
    "securityContext.appArmorProfile": "no profile is loaded; the container runs unconfined",
    "securityContext.windowsOptions": "workers are Linux machines",
    "securityContext.procMount": "/proc is masked as by default",
    "volumeDevices": "there are no block devices; the container starts without it",
    "volumeMounts[].mountPropagation": "mounts do not spread between the container and its worker",
    "volumeMounts[].recursiveReadOnly": "only the volume itself is read-only, not what is mounted below it",
    "resources.limits.cpu": _LIMIT,
    "resources.limits.memory": _LIMIT,
    "resources.limits.ephemeral-storage": _LIMIT,
    "resources.claims": "there are no devices; the container starts without it",
    "restartPolicyRules[].action": "the rule is passed over; the container's own policy decides",
    "lifecycle.postStart.tcpSocket": "a kubelet has no such hook: it fails",
    "lifecycle.preStop.tcpSocket": "a kubelet has no such hook: it fails",
}
_POD_PATHS = {
    "runtimeClassName": "there is one way to run containers, whatever the class's handler is",
    "hostUsers": "the pod shares the worker's user namespace",
    "hostPID": "containers see their own processes only",
    "shareProcessNamespace": "each container sees its own processes only",
    "resourceClaims": "there are no devices; the pod starts without them",
    "resources.limits.cpu": _LIMIT,
    "resources.limits.memory": _LIMIT,
    "securityContext.seLinuxOptions": "there is no SELinux here; the pod runs without labels",
    "securityContext.seccompProfile": "no system call is filtered",
    "securityContext.appArmorProfile": "no profile is loaded; the pod runs unconfined",
    "securityContext.windowsOptions": "workers are Linux machines",
}
#: path below `spec` → what happens instead
TABLE: Mapping[str, str] = _POD_PATHS | {
    f"{group}[].{path}": what
    for group in ("containers", "initContainers", "ephemeralContainers")
    for path, what in _CONTAINER_PATHS.items()
}
#: values that mean what is done anyway
_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "hostUsers": (True,),
    "procMount": ("Default",),
    "mountPropagation": ("None",),
    "recursiveReadOnly": ("Disabled", "IfPossible"),
    "seccompProfile": ({"type": "Unconfined"},),
    "appArmorProfile": ({"type": "Unconfined"},),
    "action": ("Restart",),
}
#: resources that are counted but that nothing here gives
_PAGES = "hugepages-"
_PAGES_WORDS = "there are no huge pages; the container gets ordinary memory"
_FAMILY_WORDS = "workers have addresses of IPv4 only; the port leads nowhere"


class NotSimulated(NamedTuple):
    """A field of a pod's spec, and what happens instead."""

    field: str
    instead: str

    def __str__(self) -> str:
        return f"{self.field} is not simulated: {self.instead}"


def find_not_simulated(pod: Object, limited: Collection[str] = ()) -> list[NotSimulated]:
    """What of the pod's spec is not carried out, in the order of the table. `limited` are the resources ("cpu",
    "memory") whose limits are enforced here."""
    spec = pod["spec"]
    found = [
        NotSimulated(f"spec.{place}", instead)
        for path, instead in TABLE.items()
        for place, value in _walk(spec, path.split("."), "")
        if _counts(path.rpartition(".")[2], value) and not _is_enforced(path, limited)
    ]
    found += [NotSimulated(f"spec.{place}", _PAGES_WORDS) for place in _find_pages(spec)]
    return found + [NotSimulated(f"spec.{place}", _FAMILY_WORDS) for place in _find_other_family(spec)]


def _walk(value: Any, path: list[str], place: str) -> Iterator[tuple[str, Any]]:
    """Every value at a path, with where it stands."""
    if not path:
        yield place, value
        return
    name, many = path[0].removesuffix("[]"), path[0].endswith("[]")
    if not isinstance(value, Mapping) or value.get(name) is None:
        return
    inner, where = value[name], f"{place}.{name}" if place else name
    if not many:
        yield from _walk(inner, path[1:], where)
        return
    for index, item in enumerate(inner):
        yield from _walk(item, path[1:], f"{where}[{index}]")


def _counts(name: str, value: Any) -> bool:
    return (bool(value) and value not in _HARMLESS.get(name, ())) or (name == "hostUsers" and value is False)


def _is_enforced(path: str, limited: Collection[str]) -> bool:
    above, _, name = path.rpartition(".")
    return above.endswith("resources.limits") and name in limited


def _find_other_family(spec: Mapping[str, Any]) -> Iterator[str]:
    """Ports of the worker at addresses of IPv6."""
    places = _walk(spec, ["containers[]", "ports[]", "hostIP"], "")
    yield from (place for place, address in places if ":" in address)


def _find_pages(spec: Mapping[str, Any]) -> Iterator[str]:
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            limits = (container.get("resources") or {}).get("limits") or {}
            yield from (f"{group}[{index}].resources.limits.{name}" for name in limits if name.startswith(_PAGES))
