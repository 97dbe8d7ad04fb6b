"""Which hosts a name server answers: one question from each, all at the same time, through whatever leads there."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping

import dns.message

from knetsim.system.netns import Namespaces, netns_socket

PORT = 53
_SIZE = 4096


def find_unanswered(
    places: Mapping[str, Namespaces], server: str, name: str, kind: str, seconds: float
) -> dict[str, str]:
    """The hosts that got no answer from `server` to the question, whatever it says, within `seconds`: host → why."""
    question = dns.message.make_query(name, kind).to_wire()
    waiting: dict[int, tuple[str, socket.socket]] = {}
    why: dict[str, str] = {}
    poll = select.poll()
    try:
        for host, place in places.items():
            asking = netns_socket(Namespaces(place.name, net=place.net), socket.AF_INET, socket.SOCK_DGRAM)
            waiting[asking.fileno()] = (host, asking)
            asking.setblocking(False)
            try:
                asking.connect((server, PORT))
                asking.send(question)
                poll.register(asking, select.POLLIN)
            except OSError as error:
                why[host] = error.strerror or str(error)
        end = time.monotonic() + seconds
        left = {fd: entry for fd, entry in waiting.items() if entry[0] not in why}
        while left and (pause := end - time.monotonic()) > 0:
            for fd, _ in poll.poll(pause * 1000):
                host, asking = left.pop(fd)
                poll.unregister(fd)
                if words := _receive(asking):
                    why[host] = words
        why |= {host: f"no answer within {seconds:g} s" for host, _ in left.values()}
    finally:
        for _, asking in waiting.values():
            asking.close()
    return {host: why[host] for host in places if host in why}


def _receive(asking: socket.socket) -> str:
    """Take an answer; why there is none, or empty."""
    try:
        asking.recv(_SIZE)
    except OSError as error:
        return error.strerror or str(error)
    return ""
