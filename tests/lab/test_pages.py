"""Every command of every page: README, course, what stands under docs/; each page in a simulation of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from knetsim.control_choice import has_kubernetes
from tests.lab.lab import CHECKOUT, KNETSIM

SECONDS = 1500
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("**/*.md")])


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_block_is_as_the_page_says(page: Path) -> None:
    if not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    file = page.relative_to(CHECKOUT).as_posix()
    done = subprocess.run(
        [*KNETSIM, "lesson", "test", file], cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_something_to_run() -> None:
    assert CHECKOUT / "README.md" in PAGES
