"""A program for pods: requests of one byte over one TCP connection, and how long each took to be answered.

    roundtrip.py serve PORT               answer one client, until it closes
    roundtrip.py ask ADDRESS PORT COUNT   ask so often; prints {"median": seconds, "p99": seconds}

It is run by its path and imports nothing of knetsim's, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import time

_TIMEOUT = 30.0


def serve(port: int) -> None:
    """Accept one connection and send back what comes."""
    with socket.create_server(("", port)) as listener:
        listener.settimeout(_TIMEOUT)
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        while received := connection.recv(64):
            connection.sendall(received)


def ask(address: str, port: int, count: int) -> dict[str, float]:
    """Median and 99th percentile of `count` round trips, after as many as a tenth of them to get warm."""
    times = []
    with socket.create_connection((address, port), _TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        for _ in range(count + count // 10):
            began = time.perf_counter()
            connection.sendall(b".")
            connection.recv(1)
            times.append(time.perf_counter() - began)
    times = sorted(times[count // 10 :])
    return {"median": statistics.median(times), "p99": times[len(times) * 99 // 100]}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        result = ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        os.write(1, json.dumps(result).encode())
