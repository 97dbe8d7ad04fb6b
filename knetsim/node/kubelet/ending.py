"""How a container is brought to its end: preStop hook, its turn, SIGTERM, grace period, SIGKILL; pure but for the hook.

As in Kubernetes' pkg/kubelet/kuberuntime (killContainer): the grace period begins with the hook, and a container has
two seconds after SIGTERM even when the hook has used it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

_LEAST_SECONDS = 2.0
_KILL_SECONDS = 10.0


class Signal(Enum):
    """What is to be sent to the container now."""

    TERM = "SIGTERM"
    KILL = "SIGKILL"


class Done(Protocol):
    """A hook, as far as it is waited for."""

    @property
    def done(self) -> bool: ...


@dataclass(slots=True)
class Ending:
    """The end of one container, begun with a grace period that is over at `deadline` (of the steady clock)."""

    deadline: float
    hook: Done | None = None
    asked: bool = False

    def shorten(self, deadline: float) -> None:
        """Somebody asks for an earlier end."""
        self.deadline = min(self.deadline, deadline)

    def step(self, now: float, *, turn: bool = True) -> tuple[Signal | None, float]:
        """What to send now, and the seconds until the next look. `turn` is false while others have to end before."""
        left = self.deadline - now
        if not self.asked:
            if left > 0 and (not turn or (self.hook is not None and not self.hook.done)):
                return None, left
            self.asked = True
            self.deadline = max(self.deadline, now + _LEAST_SECONDS)
            return Signal.TERM, self.deadline - now
        return (None, left) if left > 0 else (Signal.KILL, _KILL_SECONDS)
