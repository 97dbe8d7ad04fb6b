"""The rules of all kinds, put together: what is checked, filled in and kept when an object is written, by kind.

Structure first (openapi.py, or the definition of a custom kind), then, where that is right, what a kube-apiserver's
validation finds besides: pod_rules.py, service_rules.py, config_rules.py, network_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from knetsim import names
from knetsim.api import config_rules, network_rules, pods, service_rules, words
from knetsim.api.checks import Problems, filled_text, list_of
from knetsim.api.definitions import schema_of
from knetsim.api.objects import KINDS, Object
from knetsim.api.openapi import Rules, Structure
from knetsim.api.pod_rules import POD_RULES
from knetsim.api.schemas import fill as fill_schema


def _check_event(event: Mapping[str, Any], path: str, problems: Problems) -> None:
    involved, namespace = event["involvedObject"], event["metadata"].get("namespace")
    if (involved.get("namespace") or names.DEFAULT_NAMESPACE) != namespace:
        problems.add("involvedObject.namespace", "must be the event's own namespace (`default` for what lives in none)")


RULES: dict[str, Rules] = {
    "ObjectMeta": Rules({"labels": words.labels, "finalizers": list_of(filled_text)}),
    "LabelSelector": Rules({"matchLabels": words.labels}),
    "LabelSelectorRequirement": Rules({"key": words.label_key}, words.requirement),
    "Event": Rules(whole=_check_event),
    **POD_RULES,
    **service_rules.SERVICE_RULES,
    **config_rules.CONFIG_RULES,
    **network_rules.NETWORK_RULES,
}

#: checks of whole objects: `STRUCTURE.check("Pod")(obj, "", problems)`
STRUCTURE = Structure(RULES)
#: structure alone, nothing is required: what Kubernetes' types can hold
KUBERNETES = Structure(complete=False)


def check_status(kind: str, status: Any, problems: Problems) -> None:
    """A status, which may be incomplete but holds nothing that Kubernetes' types cannot hold; one that a definition
    describes is as complete as it says."""
    structure = STRUCTURE if KINDS[kind].custom else KUBERNETES
    structure.check(f"{kind}Status")(status, "status", problems)


def prepare(kind: str, obj: Object) -> None:
    """Before the checks: what may be written in more than one way."""
    if kind == "Pod":
        pods.prepare_pod(obj)
    elif kind == "Secret":
        config_rules.prepare_secret(obj)


def _fill_namespace(obj: Object) -> None:
    metadata = obj["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}


def _fill_node(obj: Object) -> None:
    obj["spec"], obj["status"] = obj.get("spec") or {}, obj.get("status") or {}


_FILL: dict[str, Callable[[Object], None]] = {
    "Namespace": _fill_namespace,
    "Node": _fill_node,
    "Pod": pods.fill_pod,
    "Service": service_rules.fill_service,
    "EndpointSlice": service_rules.fill_slice,
    "Secret": config_rules.fill_secret,
    "NetworkPolicy": network_rules.fill_policy,
}


def fill(kind: str, obj: Object) -> None:
    """After the checks: the defaults."""
    if kind in _FILL:
        _FILL[kind](obj)
    schema = schema_of(kind)
    if schema is not None:
        filled = fill_schema(schema, obj)
        obj.clear()
        obj.update(filled)


def keep(kind: str, obj: Object, current: Object) -> None:
    """Before an update is checked: what the control plane has allotted stays, unless another is given."""
    if kind == "Service":
        service_rules.keep_allotted(obj, current)


_UPDATES: dict[str, Callable[[Object, Object, Problems], None]] = {
    "Pod": pods.check_pod_update,
    "Service": service_rules.check_service_update,
    "EndpointSlice": service_rules.check_slice_update,
    "ConfigMap": config_rules.check_config_update,
    "Secret": config_rules.check_config_update,
}


def check_update(kind: str, obj: Object, current: Object, problems: Problems) -> None:
    """What cannot change; both objects hold their defaults."""
    if kind in _UPDATES:
        _UPDATES[kind](obj, current, problems)
