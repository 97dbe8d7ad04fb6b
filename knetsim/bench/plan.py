"""What is to be measured: sizes, runs, and what the machine has for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: who is told what is being measured now
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How large, how often. `default_scenario` is its file; real parts are flanneld, CNI plugins and Kubernetes' own
    control plane; `services` are the numbers of Services."""

    workers: int
    pods: int
    runs: int
    default_scenario: Path
    has_real_parts: bool
    services: Sequence[int] = (10, 100, 1000, 10_000)
