"""How a container ended: the message it left, and reading it back from a status. As pkg/kubelet/kuberuntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from knetsim.node.kubelet.lifecycle import Terminated
from knetsim.system.container_watch import read_log

#: a container that runs when nobody knows its process: as if somebody had killed it
LOST = 137
_MESSAGE_BYTES = 4096
_LOG_MESSAGE_BYTES, _LOG_MESSAGE_LINES = 2048, 80


def read_message(container: Mapping[str, Any], path: str, log: str, code: int) -> str:
    """What it left for its status at its terminationMessagePath, or at the end of its log."""
    try:
        with open(path, "rb") as file:
            message = file.read(_MESSAGE_BYTES).decode(errors="replace")
    except FileNotFoundError:  # somebody has deleted the pod's directory, which keeps nobody from ending
        return ""
    if not message and code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        lines = read_log(log, _LOG_MESSAGE_BYTES * 4).splitlines(keepends=True)[-_LOG_MESSAGE_LINES:]
        message = "".join(lines)[-_LOG_MESSAGE_BYTES:]
    return message


def read_terminated(ended: Mapping[str, Any], read_time: Callable[[str], float]) -> Terminated:
    """A `terminated` of a status."""
    return Terminated(
        ended.get("exitCode", 0),
        ended.get("reason", ""),
        ended.get("message", ""),
        read_time(ended["startedAt"]) if ended.get("startedAt") else 0.0,
        read_time(ended["finishedAt"]) if ended.get("finishedAt") else 0.0,
        ended.get("containerID", ""),
    )
