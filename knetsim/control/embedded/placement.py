"""Which worker gets a pod: the filters and the score of Kubernetes' scheduler that matter without resources. Pure.

A worker fits when it is ready, not cordoned, matches the pod's nodeSelector and node affinity, and has no taint that
the pod does not tolerate. Of those: the one that its preferences like best, then the one with the fewest pods, then the
first by name (c0w2 before c0w10). Requests of resources are not counted; inter-pod affinity and topology spread are
refused by the store (api/pod_rules.py). Source: Kubernetes' pkg/scheduler/framework/plugins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from knetsim.api.objects import Object, describe, name_of
from knetsim.api.pods import FINISHED_PHASES
from knetsim.errors import NotReady

_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def count_pods(pods: Iterable[Object]) -> Counter[str]:
    """How many pods that have not ended each Node has."""
    return Counter(pod["spec"].get("nodeName", "") for pod in pods if not is_finished(pod))


def is_finished(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has ended and will not start again."""
    return (pod.get("status") or {}).get("phase") in FINISHED_PHASES


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a Node's condition Ready is True."""
    return _ready_status(node) == "True"


def _ready_status(node: Mapping[str, Any]) -> str:
    conditions = (node.get("status") or {}).get("conditions") or ()
    for item in conditions:
        if item.get("type") == "Ready":
            return str(item.get("status", ""))
    return ""


def choose_worker(pod: Mapping[str, Any], nodes: Iterable[Object], load: Mapping[str, int]) -> str:
    """The Node for a pod, with `load` pods on each; NotReady says why there is none, in the scheduler's words.

    A Node that has never said whether it is ready comes after those that are.
    """
    refusals: Counter[str] = Counter()
    fitting: list[tuple[bool, int, int, int, str]] = []
    for node in nodes:
        ready = _ready_status(node)
        if refusal := _refusal(pod["spec"], node, ready):
            refusals[refusal] += 1
            continue
        name = name_of(node)
        fitting.append((ready != "True", -_preference(pod["spec"], node), load.get(name, 0), len(name), name))
    if fitting:
        return min(fitting)[-1]
    raise NotReady("no worker can take the pod", describe(pod), explain(refusals), "knetsim status shows the workers")


def explain(refusals: Counter[str]) -> str:
    """`0/3 nodes are available: 1 node(s) were unschedulable, 2 …`."""
    if not refusals:
        return "no nodes available to schedule pods"
    why = ", ".join(sorted(f"{count} {reason}" for reason, count in refusals.items()))
    total = sum(refusals.values())
    return f"0/{total} nodes are available: {why}."


def _refusal(spec: Mapping[str, Any], node: Object, ready: str) -> str:
    """Why a node, `ready` or not, does not take a pod with this spec, in the scheduler's words; "" when it does."""
    if node["spec"].get("unschedulable") and not _tolerates(spec, _CORDONED):
        return "node(s) were unschedulable"
    taints = list(node["spec"].get("taints") or ())
    if ready not in ("", "True"):
        taints.append(_NOT_READY)  # which the node-lifecycle controller would put there
    for taint in taints:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerates(spec, taint):
            return "node(s) had untolerated taint(s)"
    if not _selected(spec, node):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def _tolerates(spec: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    return any(
        (item.get("effect") or taint["effect"]) == taint["effect"]
        and (item.get("key") or taint.get("key")) == taint.get("key")
        and (item.get("operator") == "Exists" or (item.get("value") or "") == (taint.get("value") or ""))
        for item in spec.get("tolerations") or ()
    )


# --- node affinity ----------------------------------------------------------------------------------------------------


def _selected(spec: Mapping[str, Any], node: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = _node_affinity(spec).get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(matches_term(term, node) for term in required["nodeSelectorTerms"])


def _node_affinity(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return (spec.get("affinity") or {}).get("nodeAffinity") or {}


def _preference(spec: Mapping[str, Any], node: Object) -> int:
    preferred = _node_affinity(spec).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(item["weight"] for item in preferred if matches_term(item["preference"], node))


def matches_term(term: Mapping[str, Any], node: Object) -> bool:
    """Whether a node is one that a nodeSelectorTerm means; an empty term means none."""
    expressions, of_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    labels = node["metadata"].get("labels") or {}
    return bool(expressions or of_fields) and (
        all(_matches(item, labels) for item in expressions)
        and all(_matches(item, {"metadata.name": name_of(node)}) for item in of_fields)
    )


def _matches(item: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(item["key"]), item.get("values") or []
    match item["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    try:
        number, bound = int(value or ""), int(values[0])
    except ValueError:
        return False
    return number > bound if item["operator"] == "Gt" else number < bound
