"""Every run is held against the machine as it was before: a leak fails it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.machine import explain_difference, read_machine

# A shell ignores SIGINT for its background jobs, and programs inherit that: no test could interrupt what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup(1) does the same with SIGHUP
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def machine_is_left_as_it_was() -> Iterator[None]:
    before = read_machine()
    yield
    left = explain_difference(before, read_machine())
    if left:  # not one test's failure: no other run of it would mend that
        pytest.exit("the tests have changed the machine:\n" + "\n".join(left), pytest.ExitCode.INTERRUPTED)
