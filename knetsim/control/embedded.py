"""What stands in for Kubernetes' control plane where it does not run: namespaces, and a worker for every new pod.

A real scheduler watches for pods without `nodeName` and binds them; here a pod is bound when it is written
(`write_pod`), to the worker that it names itself, else to the one with the fewest pods (`choose_worker`, pure). What
the real scheduler looks at besides, affinity and topology spread, is refused by the store (api/pod_fields.py), not
ignored; requests of resources are not counted. The real namespace controller empties a namespace that is being deleted;
here `reconcile_namespace` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from knetsim.api.accept import accept_create
from knetsim.api.etcd_store import EtcdStore
from knetsim.api.objects import KINDS, Object, describe, kind_of, name_of
from knetsim.api.pods import FINISHED_PHASES
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, NotFound, NotReady

#: what a kube-apiserver makes at its first start
STANDARD_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
#: so many pods are written at once: etcd flushes the writes of all of them together
_WRITERS = 8


# --- pods -------------------------------------------------------------------------------------------------------------


def write_pod(store: Store, pod: Mapping[str, Any]) -> Object:
    """Create a pod, bound to the worker it names or else to one chosen for it; NotReady when no worker can take it."""
    return write_pods(store, (pod,))[0]


def write_pods(store: Store, pods: Sequence[Mapping[str, Any]]) -> list[Object]:
    """Create pods as `write_pod` does, several at once; they are spread as if written one after the other.

    All are checked before the first is written. When writing one fails, the others are written all the same.
    """
    accepted = [accept_create(kind_of(pod), pod, 0.0) for pod in pods]
    bound: list[Mapping[str, Any]] = list(pods)
    if not all(_is_bound(pod) for pod in accepted):
        nodes, load = store.list("Node").items, count_pods(store.list("Pod").items)
        for index, pod in enumerate(accepted):
            if pod["kind"] != "Pod":
                continue  # the store takes it as it is
            node = pod["spec"].get("nodeName") or choose_worker(pod, nodes, load)
            load[node] += 1
            bound[index] = {**pods[index], "spec": {**pods[index]["spec"], "nodeName": node}}
    if len(bound) == 1:
        return [store.create(dict(bound[0]))]
    with ThreadPoolExecutor(min(_WRITERS, len(bound) or 1), "write pods") as writers:
        written = [writers.submit(store.create, dict(pod)) for pod in bound]
    return [result.result() for result in written]


def _is_bound(pod: Object) -> bool:
    return pod["kind"] != "Pod" or bool(pod["spec"].get("nodeName"))


def count_pods(pods: Iterable[Object]) -> Counter[str]:
    """How many pods that have not ended each Node has."""
    return Counter(
        pod["spec"].get("nodeName", "") for pod in pods if pod.get("status", {}).get("phase") not in FINISHED_PHASES
    )


def choose_worker(pod: Mapping[str, Any], nodes: Iterable[Object], load: Mapping[str, int]) -> str:
    """The Node for a pod, with `load` pods on each; NotReady says why there is none.

    Of those that match its nodeSelector, are not cordoned and have no taint that it does not tolerate: one that is
    Ready before one that is not, then the one with the fewest pods, then the first by name (c0w2 before c0w10).
    """
    refusals: Counter[str] = Counter()
    fitting: list[tuple[bool, int, int, str]] = []
    for node in nodes:
        if refusal := _refusal(pod["spec"], node):
            refusals[refusal] += 1
            continue
        name = name_of(node)
        fitting.append((not is_ready(node), load.get(name, 0), len(name), name))
    if fitting:
        return min(fitting)[-1]
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
    return any(
        (item.get("effect") or taint["effect"]) == taint["effect"]
        and (item.get("key") or taint.get("key")) == taint.get("key")
        and (item.get("operator") == "Exists" or (item.get("value") or "") == (taint.get("value") or ""))
        for item in spec.get("tolerations") or ()
    )


# --- namespaces -------------------------------------------------------------------------------------------------------


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


def reconcile_namespace(store: EtcdStore, name: str) -> bool:
    """Delete what is in a namespace that is being deleted, and the namespace once it is empty.

    Whether nothing is left to do; pods take their time to end: call again when one is gone.
    """
    try:
        namespace = store.get("Namespace", name)
    except NotFound:
        return True
    if not namespace["metadata"].get("deletionTimestamp"):
        return True
    contents = [
        (kind.name, obj) for kind in KINDS.values() if kind.namespaced for obj in store.list(kind.name, name).items
    ]
    for kind, obj in contents:
        if not obj["metadata"].get("deletionTimestamp"):
            try:
                store.delete(kind, name_of(obj), name)
            except NotFound:
                pass  # ended by itself meanwhile
    if any(store.list(kind.name, name).items for kind in KINDS.values() if kind.namespaced):
        return False
    try:
        store.finish_namespace(name)
    except NotFound:
        pass  # another one was faster
    return True
