"""A container as those see it who come by the kubelet's HTTP API: a way in, its logs, its standard files.

It is a view of a moment: between two calls the container may have ended, or have been started again. Any thread may
use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knetsim.api.objects import Object
from knetsim.system.container import ContainerProcess
from knetsim.system.container_watch import ContainerWatch
from knetsim.system.exec_session import ExecSession

if TYPE_CHECKING:
    from knetsim.node.kubelet.containers import Container
    from knetsim.node.kubelet.sandbox import PodSandbox


@dataclass(frozen=True, slots=True)
class ContainerAccess:
    """One container of a pod. `pod` is its object as it is stored, `watch` follows what the container writes."""

    pod: Object
    name: str
    container: Container
    sandbox: PodSandbox
    watch: ContainerWatch

    @property
    def main_process(self) -> ContainerProcess | None:
        """Its process, if one runs."""
        return self.container.process

    @property
    def holds(self) -> bool:
        """Whether it runs without a process: it only holds the pod's network."""
        return self.container.holding

    def is_current(self) -> bool:
        """Whether the pod is still there."""
        return self.sandbox.ready

    @property
    def spec(self) -> Object:
        """Its part of the pod's spec."""
        return next((one for one in _specs(self.pod) if one["name"] == self.name), {})

    def status(self) -> Object:
        """Its part of the pod's status as it is stored; empty when there is none yet."""
        status: dict[str, Any] = self.pod.get("status") or {}
        fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        found = (one for field in fields for one in status.get(field) or () if one["name"] == self.name)
        return next(found, {})

    def log_path(self, *, previous: bool = False) -> str:
        """The log file of its present or last run, or of the one before."""
        return self.container.log_path(previous)

    def start(self, argv: Sequence[str], *, stdin: bool, tty: bool) -> ExecSession:
        """Start a command as if the container had started it. NotFound when it does not run; CommandError."""
        return self.container.start_session(argv, stdin=stdin, tty=tty)


def container_names(pod: Object) -> list[str]:
    """The names of a pod's containers of all kinds."""
    return [one["name"] for one in _specs(pod)]


def _specs(pod: Object) -> list[Object]:
    spec = pod["spec"]
    fields = ("containers", "initContainers", "ephemeralContainers")
    return [one for field in fields for one in spec.get(field) or ()]
