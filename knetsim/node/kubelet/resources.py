"""What containers may use, from their specs into control groups. Pure but for `LimitedPod`.

As Kubernetes' pkg/kubelet/kuberuntime (generateLinuxContainerResources): the limit on memory is the group's, that on
CPU a share of each span of 0.1 s. How it differs: what a container requests gives it no weight against others, and a
pod has a group only if there are limits in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knetsim.api.objects import Object, uid_of
from knetsim.node.kubelet.quantities import parse_quantity, read_quantity
from knetsim.system.cgroup import CPU, MEMORY, Cgroup, Cgroups, Limits


def read_limits(spec: Mapping[str, Any]) -> Limits:
    """The limits of a container, or of a pod as a whole: `spec` is its spec. 0 is no limit."""
    limits = (spec.get("resources") or {}).get("limits") or {}
    memory, cpu = parse_quantity(limits.get(MEMORY, 0)), float(read_quantity(limits.get(CPU, 0)))
    return Limits(memory or None, cpu or None)


def resize(cgroup: Cgroup | None, container: Mapping[str, Any]) -> str:
    """Hold a running container to the limits that its spec has now; why that cannot be, or nothing.

    What it requests is only counted, so nothing has to be done for it.
    """
    limits = read_limits(container)
    if cgroup is None:
        return "it was started without limits, so it has no control group" if limits else ""
    try:
        cgroup.limit(limits)
    except OSError as error:
        return f"the kernel refuses them: {error.strerror}"
    return ""


@dataclass(frozen=True, slots=True)
class LimitedPod:
    """The control groups of one pod."""

    uid: str
    cgroups: Cgroups

    def create(self, pod: Object, container: Mapping[str, Any], run: int) -> Cgroup | None:
        """The group for a run of a container, if something limits it. OSError."""
        limits, whole = read_limits(container), read_limits(pod["spec"])
        if not limits and not whole:
            return None
        return self.cgroups.create(self.uid, f"{container['name']}-{run}", limits, whole)

    def remove(self) -> None:
        """Take away what is left of them."""
        self.cgroups.remove_pod(self.uid)


def limited_pod(pod: Object, cgroups: Cgroups) -> LimitedPod:
    """The control groups of a pod; nothing is made before it is wanted."""
    return LimitedPod(uid_of(pod), cgroups)
