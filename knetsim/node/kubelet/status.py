"""A pod's `.status` as a real kubelet writes it; pure: the same pod, the same facts, the same text.

One writer per field: PodScheduled is the scheduler's when it wrote it, qosClass the API server's; conditions of other
types belong to others. `lastTransitionTime` moves only when a condition's status does. Sources: Kubernetes'
pkg/kubelet/kubelet_pods.go (getPhase, convertStatusToAPIStatus) and pkg/kubelet/status/generate.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knetsim.api.objects import Object, format_time
from knetsim.node.kubelet.lifecycle import (
    ALWAYS,
    NEVER,
    ContainerView,
    Running,
    State,
    Terminated,
    Waiting,
    read_containers,
)

_OWNED = frozenset(
    ("phase", "conditions", "containerStatuses", "initContainerStatuses", "podIP", "podIPs", "hostIP", "hostIPs")
) | {"startTime", "observedGeneration"}
_OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod as its kubelet sees it: its containers, its addresses ("" for none), since when it is here.

    `network_ready` says that its namespace is there and wired, `terminal` that nothing of it will run any more.
    """

    containers: Mapping[str, ContainerView]
    ip: str
    host_ip: str
    started_at: float
    network_ready: bool
    terminal: bool = False


def build_status(pod: Object, previous: Mapping[str, Any], view: PodView, now: float) -> Object:
    """The status to be written. `previous` is the one before (the stored one, or what was written last)."""
    spec = pod["spec"]
    init, containers = read_containers(spec)
    views = [view.containers[container["name"]] for container in containers]
    init_views = [view.containers[container["name"]] for container in init]
    phase = build_phase(spec.get("restartPolicy", ALWAYS), init_views, views, terminal=view.terminal)
    status: Object = {name: value for name, value in previous.items() if name not in _OWNED}
    status["phase"] = phase
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    status["conditions"] = _build_conditions(pod, previous, view, phase, init_views, views, now)
    status["hostIP"], status["hostIPs"] = view.host_ip, [{"ip": view.host_ip}]
    if view.ip:
        status["podIP"], status["podIPs"] = view.ip, [{"ip": view.ip}]
    status["startTime"] = previous.get("startTime") or format_time(view.started_at)
    if init:
        status["initContainerStatuses"] = [
            _build_container(container, one, init=True) for container, one in zip(init, init_views, strict=True)
        ]
    status["containerStatuses"] = [
        _build_container(container, one) for container, one in zip(containers, views, strict=True)
    ]
    return status


def build_phase(
    policy: str, init: Sequence[ContainerView], containers: Sequence[ContainerView], *, terminal: bool = False
) -> str:
    """Pending, Running, Succeeded or Failed."""
    ends = [(one.state if isinstance(one.state, Terminated) else one.last) for one in containers]
    if terminal and any(ends):
        return "Succeeded" if all(end is not None and end.exit_code == 0 for end in ends) else "Failed"
    if terminal:
        return "Failed"
    for one in init:
        if not _succeeded(one):
            failed = isinstance(one.state, Terminated) and policy == NEVER
            return "Failed" if failed else "Pending"
    if any(isinstance(one.state, Waiting) and one.last is None for one in containers):
        return "Pending"
    if policy == ALWAYS or any(isinstance(one.state, Running) for one in containers):
        return "Running"
    if all(end is not None and end.exit_code == 0 for end in ends):
        return "Succeeded"
    return "Failed" if policy == NEVER else "Running"


def _succeeded(init: ContainerView) -> bool:
    return isinstance(init.state, Terminated) and init.state.exit_code == 0


# --- conditions -----------------------------------------------------------------------------------


def _build_conditions(
    pod: Object,
    previous: Mapping[str, Any],
    view: PodView,
    phase: str,
    init: Sequence[ContainerView],
    containers: Sequence[ContainerView],
    now: float,
) -> list[Object]:
    before = {condition["type"]: condition for condition in previous.get("conditions") or ()}
    ready = _containers_ready(phase, containers)
    wanted = {
        "PodReadyToStartContainers": (view.network_ready, "", ""),
        "Initialized": _initialized(phase, init),
        "Ready": _ready(pod, before, ready),
        "ContainersReady": ready,
        "PodScheduled": (True, "", ""),
    }
    generation = pod["metadata"].get("generation")
    own = [
        before[name]
        if name == "PodScheduled" and name in before
        else _build_condition(name, wanted[name], before.get(name), generation, now)
        for name in _OWN_CONDITIONS
    ]
    return own + [condition for name, condition in before.items() if name not in _OWN_CONDITIONS]


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


def _containers_ready(phase: str, containers: Iterable[ContainerView]) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    unready = [one.name for one in containers if not isinstance(one.state, Running)]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready(
    pod: Object, before: Mapping[str, Mapping[str, Any]], containers: tuple[bool, str, str]
) -> tuple[bool, str, str]:
    """Ready are pods whose containers are, and whose readiness gates others have opened."""
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    shut = [gate for gate in gates if before.get(gate, {}).get("status") != "True"]
    if not containers[0] or not shut:
        return containers
    return (
        False,
        "ReadinessGatesNotReady",
        "\n".join(f'corresponding condition of pod readiness gate "{gate}" is not True' for gate in shut),
    )


def _initialized(phase: str, init: Iterable[ContainerView]) -> tuple[bool, str, str]:
    incomplete = [one.name for one in init if not _succeeded(one)]
    if incomplete:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]"
    return True, "PodCompleted" if phase == "Succeeded" else "", ""


# --- containers -----------------------------------------------------------------------------------


def _build_container(container: Mapping[str, Any], view: ContainerView, *, init: bool = False) -> Object:
    running = isinstance(view.state, Running)
    last = _build_state(view.last) if view.last else {}
    current = view.state if isinstance(view.state, Running | Terminated) else view.last
    image = container.get("image", "")
    status: Object = {
        "name": container["name"],
        "state": _build_state(view.state),
        "lastState": last,
        "ready": _succeeded(view) if init else running,
        "restartCount": view.restart_count,
        "image": image,
        "imageID": image if current else "",
        "started": running,
    }
    if current:
        status["containerID"] = current.container_id
    return status


def _build_state(state: State) -> Object:
    if isinstance(state, Waiting):
        return {"waiting": {"reason": state.reason, **({"message": state.message} if state.message else {})}}
    if isinstance(state, Running):
        return {"running": {"startedAt": format_time(state.started_at)}}
    ended: Object = {"exitCode": state.exit_code, "reason": state.reason}
    if state.message:
        ended["message"] = state.message
    ended["startedAt"], ended["finishedAt"] = format_time(state.started_at), format_time(state.finished_at)
    ended["containerID"] = state.container_id
    return {"terminated": ended}
