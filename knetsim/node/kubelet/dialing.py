"""Connections from a worker to its pods, for an event loop: the socket is made in the worker's network namespace and
belongs to it wherever it is used."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket

from knetsim.system.netns import Namespaces, netns_socket


class Dialer:
    """Connects from one worker."""

    def __init__(self, worker: Namespaces) -> None:
        """`worker` has to outlive the dialer."""
        self._net = Namespaces(worker.name, net=worker.net)

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connection that does not block. OSError; NotFound when the worker is gone."""
        address = "127.0.0.1" if host == "localhost" else host
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        except ValueError as error:  # names would be looked up elsewhere than on the worker
            raise OSError(errno.EADDRNOTAVAIL, f"lookup {host}: no such host") from error
        connection = netns_socket(self._net, family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except BaseException:
            connection.close()
            raise
        return connection


def join_host_port(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def explain_dial(error: OSError, host: str, port: int) -> str:
    """Why there is no connection, in the words of Go's net package."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"dial tcp {join_host_port(host, port)}: i/o timeout"
    if error.errno == errno.EADDRNOTAVAIL and "lookup" in str(error.strerror):
        return f"dial tcp: {error.strerror}"
    words = {errno.EHOSTUNREACH: "no route to host", errno.ETIMEDOUT: "connection timed out"}
    why = words.get(error.errno or 0) or os.strerror(error.errno or errno.EIO).lower()
    return f"dial tcp {join_host_port(host, port)}: connect: {why}"
