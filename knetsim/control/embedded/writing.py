"""Pods of the prompt and of manifests: bound when they are written, many at once, with no loop in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from knetsim.api.accept import accept_create
from knetsim.api.objects import Object, kind_of
from knetsim.api.store import Store
from knetsim.control.embedded.placement import choose_worker, count_pods
from knetsim.control.embedded.scheduler import is_ours
from knetsim.errors import NotReady

#: so many pods are written at once: etcd flushes the writes of all of them together
_WRITERS = 8


def write_pod(store: Store, pod: Mapping[str, Any]) -> Object:
    """Create a pod, bound to the worker it names or else to one chosen for it; see `write_pods`."""
    return write_pods(store, (pod,))[0]


def write_pods(store: Store, pods: Sequence[Mapping[str, Any]]) -> list[Object]:
    """Create pods, several at once; they are spread as if written one after the other.

    One that no worker can take is written all the same and waits, as in Kubernetes: the scheduler says why, and binds
    it when one can. All are checked before the first is written. When writing one fails, the others are written.
    """
    accepted = [accept_create(kind_of(pod), pod, 0.0) for pod in pods]
    bound: list[Mapping[str, Any]] = list(pods)
    if any(pod["kind"] == "Pod" and is_ours(pod) for pod in accepted):
        nodes, load = store.list("Node").items, count_pods(store.list("Pod").items)
        for index, pod in enumerate(accepted):
            if pod["kind"] != "Pod" or not is_ours(pod):
                load[pod.get("spec", {}).get("nodeName", "")] += 1
                continue
            try:
                node = choose_worker(pod, nodes, load)
            except NotReady:
                continue
            load[node] += 1
            bound[index] = {**pods[index], "spec": {**pods[index]["spec"], "nodeName": node}}
    if len(bound) == 1:
        return [store.create(dict(bound[0]))]
    with ThreadPoolExecutor(min(_WRITERS, len(bound) or 1), "write pods") as writers:
        written = [writers.submit(store.create, dict(pod)) for pod in bound]
    return [result.result() for result in written]
