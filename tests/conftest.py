"""Every run is held against the machine as it was before: a leak fails it.

`pytest -n 2 --dist loadfile` (utils/test --jobs 2) runs two files of tests side by side, for most of their time they
wait. The machine is then compared by the process that hands them out, before the first and after the last.
"""

from __future__ import annotations

import signal

import pytest

from tests.machine import explain_difference, name_run, read_machine

# A shell ignores SIGINT for its background jobs, and programs inherit that: no test could interrupt what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup(1) does the same with SIGHUP
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_BEFORE, _LEFT = pytest.StashKey[dict[str, frozenset[str]]](), pytest.StashKey[list[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # a process that another one hands tests to
        name_run()
        session.config.stash[_BEFORE] = read_machine()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    before = session.config.stash.get(_BEFORE, None)
    left = explain_difference(before, read_machine()) if before is not None else []
    session.config.stash[_LEFT] = left
    if left:  # not one test's failure: no other run of it would mend that
        session.exitstatus = pytest.ExitCode.INTERRUPTED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left = config.stash.get(_LEFT, [])
    if left:
        terminalreporter.section("the tests have changed the machine", red=True)
        for line in left:
            terminalreporter.line(line)
