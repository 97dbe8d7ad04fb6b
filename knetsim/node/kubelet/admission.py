"""Whether a pod that is bound to a worker may run there at all.

The scheduler has looked at what it knows; a kubelet looks again at what only it knows, and rejects: the pod has failed,
and its controller makes another. Source: Kubernetes' pkg/kubelet/lifecycle/interfaces.go, kubelet.go (rejectPod).
"""

from __future__ import annotations

from typing import NamedTuple

from knetsim.api.objects import Object
from knetsim.api.store import Store
from knetsim.errors import Conflict, NotFound
from knetsim.node.kubelet.security import SYSCTL_FORBIDDEN, SysctlForbidden, read_sysctls
from knetsim.node.kubelet.status import rejected_status


class Rejection(NamedTuple):
    """Why a pod may not run: `reason` is one CamelCase word."""

    reason: str
    message: str


def check_admission(pod: Object) -> Rejection | None:
    """Why the pod is rejected, or None."""
    try:
        read_sysctls(pod["spec"])
    except SysctlForbidden as error:
        return Rejection(SYSCTL_FORBIDDEN, error.what)
    return None


def reject_pod(pod: Object, rejection: Rejection, store: Store, now: float) -> None:
    """Write that a pod has failed, which may not run."""
    try:
        store.update_status({**pod, "status": rejected_status(pod.get("status") or {}, *rejection, now)})
    except (NotFound, Conflict):
        pass  # another pod of that name, or none: the watch is about to say so
