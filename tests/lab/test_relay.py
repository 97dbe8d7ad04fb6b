"""A relay on loopback: whole streams in both directions, half-closed ones, slow readers, nobody at the other end."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from knetsim.errors import UsageError
from knetsim.system.relay import Relay, listen_at
from knetsim.system.wait import wait_until

SECONDS = 20.0
START_PORT = 21443


class Server:
    """A TCP server that gives every connection to `serve`, in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def dial(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), SECONDS)


def echo(connection: socket.socket) -> None:
    """Give back what comes, once all of it has come."""
    with connection:
        whole = bytearray()
        while chunk := connection.recv(65536):
            whole += chunk
        connection.sendall(whole)


Joined = Callable[[Callable[[socket.socket], None]], Callable[[], socket.socket]]


@pytest.fixture
def joined() -> Iterator[Joined]:
    """Makes a server and a relay to it; the answer connects to the relay."""
    made: list[tuple[Server, Relay]] = []

    def make(serve: Callable[[socket.socket], None]) -> Callable[[], socket.socket]:
        server = Server(serve)
        relay = Relay("test", listen_at("127.0.0.1", START_PORT), server.dial)
        relay.start()
        made.append((server, relay))
        return lambda: socket.create_connection(relay.address, SECONDS)

    yield make
    for server, relay in made:
        relay.stop()
        relay.stop()
        server.listener.close()


def read_all(connection: socket.socket) -> bytes:
    whole = bytearray()
    while chunk := connection.recv(65536):
        whole += chunk
    return bytes(whole)


def test_streams_arrive_whole_and_their_ends_too(joined: Joined) -> None:
    connect = joined(echo)
    sent = os.urandom(3_000_000)
    with connect() as connection:
        threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR))).start()
        assert read_all(connection) == sent


def test_a_slow_reader_holds_up_nobody_else(joined: Joined) -> None:
    def flood(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"x" * 8_000_000)

    connect = joined(flood)
    with connect() as slow, connect() as quick:
        assert len(read_all(quick)) == 8_000_000
        assert len(read_all(slow)) == 8_000_000


def test_many_connections_at_once(joined: Joined) -> None:
    connect = joined(echo)
    connections = [connect() for _ in range(200)]
    for number, connection in enumerate(connections):
        connection.sendall(b"%d" % number)
        connection.shutdown(socket.SHUT_WR)
    assert [read_all(connection) for connection in connections] == [b"%d" % number for number in range(200)]
    for connection in connections:
        connection.close()


def test_a_cut_at_one_side_is_a_cut_at_the_other(joined: Joined) -> None:
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                read_all(connection)
            except OSError:
                pass
            ended.set()

    connection = joined(serve)()
    connection.sendall(b"begin")
    connection.close()
    assert ended.wait(SECONDS)


def test_nobody_at_the_other_end_ends_the_connection() -> None:
    def dial() -> socket.socket:
        raise ConnectionRefusedError

    relay = Relay("test", listen_at("127.0.0.1", START_PORT), dial)
    relay.start()
    address = relay.address
    try:
        with socket.create_connection(address, SECONDS) as connection:
            assert read_all(connection) == b""
    finally:
        relay.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, SECONDS)


def test_a_refusal_that_comes_later_ends_the_connection() -> None:
    """Whoever dials does not wait: a port where nobody listens is only noticed by what becomes of the socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()

    def dial() -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        assert made.connect_ex(nobody) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        return made

    relay = Relay("test", listen_at("127.0.0.1", START_PORT), dial)
    relay.start()
    try:
        with socket.create_connection(relay.address, SECONDS) as connection:
            assert read_all(connection) == b""
    finally:
        relay.stop()


def test_a_server_that_accepts_nobody_holds_up_nobody() -> None:
    """It hangs, and its queue is full: others of its clients wait, those of nobody else."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)

        def dial() -> socket.socket:
            made = socket.socket()
            made.setblocking(False)
            made.connect_ex(listener.getsockname())
            return made

        relay = Relay("test", listen_at("127.0.0.1", START_PORT), dial)
        relay.start()
        clients = [socket.create_connection(relay.address, SECONDS) for _ in range(20)]
        try:
            served = threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True)
            served.start()
            clients[0].sendall(b"first")
            clients[0].shutdown(socket.SHUT_WR)
            assert read_all(clients[0]) == b"first"
        finally:
            for client in clients:
                client.close()
            relay.stop()


def test_a_client_that_never_sends_holds_up_nobody(joined: Joined) -> None:
    connect = joined(echo)
    with connect(), connect() as talks:
        talks.sendall(b"hello")
        talks.shutdown(socket.SHUT_WR)
        assert read_all(talks) == b"hello"


def test_thousands_of_connections_leave_nothing(joined: Joined) -> None:
    connect = joined(echo)
    files = len(os.listdir("/proc/self/fd"))
    for number in range(3000):
        with connect() as connection:
            if number % 3 == 0:
                connection.sendall(b"x")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"x"
    wait_until("closed files", lambda: explain_files(files), SECONDS)


def explain_files(limit: int) -> str:
    count = len(os.listdir("/proc/self/fd"))
    return "" if count <= limit else f"{count} files are open, not {limit}"


def test_who_comes_when_no_descriptor_is_left_waits_for_one() -> None:
    """And the relay does not look at the caller again and again meanwhile."""
    server, scarce, dials, joined = Server(echo), threading.Event(), itertools.count(), threading.Event()

    def dial() -> socket.socket:
        if scarce.is_set():
            next(dials)
            raise OSError(errno.EMFILE, "Too many open files")
        joined.set()
        return server.dial()

    relay = Relay("test", listen_at("127.0.0.1", START_PORT), dial)
    relay.start()
    try:
        first = socket.create_connection(relay.address, SECONDS)
        first.sendall(b"first")
        assert joined.wait(SECONDS)
        scarce.set()
        with socket.create_connection(relay.address, SECONDS) as refused:
            assert read_all(refused) == b""
        with socket.create_connection(relay.address, SECONDS) as waiting:
            waiting.sendall(b"later")
            waiting.shutdown(socket.SHUT_WR)
            scarce.clear()
            first.shutdown(socket.SHUT_WR)
            assert read_all(first) == b"first"
            first.close()
            assert read_all(waiting) == b"later"
        assert next(dials) == 1
    finally:
        relay.stop()
        server.listener.close()


def test_a_relay_that_never_began_can_be_stopped() -> None:
    relay = Relay("test", listen_at("127.0.0.1", START_PORT), socket.socket)
    address = relay.address
    relay.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, SECONDS)


def test_a_port_that_is_taken_is_passed_over() -> None:
    with listen_at("127.0.0.1", START_PORT) as first, listen_at("127.0.0.1", START_PORT) as second:
        assert second.getsockname()[1] > first.getsockname()[1]
    with pytest.raises(UsageError):
        listen_at("203.0.113.7", START_PORT)
