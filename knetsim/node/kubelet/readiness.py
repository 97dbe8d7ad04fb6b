"""Whether pods are ready, why not, and waiting for that: facts of the store, seen through the informer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from knetsim.api.informer import Informer
from knetsim.api.objects import Object, has_condition, uid_of
from knetsim.api.pods import FINISHED_PHASES
from knetsim.errors import NotReady

_SHOWN = 5


def is_finished(pod: Object) -> bool:
    """Whether the pod has ended for good."""
    return (pod.get("status") or {}).get("phase") in FINISHED_PHASES


def is_ready(pod: Object | None) -> bool:
    """Whether a pod's condition Ready is True, or it has done what it was for."""
    if pod is None:
        return False
    return (pod.get("status") or {}).get("phase") == "Succeeded" or has_condition(pod, "Ready")


def is_settled(pod: Object | None) -> bool:
    """Whether there is nothing to wait for any more: it is ready, or it has ended."""
    return pod is not None and (is_ready(pod) or is_finished(pod))


def explain_pod(pod: Object | None) -> str:
    """Why a pod is not ready, in its own words."""
    if pod is None:
        return "there is no such pod"
    status = pod.get("status") or {}
    for one in status.get("containerStatuses") or ():
        state = one.get("state") or {}
        for kind in ("waiting", "terminated"):
            if kind in state:
                about = state[kind]
                return f"{about.get('reason', '')} {about.get('message', '')}".strip()
    return f"its phase is {status.get('phase', 'unknown')}"


@dataclass(frozen=True, slots=True)
class Awaited:
    """Pods that are to become ready, as keys with their uids: of a name that is used again, the new one is meant.

    `hint` says of a key where to look when it does not.
    """

    uids: Mapping[str, str]
    pods: Informer
    where: str
    hint: Callable[[str], str]

    def read(self, key: str) -> Object | None:
        """The pod that is meant; the informer may still show the one before."""
        pod = self.pods.by_key(key)
        return pod if pod is not None and uid_of(pod) == self.uids[key] else None

    def wait(self, deadline: float) -> None:
        """Wait until all are ready. NotReady, with the pods' own words, after `deadline` seconds, or as soon as there
        is nothing to wait for and one is not."""
        left = list(self.uids)

        def all_settled(_: Informer) -> bool:
            while left and is_settled(self.read(left[-1])):
                left.pop()
            return not left

        try:
            self.pods.wait_for(all_settled, deadline, "pods")
        except NotReady as error:
            if late := [key for key in left if not is_settled(self.read(key))]:
                raise self._error(late, f"after {deadline:g} s") from error
        if failed := [key for key in self.uids if not is_ready(self.read(key))]:
            raise self._error(failed, "")

    def _error(self, keys: list[str], when: str) -> NotReady:
        words = "; ".join(f"{key}: {explain_pod(self.read(key))}" for key in keys[:_SHOWN])
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        what = f"{len(keys)} pod{'s are' if len(keys) != 1 else ' is'} not ready {when}".rstrip()
        return NotReady(what, self.where, words + more, self.hint(keys[0]))
