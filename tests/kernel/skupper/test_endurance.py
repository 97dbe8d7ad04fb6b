"""Many connections, many bytes, and links that come and go while others are in use.

The sizes are small where all tests are run; KNETSIM_TEST_CONNECTIONS, KNETSIM_TEST_MEGABYTES and KNETSIM_TEST_SECONDS
make them larger (10000, 1024 and 600 are what is promised).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from knetsim.dataplane.skupper.management import ManagementClient
from knetsim.dataplane.skupper.state import NodeState, read_state
from knetsim.errors import NotReady
from knetsim.system.netns import netns_socket
from knetsim.system.wait import wait_until
from tests.kernel.skupper.net import (
    EMBEDDED,
    HOST,
    SECONDS,
    Entity,
    RouterNet,
    RouterProcess,
    connector,
    echo,
    read_all,
    seed,
    tcp_connector,
    tcp_listener,
)

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(0)]

CONNECTIONS = int(os.environ.get("KNETSIM_TEST_CONNECTIONS", "1000"))
MEGABYTES = int(os.environ.get("KNETSIM_TEST_MEGABYTES", "24"))
FLAPPING = float(os.environ.get("KNETSIM_TEST_SECONDS", "6"))

PORT, SHAKY = 8001, 8002
#: connections before memory is looked at for the first time
_FIRST = 200
_MOST_GROWTH = 20 << 20
_BLOCK = 1 << 20


def start_pair(routers: RouterNet, pair: tuple[str, str], backend_port: int) -> tuple[RouterProcess, RouterProcess]:
    """A client's router and a backend's."""
    first = routers.start("A", pair[0], tcp_listener(PORT))
    second = routers.start("B", pair[1], connector(first), tcp_connector(backend_port))
    routers.wait_open(PORT)
    return first, second


def test_thousands_of_connections(
    routers: RouterNet, pair: tuple[str, str], record_property: Callable[..., None]
) -> None:
    both = start_pair(routers, pair, routers.backend(echo).port)

    def connect(times: int) -> None:
        for number in range(times):
            with closing(routers.dial(PORT)) as client:
                words = f"hello {number}".encode()
                client.sendall(words)
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == words

    connect(_FIRST)
    before, start = [one.memory for one in both], time.monotonic()
    connect(CONNECTIONS)
    seconds, growth = time.monotonic() - start, [one.memory - old for one, old in zip(both, before, strict=True)]
    report(
        record_property,
        pair,
        connections=CONNECTIONS,
        ms_each=1000 * seconds / CONNECTIONS,
        growth_kb=[n >> 10 for n in growth],
    )
    assert max(growth) < _MOST_GROWTH


def test_many_bytes_each_way_at_once(
    routers: RouterNet, pair: tuple[str, str], record_property: Callable[..., None]
) -> None:
    """Both ends send what the other can check, at the same time, in one connection."""
    there, back, arrived = seed(), seed(), Sums()

    def serve(stream: socket.socket) -> None:
        sender = threading.Thread(target=send, args=(stream, back))
        sender.start()
        arrived.note("there", receive(stream))
        sender.join()

    both = start_pair(routers, pair, routers.backend(serve).port)
    before, start = [one.memory for one in both], time.monotonic()
    with closing(routers.dial(PORT)) as client:
        sender = threading.Thread(target=send, args=(client, there))
        sender.start()
        arrived.note("back", receive(client))
        sender.join()
    arrived.wait("there")
    seconds, growth = time.monotonic() - start, [one.memory - old for one, old in zip(both, before, strict=True)]
    report(
        record_property,
        pair,
        megabytes=MEGABYTES,
        mbit_each_way=8 * MEGABYTES / seconds,
        growth_kb=[n >> 10 for n in growth],
    )
    assert arrived.sums == {"there": checksum(there), "back": checksum(back)}
    assert max(growth) < _MOST_GROWTH


class Sums:
    """What arrived where, noted by several threads."""

    def __init__(self) -> None:
        self.sums: dict[str, str] = {}
        self._changed = threading.Condition()

    def note(self, name: str, value: str) -> None:
        with self._changed:
            self.sums[name] = value
            self._changed.notify_all()

    def wait(self, name: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: name in self.sums, SECONDS)


def blocks(start: bytes) -> Callable[[int], bytes]:
    """The n-th block: a part that is lost, doubled or moved changes the sum."""
    return lambda number: start[number % _BLOCK :] + start[: number % _BLOCK]


def send(stream: socket.socket, start: bytes) -> None:
    block = blocks(start)
    for number in range(MEGABYTES):
        stream.sendall(block(number))
    stream.shutdown(socket.SHUT_WR)


def receive(stream: socket.socket) -> str:
    total = hashlib.blake2b()
    while octets := stream.recv(1 << 18):
        total.update(octets)
    return total.hexdigest()


def checksum(start: bytes) -> str:
    total, block = hashlib.blake2b(), blocks(start)
    for number in range(MEGABYTES):
        total.update(block(number))
    return total.hexdigest()


class Steady(threading.Thread):
    """A client that asks and is answered all the time, by a link that nobody touches."""

    def __init__(self, routers: RouterNet, port: int) -> None:
        super().__init__()
        self.client, self.answers, self.fault = routers.dial(port), 0, ""
        self._over = threading.Event()

    def run(self) -> None:
        try:
            for number in itertools.count():
                words = str(number).encode()
                self.client.sendall(words)
                said = self.client.recv(len(words), socket.MSG_WAITALL)
                if said != words:
                    self.fault = f"{said!r} for {words!r}"
                    return
                self.answers = number
                if self._over.wait(0.05):
                    return
        except OSError as error:
            self.fault = str(error)

    def end(self) -> None:
        self._over.set()
        self.join()
        self.client.close()


def test_links_that_come_and_go(
    routers: RouterNet, pair: tuple[str, str], record_property: Callable[..., None]
) -> None:
    """A — B is used and stays. A — C is ended and made, by management or with its router; by B the way to C is dear."""
    first = routers.start("A", pair[0], tcp_listener(PORT, "steady"), tcp_listener(SHAKY, "shaky"))
    middle = routers.start("B", pair[1], connector(first), tcp_connector(routers.backend(echo).port, "steady"))
    ways = [connector(first, name="flaps"), connector(middle, name="dear", cost=9)]
    third = routers.start("C", pair[1], *ways, tcp_connector(routers.backend(echo).port, "shaky"))
    for port in (PORT, SHAKY):
        routers.wait_open(port)
    asked, other, told = (client_of(router) for router in (first, middle, third))
    wait_cost(asked, "C", 1)
    # whoever dials first may have the only way at first: the steady clients are not to go by C, nor to come back by it
    wait_cost(asked, "B", 1)
    wait_cost(other, "A", 1)
    # Where B and C are skrouterd, a C that was killed and started served B nothing for 40 s in two of four long runs:
    # perhaps B's core forgets the old C's addresses after its Python side has heard of the new C's. Not traced.
    deaths = pair[1] == EMBEDDED
    clients = [Steady(routers, PORT) for _ in range(5)]
    for client in clients:
        client.start()
    before, end, times = [one.memory for one in (first, middle)], time.monotonic() + FLAPPING, 0
    try:
        while time.monotonic() < end:
            times += 1
            if deaths and times % 3 == 0:
                flap_by_death(routers, asked, third)
            else:
                flap(routers, asked, told, ways[0])
            wait_all(clients)
    finally:
        for client in clients:
            client.end()
        for one in (asked, other, told):
            one.close()
    growth = [one.memory - old for one, old in zip((first, middle), before, strict=True)]
    answers = sum(client.answers for client in clients)
    report(record_property, pair, seconds=FLAPPING, flaps=times, answers=answers, growth_kb=[n >> 10 for n in growth])
    for port in (PORT, SHAKY):
        for number in range(20):
            assert ask(routers, port, number) == ""
    assert max(growth) < _MOST_GROWTH


def wait_all(clients: list[Steady]) -> None:
    """Until each client has been answered once more, and none has been let down."""
    before = [client.answers for client in clients]

    def missing() -> str:
        faults = [client.fault for client in clients if client.fault]
        assert faults == []
        late = [n for n, (client, old) in enumerate(zip(clients, before, strict=True)) if client.answers == old]
        return f"nothing for {late}" if late else ""

    wait_until("an answer for each client", missing, SECONDS)


def flap(routers: RouterNet, asked: ManagementClient, told: ManagementClient, way: Entity) -> None:
    """End A — C and make it again; each time C can be used by the other way."""
    wait_until("an answer by the cheap way", lambda: ask(routers, SHAKY, 1), SECONDS)
    told.delete("connector", "flaps")
    wait_cost(asked, "C", 10)
    wait_until("an answer by the dear way", lambda: ask(routers, SHAKY, 2), SECONDS)
    told.create("connector", "flaps", {key: value for key, value in way[1].items() if key != "name"})
    wait_cost(asked, "C", 1)


def flap_by_death(routers: RouterNet, asked: ManagementClient, third: RouterProcess) -> None:
    """Kill C and start it at once."""
    wait_until("an answer by the cheap way", lambda: ask(routers, SHAKY, 1), SECONDS)
    third.kill()
    third.start()
    wait_cost(asked, "C", 1)


def ask(routers: RouterNet, port: int, number: int) -> str:
    """Empty when a new connection is answered; else what went wrong."""
    try:
        with closing(routers.dial(port)) as client:
            # one that comes while the way changes may hang with skrouterd
            client.settimeout(5.0)
            words = str(number).encode()
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            said = read_all(client)
    except OSError as error:
        return str(error) or type(error).__name__
    return "" if said == words else f"{said!r}"


def wait_cost(client: ManagementClient, router: str, cost: int) -> None:
    """Until the way to `router` costs this."""

    def missing() -> str:
        try:
            node = read_state(client).nodes.get(router, NodeState("", 0))
        except NotReady as error:
            return str(error)
        return "" if node.cost == cost else str(node)

    wait_until(f"a way from {client.name} to {router} that costs {cost}", missing, SECONDS)


def client_of(router: RouterProcess) -> ManagementClient:
    """A management client."""

    def connect(seconds: float) -> socket.socket:
        stream = netns_socket(router.place, socket.AF_INET, socket.SOCK_STREAM)
        try:
            stream.settimeout(seconds)
            stream.connect((HOST, router.clients_port))
        except OSError:
            stream.close()
            raise
        return stream

    return ManagementClient(router.name, connect)


def report(record_property: Callable[..., None], pair: tuple[str, str], **figures: object) -> None:
    """Shown by `pytest -s`, and kept in its XML."""
    shown = {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}
    record_property("-".join(pair), shown)
    print("-".join(pair), shown)
