"""What a measurement yields: samples, held against a floor and a target; pure.

A figure is judged by medians. With a floor its value is the ratio of the two medians; the smallest and the largest
sample stand beside it, so that a reader sees how far to trust it. Runs on a busy machine are worth little:
`explain_noise`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["s", "ms", "µs", "MB", "Gbit/s", "pods/s", "connections/s", "×"]

#: of a floor, or of a figure without one, the largest sample may be so many times the smallest
EVEN_SPREAD = 1.5
#: load average, per core, above which something else is at work: before the first run, and after the last
BUSY_BEFORE, BUSY_AFTER = 0.3, 2.0
#: part of the time that a hypervisor may give to others
STOLEN = 0.02


@dataclass(frozen=True, slots=True)
class Samples:
    """The values of one measurement over its runs, in the order in which they were taken; at least one."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a measurement without a value")

    @classmethod
    def of(cls, values: Sequence[float]) -> Samples:
        """Samples of any sequence."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """What is quoted."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The largest as a multiple of the smallest; 1 for a single one."""
        low = min(self.values)
        return max(self.values) / low if low > 0 else float("inf")

    def to_json(self) -> dict[str, Any]:
        """Median, extremes, and every sample."""
        return {
            "median": _round(self.median),
            "min": _round(min(self.values)),
            "max": _round(max(self.values)),
            "samples": [_round(value) for value in self.values],
        }


def _round(value: float) -> float:
    return float(f"{value:.5g}")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure shall be: its measured value (`of` value), or that divided by the floor (`of` ratio)."""

    relation: Literal["≤", "≥"]
    bound: float
    of: Literal["value", "ratio"] = "value"

    def is_met(self, value: float) -> bool:
        """Whether the value is on the right side of the bound."""
        return value <= self.bound if self.relation == "≤" else value >= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the report. `name` is its id for programs, `what` its words for people.

    `floor` is what it is held against, taken in the same run, and `against` says what that is. `parts` are medians of
    what the measured value consists of, `floor_parts` of the floor; `notes` are facts that a reader should know.
    """

    name: str
    what: str
    unit: Unit
    measured: Samples
    floor: Samples | None = None
    against: str = ""
    target: Target | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    floor_parts: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def ratio(self) -> float | None:
        """Measured over floor, of the medians; None without a floor."""
        if self.floor is None or self.floor.median == 0:
            return None
        return self.measured.median / self.floor.median

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        value = self.ratio if self.target.of == "ratio" else self.measured.median
        return value is not None and self.target.is_met(value)

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        target = self.target
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "target": {"relation": target.relation, "bound": target.bound, "of": target.of} if target else None,
            "measured": self.measured.to_json(),
            "floor": {"of": self.against, **self.floor.to_json()} if self.floor else None,
            "ratio": _round(self.ratio) if self.ratio is not None else None,
            "met": self.met,
            "parts": {name: _round(value) for name, value in self.parts.items()},
            "floorParts": {name: _round(value) for name, value in self.floor_parts.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were taken on. `load` is the load average of the last minute at the start and at the end.

    `stolen` is the part of the time in between that the hypervisor gave to others, None where it is not told;
    `arp_full` how often the kernel meanwhile refused an ARP entry: its table is one for the whole machine.
    """

    cores: int
    model: str
    memory_mb: int
    kernel: str
    system: str
    load: tuple[float, float]
    stolen: float | None
    arp_full: int = 0

    def to_json(self) -> dict[str, Any]:
        """The same, for programs."""
        return {
            "cores": self.cores,
            "model": self.model,
            "memoryMB": self.memory_mb,
            "kernel": self.kernel,
            "system": self.system,
            "load": list(self.load),
            "stolen": _round(self.stolen) if self.stolen is not None else None,
            "arpFull": self.arp_full,
        }


def explain_noise(machine: Machine, figures: Sequence[Figure]) -> list[str]:
    """Why the figures are to be taken with care; empty when nothing speaks against them.

    The measurements themselves bring the load average to about one and a half a core.
    """
    reasons = []
    for load, limit, when in zip(
        machine.load, (BUSY_BEFORE, BUSY_AFTER), ("before the first", "after the last"), strict=True
    ):
        if load > limit * machine.cores:
            reasons.append(f"the load average was {load:.1f} {when} run: something else was at work")
    if machine.stolen is not None and machine.stolen > STOLEN:
        reasons.append(f"the hypervisor gave {machine.stolen:.0%} of the time to others")
    if machine.arp_full:
        words = f"the machine's ARP table was full {machine.arp_full} times: packets waited or were lost"
        reasons.append(f"{words} (net.ipv4.neigh.default.gc_thresh3 is the limit, for all namespaces together)")
    for figure in figures:
        spread, what = (figure.floor or figure.measured).spread, f"'{figure.name}'"
        if spread > EVEN_SPREAD:
            what = f"the floor of {what}" if figure.floor else what
            reasons.append(f"{what} was up to {spread:.1f} times its smallest")
    return reasons


def median_parts(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each part over runs, in the order of the first run; a part that a run lacks counts where it is."""
    names = list(dict.fromkeys(name for run in runs for name in run))
    return {name: statistics.median(run[name] for run in runs if name in run) for name in names}
