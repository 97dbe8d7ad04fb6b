"""Label selectors: which sets of labels they mean, and how they are written; pure.

Source: Kubernetes' apimachinery, pkg/labels/selector.go. matchLabels are requirements `In` with one value; all
requirements must hold; without any, everything is meant. `NotIn` and `DoesNotExist` hold where the key is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition on the label `key`; `values` are sorted, and empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Labels) -> bool:
        """Whether labels fulfil it."""
        value = labels.get(self.key)
        if self.operator == "In":
            return value in self.values
        if self.operator == "NotIn":
            return value not in self.values
        return (value is not None) == (self.operator == "Exists")

    def __str__(self) -> str:
        if self.operator == "In" and len(self.values) == 1:
            return f"{self.key}={self.values[0]}"
        if self.operator == "NotIn" and len(self.values) == 1:
            return f"{self.key}!={self.values[0]}"
        if self.operator in ("In", "NotIn"):
            return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"
        return self.key if self.operator == "Exists" else f"!{self.key}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All of these requirements, which are sorted: two selectors that say the same are equal."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether it means what has these labels."""
        for requirement in self.requirements:  # noqa: SIM110 - asked for every pod and selector
            if not requirement.holds(labels):
                return False
        return True

    def __str__(self) -> str:
        """As kubectl's -l takes it; empty for everything."""
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()


def build_selector(requirements: list[Requirement]) -> Selector:
    """The selector of these requirements, in whatever order they come."""
    tidy = {Requirement(each.key, each.operator, tuple(sorted(set(each.values)))) for each in requirements}
    return Selector(tuple(sorted(tidy)))
