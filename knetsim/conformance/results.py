"""Ginkgo's JSON report as results: a row for each spec that was run; pure.

A report has an entry for every spec of the suite, 7,500 of them, most of which were filtered away and have no end. Only
those with an end are results: a spec that skips itself has one, and says why.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

State = Literal["passed", "failed", "skipped"]

_NANOSECONDS = 1e9
_NEVER = "0001-01-01T00:00:00Z"
#: of Ginkgo's states; all others are failures: failed, timedout, panicked, interrupted, aborted
_STATES: Mapping[str, State] = {"passed": "passed", "skipped": "skipped", "pending": "skipped"}
_ORDER: tuple[State, ...] = ("passed", "failed", "skipped")
_ERROR_WIDTH = 240
_LABELS = re.compile(r" *\[(?:Conformance|NodeConformance|LinuxOnly|Serial|Slow|Disruptive)\]")


@dataclass(frozen=True, slots=True)
class Spec:
    """A spec and how it ended; `error` is a line (of a skipped one: why), `where` its file and line in Kubernetes."""

    name: str
    state: State
    seconds: float
    error: str
    where: str
    hierarchy: tuple[str, ...] = ()
    attempts: int = 1

    @property
    def short_name(self) -> str:
        """The name without the labels at which nobody looks."""
        return _LABELS.sub("", self.name)

    @property
    def group(self) -> str:
        """`[sig-apps] Deployment`: the special interest group and what it describes first."""
        return self.hierarchy[0] if self.hierarchy else self.name


@dataclass(frozen=True, slots=True)
class Results:
    """A run: of which release, when, how long, what was asked for, and every spec; in a cluster of so many workers.

    `proxy` is who implements Services there: "emulator", "kube-proxy", or both.
    """

    kubernetes: str
    started: str
    seconds: float
    processes: int
    focus: tuple[str, ...]
    skip: tuple[str, ...]
    specs: tuple[Spec, ...]
    workers: int = 0
    proxy: str = "emulator"

    def count(self, state: State) -> int:
        """How many specs ended so."""
        return sum(spec.state == state for spec in self.specs)

    def share_passed(self) -> float:
        """Of those that passed or failed; 1 when there are none."""
        passed, failed = self.count("passed"), self.count("failed")
        return passed / (passed + failed) if passed + failed else 1.0

    def select(self, state: State) -> list[Spec]:
        """Those that ended so, in the order of their names."""
        return sorted((spec for spec in self.specs if spec.state == state), key=lambda spec: spec.name)

    def passed_late(self) -> list[Spec]:
        """Those that passed, but not at the first attempt."""
        return [spec for spec in self.select("passed") if spec.attempts > 1]

    def groups(self) -> dict[str, Counter[State]]:
        """How the specs of each group ended, in the order of the groups' names."""
        groups: dict[str, Counter[State]] = {}
        for spec in sorted(self.specs, key=lambda spec: spec.group):
            groups.setdefault(_LABELS.sub("", spec.group), Counter())[spec.state] += 1
        return groups

    def to_json(self) -> dict[str, Any]:
        """As written to results.json."""
        totals: dict[str, int] = {state: self.count(state) for state in _ORDER}
        return {**asdict(self), **totals}


def merge_runs(runs: Sequence[Results]) -> list[Results]:
    """Runs with the same proxy as one; in the order of the proxies.

    The last end of each spec counts, and that it skipped itself only when it did so in every run: another scenario may
    have had what it wants.
    """
    by_proxy: dict[str, list[Results]] = {}
    for results in runs:
        by_proxy.setdefault(results.proxy, []).append(results)
    return [_merge(sorted(same, key=lambda results: results.started)) for same in by_proxy.values()]


def _merge(runs: Sequence[Results]) -> Results:
    specs = [spec for results in runs for spec in results.specs]
    ends = {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.state != "skipped")}
    return replace(runs[-1], specs=tuple(ends.values()))


def results_from_json(data: Mapping[str, Any]) -> Results:
    """What `to_json` made."""
    specs = tuple(Spec(**{**spec, "hierarchy": tuple(spec["hierarchy"])}) for spec in data["specs"])
    return Results(
        kubernetes=data["kubernetes"],
        started=data["started"],
        seconds=data["seconds"],
        processes=data["processes"],
        focus=tuple(data["focus"]),
        skip=tuple(data["skip"]),
        specs=specs,
        workers=data["workers"],
        proxy=data["proxy"],
    )


def read_specs(report: str) -> list[Spec]:
    """The specs of Ginkgo's JSON report that were run, and what failed around them (BeforeSuite …)."""
    entries = [entry for suite in json.loads(report) for entry in suite["SpecReports"] or ()]
    return [_read_spec(entry) for entry in entries if _is_result(entry)]


def _is_result(entry: Mapping[str, Any]) -> bool:
    if entry["LeafNodeType"] != "It":
        return entry["State"] not in _STATES
    return entry["EndTime"] != _NEVER


def _read_spec(entry: Mapping[str, Any]) -> Spec:
    hierarchy = tuple(entry["ContainerHierarchyTexts"] or ())
    name = " ".join((*hierarchy, entry["LeafNodeText"] or f"[{entry['LeafNodeType']}]"))
    state = _STATES.get(entry["State"], "failed")
    failure = entry.get("Failure") or {}
    place = failure.get("Location") or entry["LeafNodeLocation"]
    return Spec(
        name=name,
        state=state,
        seconds=round(entry["RunTime"] / _NANOSECONDS, 1),
        error="" if state == "passed" else first_line(failure.get("Message", "")),
        where=f"{_short_path(place.get('FileName', ''))}:{place.get('LineNumber', 0)}",
        hierarchy=hierarchy,
        attempts=max(entry.get("NumAttempts", 1), 1),
    )


def first_line(text: str) -> str:
    """The first line that says something; the next too, when that one only announces it."""
    lines: Iterable[str] = (" ".join(line.split()) for line in text.splitlines())
    said = ""
    for line in filter(None, lines):
        said = f"{said} {line}".strip()
        if not said.endswith((":", "[", "{")):
            break
    return said if len(said) <= _ERROR_WIDTH else said[: _ERROR_WIDTH - 1] + "…"


def _short_path(path: str) -> str:
    """`k8s.io/kubernetes@v1.36.3/test/e2e/apps/job.go` → `test/e2e/apps/job.go`."""
    return re.sub(r"^.*?(?=test/e2e/)", "", path)
