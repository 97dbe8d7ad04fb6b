"""The name server on sockets of a namespace: UDP, TCP, who speaks nonsense or nothing, and who gets no answer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import dns.message
import dns.rcode
import pytest

from knetsim.dataplane.dns import HostNames, HostZone, NameServer, find_unanswered
from knetsim.errors import KnetsimError
from knetsim.system.netlink import Netlink, set_link
from knetsim.system.netns import Namespaces, netns_socket

ADDRESS = "127.0.0.1"
ZONES = [HostZone(HostNames({"C0w1": "10.1.1.1"}))]
QUESTION = dns.message.make_query("c0w1", "A").to_wire()

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def place(places: Callable[[str], Namespaces], sockets: Callable[[Namespaces], Netlink]) -> Namespaces:
    made = places("names")
    sockets(made).apply([set_link("lo", up=True)])
    return made


@pytest.fixture
def server(no_leaks: None, place: Namespaces) -> Iterator[NameServer]:
    made = NameServer("names")
    made.start()
    made.listen(place, ADDRESS, 53, ZONES)
    yield made
    made.stop()


def connect(place: Namespaces, kind: socket.SocketKind) -> socket.socket:
    made = netns_socket(place, socket.AF_INET, kind)
    made.settimeout(20)
    made.connect((ADDRESS, 53))
    return made


def framed(question: bytes) -> bytes:
    """A question as TCP has it, after its length."""
    return struct.pack("!H", len(question)) + question


def receive(connection: socket.socket) -> dns.message.Message:
    """One answer by TCP."""
    with connection.makefile("rb") as stream:
        (length,) = struct.unpack("!H", stream.read(2))
        return dns.message.from_wire(stream.read(length))


def addresses(answer: dns.message.Message) -> list[str]:
    return [str(record) for records in answer.answer for record in records]


def test_a_question_by_datagram(place: Namespaces, server: NameServer) -> None:
    with connect(place, socket.SOCK_DGRAM) as asking:
        for nonsense in (b"", b"x", QUESTION[:2] + b"\x80" + QUESTION[3:]):
            asking.send(nonsense)  # is not answered, and harms nobody
        asking.send(QUESTION[:-1])
        assert dns.message.from_wire(asking.recv(512)).rcode() == dns.rcode.FORMERR
        asking.send(QUESTION)
        assert addresses(dns.message.from_wire(asking.recv(512))) == ["10.1.1.1"]


def test_questions_by_one_connection_in_any_pieces(place: Namespaces, server: NameServer) -> None:
    with connect(place, socket.SOCK_STREAM) as connection, connect(place, socket.SOCK_STREAM) as other:
        other.sendall(b"\0")  # half a length: it keeps nobody waiting
        for byte in framed(QUESTION):
            connection.sendall(bytes([byte]))
        assert addresses(receive(connection)) == ["10.1.1.1"]
        connection.sendall(framed(QUESTION) * 2)
        for _ in range(2):
            assert addresses(receive(connection)) == ["10.1.1.1"]


def test_a_connection_that_asks_nothing_is_closed(place: Namespaces, server: NameServer) -> None:
    answer = QUESTION[:2] + b"\x80" + QUESTION[3:]
    for sent in (b"\0\0", framed(b"nonsense"), framed(answer)):
        with connect(place, socket.SOCK_STREAM) as connection:
            connection.sendall(sent)
            assert connection.recv(512) == b""


def test_the_end_of_a_server_is_the_end_of_its_connections(place: Namespaces) -> None:
    server = NameServer("names")
    server.start()
    server.listen(place, ADDRESS, 53, ZONES)
    with connect(place, socket.SOCK_STREAM) as connection:
        connection.sendall(framed(QUESTION))
        receive(connection)
        server.stop()
        server.stop()
        assert connection.recv(512) == b""
    with netns_socket(place, socket.AF_INET, socket.SOCK_STREAM) as late, pytest.raises(ConnectionRefusedError):
        late.connect((ADDRESS, 53))


def test_a_server_that_never_began_ends_too() -> None:
    NameServer("names").stop()


def test_a_port_that_is_taken_is_told_and_left_alone(place: Namespaces, server: NameServer) -> None:
    for kind, port in ((socket.SOCK_DGRAM, 53), (socket.SOCK_STREAM, 1053)):
        with netns_socket(place, socket.AF_INET, kind) as other:
            if port != 53:
                other.bind((ADDRESS, port))
                other.listen()
            with pytest.raises(KnetsimError, match=f"no name server can listen at 127.0.0.1:{port}"):
                server.listen(place, ADDRESS, port, ZONES)
    server.listen(place, ADDRESS, 1053, ZONES)


def test_who_gets_no_answer(
    place: Namespaces, server: NameServer, places: Callable[[str], Namespaces], sockets: Callable[[Namespaces], Netlink]
) -> None:
    deaf, refused, lost = places("deaf"), places("refused"), places("lost")
    for other in (deaf, refused):
        sockets(other).apply([set_link("lo", up=True)])
    with netns_socket(deaf, socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((ADDRESS, 53))
        asked = {"C0w1": place, "C0w2": deaf, "C0w3": refused, "C0w4": lost}
        found = find_unanswered(asked, ADDRESS, "no.such.name", "TXT", 0.2)
    assert found == {
        "C0w2": "no answer within 0.2 s",
        "C0w3": "Connection refused",
        "C0w4": "Network is unreachable",
    }
