"""What stands in for Kubernetes' control plane where it does not run: the first namespaces, and a worker for every new pod.

A real scheduler watches for pods without `nodeName` and binds them; here a pod is bound when it is written
(`write_pod`), to the worker that the pod itself names, else to the one with the fewest pods. `choose_worker` is pure.
What the real scheduler also looks at, resources, affinity, topology spread, is refused by the store (api/pods.py), not
ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from knetsim.api.objects import Object, describe, name_of
from knetsim.api.pods import FINISHED_PHASES
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, NotReady

#: what a kube-apiserver makes at its first start
STANDARD_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


def build_namespace(name: str) -> Object:
    """A Namespace to be created."""
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}


def ensure_namespaces(store: Store, names: Iterable[str] = STANDARD_NAMESPACES) -> None:
    """Make the namespaces that are missing."""
    present = {name_of(namespace) for namespace in store.list("Namespace").items}
    for name in names:
        if name not in present:
            try:
                store.create(build_namespace(name))
            except AlreadyExists:
                pass  # somebody else made it meanwhile


def write_pod(store: Store, pod: Mapping[str, Any]) -> Object:
    """Create a pod, bound to the worker it names or else to the one chosen for it. NotReady when no worker can take it."""
    spec = pod.get("spec")
    if not isinstance(spec, Mapping) or spec.get("nodeName"):
        return store.create(dict(pod))  # bound by its writer, or not even a pod: the store says so
    node = choose_worker(pod, store.list("Node").items, store.list("Pod").items)
    return store.create({**pod, "spec": {**spec, "nodeName": node}})


def choose_worker(pod: Mapping[str, Any], nodes: Iterable[Object], pods: Iterable[Object]) -> str:
    """The Node for a pod: among those that match its nodeSelector, are not cordoned and have no taint that it does not tolerate, one that
    is Ready before one that is not, then the one with the fewest unfinished pods, then the first by name. NotReady says
    why there is none.
    """
    load = Counter(
        item["spec"].get("nodeName") for item in pods if (item.get("status") or {}).get("phase") not in FINISHED_PHASES
    )
    refusals: Counter[str] = Counter()
    best: tuple[bool, int, list[str | int], str] | None = None
    for node in nodes:
        if refusal := _refusal(pod["spec"], node):
            refusals[refusal] += 1
            continue
        name = name_of(node)
        rank = (not is_ready(node), load[name], _natural(name), name)
        if best is None or rank < best:
            best = rank
    if best is not None:
        return best[3]
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(refusals.items())) or "the cluster has no workers"
    raise NotReady("no worker can take the pod", describe(pod), why, "knetsim status shows the workers")


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a Node's condition Ready is True."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _refusal(spec: Mapping[str, Any], node: Object) -> str:
    """Why a node does not take a pod with this spec, in the scheduler's words; "" when it does."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return "node(s) didn't match the pod's nodeSelector"
    if node["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerates(spec, taint):
            return f"node(s) had untolerated taint {taint.get('key')}"
    return ""


def _tolerates(spec: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    for item in spec.get("tolerations") or ():
        if item.get("effect", "") not in ("", taint["effect"]):
            continue
        if item.get("operator", "Equal") == "Exists":
            if item.get("key", "") in ("", taint.get("key")):
                return True
        elif item.get("key") == taint.get("key") and item.get("value", "") == taint.get("value", ""):
            return True
    return False


def _natural(name: str) -> list[str | int]:
    """Sorts c0w2 before c0w10: text and numbers alternate, beginning with text."""
    parts: list[str | int] = [""]
    for letter in name:
        if letter.isdigit():
            previous = parts[-1]
            if isinstance(previous, int):
                parts[-1] = previous * 10 + int(letter)
            else:
                parts.append(int(letter))
        elif isinstance(parts[-1], str):
            parts[-1] += letter
        else:
            parts.append(letter)
    return parts
