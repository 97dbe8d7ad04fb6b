"""TCP through two routers: bytes, ends, and everything that can go wrong with either side."""

from __future__ import annotations

import socket
import threading

import pytest

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


def start_pair(routers: RouterNet, pair: tuple[str, str], backend_port: int) -> tuple[RouterProcess, RouterProcess]:
    """A client's router A and a backend's router B, linked."""
    first = routers.start("A", pair[0], tcp_listener(PORT))
    second = routers.start("B", pair[1], connector(first), tcp_connector(backend_port))
    routers.wait_open(PORT)
    return first, second


def read_end(client: socket.socket) -> str:
    """How a connection ends on which nothing comes."""
    try:
        assert client.recv(10) == b""
    except ConnectionResetError:
        return "reset"
    return "end"


def test_bytes_arrive_both_ways_and_each_way_ends_by_itself(routers: RouterNet, pair: tuple[str, str]) -> None:
    start_pair(routers, pair, routers.backend(echo).port)
    sent, client = seed() * 8, routers.connect(PORT)

    def send() -> None:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert read_all(client) == sent
    sender.join()


def test_what_a_backend_says_first_arrives(routers: RouterNet, pair: tuple[str, str]) -> None:
    start_pair(routers, pair, routers.backend(say("welcome")).port)
    for _ in range(20):
        client = routers.connect(PORT)
        assert read_all(client) == b"welcome"
        client.close()


def test_many_connections_at_once(routers: RouterNet, pair: tuple[str, str]) -> None:
    backend = routers.backend(echo)
    first, second = start_pair(routers, pair, backend.port)
    clients = [routers.connect(PORT) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(f"client {number}".encode())
        client.shutdown(socket.SHUT_WR)
    assert [read_all(client).decode() for client in clients] == [f"client {number}" for number in range(200)]
    assert backend.taken == 200
    assert first.is_running and second.is_running


def test_a_backend_that_refuses_ends_the_connection(routers: RouterNet, pair: tuple[str, str]) -> None:
    start_pair(routers, pair, 9999)
    client = routers.connect(PORT)
    assert read_end(client) in (("reset",) if pair[0] == "embedded" else ("reset", "end"))


def test_a_backend_that_resets_is_no_end(routers: RouterNet, pair: tuple[str, str]) -> None:
    def serve(stream: socket.socket) -> None:
        stream.recv(10)
        reset(stream)

    start_pair(routers, pair, routers.backend(serve).port)
    client = routers.connect(PORT)
    client.sendall(b"die")
    # skrouterd makes an end of it, or a reset, as it comes
    assert read_end(client) in (("reset",) if pair == ("embedded", "embedded") else ("reset", "end"))


def test_a_client_that_vanishes_is_told_to_the_backend(routers: RouterNet, pair: tuple[str, str]) -> None:
    ends: list[str] = []
    over = threading.Event()

    def serve(stream: socket.socket) -> None:
        try:
            stream.sendall(b"welcome")
            read_all(stream)
            ends.append("end")
        except ConnectionResetError:
            ends.append("reset")
        finally:
            over.set()

    start_pair(routers, pair, routers.backend(serve).port)
    client = routers.connect(PORT)
    assert client.recv(10) == b"welcome"
    reset(client)
    assert over.wait(30)
    if pair == ("embedded", "embedded"):
        assert ends == ["reset"]


def test_a_reader_that_stops_stops_the_sender_and_costs_little_memory(
    routers: RouterNet, pair: tuple[str, str]
) -> None:
    sent = 0
    stuck = threading.Event()

    def serve(stream: socket.socket) -> None:
        nonlocal sent
        stream.settimeout(2.0)
        try:
            while sent < 200 << 20:
                sent += stream.send(b"x" * 65536)
        except TimeoutError:
            stuck.set()
        stream.settimeout(60.0)
        read_all(stream)

    first, second = start_pair(routers, pair, routers.backend(serve).port)
    before = first.memory, second.memory
    client = routers.connect(PORT)
    assert stuck.wait(60)
    assert sent < 32 << 20
    grown = max(first.memory - before[0], second.memory - before[1])
    assert grown < 16 << 20
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


def test_connections_one_after_the_other_cost_no_memory(routers: RouterNet) -> None:
    first, second = start_pair(routers, ("embedded", "embedded"), routers.backend(echo).port)

    def connect(times: int) -> None:
        for _ in range(times):
            client = routers.connect(PORT)
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"hello"
            client.close()

    connect(100)
    before = first.memory, second.memory
    connect(600)
    assert max(first.memory - before[0], second.memory - before[1]) < 4 << 20


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
