"""TCP through two routers: bytes, ends, and everything that can go wrong with either side."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.kernel.skupper.backends import FLOOD, LinkedPair
from tests.kernel.skupper.net import (
    RouterNet,
    RouterProcess,
    connector,
    echo,
    read_all,
    reset,
    say,
    seed,
    tcp_connector,
    tcp_listener,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

PORT = 8001


def read_end(client: socket.socket) -> str:
    """How a connection ends on which nothing comes."""
    try:
        assert client.recv(10) == b""
    except ConnectionResetError:
        return "reset"
    return "end"


def test_bytes_arrive_both_ways_and_each_way_ends_by_itself(linked: LinkedPair) -> None:
    sent, client = seed() * 8, linked.connect("echo")

    def send() -> None:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert read_all(client) == sent
    sender.join()
    client.close()


def test_what_a_backend_says_first_arrives(linked: LinkedPair) -> None:
    for _ in range(20):
        client = linked.connect("welcome")
        assert read_all(client) == b"welcome"
        client.close()


def test_many_connections_at_once(linked: LinkedPair) -> None:
    before = linked.backends["echo"].taken
    clients = [linked.connect("echo") for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(f"client {number}".encode())
        client.shutdown(socket.SHUT_WR)
    assert [read_all(client).decode() for client in clients] == [f"client {number}" for number in range(200)]
    for client in clients:
        client.close()
    assert linked.backends["echo"].taken == before + 200


def test_a_backend_that_refuses_ends_the_connection(linked: LinkedPair) -> None:
    try:
        client = linked.connect("refuse")
    except ConnectionResetError:
        return  # it was quicker than the client
    # skrouterd makes an end of it, or a reset, as it comes
    assert read_end(client) in (("reset",) if linked.kinds[0] == "embedded" else ("reset", "end"))
    client.close()


def test_a_backend_that_resets_is_no_end(linked: LinkedPair) -> None:
    client = linked.connect("reset")
    client.sendall(b"die")
    assert read_end(client) in (("reset",) if linked.kinds == ("embedded", "embedded") else ("reset", "end"))
    client.close()


def test_a_client_that_vanishes_is_told_to_the_backend(linked: LinkedPair) -> None:
    client = linked.connect("watch")
    assert client.recv(10) == b"welcome"
    reset(client)
    assert linked.ended.wait(30)
    assert linked.ends in ([["reset"]] if linked.kinds == ("embedded", "embedded") else [["reset"], ["end"]])


def test_a_reader_that_stops_stops_the_sender_and_costs_little_memory(linked: LinkedPair) -> None:
    before = linked.memory
    client = linked.connect("flood")
    assert linked.stuck.wait(60)
    sent = linked.flooded
    assert sent < FLOOD // 3
    assert max(after - old for after, old in zip(linked.memory, before, strict=True)) < 16 << 20
    # and nothing is lost
    received = 0
    while received < sent:
        received += len(client.recv(1 << 18))
    assert received == sent
    client.close()


def test_a_service_at_the_same_router(routers: RouterNet) -> None:
    routers.start("A", "embedded", tcp_listener(PORT), tcp_connector(routers.backend(echo).port))
    routers.wait_open(PORT)
    sent, client = seed() * 4, routers.connect(PORT)
    sender = threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)))
    sender.start()
    assert read_all(client) == sent
    sender.join()


def start_pair(routers: RouterNet, pair: tuple[str, str], backend_port: int) -> tuple[RouterProcess, RouterProcess]:
    """A client's router A and a backend's router B, linked, for tests that do something to them."""
    first = routers.start("A", pair[0], tcp_listener(PORT))
    second = routers.start("B", pair[1], connector(first), tcp_connector(backend_port))
    routers.wait_open(PORT)
    return first, second


def test_the_port_is_closed_while_nobody_serves(routers: RouterNet, pair: tuple[str, str]) -> None:
    _, second = start_pair(routers, pair, routers.backend(say("one")).port)
    second.kill()
    routers.wait_closed(PORT)
    with pytest.raises(ConnectionRefusedError):
        routers.connect(PORT)
    second.start()
    routers.wait_open(PORT)
    assert read_all(routers.connect(PORT)) == b"one"


def test_a_router_that_is_killed_resets_its_neighbours_connections(routers: RouterNet) -> None:
    _, second = start_pair(routers, ("embedded", "embedded"), routers.backend(echo).port)
    client = routers.connect(PORT)
    client.sendall(b"hello")
    assert client.recv(5) == b"hello"
    second.kill()
    with pytest.raises(ConnectionResetError):
        client.recv(5)
