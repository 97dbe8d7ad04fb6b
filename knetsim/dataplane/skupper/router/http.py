"""`/healthz` and `/metrics` over HTTP, as a `listener` with `http` offers them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from knetsim.dataplane.skupper.router.errors import RouterError
from knetsim.dataplane.skupper.router.loop import READABLE, WRITABLE, Loop
from knetsim.dataplane.skupper.router.sockets import open_listener

_LOG = logging.getLogger("HTTP")
_LONGEST = 8192
_PATIENCE = 10.0
_WORDS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


class HttpListener:
    """Pages that are made when they are asked for."""

    def __init__(self, loop: Loop, attributes: Mapping[str, Any], pages: Mapping[str, Callable[[], str]]) -> None:
        """`pages`: path → text."""
        self.loop, self.attributes, self.pages = loop, attributes, pages
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen. RouterError when the port is taken."""
        host, port = self.attributes["host"], self.attributes["port"]
        try:
            self._socket = open_listener(host, port, 16)
        except OSError as error:
            what = f"listener '{self.attributes['name']}': cannot listen at {host or '*'}:{port}"
            raise RouterError(f"{what}: {error.strerror or error}") from error
        self.loop.watch(self._socket.fileno(), self._accept, level=True)

    def stop(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self.loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _accept(self, _mask: int) -> None:
        if self._socket is None:
            return
        try:
            stream, _ = self._socket.accept()
        except OSError:
            return
        _Request(self.loop, stream, self.pages)


class _Request:
    """One request and its answer; then the connection ends."""

    def __init__(self, loop: Loop, stream: socket.socket, pages: Mapping[str, Callable[[], str]]) -> None:
        self._loop, self._stream, self._pages = loop, stream, pages
        self._asked = b""
        self._answer: memoryview | None = None
        stream.setblocking(False)
        loop.watch(stream.fileno(), self._ready)
        self._timer = loop.after(_PATIENCE, self._end)

    def _ready(self, mask: int) -> None:
        try:
            if mask & READABLE and self._answer is None:
                self._read()
            if mask & WRITABLE and self._answer is not None:
                self._write()
        except BlockingIOError:
            pass
        except OSError:
            self._end()

    def _read(self) -> None:
        while b"\r\n\r\n" not in self._asked:
            octets = self._stream.recv(4096)
            if not octets or len(self._asked) > _LONGEST:
                return self._end()
            self._asked += octets
        method, _, rest = self._asked.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        self._answer = memoryview(self._build(method, path))
        return self._write()

    def _build(self, method: str, path: str) -> bytes:
        page = self._pages.get(path)
        if not path:
            status, text = 400, "this is no request\n"
        elif method not in ("GET", "HEAD"):
            status, text = 405, "only GET\n"
        elif page is None:
            status, text = 404, "there is no such page\n"
        else:
            status, text = 200, page()
        body = text.encode()
        head = f"HTTP/1.1 {status} {_WORDS[status]}\r\nContent-Type: text/plain; version=0.0.4\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + (b"" if method == "HEAD" else body)

    def _write(self) -> None:
        while self._answer:
            self._answer = self._answer[self._stream.send(self._answer) :]
        self._end()

    def _end(self) -> None:
        self._timer.cancel()
        if self._stream.fileno() >= 0:
            self._loop.unwatch(self._stream.fileno())
            self._stream.close()
