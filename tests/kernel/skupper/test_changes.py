"""Routers of both kinds looked at and changed while they run, as knetsim does it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from knetsim.dataplane.skupper.changes import apply_config
from knetsim.dataplane.skupper.config import Entity
from knetsim.dataplane.skupper.management import ManagementClient
from knetsim.dataplane.skupper.state import AddressState, NodeState, RouterState, read_state
from knetsim.errors import NotReady, RouterRefusal
from knetsim.system.netns import netns_socket
from knetsim.system.wait import wait_until
from tests.kernel.skupper.authority import Authority
from tests.kernel.skupper.net import (
    EMBEDDED,
    HOST,
    SECONDS,
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

PORT, SECURE = 8001, 5690


@contextmanager
def client_of(
    router: RouterProcess, port: int = 0, context: ssl.SSLContext | None = None
) -> Iterator[ManagementClient]:
    """A management client, with TLS if there is a `context`."""

    def dial(seconds: float) -> socket.socket:
        stream = netns_socket(router.place, socket.AF_INET, socket.SOCK_STREAM)
        try:
            stream.settimeout(seconds)
            stream.connect((HOST, port or router.clients_port))
            return context.wrap_socket(stream, server_hostname=HOST) if context else stream
        except OSError:
            stream.close()
            raise

    client = ManagementClient(router.name, dial)
    yield client
    client.close()


def wanted_of(router: RouterProcess, *entities: Entity) -> list[Entity]:
    """A whole configuration as changes take it: with what every router here has."""
    common: list[Entity] = [
        ("router", {"id": router.name, "mode": "interior"}),
        ("listener", {"name": "clients", "host": HOST, "port": router.clients_port, "role": "normal"}),
        ("listener", {"name": "access", "host": HOST, "port": router.neighbours_port, "role": "inter-router"}),
    ]
    return [*common, *entities]


def start(routers: RouterNet, name: str, kind: str, *entities: Entity) -> RouterProcess:
    """A router that has an access of a known name."""
    number = len(routers.routers)
    access = {"name": "access", "host": HOST, "port": 55671 + number, "role": "inter-router"}
    router = routers.start(name, kind, ("listener", access), *entities)
    routers.wait_open(router.clients_port)
    return router


def wait_state(client: ManagementClient, what: str, check: Any) -> RouterState:
    """The first state that is as it should be."""
    states: list[RouterState] = []

    def missing() -> str:
        try:
            states.append(read_state(client))
        except NotReady as error:
            return str(error)
        return "" if check(states[-1]) else str(states[-1])

    wait_until(what, missing, SECONDS)
    return states[-1]


def test_the_state_of_a_network(routers: RouterNet, pair: tuple[str, str]) -> None:
    first = start(routers, "A", pair[0], tcp_listener(PORT), tcp_listener(8002, "nobody"))
    link = connector(first, name="up", cost=3)
    down = ("connector", {"name": "down", "host": HOST, "port": "9", "role": "inter-router"})
    second = start(routers, "B", pair[1], link, down, tcp_connector(routers.backend(echo).port))
    routers.wait_open(PORT)
    with client_of(first) as asked:
        state = wait_state(asked, "B", lambda state: state.nodes)
        assert (state.router, state.nodes, state.listening) == ("A", {"B": NodeState("B", 3)}, {f"listener/{PORT}"})
        assert (state.links, list(state.incoming), state.served) == ({}, ["B"], frozenset())
        assert state.addresses["web"] == AddressState(0, 1)
        assert state.version
    with client_of(second) as asked:
        state = wait_state(asked, "why not", lambda state: state.links["down"].detail)
        assert state.links["up"] == (True, "A", "")
        assert (state.links["down"].up, state.links["down"].peer) == (False, "")
        assert "refused" in state.links["down"].detail
        assert state.served == {"connector/9001"}
        assert state.addresses["web"] == AddressState(1, 0)
        # a router that is gone is not there any more, whatever is remembered of it
        first.kill()
        state = wait_state(asked, "A gone", lambda state: not state.nodes and not state.links["up"].up)
        assert state.links["up"].detail
        # … and the client of a router that was killed finds the next one
        second.kill()
        with pytest.raises(NotReady, match="B: the router does not answer: "):
            read_state(asked)
        second.start()
        state = wait_state(asked, "B again", lambda state: state.served)
        assert state.router == "B"


def test_changes_are_made_without_a_restart_and_twice_is_once(routers: RouterNet, pair: tuple[str, str]) -> None:
    first, second = start(routers, "A", pair[0]), start(routers, "B", pair[1])
    one, two = routers.backend(say("one")), routers.backend(say("two"))
    link, held = connector(first, name="up"), routers.backend(echo)
    backends = [tcp_connector(one.port, "one"), tcp_connector(two.port, "two"), tcp_connector(held.port, "held")]
    with client_of(first) as front, client_of(second) as back:
        kept = tcp_listener(8002, "held")
        before = wanted_of(first, tcp_listener(PORT, "one"), kept)
        assert apply_config(front, before) == [f"tcpListener listener/{PORT}: made", "tcpListener listener/8002: made"]
        assert apply_config(back, wanted_of(second, link, *backends))[0] == "connector up: made"
        for client, router, entities in ((front, first, before[3:]), (back, second, [link, *backends])):
            assert apply_config(client, wanted_of(router, *entities)) == []
        routers.wait_open(PORT)
        routers.wait_open(8002)
        assert read_all(routers.connect(PORT)) == b"one"
        through = routers.connect(8002)
        through.sendall(b"x")
        assert through.recv(1) == b"x"
        # another backend for the port; whoever is connected by another one stays so
        assert apply_config(front, wanted_of(first, tcp_listener(PORT, "two"), kept)) == [
            f"tcpListener listener/{PORT}: changed"
        ]
        routers.wait_open(PORT)
        assert read_all(routers.connect(PORT)) == b"two"
        through.sendall(b"y")
        assert through.recv(1) == b"y"
        dear = connector(first, name="up", cost=7)
        assert apply_config(back, wanted_of(second, dear, *backends)) == ["connector up: changed"]
        wait_state(front, "a dear way", lambda state: state.nodes == {"B": NodeState("B", 7)})
        assert len(apply_config(back, wanted_of(second))) == 4
        routers.wait_closed(PORT)
        assert apply_config(back, wanted_of(second)) == []
    assert first.is_running and second.is_running


def test_what_a_router_refuses_is_told_and_the_rest_is_done(routers: RouterNet, pair: tuple[str, str]) -> None:
    router = start(routers, "A", pair[0])
    with client_of(router) as client:
        with pytest.raises(RouterRefusal, match=r"A: tcpListener 'none' cannot be created: .*address"):
            client.create("tcpListener", "none", {"port": 1})
        with pytest.raises(RouterRefusal, match=r"A: nothing cannot be listed: "):
            client.query("nothing")
        with pytest.raises(RouterRefusal, match=r"A: tcpListener 'nobody' cannot be deleted: "):
            client.delete("tcpListener", "nobody")


def test_the_rest_is_done_when_something_is_refused(routers: RouterNet) -> None:
    """The embedded router knows at once that a port is taken."""
    router = start(routers, "A", EMBEDDED)
    taken = ("listener", {"name": "taken", "host": HOST, "port": router.clients_port, "role": "inter-router"})
    with client_of(router) as client:
        for _ in range(2):
            with pytest.raises(RouterRefusal, match=r"A: listener 'taken' cannot be created: .* in use"):
                apply_config(client, wanted_of(router, taken, tcp_connector(9)))
            assert [row["name"] for row in client.query("tcpConnector")] == ["connector/9"]


def test_certificates_are_changed_in_a_running_router(routers: RouterNet, pair: tuple[str, str]) -> None:
    old, new = Authority(routers.directory, "old"), Authority(routers.directory, "new")

    def access(authority: Authority) -> list[Entity]:
        strict = {"sslProfile": "profile", "authenticatePeer": True, "saslMechanisms": "EXTERNAL", "requireSsl": True}
        ((kind, attributes),) = [one for one in wanted_of(first) if one[1].get("name") == "access"]
        return [*wanted_of(first)[:2], authority.profile("server", "server", HOST), (kind, attributes | strict)]

    first, second = start(routers, "A", pair[0]), start(routers, "B", pair[1])
    link = connector(first, name="up", sslProfile="profile", saslMechanisms="EXTERNAL")
    with client_of(first) as front, client_of(second) as back:
        apply_config(front, access(old))
        apply_config(back, wanted_of(second, old.profile("client", "client"), link))
        wait_state(back, "the link", lambda state: state.links["up"] == (True, "A", ""))
        # whoever holds a certificate of the old authority is not let in any more
        done = apply_config(front, access(new))
        assert done == ["sslProfile profile: changed", "listener access: changed"]
        apply_config(back, wanted_of(second))
        apply_config(back, wanted_of(second, old.profile("client", "client"), link))
        wait_state(back, "no link", lambda state: not state.links["up"].up and state.links["up"].detail)
        apply_config(back, wanted_of(second, new.profile("client", "client"), link))
        wait_state(back, "the link again", lambda state: state.links["up"] == (True, "A", ""))
        # files of one name with other content
        assert apply_config(front, access(new), ["profile"]) == done
        assert apply_config(front, access(new)) == []


def test_a_client_that_shows_a_certificate(routers: RouterNet, pair: tuple[str, str]) -> None:
    authority = Authority(routers.directory, "authority")
    profile = authority.profile("server", "server", HOST)
    strict = {"sslProfile": "profile", "authenticatePeer": True, "saslMechanisms": "EXTERNAL", "requireSsl": True}
    secure = ("listener", {"name": "secure", "host": HOST, "port": SECURE, "role": "normal", **strict})
    router = start(routers, "A", pair[0], profile, secure)
    routers.wait_open(SECURE)
    own = authority.profile("user", "client")[1]
    context = ssl.create_default_context(cafile=own["caCertFile"])
    stranger = ssl.create_default_context(cafile=own["caCertFile"])
    context.load_cert_chain(own["certFile"], own["privateKeyFile"])
    with client_of(router, SECURE, context) as client:
        rows = client.query("connection", ("user", "sasl", "isEncrypted", "container"))
        assert [row["sasl"] for row in rows if row["container"] == "knetsim"] == ["EXTERNAL"]
        assert client._connection is not None and client._connection.is_usable
    with client_of(router, SECURE, stranger) as client, pytest.raises(NotReady):
        client.query("connection")


def test_who_does_not_speak_amqp_is_no_router(routers: RouterNet) -> None:
    """Servers that say nothing, something else, or end; a client that gives up in time and leaves nothing open."""
    faults = {"silent": read_all, "http": say("HTTP/1.1 400 Bad Request\r\n"), "gone": lambda stream: stream.recv(8)}
    said = {"silent": "it says nothing", "http": "it does not speak AMQP", "gone": "it has ended the connection"}
    for name, serve in faults.items():
        backend = routers.backend(serve)  # type: ignore[arg-type]

        def dial(seconds: float, port: int = backend.port) -> socket.socket:
            stream = routers.connect(port)
            stream.settimeout(seconds)
            return stream

        client = ManagementClient("R", dial, timeout=0.5)
        with pytest.raises(NotReady, match=f"R: the router does not answer: {said[name]}"):
            client.query("router")
        assert client.version == ""
