"""A pod's `.status` as a real kubelet writes it; pure: the same pod, the same facts, the same text.

One writer per field: PodScheduled is the scheduler's when it wrote it, qosClass the API server's; conditions of other
types belong to others. `lastTransitionTime` moves only when a condition's status does. Sources: Kubernetes'
pkg/kubelet/kubelet_pods.go (getPhase, convertStatusToAPIStatus) and pkg/kubelet/status/generate.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from knetsim.api.objects import Object, format_time
from knetsim.api.shared_status import shared_fields
from knetsim.node.kubelet.container_status import build_container_status
from knetsim.node.kubelet.lifecycle import (
    ALWAYS,
    ContainerView,
    Running,
    Terminated,
    Waiting,
    is_sidecar,
    read_containers,
    restarts,
)

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
_OWNED = frozenset(("phase", "reason", "message", "startTime", "observedGeneration", "conditions"))
_OWNED |= {"podIP", "podIPs", "hostIP", "hostIPs"}
_OWNED |= {"containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"}


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod as its kubelet sees it: its containers, its addresses ("" for none), since when it is here.

    `network_ready` says that its namespace is there and wired, `terminal` that nothing of it will run any more,
    `failure` (reason, message) that the kubelet itself has ended it. `users` are what containers run as.
    """

    containers: Mapping[str, ContainerView]
    ip: str
    host_ip: str
    started_at: float
    network_ready: bool
    terminal: bool = False
    failure: tuple[str, str] | None = None
    users: Mapping[str, Object] = field(default_factory=dict)


def build_status(pod: Object, previous: Mapping[str, Any], view: PodView, now: float) -> Object:
    """The status to be written. `previous` is the one before (the stored one, or what was written last)."""
    spec = pod["spec"]
    phase = "Failed" if view.failure else build_phase(spec, view.containers, terminal=view.terminal)
    status: Object = {name: value for name, value in previous.items() if name not in _OWNED}
    status["phase"] = phase
    if view.failure:
        status["reason"], status["message"] = view.failure
    elif phase == previous.get("phase"):  # why it has come to this phase
        status |= {name: previous[name] for name in ("reason", "message") if name in previous}
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    status["conditions"] = _build_conditions(pod, previous, view, phase, now)
    status["hostIP"], status["hostIPs"] = view.host_ip, [{"ip": view.host_ip}]
    if view.ip:
        status["podIP"], status["podIPs"] = view.ip, [{"ip": view.ip}]
    status["startTime"] = previous.get("startTime") or format_time(view.started_at)
    status |= _build_containers(spec, view)
    return status


def _build_containers(spec: Mapping[str, Any], view: PodView) -> Object:
    """The statuses of all containers: init containers in order, all others by name."""

    def build(group: str, *, sort: bool = True) -> list[Object]:
        found = [
            build_container_status(
                one,
                view.containers[one["name"]],
                init=group == "initContainers" and not is_sidecar(one),
                user=view.users.get(one["name"]),
            )
            for one in spec.get(group) or ()
        ]
        return sorted(found, key=lambda status: status["name"]) if sort else found

    statuses: Object = {}
    if spec.get("initContainers"):
        statuses["initContainerStatuses"] = build("initContainers", sort=False)
    statuses["containerStatuses"] = build("containers")
    if spec.get("ephemeralContainers"):
        statuses["ephemeralContainerStatuses"] = build("ephemeralContainers")
    return statuses


# --- phase ----------------------------------------------------------------------------------------


def build_phase(spec: Mapping[str, Any], views: Mapping[str, ContainerView], *, terminal: bool = False) -> str:
    """Pending, Running, Succeeded or Failed."""
    policy = spec.get("restartPolicy", ALWAYS)
    init, containers = read_containers(spec)
    ends = [_end_of(views[one["name"]]) for one in containers]
    if terminal:
        return "Succeeded" if all(end is not None and end.exit_code == 0 for end in ends) else "Failed"
    if not any(views[one["name"]].begun for one in containers):
        for one in init:
            view = views[one["name"]]
            if _initialized(one, view):
                continue
            end = None if is_sidecar(one) else _end_of(view)
            over = end is not None and end.exit_code != 0 and not isinstance(view.state, Running)
            failed = over and end is not None and not restarts(policy, one, end.exit_code)
            return "Failed" if failed else "Pending"
    states = [views[one["name"]] for one in containers]
    if any(isinstance(one.state, Waiting) and one.last is None for one in states):
        return "Pending"
    running = any(isinstance(one.state, Running) for one in states)
    sidecars = any(isinstance(views[one["name"]].state, Running) for one in init if is_sidecar(one))
    again = any(
        end is not None and restarts(policy, one, end.exit_code) for one, end in zip(containers, ends, strict=True)
    )
    if running or sidecars or again:
        return "Running"
    return "Succeeded" if all(end is not None and end.exit_code == 0 for end in ends) else "Failed"


def _end_of(view: ContainerView) -> Terminated | None:
    return view.state if isinstance(view.state, Terminated) else view.last


def _initialized(container: Mapping[str, Any], view: ContainerView) -> bool:
    """Whether an init container has done its part."""
    if is_sidecar(container):
        return isinstance(view.state, Running) and view.started
    return isinstance(view.state, Terminated) and view.state.exit_code == 0


# --- conditions -----------------------------------------------------------------------------------


def _build_conditions(pod: Object, previous: Mapping[str, Any], view: PodView, phase: str, now: float) -> list[Object]:
    before = {condition["type"]: condition for condition in previous.get("conditions") or ()}
    ready = _containers_ready(pod["spec"], view.containers, phase)
    wanted = {
        "PodReadyToStartContainers": (view.network_ready, "", ""),
        "Initialized": _initialized_condition(pod["spec"], view.containers, phase),
        "Ready": _ready(pod, before, ready),
        "ContainersReady": ready,
        "PodScheduled": (True, "", ""),
    }
    generation = pod["metadata"].get("generation")
    own = [
        before[name]
        if name == "PodScheduled" and name in before
        else _build_condition(name, wanted[name], before.get(name), generation, now)
        for name in OWN_CONDITIONS
    ]
    return own + [condition for name, condition in before.items() if name not in OWN_CONDITIONS]


def _build_condition(
    name: str, wanted: tuple[bool, str, str], before: Mapping[str, Any] | None, generation: int | None, now: float
) -> Object:
    holds, reason, message = wanted
    status = "True" if holds else "False"
    since = before["lastTransitionTime"] if before and before.get("status") == status else format_time(now)
    condition: Object = {"type": name, "status": status, "lastProbeTime": None, "lastTransitionTime": since}
    if generation:
        condition["observedGeneration"] = generation
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _containers_ready(spec: Mapping[str, Any], views: Mapping[str, ContainerView], phase: str) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    init, containers = read_containers(spec)
    wanted = [views[one["name"]] for one in (*filter(is_sidecar, init), *containers)]
    unready = [one.name for one in wanted if not (isinstance(one.state, Running) and one.started and one.ready)]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready(
    pod: Object, before: Mapping[str, Mapping[str, Any]], containers: tuple[bool, str, str]
) -> tuple[bool, str, str]:
    """Ready are pods whose containers are, and whose readiness gates others have opened."""
    if not containers[0]:
        return containers
    shut = []
    for gate in pod["spec"].get("readinessGates") or ():
        name = gate["conditionType"]
        if name not in before:
            shut.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif before[name].get("status") != "True":
            shut.append(f'the status of pod readiness gate "{name}" is not "True", but {before[name].get("status")}')
    return (False, "ReadinessGatesNotReady", ", ".join(shut)) if shut else containers


def _initialized_condition(
    spec: Mapping[str, Any], views: Mapping[str, ContainerView], phase: str
) -> tuple[bool, str, str]:
    init, containers = read_containers(spec)
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if any(views[one["name"]].begun for one in containers):
        return True, "", ""
    incomplete = [one["name"] for one in init if not _initialized(one, views[one["name"]])]
    if incomplete:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]"
    return True, "", ""


def rejected_status(previous: Mapping[str, Any], reason: str, message: str, now: float) -> Object:
    """The status of a pod that is not let in; the API server's qosClass and others' conditions stay."""
    kept = {name: value for name, value in previous.items() if name not in _OWNED}
    conditions = [one for one in previous.get("conditions") or () if one["type"] not in OWN_CONDITIONS[:4]]
    if conditions:
        kept["conditions"] = conditions
    started = {"startTime": previous.get("startTime") or format_time(now)}
    return {**kept, **started, "phase": "Failed", "reason": reason, "message": f"Pod was rejected: {message}"}


def own_share(status: Mapping[str, Any], previous: Mapping[str, Any]) -> Object:
    """What of a pod's status its kubelet writes. The rest is others', who may have changed it since `previous` was
    read; the scheduler's PodScheduled is among it."""
    theirs = shared_fields("Pod") - _OWNED
    share = {name: value for name, value in status.items() if name not in theirs}
    ours = set(OWN_CONDITIONS) - ({"PodScheduled"} & _by_type(previous).keys())
    return {**share, "conditions": [one for kind, one in _by_type(status).items() if kind in ours]}


def says_the_same(status: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses differ at most in the order of their conditions, which is the server's."""
    return _by_type(status) == _by_type(other) and {**status, "conditions": ()} == {**other, "conditions": ()}


def _by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}
