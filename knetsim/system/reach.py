"""Whether a TCP port can be reached from inside a place: many places at once, without a process or a thread."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence

from knetsim.system.netns import Namespaces, netns_socket

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def find_reachable(
    places: Mapping[str, Namespaces], targets: Sequence[tuple[str, int]], timeout: float = 1.0
) -> set[str]:
    """The names of the places from which one of the (address, port) at least accepted a connection within `timeout` s.

    The connections are reset at once: no byte is sent, and nothing lingers in TIME-WAIT.
    """
    pending: dict[int, tuple[str, socket.socket]] = {}
    reached: set[str] = set()
    poll = select.poll()
    deadline = time.monotonic() + timeout
    try:
        for name, place in places.items():
            for target in targets:
                made, error = _connect(place, target)
                if error == errno.EINPROGRESS:
                    pending[made.fileno()] = name, made
                    poll.register(made, select.POLLOUT)
                    continue
                made.close()
                if error == 0:
                    reached.add(name)
        while pending and reached != places.keys():
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                break
            for fd, _ in ready:
                poll.unregister(fd)
                name, made = pending.pop(fd)
                if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    reached.add(name)
                made.close()
    finally:
        for _, made in pending.values():
            made.close()
    return reached


def _connect(place: Namespaces, target: tuple[str, int]) -> tuple[socket.socket, int]:
    """A socket in the place that begins to connect, and the errno of that."""
    only_net = Namespaces(place.name, net=place.net)
    made = netns_socket(only_net, socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return made, made.connect_ex(target)
