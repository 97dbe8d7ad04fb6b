"""A program for pods: requests of one byte, or a few, over TCP, and how long each took to be answered.

    roundtrip.py serve-ask PORT                 answer one client, until it closes
    roundtrip.py ask ADDRESS PORT COUNT [SIZE]  ask so often over one connection; prints {"median": seconds, "p99": …}
    roundtrip.py serve-connect PORT             answer one request of each connection, until one has none
    roundtrip.py connect ADDRESS PORT COUNT     ask so often over a connection of its own each; prints the same
    roundtrip.py visit ADDRESS PORT COUNT       the same, each until both ends have said that they are done; "rate", too

It is run by its path and imports nothing of knetsim's, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import struct
import sys
import time

_TIMEOUT = 30.0
#: closing then ends a connection at once: no port waits for what may be late
_LINGER = struct.pack("ii", 1, 0)


def serve(port: int) -> None:
    """Accept one connection and send back what comes."""
    with _listen(port) as listener:
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        while received := connection.recv(64):
            connection.sendall(received)


def serve_connections(port: int) -> None:
    """Send back what comes first of each connection; the one that closes without a word is the last."""
    with _listen(port) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_TIMEOUT)
                if not (received := connection.recv(64)):
                    return
                connection.sendall(received)


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("", port))
    listener.settimeout(_TIMEOUT)
    return listener


def ask(address: str, port: int, count: int, size: int = 1) -> dict[str, float]:
    """Median and 99th percentile of `count` round trips, after as many as a tenth of them to get warm."""
    times, request = [], b"." * size
    with socket.create_connection((address, port), _TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        for _ in range(count + count // 10):
            began = time.perf_counter()
            connection.sendall(request)
            missing = size
            while missing:
                missing -= len(connection.recv(missing)) or _end_early()
            times.append(time.perf_counter() - began)
    return _sum_up(times, count)


def _end_early() -> int:
    raise ConnectionError("the other end has closed in the middle of an answer")


def connect(address: str, port: int, count: int) -> dict[str, float]:
    """The same, from before each connection is opened until its request is answered."""
    times = []
    for _ in range(count + count // 10):
        began = time.perf_counter()
        with socket.create_connection((address, port), _TIMEOUT) as connection:
            connection.sendall(b".")
            connection.recv(1)
            times.append(time.perf_counter() - began)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    socket.create_connection((address, port), _TIMEOUT).close()
    return _sum_up(times, count)


def visit(address: str, port: int, count: int) -> dict[str, float]:
    """As `connect`, until the server has ended and so have we; and how many that is a second, one after the other."""
    times = []
    for _ in range(count + count // 10):
        began = time.perf_counter()
        with socket.create_connection((address, port), _TIMEOUT) as connection:
            connection.sendall(b".")
            if not connection.recv(1):
                _end_early()
            connection.recv(1)
        times.append(time.perf_counter() - began)
    socket.create_connection((address, port), _TIMEOUT).close()
    return {**_sum_up(times, count), "rate": count / sum(times[count // 10 :])}


def _sum_up(times: list[float], count: int) -> dict[str, float]:
    times = sorted(times[count // 10 :])
    return {"median": statistics.median(times), "p99": times[len(times) * 99 // 100]}


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    if kind == "serve-ask":
        serve(int(words[0]))
    elif kind == "serve-connect":
        serve_connections(int(words[0]))
    else:
        asking = {"ask": ask, "connect": connect, "visit": visit}[kind]
        os.write(1, json.dumps(asking(words[0], *map(int, words[1:]))).encode())
