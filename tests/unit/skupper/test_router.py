"""Whole routers in one process and one loop: a line of three, its management, and services of one router."""

from __future__ import annotations

import gc
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from knetsim.dataplane.skupper.router.amqp import AmqpConnection
from knetsim.dataplane.skupper.router.config import build_config, check_section
from knetsim.dataplane.skupper.router.errors import RequestError, RouterError
from knetsim.dataplane.skupper.router.inventory import kinds, read_rows
from knetsim.dataplane.skupper.router.links import InLink
from knetsim.dataplane.skupper.router.logs import RouterLog
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.metrics import build_metrics
from knetsim.dataplane.skupper.router.router import Router
from knetsim.dataplane.skupper.router.streams import PIECE
from knetsim.dataplane.skupper.router.tcp import ACKNOWLEDGED, WINDOW
from tests.skupper_loop import run_until

HOST = "127.0.0.1"
SECONDS = 20.0
AGENT = {"type": "org.amqp.management", "name": "self"}


def free_port() -> int:
    with closing(socket.create_server((HOST, 0))) as server:
        port: int = server.getsockname()[1]
        return port


class Echo:
    """A backend."""

    def __init__(self) -> None:
        self._server = socket.create_server((HOST, 0))
        self.port: int = self._server.getsockname()[1]
        self._streams: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for stream in self._streams:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._server.accept()
            except OSError:
                return
            self._streams.append(stream)
            self._threads.append(threading.Thread(target=self._serve, args=(stream,)))
            self._threads[-1].start()

    @staticmethod
    def _serve(stream: socket.socket) -> None:
        with stream:
            try:
                while octets := stream.recv(65536):
                    stream.sendall(octets)
            except OSError:
                pass  # the client has been reset


class Routers:
    """Routers by name, in the loop of the test."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.routers: dict[str, Router] = {}

    def start(self, name: str, *entities: Any) -> Router:
        config = build_config([["router", {"id": name, "mode": "interior"}], *map(list, entities)])
        router = self.routers[name] = Router(config, self.loop, RouterLog(config))
        router.start()
        return router

    def run(self, fact: Callable[[], bool]) -> None:
        """Until something is so."""
        run_until(self.loop, fact, SECONDS)

    def ask(self, port: int, text: bytes) -> bytes:
        """What comes back from a service; the routers run meanwhile."""
        answers: list[bytes] = []

        def client() -> None:
            answer = b""
            try:
                with socket.create_connection((HOST, port), SECONDS) as stream:
                    stream.sendall(text)
                    stream.shutdown(socket.SHUT_WR)
                    while octets := stream.recv(65536):
                        answer += octets
            except OSError as error:
                answer = f"error: {error}".encode()
            answers.append(answer)

        thread = threading.Thread(target=client)
        thread.start()
        self.run(lambda: bool(answers))
        thread.join()
        return answers[0]

    def close(self) -> None:
        for router in self.routers.values():
            for section in list(router.sections):
                router.remove(section)
            for conversation in list(router.conversations.values()):
                conversation.connection.drop("the test is over")
        self.loop.close()


@pytest.fixture
def routers() -> Iterator[Routers]:
    with closing(Routers()) as routers:
        yield routers


@pytest.fixture
def backend() -> Iterator[Echo]:
    with closing(Echo()) as backend:
        yield backend


def listener(port: int) -> tuple[str, dict[str, Any]]:
    return "listener", {"name": "neighbours", "host": HOST, "port": port, "role": "inter-router"}


def connector(port: int, **attributes: Any) -> tuple[str, dict[str, Any]]:
    return "connector", {"name": f"to-{port}", "host": HOST, "port": port, "role": "inter-router", **attributes}


def served(port: int, address: str = "web") -> tuple[str, dict[str, Any]]:
    return "tcpConnector", {"name": f"at-{port}", "host": HOST, "port": port, "address": address}


def offered(port: int, address: str = "web") -> tuple[str, dict[str, Any]]:
    return "tcpListener", {"name": f"at-{port}", "host": HOST, "port": port, "address": address}


def is_up(router: Router) -> bool:
    return read_rows(router, "tcpListener")[0]["operStatus"] == "up"


def test_a_line_of_three(routers: Routers, backend: Echo) -> None:
    middle, port = free_port(), free_port()
    routers.start("B", listener(middle))
    first = routers.start("A", connector(middle), offered(port))
    last = routers.start("C", connector(middle), served(backend.port))
    routers.run(lambda: is_up(first))
    text = bytes(range(256)) * 8192
    assert routers.ask(port, text) == text
    assert routers.ask(port, b"again") == b"again"
    routers.run(lambda: read_rows(last, "tcpConnector")[0]["connectionsClosed"] == 2)
    total = len(text) + 5
    for router, kind in ((first, "tcpListener"), (last, "tcpConnector")):
        row = read_rows(router, kind)[0]
        assert (row["connectionsOpened"], row["connectionsClosed"]) == (2, 2)
        assert (row["bytesIn"], row["bytesOut"]) == (total, total)
    # nothing is left of them: no reply addresses, no flows, nothing under way
    assert set(first.core.own) == {"$management"}
    assert read_rows(first, "tcpConnection") == []
    for router in routers.routers.values():
        entry = router.core.addresses["Mweb"]
        assert [place.outstanding for place in entry.places.places.values()] == [0]
    assert routers.routers["B"].core.addresses["Mweb"].transit == 2


class Line:
    """A — B — C: a service of C, with clients at A."""

    def __init__(self, routers: Routers, backend_port: int) -> None:
        middle, self.port = free_port(), free_port()
        self.routers = routers
        self.middle = routers.start("B", listener(middle))
        self.first = routers.start("A", connector(middle), offered(self.port))
        self.last = routers.start("C", connector(middle), served(backend_port))
        routers.run(lambda: is_up(self.first))

    def flows(self) -> list[int]:
        """How many connections, and streams at the middle, there are."""
        links = [link for one in self.middle.conversations.values() for link in one.links()]
        busy = [link for link in links if (link.incoming if isinstance(link, InLink) else link.outgoing) is not None]
        ends = [len(read_rows(router, "tcpConnection")) for router in (self.first, self.last)]
        return [*ends, len(busy)]


def test_a_refusal_comes_back_through_the_middle(routers: Routers) -> None:
    line = Line(routers, free_port())
    assert routers.ask(line.port, b"hello") == b"error: [Errno 104] Connection reset by peer"
    routers.run(lambda: line.flows() == [0, 0, 0])


def test_a_reset_goes_through_the_middle_and_leaves_nothing(routers: Routers) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((HOST, 0)))
        line = Line(routers, server.getsockname()[1])
        client = stack.enter_context(socket.create_connection((HOST, line.port)))
        routers.run(lambda: line.flows() == [1, 1, 4])
        backend = stack.enter_context(server.accept()[0])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        routers.run(lambda: line.flows() == [0, 0, 0])
        with pytest.raises(ConnectionResetError):
            backend.recv(1)


def test_a_backend_that_does_not_read_stops_its_client_and_nothing_turns_meanwhile(routers: Routers) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((HOST, 0)))
        line = Line(routers, server.getsockname()[1])
        client = stack.enter_context(socket.create_connection((HOST, line.port)))
        client.setblocking(False)
        routers.run(lambda: line.flows() == [1, 1, 4])
        backend = stack.enter_context(server.accept()[0])
        sent = 0

        def fills() -> bool:
            nonlocal sent
            before = sent
            try:
                while True:
                    sent += client.send(b"x" * 65536)
            except BlockingIOError:
                return sent == before

        # full, and still full a while later
        for _ in range(20):
            routers.run(fills)
        routers.run(lambda: routers.loop.is_idle)
        taken, given = (read_rows(router, "tcpConnection")[0] for router in (line.first, line.last))
        under_way = taken["bytesIn"] - given["bytesOut"]
        assert WINDOW - ACKNOWLEDGED - PIECE <= under_way < WINDOW + PIECE
        # all of it arrives when it is read
        client.shutdown(socket.SHUT_WR)
        received = bytearray()
        backend.setblocking(False)

        def drains() -> bool:
            try:
                while octets := backend.recv(1 << 18):
                    received.extend(octets)
            except BlockingIOError:
                return False
            return True

        routers.run(drains)
        assert len(received) == sent


def test_a_service_comes_and_goes_by_management(routers: Routers, backend: Echo) -> None:
    neighbours, port = free_port(), free_port()
    first = routers.start("A", listener(neighbours), offered(port))
    last = routers.start("B", connector(neighbours))
    routers.run(lambda: len(first.core.topology.routes.next_hops) == 1)
    attributes = {"host": HOST, "port": str(backend.port), "address": "web", "name": "added"}
    kind = {"type": "io.skupper.router.tcpConnector"}
    status, row = last.management.answer({"operation": "CREATE", **kind}, attributes)
    assert (status, row["identity"]) == (201, "tcpConnector/added")
    routers.run(lambda: is_up(first))
    assert routers.ask(port, b"hello") == b"hello"
    assert last.management.answer({"operation": "DELETE", "name": "added", **kind}, None) == (204, {})
    routers.run(lambda: not is_up(first))
    assert routers.ask(port, b"hello").startswith(b"error: [Errno 111]")
    assert read_rows(last, "tcpConnector") == []


def test_a_backend_that_is_not_there_resets_the_client(routers: Routers) -> None:
    neighbours, port = free_port(), free_port()
    own = free_port()
    first = routers.start("A", listener(neighbours), offered(port), offered(own, "own"), served(free_port(), "own"))
    routers.start("B", connector(neighbours), served(free_port()))
    routers.run(lambda: all(row["operStatus"] == "up" for row in read_rows(first, "tcpListener")))
    assert routers.ask(port, b"hello") == b"error: [Errno 104] Connection reset by peer"
    assert routers.ask(own, b"hello") == b"error: [Errno 104] Connection reset by peer"


def test_a_port_that_is_taken_is_told_and_tried_again(routers: Routers, backend: Echo) -> None:
    with ExitStack() as stack:
        taken = stack.enter_context(socket.create_server((HOST, 0)))
        port = taken.getsockname()[1]
        router = routers.start("A", offered(port), served(backend.port))
        routers.run(lambda: read_rows(router, "tcpListener")[0]["connectionMsg"] == "Address already in use")
        with pytest.raises(RouterError, match="cannot listen at"):
            router.add(check_section("listener", {"host": HOST, "port": port}, router.sections))
    routers.run(lambda: is_up(router))
    assert routers.ask(port, b"mine") == b"mine"


def test_two_backends_of_one_router_share(routers: Routers, backend: Echo) -> None:
    with closing(Echo()) as other:
        port = free_port()
        router = routers.start("A", offered(port), served(backend.port), served(other.port))
        routers.run(lambda: is_up(router))
        for number in range(6):
            assert routers.ask(port, str(number).encode()) == str(number).encode()
        assert [row["connectionsOpened"] for row in read_rows(router, "tcpConnector")] == [3, 3]


def test_the_dearer_side_says_what_a_link_costs(routers: Routers) -> None:
    neighbours = free_port()
    first = routers.start("A", listener(neighbours))
    last = routers.start("B", connector(neighbours, cost=7))
    routers.run(lambda: bool(first.core.topology.routes.costs and last.core.topology.routes.costs))
    assert first.core.topology.routes.costs == {"B": 7}
    assert last.core.topology.routes.costs == {"A": 7}


def test_a_triangle_takes_the_cheap_way_and_the_dear_one_when_it_is_gone(routers: Routers, backend: Echo) -> None:
    second, third, port = free_port(), free_port(), free_port()
    routers.start("C", listener(third), served(backend.port))
    middle = routers.start("B", listener(second), connector(third))
    first = routers.start("A", connector(second), connector(third, cost=5), offered(port))
    routers.run(lambda: first.core.topology.routes.costs == {"B": 1, "C": 2})
    routers.run(lambda: is_up(first))
    assert routers.ask(port, b"cheap") == b"cheap"
    assert middle.core.addresses["Mweb"].transit == 1
    for conversation in list(middle.conversations.values()):
        if conversation.router == "C":
            middle.remove(next(one for one in middle.sections if one.entity == "connector"))
    routers.run(lambda: first.core.topology.routes.costs == {"B": 1, "C": 5})
    assert routers.ask(port, b"dear") == b"dear"
    assert middle.core.addresses["Mweb"].transit == 1


def test_a_link_that_comes_and_goes_leaves_nothing_and_loses_nothing(routers: Routers, backend: Echo) -> None:
    """It is back before what came by it is forgotten: who serves what must not be forgotten by halves."""
    line = Line(routers, backend.port)
    link = line.last.config.of("connector")[0]

    def is_known() -> bool:
        entry = line.middle.core.addresses.get("Mweb")
        return entry is not None and bool(entry.places.places) and is_up(line.first)

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            line.last.remove(link)
            routers.run(lambda: "C" not in line.middle.core.topology.routes.next_hops)
            line.last.add(link)
            routers.run(is_known)
            assert routers.ask(line.port, b"still there") == b"still there"
        # nothing keeps a connection that is over, and with it proton's memory, until the collector's own next turn
        routers.run(lambda: not any(isinstance(one, AmqpConnection) and not one.is_open for one in gc.get_objects()))
    finally:
        gc.enable()


# --- management -------------------------------------------------------------------------------------------------------


def query(router: Router, kind: str, names: list[str], **more: Any) -> dict[str, Any]:
    application = {"operation": "QUERY", "entityType": kind, **AGENT, **more}
    status, body = router.management.answer(application, {"attributeNames": names})
    assert status == 200
    return dict(body)


def test_queries(routers: Routers) -> None:
    router = routers.start("A", *(served(port) for port in range(1, 6)))
    kind = "io.skupper.router.tcpConnector"
    assert query(router, kind, ["port", "colour"])["results"] == [[str(port), None] for port in range(1, 6)]
    assert query(router, kind, ["port"], offset=1, count=2)["results"] == [["2"], ["3"]]
    assert query(router, "tcpConnector", ["port"], offset=9)["results"] == []
    everything = query(router, kind, [])
    assert everything["attributeNames"][:3] == ["type", "name", "identity"]
    assert all(len(row) == len(everything["attributeNames"]) for row in everything["results"])
    # of a kind of which there is none, the names are told all the same
    assert "address" in query(router, "io.skupper.router.tcpListener", [])["attributeNames"]


def test_the_schema_says_what_may_be_configured(routers: Routers) -> None:
    status, schema = routers.start("A").management.answer({"operation": "GET-SCHEMA", **AGENT}, None)
    assert (status, schema["prefix"]) == (200, "io.skupper.router")
    kinds = schema["entityTypes"]
    assert kinds["tcpConnector"]["operations"] == ["READ", "CREATE", "DELETE"]
    assert kinds["tcpConnector"]["attributes"]["address"] == {"type": "text", "required": True}
    role = kinds["listener"]["attributes"]["role"]
    assert (role["default"], "inter-router" in role["type"]) == ("normal", True)
    assert "router.config.address" in kinds
    assert "vhost" not in kinds


def test_every_kind_has_rows_that_name_themselves(routers: Routers) -> None:
    neighbours = free_port()
    first = routers.start("A", listener(neighbours), offered(free_port()), ["site", {"name": "west"}])
    routers.start("B", connector(neighbours), served(free_port()))
    routers.run(lambda: is_up(first))
    for kind in kinds():
        for row in read_rows(first, kind):
            assert {"type", "name", "identity"} <= row.keys(), kind
    for operation in ("GET-TYPES", "GET-ATTRIBUTES", "GET-OPERATIONS"):
        status, listed = first.management.answer({"operation": operation, **AGENT}, None)
        assert status == 200 and len(listed) == len(kinds())
    assert "qdr_routers_total 1\n" in build_metrics(first)


@pytest.mark.parametrize(
    ("application", "body", "status"),
    [
        ({}, None, 501),
        ({"operation": "DANCE"}, None, 501),
        ({"operation": "READ"}, None, 400),
        ({"operation": "READ", "name": "nobody"}, None, 404),
        ({"operation": "READ", "name": "x", "type": "nothing"}, None, 404),
        ({"operation": "QUERY", "entityType": "nothing"}, None, 404),
        ({"operation": "QUERY", "entityType": "router"}, {"attributeNames": "id"}, 400),
        ({"operation": "CREATE"}, {}, 400),
        ({"operation": "CREATE", "type": "tcpListener"}, [], 400),
        ({"operation": "CREATE", "type": "tcpListener"}, {"port": 1}, 400),
        ({"operation": "CREATE", "type": "tcpListener"}, {"port": 1, "address": "a", "colour": "red"}, 400),
        ({"operation": "CREATE", "type": "router"}, {"id": "B"}, 403),
        ({"operation": "CREATE", "type": "router.node"}, {"id": "B"}, 501),
        ({"operation": "DELETE", "type": "router", "name": "router/A"}, None, 403),
        ({"operation": "DELETE", "type": "tcpListener", "name": "nobody"}, None, 404),
        ({"operation": "UPDATE", "type": "log", "name": "log/0"}, {"enable": "loud"}, 400),
        ({"operation": "UPDATE", "type": "log", "name": "log/0"}, {"outputFile": "/tmp/elsewhere"}, 400),
        ({"operation": "UPDATE", "type": "tcpListener", "name": "at-1"}, {"port": "2"}, 400),
        ({"operation": "UPDATE", "type": "listener", "name": "neighbours"}, {"cost": 2}, 403),
        ({"operation": "DELETE", "type": "sslProfile", "name": "used"}, None, 400),
        ({"operation": "CREATE", "type": "listener"}, {"port": 1, "sslProfile": "broken", "host": HOST}, 400),
    ],
    ids=str,
)
def test_requests_that_are_refused(routers: Routers, application: dict[str, Any], body: Any, status: int) -> None:
    profiles = [["sslProfile", {"name": "used"}], ["sslProfile", {"name": "broken", "caCertFile": "/not/there"}]]
    user = connector(free_port(), sslProfile="used")
    router = routers.start("A", ["log", {"module": "DEFAULT", "enable": "info+"}], *profiles, user, offered(1))
    before = list(router.sections)
    with pytest.raises(RequestError) as caught:
        router.management.answer(application, body)
    assert caught.value.status == status
    assert router.sections == before


def test_what_may_be_changed_is_changed(routers: Routers) -> None:
    router = routers.start("A", offered(1), ["sslProfile", {"name": "site", "caCertFile": "/old"}])
    asked = {"operation": "UPDATE", "type": "tcpListener", "name": "at-1"}
    assert router.management.answer(asked, {"observer": "none", "port": "1"})[1]["observer"] == "none"
    asked = {"operation": "UPDATE", "type": "sslProfile", "name": "site"}
    assert router.management.answer(asked, {"caCertFile": "/new"})[0] == 200
    assert router.profile("site")["caCertFile"] == "/new"


def test_an_address_gets_another_distribution(routers: Routers, backend: Echo) -> None:
    port = free_port()
    router = routers.start("A", offered(port), served(backend.port))
    routers.run(lambda: is_up(router))
    rule = {"prefix": "web", "distribution": "unavailable", "name": "rule"}
    kind = {"type": "io.skupper.router.router.config.address"}
    assert router.management.answer({"operation": "CREATE", **kind}, rule)[0] == 201
    routers.run(lambda: not is_up(router))
    assert router.management.answer({"operation": "DELETE", "name": "rule", **kind}, None)[0] == 204
    routers.run(lambda: is_up(router))


@pytest.mark.parametrize("drops", [True, False])
def test_what_a_deleted_service_does_to_its_connections(routers: Routers, backend: Echo, drops: bool) -> None:
    port = free_port()
    own = ["router", {"id": "A", "dropTcpConnections": drops}]
    config = build_config([own, list(offered(port)), list(served(backend.port))])
    router = routers.routers["A"] = Router(config, routers.loop, RouterLog(config))
    router.start()
    routers.run(lambda: is_up(router))
    heard: list[str] = []
    with closing(socket.create_connection((HOST, port))) as client:
        client.setblocking(False)
        client.send(b"before")
        routers.run(lambda: peek(client, heard) == "before")
        for section in list(router.sections):
            if section.entity.startswith("tcp"):
                router.remove(section)
        if not drops:
            client.send(b"after")
        routers.run(lambda: peek(client, heard) == ("reset" if drops else "after"))


def peek(client: socket.socket, heard: list[str]) -> str:
    """What has come last, which is kept in `heard`."""
    try:
        heard.append(client.recv(100).decode())
    except BlockingIOError:
        pass
    except ConnectionResetError:
        heard.append("reset")
    return heard[-1] if heard else ""


def test_a_log_is_made_louder(routers: Routers) -> None:
    router = routers.start("A", ["log", {"module": "DEFAULT", "enable": "info+"}])
    application = {"operation": "UPDATE", "type": "log", "name": "log/0"}
    assert router.management.answer(application, {"enable": "debug+"})[1]["enable"] == "debug+"
    assert router.sections[-1].attributes["enable"] == "debug+"
