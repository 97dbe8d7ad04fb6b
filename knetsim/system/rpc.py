"""Questions from other terminals to a running simulation: JSON over the UNIX socket in its state directory.

A connection carries one request, `{"method": …, "params": {…}}`, and one answer, `{"result": …}` or `{"error": [class,
fields]}`, each a line of JSON. Open namespaces travel beside the answer as file descriptors (SCM_RIGHTS), so a caller
in another pid and mount namespace needs no path to them. The socket is root's only.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from knetsim.errors import (
    KnetsimError,
    NotFound,
    StoreUnavailable,
    UsageError,
    error_from_json,
    error_to_json,
)

_MAX_FDS = 8
_REQUEST_BYTES = 1 << 20
#: seconds within which a caller must have asked, and taken what it is sent
_PATIENCE = 30.0
#: seconds until the next attempt when a call could not be taken, for want of descriptors
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method returns: JSON-able `result` and descriptors, which are closed here once they are sent."""

    result: Any
    fds: Sequence[int] = ()


Method = Callable[..., Answer]


class RpcServer:
    """Answers in threads, one a connection, so that a long question holds up nobody."""

    def __init__(self, path: str, methods: dict[str, Method]) -> None:
        self._methods = methods
        self._closed = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        old = os.umask(0o177)
        try:
            self._socket.bind(path)
        finally:
            os.umask(old)
        self._socket.listen(1024)  # one who finds the queue full is refused at once
        threading.Thread(target=self._accept, name="rpc", daemon=True).start()

    def add(self, name: str, method: Method) -> None:
        """Answer one more method from now on."""
        self._methods[name] = method

    def close(self) -> None:
        """Answer no more."""
        self._closed.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._closed.wait(_PAUSE):
                    return
                continue
            threading.Thread(target=self._serve, args=(connection,), name="rpc-call", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_PATIENCE)
            answer = Answer(None)
            try:
                answer = self._call(_read_request(connection))
                said = json.dumps({"result": answer.result})
            except KnetsimError as error:
                said = json.dumps({"error": error_to_json(error)})
            except Exception as error:  # noqa: BLE001 - whatever it is, the one who asked is told
                words = f"{type(error).__name__}: {error}"
                mistake = KnetsimError(words, why="this is a mistake in knetsim, not yours")
                said = json.dumps({"error": error_to_json(mistake)})
            line = said.encode() + b"\n"
            try:
                if answer.fds:
                    sent = socket.send_fds(connection, [line], list(answer.fds))
                    connection.sendall(line[sent:])
                else:
                    connection.sendall(line)
            except OSError:
                pass  # the caller has gone
            finally:
                for fd in answer.fds:
                    os.close(fd)

    def _call(self, request: dict[str, Any]) -> Answer:
        name = request.get("method", "")
        method = self._methods.get(name)
        if method is None:
            raise NotFound(f"no method '{name}'", hint=_known_methods(self._methods))
        return method(**request.get("params", {}))


def _read_request(connection: socket.socket) -> dict[str, Any]:
    """What the caller asks; UsageError when that is no request, or none comes."""
    try:
        with connection.makefile("rb") as requests:
            request = json.loads(requests.readline(_REQUEST_BYTES))
    except (OSError, ValueError) as error:
        raise UsageError("not a request", why=str(error)) from error
    if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
        raise UsageError("not a request", why='it must be {"method": …, "params": {…}}')
    return request


def _known_methods(known: dict[str, Method]) -> str:
    return f"this simulation understands: {', '.join(sorted(known))}"


def call(path: str, method: str, timeout: float | None = 60, **params: Any) -> tuple[Any, list[int]]:
    """Ask the simulation behind the socket `path`; the result and the descriptors that came with it, which are the
    caller's.

    The error that the method raised is raised here; StoreUnavailable when the simulation does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
            connection.sendall(json.dumps({"method": method, "params": params}).encode() + b"\n")
            data, fds, _, _ = socket.recv_fds(connection, 65536, _MAX_FDS)
            while data and not data.endswith(b"\n"):
                chunk = connection.recv(1 << 20)
                if not chunk:
                    break
                data += chunk
        except PermissionError as error:
            raise KnetsimError("the simulation is root's", path, hint="sudo") from error
        except OSError as error:
            raise StoreUnavailable(
                "the simulation does not answer", path, str(error), "is it still starting, or ending? see: knetsim ls"
            ) from error
    if not data.endswith(b"\n"):
        raise StoreUnavailable("the simulation ended while it was asked", path)
    answer = json.loads(data)
    if "error" in answer:
        raise error_from_json(answer["error"])
    return answer["result"], fds
