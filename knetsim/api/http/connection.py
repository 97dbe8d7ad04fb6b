"""One connection to the API server: made where the cluster's network is, and cut from any thread."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

#: gives a connected TCP socket to the server, from wherever that can be reached (another network namespace)
Dial = Callable[[], socket.socket]

#: seconds until a connection must stand, TLS included
CONNECT_SECONDS = 5.0
#: a server whose machine has vanished without a word is given up after 6 + 3 × 1 s
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 6),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    # Requests are small and written in two pieces: Nagle would hold back the second until the first is acknowledged.
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


class Answer(NamedTuple):
    """What the server said. `uncertain`: an earlier attempt of the same request may have been carried out."""

    code: int
    body: bytes
    headers: Mapping[str, str]
    uncertain: bool = False

    @property
    def json(self) -> Any:
        """The body, or None when it is no JSON (`404 page not found`)."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class ApiConnection(HTTPSConnection):
    """urllib3's connection over a socket that `dial` makes. `cut` ends it from any thread, whatever it is doing."""

    def __init__(self, host: str, port: int | None = None, *, dial: Dial | None = None, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._dial = dial
        self._cut = False
        self._cutting = threading.Lock()
        self._breaker: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        try:
            sock = self._dial() if self._dial else socket.create_connection((self.host, self.port), CONNECT_SECONDS)
            sock.settimeout(CONNECT_SECONDS)  # for the TLS handshake
            for level, option, value in _KEEPALIVE:
                sock.setsockopt(level, option, value)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, str(error)) from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        with self._cutting:
            if self._cut:
                sock.close()
                raise NewConnectionError(self, "closed")
            # Wrapping in TLS takes the socket's descriptor away; the copy shuts down the same connection.
            self._breaker = sock.dup()
        return sock

    def close(self) -> None:
        """End the connection; the next request makes a new one, unless it was cut."""
        super().close()
        with self._cutting:
            breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.close()

    def cut(self) -> None:
        """End it for good; a thread that waits in it gets an error at once."""
        with self._cutting:
            self._cut = True
            if self._breaker is not None:
                with contextlib.suppress(OSError):  # not connected any more
                    self._breaker.shutdown(socket.SHUT_RDWR)


class ApiPool(urllib3.HTTPSConnectionPool):
    """Connections that are kept between requests."""

    ConnectionCls = ApiConnection


class Channel:
    """One connection for one thread: small answers and long streams, one after the other; `cut` from any thread.

    What fails raises urllib3's HTTPError or OSError, and the next request makes a new connection.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, dial: Dial | None) -> None:
        self._connection = ApiConnection(host, port, dial=dial, ssl_context=context)

    def get(self, path: str, timeout: float) -> Answer:
        """The whole answer; `timeout` seconds may pass without a byte of it."""
        response = self._ask(path, timeout)
        return Answer(response.status, response.data, response.headers)

    def stream(self, path: str, timeout: float) -> tuple[Answer, Iterator[bytes]]:
        """The answer (with its body when it is no stream), and the pieces of a stream as they come."""
        response = self._ask(path, timeout)
        if response.status != 200:
            return Answer(response.status, response.data, response.headers), iter(())
        return Answer(200, b"", response.headers), response.stream(amt=None)

    def _ask(self, path: str, timeout: float) -> urllib3.BaseHTTPResponse:
        try:
            self._connection.timeout = timeout
            self._connection.request("GET", path, headers={"Accept": "application/json"}, preload_content=False)
            return self._connection.getresponse()
        except (HTTPError, OSError):
            self._connection.close()
            raise

    def close(self) -> None:
        """End the connection, from the thread that uses it."""
        self._connection.close()

    def cut(self) -> None:
        """End it for good, from any thread."""
        self._connection.cut()
