"""What a user sees when the embedded store refuses an object: all of its mistakes, each at its field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from knetsim.api.accept import accept_create
from knetsim.api.objects import kind_of
from knetsim.errors import ObjectError

_CASES = sorted((Path(__file__).parent / "object_errors").glob("*.yaml"))


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.stem)
def test_refusal(case: Path, golden: Callable[[Path, str], None]) -> None:
    obj = yaml.safe_load(case.read_text())
    with pytest.raises(ObjectError) as caught:
        accept_create(kind_of(obj), obj, 0.0)
    lines = [str(caught.value.what), *(f"{field}: {text}" for field, text in caught.value.problems), caught.value.hint]
    golden(case.with_suffix(".txt"), "\n".join(line for line in lines if line) + "\n")


def test_there_are_cases() -> None:
    assert len(_CASES) >= 10
