"""Management by AMQP, asked of both kinds of routers in the same words."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from knetsim.system.netns import entered, netns_socket
from knetsim.system.wait import wait_until
from tests.kernel.skupper.net import (
    EMBEDDED,
    HOST,
    SECONDS,
    RouterNet,
    RouterProcess,
    connector,
    echo,
    tcp_connector,
    tcp_listener,
)

proton = pytest.importorskip("proton")
utils = pytest.importorskip("proton.utils")

pytestmark = pytest.mark.usefixtures("no_leaks")

PORT, MORE = 8001, 8002
TYPE = "io.skupper.router."


class Asker:
    """A management client."""

    def __init__(self, connection: Any, address: str) -> None:
        self._client = utils.SyncRequestResponse(connection, address)

    def ask(self, operation: str, body: Any = None, **properties: Any) -> tuple[int, Any]:
        """Status and body."""
        message = proton.Message(body={} if body is None else body)
        message.properties = {"operation": operation, **properties}
        answer = self._client.call(message)
        return answer.properties["statusCode"], answer.body

    def query(self, kind: str) -> list[dict[str, Any]]:
        """All entities of a kind."""
        status, body = self.ask(
            "QUERY", {"attributeNames": []}, type="org.amqp.management", name="self", entityType=TYPE + kind
        )
        assert status == 200
        return [dict(zip(body["attributeNames"], row, strict=True)) for row in body["results"]]


@contextmanager
def asking(router: RouterProcess, address: str = "$management") -> Iterator[Asker]:
    """A client of a router, or by it of another one."""
    with entered(router.place):
        connection = utils.BlockingConnection(
            f"{HOST}:{router.clients_port}", timeout=SECONDS, allowed_mechs="ANONYMOUS"
        )
    try:
        yield Asker(connection, address)
    finally:
        connection.close()


def test_what_a_router_tells_about_itself(routers: RouterNet, pair: tuple[str, str]) -> None:
    first = routers.start("A", pair[0], tcp_listener(PORT))
    second = routers.start("B", pair[1], connector(first), tcp_connector(routers.backend(echo).port))
    routers.wait_open(PORT)
    client = routers.connect(PORT)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    with asking(first) as asker:
        nodes = {row["id"]: row["nextHop"] for row in asker.query("router.node")}
        assert nodes == {"A": "(self)", "B": None} or nodes == {"A": "(self)", "B": ""}
        assert {row["container"] for row in asker.query("connection") if row["role"] == "inter-router"} == {"B"}
        web = next(row for row in asker.query("router.address") if row["key"] == "Mweb")
        assert (web["remoteCount"], web["subscriberCount"], web["distribution"]) == (1, 0, "balanced")
        kinds = {row["linkType"] for row in asker.query("router.link")}
        assert {"router-control", "inter-router"} <= kinds
        listener = asker.query("tcpListener")[0]
        assert (listener["operStatus"], listener["connectionsOpened"], str(listener["port"])) == ("up", 1, str(PORT))
        metrics = asker.query("routerMetrics")[0]
        assert metrics["id"] == "A" and metrics["nodeCount"] == 1 and metrics["residentMemoryUsage"] > 1 << 20
        assert asker.query("router")[0]["mode"] == "interior"
        status, names = asker.ask("GET-MGMT-NODES", type="org.amqp.management", name="self")
        assert status == 200
        assert sorted(names) == ["amqp:/_topo/0/A/$management", "amqp:/_topo/0/B/$management"]
    # the same of the other one, by this one
    with asking(first, "_topo/0/B/$management") as asker:
        assert [row["name"] for row in asker.query("tcpConnector")] == [f"connector/{9001}"]
        assert asker.query("routerMetrics")[0]["id"] == "B"
    assert second.is_running


def test_a_running_router_is_changed(routers: RouterNet, pair: tuple[str, str]) -> None:
    first = routers.start("A", pair[0])
    second = routers.start("B", pair[1], connector(first))
    routers.wait_open(second.clients_port)
    backend = routers.backend(echo)
    with asking(second) as asker:
        attributes = {"host": HOST, "port": str(backend.port), "address": "web"}
        assert asker.ask("CREATE", attributes, type=f"{TYPE}tcpConnector", name="added")[0] == 201
    with asking(first) as asker:
        attributes = {"host": HOST, "port": str(PORT), "address": "web"}
        status, created = asker.ask("CREATE", attributes, type=f"{TYPE}tcpListener", name="added")
        assert (status, created["name"]) == (201, "added")
        routers.wait_open(PORT)
        client = routers.connect(PORT)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        # skrouterd says 400 or 500, as it comes
        assert asker.ask("CREATE", attributes, type=f"{TYPE}tcpListener", name="added")[0] >= 400
        assert asker.ask("CREATE", {"address": "web"}, type=f"{TYPE}tcpListener", name="none")[0] >= 400
        assert asker.ask("READ", type=f"{TYPE}tcpListener", name="nobody")[0] == 404
        assert asker.ask("READ", type=f"{TYPE}tcpListener", name="added")[1]["address"] == "web"
        assert asker.ask("DELETE", type=f"{TYPE}tcpListener", name="added")[0] == 204
        routers.wait_closed(PORT)


def test_a_link_is_made_and_ended_by_management(routers: RouterNet) -> None:
    first = routers.start("A", EMBEDDED, tcp_listener(PORT))
    second = routers.start("B", EMBEDDED, tcp_connector(routers.backend(echo).port))
    routers.wait_open(second.clients_port)
    link = {"host": HOST, "port": str(first.neighbours_port), "role": "inter-router", "cost": 3}
    with asking(second) as asker:
        assert asker.ask("CREATE", link, type=f"{TYPE}connector", name="link")[0] == 201
        routers.wait_open(PORT)
        row = asker.query("connector")[0]
        assert row["connectionStatus"] == "SUCCESS" and row["cost"] == 3
        assert asker.query("router.node")[1]["cost"] == 3
        assert asker.ask("DELETE", type=f"{TYPE}connector", name="link")[0] == 204
        routers.wait_closed(PORT)
        wait_until("no way", lambda: "" if asker.query("router.node")[1]["cost"] is None else "a way", SECONDS)


def test_health_and_metrics(routers: RouterNet) -> None:
    page = ("listener", {"name": "pages", "host": HOST, "port": 9090, "http": True, "httpRootDir": "disabled"})
    routers.start("A", EMBEDDED, page)
    routers.wait_open(9090)

    def get(path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, 9090, timeout=SECONDS)
        connection.sock = netns_socket(routers.place, socket.AF_INET, socket.SOCK_STREAM)
        connection.sock.connect((HOST, 9090))
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    assert get("/healthz") == (200, "OK\n")
    status, text = get("/metrics")
    assert status == 200
    assert "qdr_routers_total 0\n" in text
    assert get("/etc/passwd")[0] == 404
    assert get("/healthz", "POST")[0] == 405
