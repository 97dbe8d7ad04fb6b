"""Backends of every temper, behind two linked routers."""

from __future__ import annotations

import socket
import threading

from tests.kernel.skupper.net import RouterNet, connector, echo, read_all, reset, say, tcp_connector, tcp_listener

#: ports at the client's router: service → port
PORTS = {name: 8001 + number for number, name in enumerate(("echo", "welcome", "refuse", "reset", "watch", "flood"))}
#: what a backend sends at most to a client that does not read
FLOOD = 100 << 20


class LinkedPair:
    """A client's router A and a backends' router B."""

    def __init__(self, routers: RouterNet, kinds: tuple[str, str]) -> None:
        self.routers, self.kinds = routers, kinds
        #: how connections to `watch` ended; how much `flood` has sent, and whether it is stuck
        self.ends: list[str] = []
        self.ended, self.stuck = threading.Event(), threading.Event()
        self.flooded = 0
        serve = {
            "echo": echo,
            "welcome": say("welcome"),
            "reset": self._reset,
            "watch": self._watch,
            "flood": self._flood,
        }
        self.backends = {name: routers.backend(function) for name, function in serve.items()}
        backends = [tcp_connector(backend.port, name) for name, backend in self.backends.items()]
        self.first = routers.start("A", kinds[0], *(tcp_listener(port, name) for name, port in PORTS.items()))
        self.second = routers.start("B", kinds[1], connector(self.first), *backends, tcp_connector(9999, "refuse"))
        for port in PORTS.values():
            routers.wait_open(port)

    def connect(self, service: str) -> socket.socket:
        """A client's connection to a service."""
        return self.routers.connect(PORTS[service])

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes resident, of both routers."""
        return self.first.memory, self.second.memory

    @staticmethod
    def _reset(stream: socket.socket) -> None:
        stream.recv(10)
        reset(stream)

    def _watch(self, stream: socket.socket) -> None:
        try:
            stream.sendall(b"welcome")
            read_all(stream)
            self.ends.append("end")
        except ConnectionResetError:
            self.ends.append("reset")
        finally:
            self.ended.set()

    def _flood(self, stream: socket.socket) -> None:
        stream.settimeout(2.0)
        try:
            while self.flooded < FLOOD:
                self.flooded += stream.send(b"x" * 65536)
        except TimeoutError:
            self.stuck.set()
        stream.settimeout(60.0)
        read_all(stream)
