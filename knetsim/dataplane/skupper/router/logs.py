"""The log: lines as skrouterd writes them, by module and level, as the configuration's `log` entities say."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from knetsim.dataplane.skupper.router.config import Config, parse_levels
from knetsim.dataplane.skupper.router.schema import MODULES

_DEFAULT = "info+"
#: lines that GET-LOG can tell
_KEPT = 100


class _Lines(logging.Formatter):
    """`2026-11-21 19:56:40.018918 +0000 ROUTER (info) words (file.py:7)`, the time and the place if they are wanted."""

    def __init__(self, *, with_time: bool, with_place: bool) -> None:
        place = " (%(filename)s:%(lineno)d)" if with_place else ""
        super().__init__(f"%(name)s (%(levelname)s) %(message)s{place}")
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        """logging's."""
        words = super().format(record)
        if not self._with_time:
            return words
        return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M:%S.%f %z} {words}"


class RouterLog(logging.Filter):
    """Lets through what is enabled for its module, and keeps the last lines for management."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._enabled = {"DEFAULT": parse_levels(_DEFAULT) or frozenset()}
        self._recent: deque[list[Any]] = deque(maxlen=_KEPT)
        for section in config.of("log"):
            self.enable(section.attributes)

    def enable(self, attributes: Mapping[str, Any]) -> None:
        """What a `log` section says."""
        levels = parse_levels(attributes["enable"] or "")
        if attributes["enable"] and levels is not None:
            self._enabled[attributes["module"]] = levels

    def recent(self, limit: int) -> list[list[Any]]:
        """The last lines, the oldest first."""
        return list(self._recent)[-limit:] if limit else []

    def filter(self, record: logging.LogRecord) -> bool:
        """logging's: whether a line is written."""
        record.levelname = record.levelname.lower()
        if record.levelname not in self._enabled.get(record.name, self._enabled["DEFAULT"]):
            return False
        place = (record.filename, record.lineno)
        self._recent.append([record.name, record.levelname, record.getMessage(), *place, int(record.created)])
        return True


def set_up_logs(config: Config) -> RouterLog:
    """Log to the file that the configuration names, or to standard output. OSError."""
    places = [section.attributes["outputFile"] for section in config.of("log") if section.attributes["outputFile"]]
    place = places[-1] if places else ""
    target: logging.Handler
    if place and place not in ("stdout", "stderr", "syslog"):
        target = logging.FileHandler(place)
    else:
        target = logging.StreamHandler(sys.stderr if place == "stderr" else sys.stdout)
    log = RouterLog(config)
    target.addFilter(log)
    general = [section.attributes for section in config.of("log") if section.attributes["module"] == "DEFAULT"]
    with_time = all(attributes["includeTimestamp"] for attributes in general)
    with_place = any(attributes["includeSource"] for attributes in general)
    target.setFormatter(_Lines(with_time=with_time, with_place=with_place))
    for module in MODULES:
        logger = logging.getLogger(module)
        logger.handlers = [target]
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    return log
