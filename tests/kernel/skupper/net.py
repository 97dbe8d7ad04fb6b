"""Router networks for tests: real router processes in a network namespace, clients and backends beside them."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from knetsim.system.netns import Namespaces, entered, netns_socket
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until

HOST = "127.0.0.1"
SECONDS = 40.0
EMBEDDED, REAL = "embedded", "skrouterd"
#: ports of routers: for neighbours, and for management's clients; each has its own by number
_NEIGHBOURS, _CLIENTS = 55671, 5671

Entity = tuple[str, dict[str, Any]]


def is_missing(kinds: tuple[str, ...]) -> bool:
    """Whether a test of these routers cannot be run here."""
    return REAL in kinds and find_program("skrouterd") is None


class RouterProcess:
    """One router, that can be killed and started again."""

    def __init__(self, place: Namespaces, kind: str, name: str, number: int, directory: Path) -> None:
        self.place, self.kind, self.name, self.number = place, kind, name, number
        self.config, self.log = directory / f"{name}.json", directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def clients_port(self) -> int:
        return _CLIENTS + self.number

    @property
    def neighbours_port(self) -> int:
        return _NEIGHBOURS + self.number

    def write(self, entities: list[Entity]) -> None:
        """The configuration, with a listener each for neighbours and clients unless `entities` have one."""
        own: list[Entity] = [("router", {"id": self.name, "mode": "interior"})]
        own.append(("listener", {"name": "clients", "host": HOST, "port": self.clients_port, "role": "normal"}))
        if not any(kind == "listener" for kind, _ in entities):
            own.append(("listener", {"host": HOST, "port": self.neighbours_port, "role": "inter-router"}))
        self.config.write_text(json.dumps([*own, *entities]))

    def start(self) -> None:
        program = [sys.executable, "-m", "knetsim.dataplane.skupper.router"]
        if self.kind == REAL:
            found = find_program("skrouterd")
            assert found is not None
            program = [str(found)]
        with entered(self.place), self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*program, "-c", str(self.config)], stdout=log, stderr=log, cwd=Path(__file__).parents[3]
            )

    def kill(self) -> None:
        """As a crash ends it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def memory(self) -> int:
        """Bytes resident."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"router {self.name} has no memory")

    def wait_log(self, words: str) -> None:
        wait_until(
            f"'{words}' in the log of {self.name}",
            lambda: "" if words in self.log.read_text(errors="replace") else self.log.read_text()[-500:],
            SECONDS,
        )


class RouterNet:
    """Routers by name; all ends with `stack`."""

    def __init__(self, place: Namespaces, directory: Path, stack: ExitStack) -> None:
        self.place, self.directory, self._stack = place, directory, stack
        self.routers: dict[str, RouterProcess] = {}
        self.backends = 0
        with entered(place):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    def start(self, name: str, kind: str, *entities: Entity) -> RouterProcess:
        """A router with its configuration."""
        router = RouterProcess(self.place, kind, name, len(self.routers), self.directory)
        self.routers[name] = router
        router.write(list(entities))
        router.start()
        self._stack.callback(router.kill)
        return router

    def backend(self, serve: Callable[[socket.socket], None]) -> Backend:
        """A server on a port of its own."""
        self.backends += 1
        backend = Backend(self.place, 9000 + self.backends, serve)
        self._stack.callback(backend.close)
        return backend

    def connect(self, port: int) -> socket.socket:
        """A client's connection, which ends with the test at the latest. OSError."""
        client = self.dial(port)
        self._stack.callback(client.close)
        return client

    def dial(self, port: int) -> socket.socket:
        """A client's connection that is the caller's to close: thousands of them are not to be kept. OSError."""
        client = netns_socket(self.place, socket.AF_INET, socket.SOCK_STREAM)
        client.settimeout(SECONDS)
        try:
            client.connect((HOST, port))
        except OSError:
            client.close()
            raise
        return client

    def wait_open(self, port: int) -> None:
        """Until a listener's port is open."""
        wait_until(f"port {port} open", lambda: "" if self.is_open(port) else self._logs(), SECONDS)

    def wait_closed(self, port: int) -> None:
        """Until it is not."""
        wait_until(f"port {port} closed", lambda: "it is open" if self.is_open(port) else "", SECONDS)

    def is_open(self, port: int) -> bool:
        """Whether a connection is taken; the kernel's table of sockets says so without making one."""
        with entered(self.place):
            tables = [Path(f"/proc/thread-self/net/{name}").read_text() for name in ("tcp", "tcp6")]
        wanted = f":{port:04X}"
        return any(
            fields[1].endswith(wanted) and fields[3] == "0A" for fields in map(str.split, "".join(tables).splitlines())
        )

    def _logs(self) -> str:
        return "\n".join(f"{one.name}: {one.log.read_text(errors='replace')[-300:]}" for one in self.routers.values())


class Backend:
    """A server; `serve` gets each connection in a thread of its own and is to return when it has ended."""

    def __init__(self, place: Namespaces, port: int, serve: Callable[[socket.socket], None]) -> None:
        self.port, self.taken = port, 0
        self._serve = serve
        self._socket = netns_socket(place, socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, port))
        self._socket.listen(512)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        with self._lock:
            for stream in self._open:
                try:
                    stream.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has ended by itself
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._socket.accept()
            except OSError:
                return
            self.taken += 1
            with self._lock:
                self._open.add(stream)
            self._threads.append(threading.Thread(target=self._run, args=(stream,)))
            self._threads[-1].start()

    def _run(self, stream: socket.socket) -> None:
        stream.settimeout(SECONDS)
        try:
            self._serve(stream)
        except OSError:
            pass  # the client has gone, or the test is over
        finally:
            with self._lock:
                self._open.discard(stream)
            stream.close()


def echo(stream: socket.socket) -> None:
    """Everything goes back, the end too."""
    while octets := stream.recv(65536):
        stream.sendall(octets)
    stream.shutdown(socket.SHUT_WR)


def say(text: str) -> Callable[[socket.socket], None]:
    """Say something, wait for the end, end."""

    def serve(stream: socket.socket) -> None:
        stream.sendall(text.encode())
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(65536):
            pass

    return serve


def reset(stream: socket.socket) -> None:
    """End a connection as a crash does."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def read_all(stream: socket.socket) -> bytes:
    """Up to the end."""
    pieces = []
    while octets := stream.recv(1 << 18):
        pieces.append(octets)
    return b"".join(pieces)


def connector(router: RouterProcess, **attributes: Any) -> Entity:
    """To a neighbour."""
    return "connector", {"host": HOST, "port": str(router.neighbours_port), "role": "inter-router", **attributes}


def tcp_listener(port: int, address: str = "web") -> Entity:
    return "tcpListener", {"name": f"listener/{port}", "host": HOST, "port": port, "address": address}


def tcp_connector(port: int, address: str = "web") -> Entity:
    return "tcpConnector", {"name": f"connector/{port}", "host": HOST, "port": port, "address": address}


def seed() -> bytes:
    """Bytes that no compression or repetition makes look right."""
    return os.urandom(1 << 20)
