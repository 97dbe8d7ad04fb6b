"""Neighbours: with certificates and without the right ones, and ones that do not know how to behave."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from knetsim.dataplane.skupper.router.amqp import AmqpConnection
from knetsim.dataplane.skupper.router.codec import encode
from knetsim.dataplane.skupper.router.control import Hello, write_control
from knetsim.dataplane.skupper.router.conversation import Terms
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.message import Annotations, Properties, build_message
from knetsim.dataplane.skupper.router.peers import CAPABILITIES, Peer
from knetsim.dataplane.skupper.router.streams import ACCEPTED, Incoming
from knetsim.system.netns import netns_socket
from tests.kernel.skupper.authority import Authority
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
    say,
    tcp_connector,
    tcp_listener,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

PORT = 8001


def secure_listener(number: int) -> Entity:
    """A port for neighbours who show certificates."""
    return "listener", {
        "host": HOST,
        "port": 55671 + number,
        "role": "inter-router",
        "sslProfile": "profile",
        "saslMechanisms": "EXTERNAL",
        "authenticatePeer": True,
        "requireSsl": True,
    }


def test_both_sides_show_certificates(routers: RouterNet, pair: tuple[str, str]) -> None:
    authority = Authority(routers.directory, "authority")
    first = routers.start(
        "A", pair[0], authority.profile("first", "server", HOST), secure_listener(0), tcp_listener(PORT)
    )
    link = connector(first, sslProfile="profile", saslMechanisms="EXTERNAL")
    backend = routers.backend(say("secret"))
    routers.start("B", pair[1], authority.profile("second", "client"), link, tcp_connector(backend.port))
    routers.wait_open(PORT)
    assert read_all(routers.connect(PORT)) == b"secret"


def test_a_neighbour_of_another_authority_is_refused(routers: RouterNet) -> None:
    authority, other = Authority(routers.directory, "authority"), Authority(routers.directory, "other")
    first = routers.start(
        "A", EMBEDDED, authority.profile("first", "server", HOST), secure_listener(0), tcp_listener(PORT)
    )
    # it does not look at whom it dials, so it is for the listener to refuse it
    stranger = other.profile("second", "client")
    stranger[1]["caCertFile"] = str(routers.directory / "authority-ca.crt")
    link = connector(first, sslProfile="profile", saslMechanisms="EXTERNAL")
    second = routers.start("B", EMBEDDED, stranger, link, tcp_connector(routers.backend(echo).port))
    second.wait_log("no connection to")
    first.wait_log("certificate verify failed")
    assert not routers.is_open(PORT)
    # and the other way round: whom it dials is of another authority than it knows
    third = routers.start("C", EMBEDDED, other.profile("third", "client"), link, tcp_connector(9999))
    third.wait_log("certificate verify failed")
    assert not routers.is_open(PORT)


class Stranger:
    """A neighbour that says what it wants; its loop runs in `run` only."""

    def __init__(self, routers: RouterNet, router: RouterProcess) -> None:
        self.loop = Loop()
        self.ended = ""
        self.heard: list[bytes] = []
        stream = netns_socket(routers.place, socket.AF_INET, socket.SOCK_STREAM)
        stream.connect((HOST, router.neighbours_port))
        terms = Terms(container="stranger", mechanisms="ANONYMOUS", capabilities=CAPABILITIES)
        self.connection = AmqpConnection(self.loop, stream, terms, dialled=True)
        self.peer = Peer(self.connection, 1, self, 1, self._end)
        self.ready = False
        self.connection.start(self.peer)

    def run(self, fact: Callable[[], bool]) -> None:
        """Until something is so."""

        def look() -> None:
            if fact():
                self.loop.stop()
            else:
                self.loop.after(0.02, look)

        look()
        deadline = self.loop.after(SECONDS, self.loop.stop)
        self.loop.run()
        deadline.cancel()
        assert fact()

    def close(self) -> None:
        self.connection.drop("the test is over")
        self.loop.close()

    def say(self, octets: bytes) -> None:
        self.peer.send_control(octets)

    def _end(self, why: str) -> None:
        self.ended = why

    def take_control(self, _peer: Peer, incoming: Incoming) -> None:
        self.heard.append(bytes(incoming.octets))
        incoming.settle(ACCEPTED)

    def take_message(self, incoming: Incoming) -> None:
        incoming.settle(ACCEPTED)

    def gain_peer(self, _peer: Peer) -> None:
        self.ready = True

    def lose_peer(self, _peer: Peer) -> None:
        self.ready = False


def control(opcode: Any, body: Any, to: str = "amqp:/_local/qdhello") -> bytes:
    annotations = Annotations(ingress="0/stranger", trace=("0/stranger",))
    return build_message(annotations, Properties(to=to), {"opcode": opcode}, body)


HELLO = write_control(Hello("stranger", 1, ("A",)))
OWN, OWN_ADDRESSES = "amqp:/_topo/0/A/qdrouter", "amqp:/_topo/0/A/qdrouter.ma"
NONSENSE: list[bytes] = [
    b"\x00",
    b"\xff" * 100,
    b"\x00\x80SKPR--RA\xc0\x03\x01\x43",
    b"\x00\x53\x73\x45\x00\x53\x77\x40",
    control("HELLO", None),
    control("HELLO", [1, 2]),
    control("HELLO", {"id": 5}),
    control("HELLO", {"id": "stranger", "instance": "yesterday"}),
    control("HELLO", {"id": "stranger", "instance": 1, "pv": 9, "seen": []}),
    control("GOODBYE", {"id": "stranger"}),
    control(17, {"id": "stranger"}),
    control(
        "LSU", {"id": "stranger", "instance": 1, "ls": {"ls_seq": 1, "peers": {"A": -1}}}, "amqp:/_topo/0/A/qdrouter"
    ),
    control(
        "MAU", {"id": "stranger", "mobile_seq": 1, "exist": [], "add": [], "del": []}, "amqp:/_topo/0/A/qdrouter.ma"
    ),
    control(
        "MAU", {"id": "nobody", "pv": 2, "mobile_seq": 1, "exist": [["Mweb", 3, 0]]}, "amqp:/_topo/0/A/qdrouter.ma"
    ),
    control(*HELLO) + b"\x00",
    b"\x00\x80SKPR--RA" + encode([0, None, None, []])[:-2],
]


def test_nonsense_is_ignored_and_sense_is_answered(routers: RouterNet) -> None:
    first = routers.start("A", EMBEDDED, tcp_listener(PORT))
    routers.start("B", EMBEDDED, connector(first), tcp_connector(routers.backend(echo).port))
    routers.wait_open(PORT)
    with closing(Stranger(routers, first)) as stranger:
        annoy(stranger, first)
    client = routers.connect(PORT)
    client.sendall(b"still here")
    assert client.recv(20) == b"still here"
    first.wait_log("stranger is a neighbour no more")
    assert first.is_running


def annoy(stranger: Stranger, router: RouterProcess) -> None:
    """Talk nonsense, then sense."""
    stranger.run(lambda: stranger.ready)
    for octets in NONSENSE:
        stranger.say(octets)
    stranger.say(control(*HELLO))
    # it becomes a neighbour, and is advertised: nothing of the nonsense has ended its connection
    stranger.run(lambda: any(b"amqp:/_topo/0/stranger/qdrouter" in octets for octets in stranger.heard))
    assert not stranger.ended
    router.wait_log("has version 9")
    router.wait_log("nobody, which is an unknown router")


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"AMQP\x00\x09\x09\x09",
        b"AMQP\x03\x01\x00\x00" + b"\xff" * 64,
        b"\x16\x03\x01" + b"x" * 300,
    ],
    ids=["http", "version", "frame", "tls"],
)
def test_who_speaks_something_else_is_shown_out(routers: RouterNet, octets: bytes) -> None:
    first = routers.start("A", EMBEDDED)
    routers.wait_open(first.neighbours_port)
    client = routers.connect(first.neighbours_port)
    client.sendall(octets)
    try:
        read_all(client)  # the router says what it speaks, then ends
    except ConnectionResetError:
        pass
    assert first.is_running
