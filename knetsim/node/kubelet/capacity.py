"""What the pods of a worker ask of it, and whether one more fits: resources, ports, labels.

The scheduler has looked at all this; but a pod may name its node itself, or two schedulers may have chosen at the same
moment. So a kubelet looks again before it takes a pod, and rejects it with the same reasons: NodeAffinity, NodePorts,
OutOfcpu … What is asked is added up once a pod, so that taking one costs the same however many there are. Sources:
Kubernetes' pkg/kubelet/lifecycle/predicate.go, pkg/scheduler (AdmissionCheck), component-helpers' resource
(PodRequests).
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knetsim.api.objects import Object, name_of
from knetsim.node.kubelet.admission import Rejection
from knetsim.node.kubelet.lifecycle import is_sidecar
from knetsim.node.kubelet.quantities import read_quantity

_ALL_ADDRESSES = ("", "0.0.0.0")

Requests = Mapping[str, int]


@dataclass(slots=True)
class NodeBook:
    """What is taken of one worker, by pod. Any thread may use it."""

    taken: dict[str, Requests] = field(default_factory=dict)
    ports: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)
    _sums: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, key: str, pod: Object, node: Object) -> Rejection | None:
        """Take a pod, or say why not. Taking it again is fine."""
        with self._lock:
            if key in self.taken:
                return None
            rejection = self._reject(pod, node)
            if rejection is None:
                self._take(key, pod)
            return rejection

    def take(self, key: str, pod: Object) -> None:
        """Take a pod that is here already."""
        with self._lock:
            if key not in self.taken:
                self._take(key, pod)

    def release(self, key: str) -> None:
        """The pod needs nothing any more. Twice is once."""
        with self._lock:
            self._sums.subtract(self.taken.pop(key, {}))
            self.ports.pop(key, None)

    def _take(self, key: str, pod: Object) -> None:
        self.taken[key] = asked = pod_requests(pod["spec"])
        self._sums.update(asked)
        if ports := host_ports(pod["spec"]):
            self.ports[key] = ports

    def _reject(self, pod: Object, node: Object) -> Rejection | None:
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        for name, asked in pod_requests(pod["spec"]).items():
            there = _amount(name, allocatable.get(name, 0))
            if asked and self._sums[name] + asked > there and (name in allocatable or "/" not in name):
                words = f"requested: {asked}, used: {self._sums[name]}, capacity: {there}"
                return Rejection(f"OutOf{name}", f"Node didn't have enough resource: {name}, {words}")
        if not matches_node(pod["spec"], node):
            return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
        mine, theirs = host_ports(pod["spec"]), [port for ports in self.ports.values() for port in ports]
        if any(_clash(one, other) for one in mine for other in theirs):
            return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
        taints = (node.get("spec") or {}).get("taints") or ()
        evicting = [taint for taint in taints if taint["effect"] == "NoExecute"]
        if not all(tolerates(pod["spec"], taint) for taint in evicting):
            return _failed("TaintToleration", "node(s) had untolerated taint(s)")
        return None


def _failed(predicate: str, why: str) -> Rejection:
    return Rejection(predicate, f"Predicate {predicate} failed: {why}")


# --- resources ----------------------------------------------------------------------------------


def pod_requests(spec: Mapping[str, Any]) -> Requests:
    """What a pod asks for: `pods` 1, cpu in thousandths, all else in whole units.

    Init containers run one after the other, so the largest counts, beside the sidecars before it.
    """
    total: Counter[str] = Counter()
    for container in spec["containers"]:
        total.update(_requests(container))
    sidecars: Counter[str] = Counter()
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        asked = Counter(_requests(container))
        if is_sidecar(container):
            sidecars.update(asked)
            asked = Counter()
        for name, amount in (sidecars + asked).items():
            peak[name] = max(peak.get(name, 0), amount)
    total.update(sidecars)
    asked_for = {name: max(total[name], peak.get(name, 0)) for name in total.keys() | peak.keys()}
    whole = {**asked_for, **_requests(spec)}  # what the pod says for all of them goes before
    for name, amount in (spec.get("overhead") or {}).items():
        whole[name] = whole.get(name, 0) + _amount(name, amount)
    return {"pods": 1, **{name: whole[name] for name in sorted(whole)}}


def _requests(container: Mapping[str, Any]) -> dict[str, int]:
    resources = container.get("resources") or {}
    return {name: _amount(name, amount) for name, amount in (resources.get("requests") or {}).items()}


def _amount(name: str, quantity: Any) -> int:
    return math.ceil(read_quantity(quantity) * (1000 if name == "cpu" else 1))


# --- ports --------------------------------------------------------------------------------------


def host_ports(spec: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """(address, protocol, port) of the worker that a pod wants."""
    containers = [*spec["containers"], *filter(is_sidecar, spec.get("initContainers") or ())]
    return [
        (port.get("hostIP") or "", port.get("protocol") or "TCP", port["hostPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _clash(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    if one[1:] != other[1:]:
        return False
    return one[0] == other[0] or one[0] in _ALL_ADDRESSES or other[0] in _ALL_ADDRESSES


# --- taints and labels -------------------------------------------------------------------------------------


def tolerates(spec: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether one of a pod's tolerations is for a taint; mirrors of static pods have one for all that evict."""
    return any(_tolerates(one, taint) for one in spec.get("tolerations") or ())


def _tolerates(one: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if one.get("effect") not in (None, "", taint["effect"]) or one.get("key") not in (None, "", taint["key"]):
        return False
    value, given = one.get("value") or "", taint.get("value") or ""
    operator = one.get("operator") or "Equal"
    if operator in ("Lt", "Gt"):
        if not (_is_number(value) and _is_number(given)):
            return False
        return int(given) < int(value) if operator == "Lt" else int(given) > int(value)
    return operator == "Exists" or value == given


def matches_node(spec: Mapping[str, Any], node: Object) -> bool:
    """Whether a pod's nodeSelector and what its node affinity requires hold of a Node."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_matches_term(term, labels, name_of(node)) for term in required.get("nodeSelectorTerms") or ())


def needs_labels(spec: Mapping[str, Any]) -> bool:
    """Whether it matters which labels the Node has."""
    return bool(spec.get("nodeSelector") or (spec.get("affinity") or {}).get("nodeAffinity"))


def _matches_term(term: Mapping[str, Any], labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(one, labels) for one in expressions) and all(
        _matches(one, {"metadata.name": name}) for one in fields
    )


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, operator = labels.get(expression["key"]), expression["operator"]
    values: Sequence[str] = expression.get("values") or ()
    if operator in ("In", "NotIn"):
        return (value in values) == (operator == "In")
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    if operator not in ("Gt", "Lt") or value is None or not values or not _is_number(value):
        return False
    return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()
