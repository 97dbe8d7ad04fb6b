"""Who listens in a network namespace, by the kernel's own list, /proc/net/tcp; no process is started."""

from __future__ import annotations

from pathlib import Path

from knetsim.system.netns import Namespaces, entered


def is_listening(place: Namespaces, port: int) -> bool:
    """Whether a TCP socket listens on `port` in that network namespace."""
    text = ""
    with entered(place):
        for file in ("tcp", "tcp6"):
            path = Path(f"/proc/thread-self/net/{file}")
            text += path.read_text() if path.exists() else ""
    rows = [line.split() for line in text.splitlines()]
    return any(row[3] == "0A" and row[1].endswith(f":{port:04X}") for row in rows if len(row) > 3)
