"""A scenario that is being checked: the values, where they were written, and which are known to be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from knetsim.errors import Problem
from knetsim.scenario.document import Document, KeyPath
from knetsim.scenario.spec import ClusterSpec, Scenario


@dataclass(frozen=True, slots=True)
class Draft:
    """`spoilt` holds the paths that the structure check found wrong; their values in `scenario` are only defaults."""

    document: Document
    scenario: Scenario
    spoilt: frozenset[KeyPath]

    def sound(self, path: KeyPath) -> bool:
        """Whether nothing at, under or around `path` is spoilt, so that a check of it says something true."""
        return not any(bad[: len(path)] == path or path[: len(bad)] == bad for bad in self.spoilt)

    def written(self, path: KeyPath) -> bool:
        """Whether the user wrote the value at `path`, rather than got it by default."""
        return path in self.document.marks

    def line(self, path: KeyPath) -> int:
        """The line in which the value at `path` was written."""
        return self.document.where(path).line

    def problem(self, path: KeyPath, what: str, hint: str = "") -> Problem:
        """A mistake at `path`."""
        return self.document.problem(path, what, hint)


def cluster_path(cluster: ClusterSpec, *rest: str | int) -> KeyPath:
    """The path of something in a cluster."""
    return ("spec", "clusters", cluster.index, *rest)


def cut_out(value: Any, spoilt: Iterable[KeyPath]) -> Any:
    """A copy of `value` without what is at the `spoilt` paths: keys are left out, list items become None."""
    bad = set(spoilt)

    def copy(node: Any, path: KeyPath) -> Any:
        if path in bad:
            return None
        if isinstance(node, dict):
            return {key: copy(child, (*path, key)) for key, child in node.items() if (*path, key) not in bad}
        if isinstance(node, list):
            return [copy(child, (*path, index)) for index, child in enumerate(node)]
        return node

    return copy(value, ())
