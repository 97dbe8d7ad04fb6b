"""The router's configuration: what skrouterd takes is taken, what it refuses is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knetsim.dataplane.skupper import NeighbourPort, RouterPlan, build_router_config
from knetsim.dataplane.skupper.router.config import build_config, check_section, parse_levels, read_config
from knetsim.dataplane.skupper.router.errors import ConfigError

INTERIOR: list[Any] = ["router", {"id": "A", "mode": "interior"}]


def problems(*entities: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        build_config(list(entities))
    return caught.value.problems


@pytest.mark.parametrize(
    "entity",
    [
        ["listener", {"port": 5671}],
        ["listener", {"port": "amqp"}],
        ["listener", {}],
        ["listener", {"role": "inter-router", "cost": "3"}],
        ["connector", {"host": "x", "port": "5671", "verifyHostname": "no", "role": "inter-router"}],
        ["tcpListener", {"port": 1, "address": "a"}],
        ["tcpConnector", {"port": "1", "address": "a", "processId": "p", "siteId": "s"}],
        ["sslProfile", {"name": "p", "caCertFile": "/not/there", "ordinal": 1}],
        ["address", {"prefix": "mc", "distribution": "multicast"}],
        ["log", {"module": "ROUTER_CORE", "enable": "error+"}],
        ["site", {"name": "west", "platform": "linux"}],
        ["network", {"networkId": "n"}],
    ],
    ids=str,
)
def test_what_skrouterd_takes(entity: Any) -> None:
    assert build_config([INTERIOR, entity]).of(entity[0])


def test_a_file_without_a_router_is_a_router_alone() -> None:
    assert build_config([]).router["mode"] == "standalone"
    assert build_config([]).router["id"] is None


def test_two_listeners_of_one_port_are_a_matter_of_opening_it() -> None:
    one = {"port": 1, "address": "a"}
    names = [section.name for section in build_config([["tcpListener", one], ["tcpListener", one]]).of("tcpListener")]
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("entities", "words"),
    [
        ([["httpListener", {}]], "no entity 'httpListener'"),
        ([["tcpListener", {"port": 1, "address": "a", "processId": "p"}]], "attribute 'processId'"),
        ([["tcpListener", {"port": 1, "address": "a", "verifyHostname": True}]], "attribute 'verifyHostname'"),
        ([["tcpConnector", {"port": 1, "address": "a", "observer": "auto"}]], "attribute 'observer'"),
        ([["tcpListener", {"port": 1, "address": "a", "observer": "http9"}]], "'http9' is none of"),
        ([["listener", {"role": "boss"}]], "'boss' is none of"),
        ([["address", {"prefix": "a", "distribution": "random"}]], "'random' is none of"),
        ([["tcpListener", {"address": "a"}]], "attribute 'port' is required"),
        ([["tcpListener", {"port": 1}]], "attribute 'address' is required"),
        ([["tcpConnector", {"port": 1}]], "attribute 'address' is required"),
        ([["tcpConnector", {"address": "a"}]], "attribute 'port' is required"),
        ([["log", {"module": "NOBODY"}]], "'NOBODY' is none of"),
        ([["log", {"module": "DEFAULT", "enable": "loud"}]], "'loud'"),
        ([["listener", {"sslProfile": "p"}]], "there is no sslProfile 'p'"),
        ([["listener", {"name": "l"}], ["listener", {"name": "l"}]], "there are 2 of this name"),
        (
            [["sslProfile", {"name": "a"}], ["connector", {"name": "a", "role": "inter-router", "sslProfile": "a"}]],
            "connector 'a': this is already the name of the sslProfile",
        ),
        ([INTERIOR, INTERIOR], "there are 2, only one may be"),
        ([["router", {"id": "a b"}]], "has a blank in it"),
        (
            [["router", {"mode": "standalone"}], ["listener", {"role": "inter-router"}]],
            "needs a router of mode interior",
        ),
        ([["connector", {"role": "inter-router"}]], "needs a router of mode interior"),
        ([["listener", {"port": 70000}]], "'port': 70000 is no port"),
        ([["listener", {"port": True}]], "'port': True is no port"),
        ([["listener", {"cost": 0}]], "0 is less than 1"),
        ([["listener", {"cost": "x"}]], "'x' is no number"),
        ([["listener", {"http": "perhaps"}]], "'perhaps' is no switch"),
        (["listener"], "element 1: [entity, attributes]"),
        ([["listener", []]], "element 1: [entity, attributes]"),
        ([["tcplistener", {}]], "did you mean 'tcpListener'?"),
        ([["tcpListener", {"adress": "a", "port": 1}]], "did you mean 'address'?"),
    ],
    ids=str,
)
def test_what_skrouterd_refuses(entities: list[Any], words: str) -> None:
    assert any(words in problem for problem in problems(*entities))


@pytest.mark.parametrize(
    "entity",
    [
        ["router", {"mode": "edge"}],
        ["listener", {"role": "edge"}],
        ["tcpListener", {"port": 1, "address": "a", "sslProfile": "p"}],
        ["tcpConnector", {"port": 1, "address": "a", "sslProfile": "p"}],
        ["tcpListener", {"port": 1, "multiAddressStrategy": "priority"}],
        ["listenerAddress", {"address": "a", "value": 1, "listener": "l"}],
        ["connector", {"proxyProfile": "p"}],
        ["connector", {"saslPassword": "secret"}],
        ["listener", {"socketAddressFamily": "IPv6"}],
        ["listener", {"failoverUrls": "amqp://other"}],
        ["policy", {}],
    ],
    ids=str,
)
def test_what_the_embedded_router_has_not_is_refused_with_the_reason(entity: Any) -> None:
    found = problems(["sslProfile", {"name": "p"}], entity)
    assert any("the embedded router" in problem for problem in found)


def test_all_mistakes_are_told_at_once_each_with_entity_and_attribute() -> None:
    found = problems(["tcpListener", {"name": "web", "port": 99999}], ["connector", {"name": "up", "cost": "x"}])
    assert len(found) >= 3
    assert any(line.startswith("tcpListener 'web': attribute 'port': ") for line in found)
    assert any(line.startswith("connector 'up': attribute 'cost': ") for line in found)


def test_what_is_no_json() -> None:
    for text in ("", "{", "[[]", "{}"):
        with pytest.raises(ConfigError):
            read_config(text)


def test_one_more_entity_is_checked_beside_the_others() -> None:
    config = build_config([INTERIOR, ["sslProfile", {"name": "p"}], ["listener", {"name": "l", "port": 1}]])
    section = check_section("listener", {"port": 2, "sslProfile": "p", "role": "inter-router"}, config.sections)
    assert section.attributes["port"] == "2"
    with pytest.raises(ConfigError):
        check_section("listener", {"name": "l", "port": 2}, config.sections)
    with pytest.raises(ConfigError):
        check_section("listener", {"port": 2, "sslProfile": "q"}, config.sections)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("info+", {"info", "warning", "error", "critical"}),
        ("error", {"error"}),
        ("debug,error+", {"debug", "error", "critical"}),
        ("info-", {"debug", "info"}),
        ("none", set()),
        ("notice", {"info"}),
        ("loud", None),
        ("info++", None),
    ],
)
def test_levels(text: str, levels: set[str] | None) -> None:
    assert parse_levels(text) == levels


def test_what_knetsim_builds_wrongly_is_refused_before_it_is_written() -> None:
    ports = (NeighbourPort("one"), NeighbourPort("one"))
    with pytest.raises(ConfigError):
        build_router_config(RouterPlan("c0", ports=ports))
    with pytest.raises(ConfigError):
        build_router_config(RouterPlan("c 0"))
    assert json.loads(build_router_config(RouterPlan("c0", health_port=None)))
