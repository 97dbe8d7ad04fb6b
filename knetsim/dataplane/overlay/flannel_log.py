"""The log of a worker's agent, `flannel.log` in the worker's directory: for people, one line an event.

    2026-01-31 09:28:33.123 leased 11.15.64.0/20 (new) for 10.1.1.1, VTEP 9a:12:…

The real daemon writes its own log (klog's format) to the same file, when it is the worker's agent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from knetsim.system.netlink import Request

NAME = "flannel.log"
#: of many requests at once, as when an overlay starts, only so many are shown
SHOWN = 10
_INDEX = re.compile(r"\bif([1-9][0-9]*)\b")


class FlannelLog:
    """Appends to the log in `directory`. One that cannot be written (disk full, directory gone) stops no network."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._path = directory / NAME
        self._now = now

    def write(self, *lines: str) -> None:
        """Append lines."""
        now = self._now()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
        text = "".join(f"{stamp} {line}\n" for line in lines)
        try:
            with self._path.open("a") as file:
                file.write(text)
        except OSError:
            pass


def explain_requests(requests: Sequence[Request], names: Mapping[int, str]) -> list[str]:
    """The requests as commands, with the interfaces' names for their indexes, and how many more there were."""
    lines = [_INDEX.sub(lambda word: names.get(int(word[1]), word[0]), request.text()) for request in requests[:SHOWN]]
    if len(requests) > SHOWN:
        lines.append(f"… and {len(requests) - SHOWN} more")
    return lines
