"""The hosts of the Services' lab with the policy agent, fed from a store in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.kernel.pods import PodMaker
from tests.kernel.policy.lab import PolicyLab


@pytest.fixture
def lab(pod_maker: PodMaker) -> Iterator[PolicyLab]:
    """Two workers with the agent running, and no pods yet."""
    with ExitStack() as stack:
        yield PolicyLab(pod_maker, stack)


@pytest.fixture(params=["native", "plugins"])
def each_lab(request: pytest.FixtureRequest, pod_maker: PodMaker) -> Iterator[PolicyLab]:
    """The same with each way to wire pods."""
    with ExitStack() as stack:
        yield PolicyLab(pod_maker, stack, request.param)
