"""HTTP for questions of one line: listening sockets in many network namespaces, one thread for all of them.

For health checks of machines that are namespaces: a thread or an event loop for each of hundreds of workers would cost
more than the answers. A connection is one question: what it asks for is answered at once from memory, then the
connection ends. Whoever says nothing, or too much, is left within seconds.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus

from knetsim.errors import KernelError
from knetsim.system.netns import Namespaces, netns_socket

#: seconds that a connection may take, from its first byte to its end
_PATIENCE = 10.0
_LONGEST_HEAD = 16 << 10
_BACKLOG = 128
#: so many connections at once; more wait in the kernel's queue
_MOST = 256
_HEAD_ENDS = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What is answered, beside the headers that say how long it is and that the connection ends."""

    status: HTTPStatus
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


#: called in the server's thread with the path that is asked for; returns at once
Answer = Callable[[str], HttpAnswer]


@dataclass(eq=False, slots=True)
class _Connection:
    sock: socket.socket
    answer: Answer
    until: float
    head: bytes = b""
    answered: bool = False


@dataclass(eq=False, slots=True)
class Listening:
    """A socket that is listened on."""

    sock: socket.socket
    answer: Answer


class SmallHttp:
    """The server; begins with the first socket. Any thread may call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._read_end, selectors.EVENT_READ)
        self._orders: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._listening: list[Listening] = []
        self._connections: set[_Connection] = set()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def listen(self, place: Namespaces, address: str, port: int, answer: Answer) -> Listening:
        """Listen on an address and port in `place`. KernelError when that cannot be, as when the port is taken."""
        sock = netns_socket(place, socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            what = f"listen on {address}:{port}"
            raise KernelError(what, error.errno or 0, error.strerror or "", where=place.name) from error
        listening = Listening(sock, answer)
        self._order(lambda: self._add(listening))
        return listening

    def close(self, listening: Listening) -> None:
        """Listen there no more; its port is free on return. Twice is once."""
        if not self._order(lambda: self._remove(listening)):
            listening.sock.close()

    def stop(self) -> None:
        """End all of it. Twice is once."""
        with self._lock:
            thread, self._thread, stopped, self._stopped = self._thread, None, self._stopped, True
        if thread is not None:
            self._wake()
            thread.join()
        if not stopped:
            self._selector.close()
            os.close(self._read_end)
            os.close(self._write_end)

    def _order(self, work: Callable[[], None]) -> bool:
        """Have the thread do `work`, and wait until it has; False when there is no thread any more."""
        done: Future[None] = Future()
        with self._lock:
            if self._stopped:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            self._orders.append((work, done))
            self._wake()
        done.result()
        return True

    def _wake(self) -> None:
        try:
            os.write(self._write_end, b"!")
        except BlockingIOError:
            pass  # it is being woken up already

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select(self._seconds_left()):
                if key.data is None:
                    self._obey()
                elif isinstance(key.data, Listening):
                    self._accept(key.data)
                else:
                    self._read(key.data)
            now = time.monotonic()
            for connection in [each for each in self._connections if each.until <= now]:
                self._end(connection)
        self._obey()
        for connection in list(self._connections):
            self._end(connection)
        for listening in list(self._listening):
            self._remove(listening)

    def _seconds_left(self) -> float | None:
        first = min((each.until for each in self._connections), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def _obey(self) -> None:
        try:
            while os.read(self._read_end, 4096):
                pass
        except BlockingIOError:
            pass  # that was all
        while self._orders:
            work, done = self._orders.popleft()
            work()
            done.set_result(None)

    def _add(self, listening: Listening) -> None:
        self._listening.append(listening)
        self._selector.register(listening.sock, selectors.EVENT_READ, listening)

    def _remove(self, listening: Listening) -> None:
        if listening in self._listening:
            self._listening.remove(listening)
            self._selector.unregister(listening.sock)
            listening.sock.close()

    def _accept(self, listening: Listening) -> None:
        if len(self._connections) >= _MOST:
            self._end(min(self._connections, key=lambda each: each.until))
        try:
            sock, _ = listening.sock.accept()
        except OSError:
            return  # it has gone again
        sock.setblocking(False)
        connection = _Connection(sock, listening.answer, time.monotonic() + _PATIENCE)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _read(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return  # it was ended since this was heard of
        try:
            received = connection.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._end(connection)
        elif not connection.answered:
            connection.head += received
            if _HEAD_ENDS in connection.head:
                self._answer(connection)
            elif len(connection.head) > _LONGEST_HEAD:
                self._end(connection)

    def _answer(self, connection: _Connection) -> None:
        """Say it and half-close: a client that still sends would otherwise get a reset before it has read."""
        connection.answered = True
        try:
            connection.sock.send(build_response(connection.head, connection.answer))
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(connection)  # it has gone

    def _end(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.sock.close()


def build_response(head: bytes, answer: Answer) -> bytes:
    """The whole response to a request's `head`, which is small enough for a socket's buffer; pure but for `answer`."""
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        found = HttpAnswer(HTTPStatus.BAD_REQUEST, "400 Bad Request", {"Content-Type": "text/plain; charset=utf-8"})
    else:
        found = answer(words[1].partition("?")[0])
    body = found.body.encode()
    lines = [f"HTTP/1.1 {found.status.value} {found.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in found.headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if words[0] == "HEAD" else body)
