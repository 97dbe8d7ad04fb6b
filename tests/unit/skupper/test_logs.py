"""The router's log: which lines are written, and how."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knetsim.dataplane.skupper.router.config import build_config
from knetsim.dataplane.skupper.router.logs import RouterLog, set_up_logs
from knetsim.dataplane.skupper.router.schema import MODULES


@pytest.fixture(autouse=True)
def _loggers_are_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(module) for module in MODULES]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        for target in set(logger.handlers) - set(handlers):
            target.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def set_up(file: Path, *sections: dict[str, Any]) -> RouterLog:
    first = {"module": "DEFAULT", "outputFile": str(file)}
    return set_up_logs(build_config([["log", first], *(["log", section] for section in sections)]))


def test_lines_are_as_skrouterds(tmp_path: Path) -> None:
    log = set_up(tmp_path / "log")
    logging.getLogger("ROUTER").info("started, %s", "A")
    logging.getLogger("ROUTER").debug("not wanted")
    text = (tmp_path / "log").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} \+0000 ROUTER \(info\) started, A\n", text)
    assert [line[:3] for line in log.recent(10)] == [["ROUTER", "info", "started, A"]]
    assert log.recent(0) == []


def test_modules_have_levels_of_their_own(tmp_path: Path) -> None:
    sections = [{"module": "ROUTER_LS", "enable": "debug+"}, {"module": "TCP_ADAPTOR", "enable": "none"}]
    log = set_up(tmp_path / "log", *sections)
    logging.getLogger("ROUTER_LS").debug("ways")
    logging.getLogger("TCP_ADAPTOR").error("nobody hears this")
    logging.getLogger("SERVER").warning("this is heard")
    assert [line[0] for line in log.recent(10)] == ["ROUTER_LS", "SERVER"]
    log.enable({"module": "TCP_ADAPTOR", "enable": "error+"})
    logging.getLogger("TCP_ADAPTOR").error("now it is")
    assert log.recent(1)[0][2] == "now it is"


def test_without_the_time_and_with_the_place(tmp_path: Path) -> None:
    set_up(tmp_path / "log", {"module": "DEFAULT", "includeTimestamp": False, "includeSource": True})
    logging.getLogger("ROUTER").error("here")
    assert re.fullmatch(r"ROUTER \(error\) here \(test_logs\.py:\d+\)\n", (tmp_path / "log").read_text())
