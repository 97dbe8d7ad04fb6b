"""What a worker says of its Services by HTTP, as data; test_service_agent.py asks for it."""

from __future__ import annotations

import json
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Any

import pytest

from knetsim.dataplane.services.ports import Backend, ServicePort
from knetsim.node.service_health import (
    HealthCheck,
    answer_status,
    build_check_answer,
    build_health_check,
    build_proxy_answer,
)
from knetsim.system.small_http import HttpAnswer, build_response


def port(*backends: Backend, number: int = 80, **options: Any) -> ServicePort:
    values = {"namespace": "default", "service": "web", "cluster_ip": IPv4Address("100.64.0.9"), **options}
    return ServicePort(protocol="tcp", port=number, backends=backends, **values)


def backend(address: str, node: str = "c0w1", number: int = 8080, **state: Any) -> Backend:
    return Backend(IPv4Address(address), number, node, **state)


def test_ready_pods_of_the_worker_count_once() -> None:
    ends = {"ready": False, "terminating": True}
    first = port(
        backend("11.1.0.2"), backend("11.1.0.3", **ends), backend("11.2.0.2", "c0w2"), backend("11.1.0.4", ""),
        health_port=30001,
    )  # fmt: skip
    second = port(backend("11.1.0.2", number=8443), backend("11.1.0.5", number=8443), number=443, health_port=30001)
    assert build_health_check([first, second], "c0w1") == HealthCheck(30001, 2)
    assert build_health_check([first, second], "c0w3") == HealthCheck(30001, 0)
    assert build_health_check([port(backend("11.1.0.2"))], "c0w1") is None


@pytest.mark.parametrize(
    ("backends", "healthy", "status"),
    [(2, True, HTTPStatus.OK), (0, True, HTTPStatus.SERVICE_UNAVAILABLE), (2, False, HTTPStatus.SERVICE_UNAVAILABLE)],
)
def test_a_load_balancer_is_told(backends: int, healthy: bool, status: HTTPStatus) -> None:
    answer = build_check_answer("default/web", backends, healthy)
    assert answer.status == status
    assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == str(backends)
    assert answer.headers["Content-Type"] == "application/json"
    # as kube-proxy v1.36 writes it
    assert answer.body == (
        '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n'
        f'\t"localEndpoints": {backends},\n\t"serviceProxyHealthy": {str(healthy).lower()}\n}}'
    )


def test_the_proxy_tells_how_it_is() -> None:
    good = build_proxy_answer("/healthz", True, 0.0, 3600.0)
    assert (good.status, json.loads(good.body)["nodeEligible"]) == (HTTPStatus.OK, True)
    assert json.loads(good.body)["lastUpdated"].startswith("1970-01-01T01:00:00")
    late = build_proxy_answer("/livez", False, 0.0, 3600.0)
    assert late.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert json.loads(late.body) == {
        "lastUpdated": "1970-01-01T00:00:00.000000Z",
        "currentTime": "1970-01-01T01:00:00.000000Z",
        "healthy": False,
        "status": {"IPv4": {"lastUpdated": "1970-01-01T00:00:00.000000Z", "healthy": False}},
    }
    assert build_proxy_answer("/", True, 0.0, 0.0).status == HTTPStatus.NOT_FOUND
    assert answer_status("/proxyMode").body == "nftables"


@pytest.mark.parametrize(
    ("head", "first", "body"),
    [
        (b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK", "/a"),
        (b"HEAD /a HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK", ""),
        (b"\x16\x03\x01 what\r\n\r\n", "HTTP/1.1 400 Bad Request", "400 Bad Request"),
    ],
)
def test_a_question_has_one_answer(head: bytes, first: str, body: str) -> None:
    told = build_response(head, lambda path: HttpAnswer(HTTPStatus.OK, path, {"X": "y"})).decode()
    lines, _, found = told.partition("\r\n\r\n")
    assert lines.splitlines()[0] == first
    assert found == body
    assert "Connection: close" in lines.splitlines()
