"""What a user sees: the messages for broken scenarios and manifests, and scenarios with every default filled in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from knetsim import scenario
from knetsim.api.accept import accept_create
from knetsim.api.objects import kind_of
from knetsim.errors import ScenarioError

_HERE = Path(__file__).parent
_BROKEN = sorted((_HERE / "scenario_errors").glob("*.yaml"))
_SOUND = sorted((_HERE / "scenario_resolved").glob("*.yaml"))
_NETWORKS = [path for path in _SOUND if path.stem.startswith("multicluster")]


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


@pytest.mark.parametrize("case", _NETWORKS, ids=lambda case: case.stem)
def test_what_multicluster_stands_for(case: Path, golden: Callable[[Path, str], None]) -> None:
    codes = (f"code-{number}" for number in itertools.count(1))
    objects = scenario.build_multicluster(scenario.validate(case), lambda: next(codes))
    for obj in (obj for made in objects.values() for obj in made):
        accept_create(kind_of(obj), obj, 0.0)
    text = {cluster: [json.dumps(obj) for obj in made] for cluster, made in objects.items()}
    golden(case.with_suffix(".objects"), "".join(f"{one}\n  " + "\n  ".join(made) + "\n" for one, made in text.items()))


def test_there_are_cases() -> None:
    assert len(_BROKEN) >= 25
    assert _SOUND
