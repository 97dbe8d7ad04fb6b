"""A name for a simulation that a test starts in its own way, and that ends with the test at the latest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.names import HOST_STATE
from knetsim.system import sandbox
from knetsim.system.state import StateDirectory
from tests.machine import new_simulation_name


@pytest.fixture
def name() -> Iterator[str]:
    """Nobody else's name."""
    name = new_simulation_name()
    yield name
    directory = StateDirectory(Path(HOST_STATE) / name)
    if directory.path.exists():
        sandbox.stop(directory, 10)
