"""Kubernetes' own end-to-end suite, the quick subset of it, against a simulation made for it: the outside judge."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from knetsim.conformance.suite import find_suite_programs
from knetsim.errors import MissingTool
from knetsim.system.timed import run_timed

COMMAND = [sys.executable, "-m", "knetsim.cli.main", "conformance"]
SECONDS = 900


@pytest.mark.timeout(SECONDS + 60)
def test_the_subset_passes(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        find_suite_programs()
    except MissingTool as error:
        pytest.skip(f"{error}: ./utils/setup --conformance")
    run = run_timed([*COMMAND, "--subset", "--results", str(tmp_path)], timeout=SECONDS)
    assert (tmp_path / "results.json").exists(), run.text("error")[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    failed = [f"{spec['name']}: {spec['error']}" for spec in results["specs"] if spec["state"] == "failed"]
    assert failed == []
    assert results["passed"] >= 50
