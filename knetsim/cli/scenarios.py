"""Scenarios by the word that a user gives: a file, or the name of one that comes along."""

from __future__ import annotations

from pathlib import Path

from knetsim.errors import UsageError
from knetsim.names import did_you_mean

_SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


def find_scenario(word: str) -> Path:
    """The file that SCENARIO means. UsageError when there is none."""
    path = Path(word)
    if path.exists():
        return path
    bundled = _SCENARIOS / f"{word}.yaml"
    if bundled.exists():
        return bundled
    known = [candidate.stem for candidate in _SCENARIOS.glob("*.yaml")]
    why = "no such file, and none of that name comes along"
    raise UsageError(f"no scenario '{word}'", why=why, hint=did_you_mean(word, known))
