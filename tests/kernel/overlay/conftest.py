"""The cluster of `lab.py` as a fixture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.overlay.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A cluster with etcd, without workers and without a network configuration."""
    if shutil.which("etcd") is None:
        pytest.skip("no etcd on this machine")
    with ExitStack() as stack:
        lab = Lab(tmp_path, stack)
        lab.start_etcd()
        yield lab
