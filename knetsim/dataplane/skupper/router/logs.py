"""The log: lines as skrouterd writes them, by module and level, as the configuration's `log` entities say."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from knetsim.dataplane.skupper.router.config import Config, parse_levels
from knetsim.dataplane.skupper.router.schema import MODULES

_DEFAULT = "info+"


class _Lines(logging.Formatter):
    """`2026-11-21 19:56:40.018918 +0000 ROUTER (info) words`."""

    def format(self, record: logging.LogRecord) -> str:
        words = super().format(record)
        return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M:%S.%f %z} {words}"


class _Levels(logging.Filter):
    """Lets through what is enabled for its module."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._enabled = {module: parse_levels(_DEFAULT) or frozenset() for module in ("DEFAULT",)}
        for section in config.of("log"):
            levels = parse_levels(section.attributes["enable"] or "")
            if levels is not None and section.attributes["enable"]:
                self._enabled[section.attributes["module"]] = levels

    def enable(self, module: str, levels: frozenset[str]) -> None:
        """Change what is let through."""
        self._enabled[module] = levels

    def filter(self, record: logging.LogRecord) -> bool:
        enabled = self._enabled.get(record.name, self._enabled["DEFAULT"])
        record.levelname = record.levelname.lower()
        return record.levelname in enabled


def set_up_logs(config: Config) -> _Levels:
    """Log to the file that the configuration names, or to standard output. OSError."""
    places = [section.attributes["outputFile"] for section in config.of("log") if section.attributes["outputFile"]]
    place = places[-1] if places else ""
    target: Any
    if place and place not in ("stdout", "stderr", "syslog"):
        target = logging.FileHandler(place)
    else:
        target = logging.StreamHandler(sys.stderr if place == "stderr" else sys.stdout)
    levels = _Levels(config)
    target.addFilter(levels)
    target.setFormatter(_Lines("%(name)s (%(levelname)s) %(message)s"))
    for module in MODULES:
        logger = logging.getLogger(module)
        logger.handlers = [target]
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    return levels
