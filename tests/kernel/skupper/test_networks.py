"""Networks of more than two routers: who is reached, by which way, and what happens when a way is gone."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections import Counter

import pytest

from knetsim.system.netns import entered
from knetsim.system.wait import wait_until
from tests.kernel.skupper.net import (
    EMBEDDED,
    SECONDS,
    RouterNet,
    RouterProcess,
    connector,
    echo,
    read_all,
    say,
    seed,
    tcp_connector,
    tcp_listener,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

PORT, BACK = 8001, 8002


def test_a_line_of_three_carries_both_ways(routers: RouterNet, line: tuple[str, str, str]) -> None:
    front, back = routers.backend(echo), routers.backend(say("front"))
    middle = routers.start("B", line[1])
    routers.start("A", line[0], connector(middle), tcp_listener(PORT, "far"), tcp_connector(back.port, "near"))
    routers.start("C", line[2], connector(middle), tcp_listener(BACK, "near"), tcp_connector(front.port, "far"))
    routers.wait_open(PORT)
    routers.wait_open(BACK)
    sent, client = seed() * 4, routers.connect(PORT)
    sender = threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)))
    sender.start()
    assert read_all(client) == sent
    sender.join()
    assert [read_all(routers.connect(BACK)) for _ in range(5)] == [b"front"] * 5
    clients = [routers.connect(PORT) for _ in range(50)]
    for number, one in enumerate(clients):
        one.sendall(str(number).encode())
        one.shutdown(socket.SHUT_WR)
    assert [int(read_all(one)) for one in clients] == list(range(50))


def test_the_cheaper_way_is_taken_and_the_other_one_when_it_is_gone(routers: RouterNet) -> None:
    """A — C costs 5 at once, and 2 by B; when B is killed, the dear way is taken."""
    backend = routers.backend(echo)
    third = routers.start("C", EMBEDDED, tcp_connector(backend.port))
    second = routers.start("B", EMBEDDED, connector(third))
    routers.start("A", EMBEDDED, connector(second), connector(third, name="dear", cost=5), tcp_listener(PORT))
    routers.wait_open(PORT)
    first = routers.routers["A"]
    wait_ways(first, "B by B, C by B")
    client = routers.connect(PORT)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    second.kill()
    # the connection went through B, so it is over
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    wait_ways(first, "C by C")
    routers.wait_open(PORT)
    again = routers.connect(PORT)
    again.sendall(b"y")
    assert again.recv(1) == b"y"
    second.start()
    wait_ways(first, "B by B, C by B")
    # what goes by the dear way stays there
    again.sendall(b"z")
    assert again.recv(1) == b"z"


def wait_ways(router: RouterProcess, ways: str) -> None:
    """Until the last that a router has said of its ways is this."""

    def missing() -> str:
        said = [line for line in router.log.read_text().splitlines() if "ways: " in line]
        return "" if said and said[-1].endswith(f"ways: {ways}") else str(said[-1:])

    wait_until(f"ways of {router.name}: {ways}", missing, SECONDS)


def test_two_sites_share_the_work_and_one_does_it_alone_when_the_other_is_gone(
    routers: RouterNet, pair: tuple[str, str]
) -> None:
    west, east = routers.backend(hold("west")), routers.backend(hold("east"))
    hub = routers.start("A", pair[0], tcp_listener(PORT))
    routers.start("W", pair[1], connector(hub), tcp_connector(west.port))
    eastern = routers.start("E", pair[1], connector(hub), tcp_connector(east.port))
    routers.wait_open(PORT)

    def both_known() -> str:
        # skrouterd lets a connection hang that comes while its own are still being made
        try:
            counts = Counter(ask(routers, 2.0) for _ in range(2))
        except OSError as error:
            return str(error)
        return "" if len(counts) == 2 else str(counts)

    wait_until("both sites asked", both_known, SECONDS)
    open_clients = [routers.connect(PORT) for _ in range(10)]
    for client in open_clients:
        client.sendall(b"?")
    counts = Counter(client.recv(10).decode() for client in open_clients)
    # connections that were asked before may still be under way
    assert min(counts["west"], counts["east"]) >= 3
    for client in open_clients:
        client.close()
    eastern.kill()
    wait_until("the west alone", lambda: "" if not refuses(routers) else "not yet", SECONDS)


def hold(text: str):  # type: ignore[no-untyped-def]
    """Say something when asked and stay until the client goes.

    Not before it is asked: skrouterd keeps what a backend says first for itself until either side says more.
    """

    def serve(stream: socket.socket) -> None:
        stream.recv(1)
        stream.sendall(text.encode())
        read_all(stream)

    return serve


def ask(routers: RouterNet, seconds: float = SECONDS) -> str:
    client = routers.connect(PORT)
    client.settimeout(seconds)
    client.sendall(b"?")
    try:
        return client.recv(10).decode()
    finally:
        client.close()


def refuses(routers: RouterNet) -> bool:
    try:
        return [ask(routers, 2.0) for _ in range(4)] != ["west"] * 4
    except OSError:
        return True


def test_a_link_that_is_silent_is_given_up_and_taken_again(routers: RouterNet, pair: tuple[str, str]) -> None:
    first = routers.start("A", pair[0], tcp_listener(PORT))
    routers.start("B", pair[1], connector(first), tcp_connector(routers.backend(say("one")).port))
    routers.wait_open(PORT)
    cut(routers, first)
    routers.wait_closed(PORT)
    mend(routers)
    routers.wait_open(PORT)
    assert read_all(routers.connect(PORT)) == b"one"


def cut(routers: RouterNet, router: RouterProcess) -> None:
    """Packets to and from a router's port for neighbours are dropped without a word."""
    port = router.neighbours_port
    rules = f"""table ip cut {{
        chain out {{ type filter hook output priority 0; tcp dport {port} drop; tcp sport {port} drop; }}
    }}"""
    with entered(routers.place):
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def mend(routers: RouterNet) -> None:
    with entered(routers.place):
        subprocess.run(["nft", "delete", "table", "ip", "cut"], check=True)


def test_two_routers_of_one_name_are_told(routers: RouterNet) -> None:
    first = routers.start("A", EMBEDDED, tcp_listener(PORT))
    routers.start("B", EMBEDDED, connector(first), tcp_connector(routers.backend(echo).port))
    routers.wait_open(PORT)
    twin = RouterProcess(routers.place, EMBEDDED, "A", 7, routers.directory / "..")
    twin.config, twin.log = routers.directory / "twin.json", routers.directory / "twin.log"
    twin.write([connector(first)])
    twin.start()
    try:
        first.wait_log("a neighbour has the name of this router: A")
        client = routers.connect(PORT)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    finally:
        twin.kill()
