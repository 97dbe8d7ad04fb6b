"""One container's part of a pod's `.status`; pure. Source: convertToAPIContainerStatuses in Kubernetes'
pkg/kubelet/kubelet_pods.go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.api.objects import Object, format_time
from knetsim.node.kubelet.lifecycle import ContainerView, Running, State, Terminated, Waiting


def build_container_status(
    container: Mapping[str, Any], view: ContainerView, *, init: bool = False, user: Object | None = None
) -> Object:
    """`init` is true of init containers that have to end, `user` is what the container runs as."""
    up = isinstance(view.state, Running) and view.started
    current = view.state if isinstance(view.state, Running | Terminated) else view.last
    done = isinstance(view.state, Terminated) and view.state.exit_code == 0
    image = container.get("image", "")
    status: Object = {
        "name": container["name"],
        "state": _build_state(view.state),
        "lastState": _build_state(view.last) if view.last else {},
        "ready": done if init else up and view.ready,
        "restartCount": view.restart_count,
        "image": view.image or image,
        "imageID": view.image_id or image if current else "",
        "started": up,
    }
    if current:
        status["containerID"] = current.container_id
        resources = (container.get("resources") or {}) if view.resources is None else view.resources
        if resources.get("requests"):
            status["allocatedResources"] = dict(resources["requests"])
        if resources:
            status["resources"] = {name: dict(resources[name]) for name in ("limits", "requests") if name in resources}
    if mounts := container.get("volumeMounts"):
        status["volumeMounts"] = [_build_mount(mount) for mount in mounts]
    if user and current:
        status["user"] = user
    return status


def _build_mount(mount: Mapping[str, Any]) -> Object:
    shown = {"name": mount["name"], "mountPath": mount["mountPath"]}
    return {**shown, "readOnly": True, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else shown


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
