"""What workers say of their Services by HTTP, asked as load balancers and pods ask; and what is told of a Service."""

from __future__ import annotations

import json
import socket
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Any

import pytest

from knetsim.node.service_health import ServiceHealth
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.small_http import HttpAnswer, SmallHttp
from knetsim.system.wait import wait_until
from tests.kernel.services.agent import SECONDS, Objects, agent, endpoints, service, settle
from tests.kernel.services.lab import VIP, Answer, ServicesLab

pytestmark = pytest.mark.usefixtures("no_leaks")

PORT = 30123


def fetch(place: Namespaces, address: str, port: int, path: str = "/", head: bytes = b"") -> tuple[int, str, str]:
    """The status (0: nobody listens), the headers and the body that are answered."""
    with netns_socket(place, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(SECONDS)
        try:
            sock.connect((address, port))
        except ConnectionRefusedError:
            return 0, "", ""
        sock.sendall(head or f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        while chunk := sock.recv(4096):
            received += chunk
    headers, _, body = received.decode().partition("\r\n\r\n")
    return int(headers.split()[1]), headers, body


def balanced(name: str = "web", ip: object = VIP, port: int = PORT) -> Any:
    """A Service whose load balancer asks workers."""
    obj = service(name, ip)
    obj["spec"] |= {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port}
    return obj


def test_a_load_balancer_learns_where_backends_are(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    pods = [lab.pod("c1", lab.w1), lab.pod("c2", lab.w1)]
    objects.put(balanced())
    objects.put(endpoints(*pods))
    with agent(lab, objects, told) as rules:
        rules.wait_synced(SECONDS)
        status, headers, body = fetch(lab.out.place, lab.w1.address, PORT, "/healthz")
        assert status == HTTPStatus.OK
        assert "X-Load-Balancing-Endpoint-Weight: 2" in headers.splitlines()
        assert json.loads(body) == {
            "service": {"namespace": "default", "name": "web"},
            "localEndpoints": 2,
            "serviceProxyHealthy": True,
        }
        assert fetch(lab.out.place, lab.w2.address, PORT)[0] == HTTPStatus.SERVICE_UNAVAILABLE
        ending = endpoints(*pods)
        for each in ending["endpoints"]:
            each["conditions"] = {"ready": False, "serving": True, "terminating": True}
        objects.put(ending)
        settle(rules, ending)
        assert fetch(lab.out.place, lab.w1.address, PORT)[0] == HTTPStatus.SERVICE_UNAVAILABLE, "no new clients"
        objects.put(everywhere := {**balanced(), "spec": {**balanced()["spec"], "externalTrafficPolicy": "Cluster"}})
        settle(rules, everywhere)
        assert fetch(lab.out.place, lab.w1.address, PORT)[0] == 0
    assert told == []
    assert fetch(lab.out.place, lab.w1.address, 10256)[0] == 0, "the agent has ended"


def test_services_may_swap_their_ports(lab: ServicesLab) -> None:
    objects, told = Objects(), []
    pod = lab.pod("c1", lab.w1)
    other = IPv4Address("100.64.0.10")
    for obj in (balanced("a"), balanced("b", other, PORT + 1), endpoints(pod, name="a"), endpoints(name="b")):
        objects.put(obj)
    with agent(lab, objects, told) as rules:
        rules.wait_synced(SECONDS)
        assert [fetch(lab.w1.place, "127.0.0.1", port)[0] for port in (PORT, PORT + 1)] == [200, 503]
        swapped = [balanced("a", port=PORT + 1), balanced("b", other, PORT)]
        with rules._progress:  # both are taken up at once
            for obj in swapped:
                objects.put(obj)
        settle(rules, *swapped)
        assert [fetch(lab.w1.place, "127.0.0.1", port)[0] for port in (PORT, PORT + 1)] == [503, 200]
    assert told == []


def test_a_port_that_is_taken_is_told_of_and_tried_again(lab: ServicesLab) -> None:
    objects, told, of_services = Objects(), [], []
    objects.put(balanced())
    objects.put(endpoints(lab.pod("c1", lab.w1)))
    taken = netns_socket(lab.w1.place, socket.AF_INET, socket.SOCK_STREAM)
    taken.bind(("0.0.0.0", PORT))
    taken.listen()
    options = {"resync_seconds": 0.1, "tell_service": lambda obj, *words: of_services.append((obj, *words))}
    with agent(lab, objects, told, **options) as rules:
        rules.wait_synced(SECONDS)
        wait_until("an Event", lambda: "" if of_services else "none", SECONDS)
        taken.close()
        found = lambda: fetch(lab.out.place, lab.w1.address, PORT)[0]  # noqa: E731
        wait_until("the port", lambda: "" if found() == HTTPStatus.OK else "taken", SECONDS)
    assert [(obj["metadata"]["name"], *words) for obj, *words in of_services] == [
        ("web", "FailedToStartServiceHealthcheck", f"c0w1 cannot listen on port {PORT}: Address already in use")
    ]
    assert told == []


def test_what_contests_an_address_is_told_once(lab: ServicesLab) -> None:
    objects, of_services = Objects(), []
    old, young = service("old", "100.64.0.10"), service("young")
    for obj, day in ((old, "01"), (young, "02")):
        obj["metadata"]["creationTimestamp"] = f"2026-01-{day}T00:00:00Z"
        obj["spec"]["externalIPs"] = ["10.1.200.1"]
        objects.put(obj)
    server = lab.serve("c1", lab.w1)
    objects.put(endpoints(server, name="young"))
    options = {"resync_seconds": 0.1, "tell_service": lambda obj, *words: of_services.append((obj, *words))}
    with agent(lab, objects, [], **options) as rules:
        rules.wait_synced(SECONDS)
        answer = lab.ask(server.place, VIP)
        assert isinstance(answer, Answer), "the rest of it is served"
        objects.put(now := endpoints(server, lab.pod("c2", lab.w2), name="young"))
        settle(rules, now)
    assert [(obj["metadata"]["name"], *words) for obj, *words in of_services] == [
        ("young", "ServiceNotServed", "10.1.200.1 . tcp . 80 belongs to Service default/old")
    ]


def test_every_worker_says_how_its_proxy_is(lab: ServicesLab) -> None:
    with agent(lab, Objects(), []) as rules:
        rules.wait_synced(SECONDS)
        for host in (lab.w1, lab.w2):
            status, headers, body = fetch(lab.out.place, host.address, 10256, "/healthz")
            assert status == HTTPStatus.OK
            assert "Content-Type: application/json" in headers.splitlines()
            assert json.loads(body)["nodeEligible"] is True
            assert fetch(host.place, "127.0.0.1", 10249, "/proxyMode")[2] == "nftables"
        assert fetch(lab.out.place, lab.w1.address, 10249)[0] == 0, "for the worker itself only"
        assert fetch(lab.out.place, lab.cp.address, 10256)[0] == 0, "it is no Node"


def test_a_worker_that_is_late_for_long_is_not_healthy(lab: ServicesLab) -> None:
    now = [1000.0]
    server = SmallHttp("test")
    try:
        health = ServiceHealth(server, lab.w1.place, clock=lambda: now[0])
        health.start()
        health.start()
        health.note(False)
        found = []
        for seconds in (59.0, 2.0):
            now[0] += seconds
            health.note(False)
            found.append(fetch(lab.w1.place, "127.0.0.1", 10256, "/livez")[0])
        health.note(True)
        found.append(fetch(lab.w1.place, "127.0.0.1", 10256, "/livez")[0])
        assert found == [200, 503, 200]
    finally:
        server.stop()


def test_who_says_too_much_or_nothing_holds_up_nobody(lab: ServicesLab) -> None:
    server = SmallHttp("test")
    try:
        listening = server.listen(lab.w1.place, "0.0.0.0", PORT, lambda path: HttpAnswer(HTTPStatus.OK, path))
        silent = [netns_socket(lab.w1.place, socket.AF_INET, socket.SOCK_STREAM) for _ in range(300)]
        for sock in silent:
            sock.connect(("127.0.0.1", PORT))
        assert fetch(lab.w1.place, "127.0.0.1", PORT, "/a")[2] == "/a"
        endless = b"GET /" + b"a" * (20 << 10)
        with pytest.raises((ConnectionError, IndexError)):  # it is left, with or without a reset
            fetch(lab.w1.place, "127.0.0.1", PORT, head=endless)
        assert fetch(lab.w1.place, "127.0.0.1", PORT, "/b")[2] == "/b"
        server.close(listening)
        server.close(listening)
        assert fetch(lab.w1.place, "127.0.0.1", PORT)[0] == 0
        for sock in silent:
            sock.close()
    finally:
        server.stop()
        server.stop()
