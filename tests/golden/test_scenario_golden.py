"""What a user sees: the messages for broken scenarios and manifests, and scenarios with every default filled in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from knetsim import scenario
from knetsim.errors import ScenarioError

_HERE = Path(__file__).parent
_BROKEN = sorted((_HERE / "scenario_errors").glob("*.yaml"))
_SOUND = sorted((_HERE / "scenario_resolved").glob("*.yaml"))


@pytest.mark.parametrize("case", _BROKEN, ids=lambda case: case.stem)
def test_messages(case: Path, golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.parent)
    with pytest.raises(ScenarioError) as caught:
        scenario.validate(case.name)
    golden(case.with_suffix(".txt"), f"{caught.value}\n")


@pytest.mark.parametrize("case", _SOUND, ids=lambda case: case.stem)
def test_resolved(case: Path, golden: Callable[[Path, str], None]) -> None:
    resolved = scenario.scenario_to_json(scenario.validate(case))
    golden(case.with_suffix(".json"), json.dumps(resolved, indent=2) + "\n")


def test_there_are_cases() -> None:
    assert len(_BROKEN) >= 25
    assert _SOUND
