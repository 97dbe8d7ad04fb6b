"""Every run is held against the machine as it was before: a leak fails it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine import explain_difference, read_machine


@pytest.fixture(scope="session", autouse=True)
def machine_is_left_as_it_was() -> Iterator[None]:
    before = read_machine()
    yield
    left = explain_difference(before, read_machine())
    assert not left, "the tests have changed the machine:\n" + "\n".join(left)
