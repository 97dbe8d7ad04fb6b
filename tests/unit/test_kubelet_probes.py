"""Probes and hooks: their numbers, their words, and what is sent; nothing here needs a kernel."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence

import pytest

from knetsim.node.kubelet.actions import Outcome, Result, Target, act
from knetsim.node.kubelet.dialing import explain_dial
from knetsim.node.kubelet.ending import Ending, Signal
from knetsim.node.kubelet.grpc_health import build_request, explain_message
from knetsim.node.kubelet.http_get import Answer, Request, _follow
from knetsim.node.kubelet.lifecycle import LIVENESS, READINESS, STARTUP
from knetsim.node.kubelet.probes import Probe, Probing, Row, explain
from knetsim.system.exec_session import ExecSession


def target(**container) -> Target:
    return Target({"name": "web", **container}, "11.0.0.2", None, None)


# --- numbers


def test_defaults_are_kubernetes() -> None:
    probe = Probe.read({"livenessProbe": {"tcpSocket": {"port": 1}}}, LIVENESS)
    assert (probe.delay, probe.period, probe.timeout, probe.success, probe.failure) == (0, 10, 1, 1, 3)
    assert Probe.read({}, LIVENESS) is None


def test_results_count_in_a_row() -> None:
    row = Row(Probe(READINESS, {}, success=2, failure=3))
    said = [row.add(passed) for passed in (True, True, False, False, True, False, False, False, False)]
    assert said == [None, True, None, None, None, None, None, False, False]


def probing(**results: bool) -> Probing:
    probes = {kind: Probe(kind, {}) for kind in (STARTUP, LIVENESS, READINESS)}
    return Probing(target(), None, None, probes, results)


@pytest.mark.parametrize(
    ("results", "started", "ready", "ill"),
    [
        ({}, False, False, ""),
        ({"startup": True}, True, False, ""),
        ({"startup": True, "readiness": True}, True, True, ""),
        ({"startup": True, "readiness": False}, True, False, ""),
        ({"startup": False}, False, False, "startup"),
        ({"startup": True, "liveness": False}, True, False, "liveness"),
    ],
)
def test_what_results_mean(results: dict, started: bool, ready: bool, ill: str) -> None:
    found = probing(**results)
    assert (found.started, found.ready, found.ill) == (started, ready, ill)


def test_what_the_machine_refuses_ends_no_probe() -> None:
    """An exception would end all probes of the container, and nobody would be told."""

    def refuse(argv: Sequence[str]) -> ExecSession:
        raise OSError(errno.EMFILE, "Too many open files")

    handler = {"exec": {"command": ["true"]}}
    outcome = asyncio.run(act(handler, Target({"name": "web"}, "11.0.0.2", None, refuse), 1, "probe"))
    assert (outcome.result, "Too many open files" in outcome.text) == (Result.UNKNOWN, True)


def test_no_probe_means_well() -> None:
    assert Probing.of({"name": "web"}, target(), None, None) is None
    only = Probing.of({"livenessProbe": {"exec": {}}}, target(), None, None)
    assert (only.started, only.ready, only.ill) == (True, True, "")


def test_words_of_events() -> None:
    assert explain(READINESS, Outcome(Result.FAILURE, "HTTP probe failed with statuscode: 500")) == (
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 500",
    )
    assert explain(LIVENESS, Outcome(Result.UNKNOWN, "no way in")) == (
        "Unhealthy",
        "Liveness probe errored and resulted in unknown state: no way in",
    )
    assert explain(STARTUP, Outcome(Result.WARNING, "x")) == ("ProbeWarning", "Startup probe warning: x")
    assert explain(STARTUP, Outcome(Result.SUCCESS)) is None


# --- where it goes


def test_ports_by_number_and_name() -> None:
    web = target(ports=[{"name": "http", "containerPort": 8080}])
    assert (web.port(80), web.port("81"), web.port("http")) == (80, 81, 8080)
    with pytest.raises(ValueError, match="couldn't find port: grpc in web"):
        web.port("grpc")
    with pytest.raises(ValueError, match="invalid port number"):
        web.port(0)


def request(path: str = "/", *headers: tuple[str, str], host: str = "11.0.0.2") -> Request:
    return Request.build("HTTP", host, 80, path, headers, "probe")


def test_the_request_is_a_kubelets() -> None:
    assert request("healthz?x=1").encode() == (
        b"GET /healthz?x=1 HTTP/1.1\r\nHost: 11.0.0.2:80\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\n"
        b"Connection: close\r\n\r\n"
    )
    given = request("/", ("Host", "example.com"), ("User-Agent", "me"), ("Accept", ""), ("X-A", "1\r\nX-B: 2"))
    assert given.encode() == (
        b"GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: me\r\nX-A: 1X-B: 2\r\nConnection: close\r\n\r\n"
    )
    assert request(host="fd00::1").url == "http://[fd00::1]:80/"


def test_redirects_are_followed_at_the_same_host_only() -> None:
    onward = _follow(request("/a/b"), Answer(302, location="c?d=e"))
    assert onward is not None
    assert onward.url == "http://11.0.0.2:80/a/c?d=e"
    assert _follow(request(), Answer(302, location="https://11.0.0.2:8443/x")).url == "https://11.0.0.2:8443/x"
    assert _follow(request(), Answer(302, location="http://elsewhere/")) is None
    assert _follow(request(), Answer(200, location="/x")) is None


def test_words_of_a_connection_that_fails() -> None:
    assert explain_dial(ConnectionRefusedError(111, "x"), "11.0.0.2", 80) == (
        "dial tcp 11.0.0.2:80: connect: connection refused"
    )
    assert explain_dial(TimeoutError(), "fd00::1", 80) == "dial tcp [fd00::1]:80: i/o timeout"
    assert explain_dial(OSError(113, "x"), "11.0.0.2", 80).endswith("connect: no route to host")


def test_grpc_messages() -> None:
    sent = build_request("11.0.0.2:1", "liveness")
    assert sent.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert sent.endswith(b"\0\0\0\0\x0a\x0a\x08liveness")
    assert explain_message(b"\x08\x01") == ""
    assert explain_message(b"\x08\x02") == 'service unhealthy (responded with "NOT_SERVING")'
    assert explain_message(b"") == 'service unhealthy (responded with "UNKNOWN")'


# --- the end of a container


class Hook:
    done = False


def test_term_then_kill() -> None:
    ending = Ending(deadline=30.0)
    assert ending.step(0.0) == (Signal.TERM, 30.0)
    assert ending.step(10.0) == (None, 20.0)
    assert ending.step(30.0)[0] is Signal.KILL


def test_a_hook_uses_the_grace_period_up() -> None:
    hook = Hook()
    ending = Ending(30.0, hook)
    assert ending.step(0.0) == (None, 30.0)
    assert ending.step(30.0) == (Signal.TERM, 2.0), "two seconds are always left"
    assert ending.step(32.0)[0] is Signal.KILL


def test_after_the_hook_the_rest_of_the_period_is_left() -> None:
    hook = Hook()
    ending = Ending(30.0, hook)
    ending.step(0.0)
    hook.done = True
    assert ending.step(5.0) == (Signal.TERM, 25.0)


def test_others_first_and_a_second_deletion() -> None:
    ending = Ending(30.0)
    assert ending.step(0.0, turn=False) == (None, 30.0)
    ending.shorten(4.0)
    ending.shorten(20.0)
    assert ending.step(3.0, turn=False) == (None, 1.0)
    assert ending.step(4.0, turn=False)[0] is Signal.TERM
