"""Lifecycle hooks, postStart and preStop: carried out beside everything else, looked at when the pod is.

As in Kubernetes' pkg/kubelet/lifecycle: a command has to end with 0, a request by HTTP only has to be answered, `sleep`
passes the time; anything else is no handler of a hook. What a hook wrote is told to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from knetsim.node.kubelet.actions import Actions, Outcome, Result, Target, act

_HANDLERS = ("exec", "httpGet", "sleep")


class Hook:
    """A hook that has been begun. `done` and `failed` may be read by any thread."""

    def __init__(self, handler: Mapping[str, Any], target: Target, actions: Actions, wake: Callable[[], None]) -> None:
        self.done = self.failed = False
        self.text = ""
        self._wake = wake
        self._work: Future[Outcome] = actions.submit(self._carry_out(handler, target))
        self._work.add_done_callback(self._note)

    @staticmethod
    async def _carry_out(handler: Mapping[str, Any], target: Target) -> Outcome:
        known = {name: handler[name] for name in _HANDLERS if handler.get(name) is not None}
        outcome = await act(known or {"nothing": handler}, target, None, "lifecycle")
        get = known.get("httpGet")
        if outcome.result is Result.FAILURE and get and "HTTP response to HTTPS client" in outcome.text:
            return await act({"httpGet": {**get, "scheme": "HTTP"}}, target, None, "lifecycle")
        return outcome

    def _note(self, work: Future[Outcome]) -> None:
        if not work.cancelled() and work.exception() is None:
            outcome = work.result()
            self.failed, self.text = outcome.result not in (Result.SUCCESS, Result.WARNING), outcome.text
        else:
            self.failed = True
        self.done = True
        self._wake()

    def stop(self) -> None:
        """It is not waited for any more. Twice is once."""
        self._work.cancel()


def hook_of(container: Mapping[str, Any], when: str) -> Mapping[str, Any] | None:
    """The handler of a container's hook: `when` is postStart or preStop."""
    return (container.get("lifecycle") or {}).get(when) or None
