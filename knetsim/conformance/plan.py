"""Which specs run, which do not and why, and what explains those that fail; data in plan.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

_FILE = Path(__file__).with_name("plan.yaml")


@dataclass(frozen=True, slots=True)
class Remark:
    """A regular expression over specs' names, and what there is to say of them."""

    specs: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What plan.yaml holds."""

    groups: tuple[str, ...]
    left_out: tuple[Remark, ...]
    subset: tuple[str, ...]
    failures: tuple[Remark, ...]


@cache
def read_plan() -> Plan:
    """The plan that comes along."""
    data = yaml.safe_load(_FILE.read_text())
    return Plan(
        groups=tuple(data["groups"]),
        left_out=tuple(Remark(**remark) for remark in data["leftOut"]),
        subset=tuple(data["subset"]),
        failures=tuple(Remark(**remark) for remark in data["failures"]),
    )


def find_reason(name: str, remarks: Iterable[Remark]) -> str:
    """What is said of the spec `name`; empty when nothing is."""
    return next((remark.reason for remark in remarks if re.search(remark.specs, name)), "")
