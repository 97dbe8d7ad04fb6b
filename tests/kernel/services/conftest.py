"""The hosts of `lab.py` as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.kernel.pods import PodMaker
from tests.kernel.services.lab import ServicesLab


@pytest.fixture
def lab(pod_maker: PodMaker) -> Iterator[ServicesLab]:
    """Two workers, the control plane's host and a stranger, without Services."""
    with ExitStack() as stack:
        yield ServicesLab(pod_maker, stack)
