"""Sockets from names: listening ones, and ones that begin to connect without keeping anybody waiting."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from knetsim.dataplane.skupper.router.loop import Loop

#: names of ports that a machine need not know
_PORTS = {"amqp": "5672", "amqps": "5671"}


def open_listener(host: str, port: str, backlog: int) -> socket.socket:
    """A non-blocking socket that listens; an empty host is any address. OSError."""
    number = _PORTS.get(port, port)
    try:
        found = socket.getaddrinfo(host or None, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"{host!r} is no name of a host") from error
    # any address: IPv6 takes IPv4 too, where the machine has it
    found.sort(key=lambda one: one[0] != socket.AF_INET6 if not host else 0)
    failure: OSError | None = None
    for family, kind, protocol, _, place in found:
        try:
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
            listener.bind(place)
            listener.listen(backlog)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            failure = error
            if error.errno == errno.EADDRINUSE:
                break
            continue
        return listener
    raise failure or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


class Dial:
    """Begin to connect to a host: `dialled` gets a socket that is connecting, or `failed` the reason.

    A name that is no address is looked up in a thread; what is given to `dialled` or `failed` comes in the loop's own.
    """

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: str,
        dialled: Callable[[socket.socket], None],
        failed: Callable[[str], None],
    ) -> None:
        self._loop, self._dialled, self._failed = loop, dialled, failed
        port = _PORTS.get(port, port)
        try:
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
        except (OSError, UnicodeError):
            threading.Thread(target=self._look_up, args=(host, port), daemon=True).start()
            return
        self._connect(found)

    def _look_up(self, host: str, port: str) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = f"{host}: {getattr(error, 'strerror', None) or error}"
            self._loop.from_thread(lambda: self._failed(why))
            return
        self._loop.from_thread(lambda: self._connect(found))

    def _connect(self, found: list[Any]) -> None:
        why = "no address"
        for family, kind, protocol, _, place in found:
            try:
                stream = socket.socket(family, kind, protocol)
            except OSError as error:
                why = error.strerror or str(error)
                continue
            stream.setblocking(False)
            failure = stream.connect_ex(place)
            if failure in (0, errno.EINPROGRESS):
                return self._dialled(stream)
            stream.close()
            why = os.strerror(failure)
        return self._failed(why)
