"""What may stand in a router's configuration: entities, their attributes, and what may be done to them while it runs.

The names, kinds and defaults are those of skrouterd 3.5. An entity or attribute that is not here is an error there and
here. What this router knows and does not do is marked `unsupported`: it is refused with that reason, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "io.skupper.router."
ROLES = ("normal", "inter-router", "route-container", "edge", "inter-edge", "inter-network")
DISTRIBUTIONS = ("multicast", "closest", "balanced", "unavailable")
MODULES = (
    *("ROUTER", "ROUTER_CORE", "ROUTER_HELLO", "ROUTER_LS", "ROUTER_MA", "MESSAGE", "SERVER", "AGENT", "CONTAINER"),
    *("ERROR", "POLICY", "HTTP", "CONN_MGR", "PYTHON", "PROTOCOL", "TCP_ADAPTOR", "HTTP_ADAPTOR", "FLOW_LOG"),
    *("ADDRESS_WATCH", "HTTP1_OBSERVER", "HTTP2_OBSERVER", "HTTP2_DECODER", "DEFAULT"),
)
LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an entity."""

    #: `text`, `number`, `switch`, `port` (a number or a name) or `map`
    kind: str = "text"
    default: str | int | bool | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    #: values that are refused, and why: `*` for any
    unsupported: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of entity."""

    attributes: Mapping[str, Attribute]
    #: what management may do: CREATE, UPDATE, DELETE
    operations: tuple[str, ...] = ()
    #: what UPDATE may change
    changeable: tuple[str, ...] = ()
    #: the name in management, without the prefix, where it is another one
    managed_as: str = ""
    single: bool = False
    #: whether this router has it; if not, why
    unsupported: str = ""


def _text(default: str | None = None, *, required: bool = False, choices: tuple[str, ...] = ()) -> Attribute:
    return Attribute("text", default, required, choices)


def _number(default: int | None = None, *, required: bool = False) -> Attribute:
    return Attribute("number", default, required)


def _switch(default: bool = False) -> Attribute:
    return Attribute("switch", default)


def _no(reason: str, kind: str = "text", *, choices: tuple[str, ...] = ()) -> Attribute:
    """Known, and refused whatever it is."""
    return Attribute(kind, None, False, choices, {"*": reason})


_NAME = {"name": _text()}
_NO_EDGE = dict.fromkeys(
    ("route-container", "edge", "inter-edge", "inter-network"),
    "the embedded router has no edges; its roles are `normal` and `inter-router`",
)
_ROLE = Attribute("text", "normal", False, ROLES, _NO_EDGE)
_NO_TLS = _no("the embedded router carries TCP as it is, without TLS at its ends")
_NO_PASSWORDS = _no("the embedded router knows others by certificates")
_CONNECTION = {
    **_NAME,
    "port": Attribute("port", "amqp"),
    "socketAddressFamily": _no("the embedded router goes by the address", choices=("IPv4", "IPv6")),
    "role": _ROLE,
    "cost": _number(1),
    "sslProfile": _text(),
    "saslMechanisms": _text(),
    "maxFrameSize": _number(),
    "maxSessions": _number(32768),
    "maxSessionFrames": _number(),
    "idleTimeoutSeconds": _number(16),
    "stripAnnotations": _text("both", choices=("in", "out", "both", "no")),
    "linkCapacity": _number(),
    "messageLoggingComponents": _text("none"),
    "policyVhost": _no("the embedded router has no policies"),
    "openProperties": Attribute("map"),
}
_SERVICE = {**_NAME, "port": Attribute("port", None, True), "siteId": _text()}

ENTITIES: Mapping[str, Entity] = {
    "router": Entity(
        {
            **_NAME,
            "id": _text(),
            "vanId": _text(),
            "mode": Attribute(
                "text",
                "standalone",
                False,
                ("standalone", "interior", "edge"),
                {"edge": "the embedded router is an interior one"},
            ),
            "helloIntervalSeconds": _number(1),
            "helloMaxAgeSeconds": _number(3),
            "raIntervalSeconds": _number(30),
            "raIntervalFluxSeconds": _number(4),
            "remoteLsMaxAgeSeconds": _number(60),
            "unreachableHoldoffSeconds": _number(1),
            "workerThreads": _number(4),
            "debugDumpFile": _text(),
            "saslConfigDir": _text(),
            "saslConfigName": _text("skrouterd"),
            "timestampsInUTC": _switch(),
            "timestampFormat": _text(),
            "defaultDistribution": _text("balanced", choices=DISTRIBUTIONS),
            "metadata": _text(),
            "dataConnectionCount": Attribute("port", "auto"),
            "dropTcpConnections": _switch(True),
        },
        single=True,
    ),
    "network": Entity({**_NAME, "networkId": _text(), "tenantId": _text()}, single=True),
    "site": Entity(_NAME | dict.fromkeys(("location", "provider", "version", "platform", "namespace"), _text())),
    "sslProfile": Entity(
        {
            **_NAME,
            **dict.fromkeys(
                ("ciphers", "protocols", "caCertFile", "certFile", "privateKeyFile", "password", "uidFormat"), _text()
            ),
            "uidNameMappingFile": _text(),
            "ordinal": _number(),
            "oldestValidOrdinal": _number(),
        },
        ("CREATE", "UPDATE", "DELETE"),
        changeable=(
            *("ciphers", "protocols", "caCertFile", "certFile", "privateKeyFile", "password", "ordinal"),
            "oldestValidOrdinal",
        ),
    ),
    "proxyProfile": Entity(
        {**_NAME, "host": _text(), "port": Attribute("port"), "username": _text(), "password": _text()},
        unsupported="the embedded router dials without a proxy",
    ),
    "listener": Entity(
        {
            **_CONNECTION,
            "host": _text(""),
            "authenticatePeer": _switch(),
            "requireEncryption": _switch(),
            "requireSsl": _switch(),
            "initialHandshakeTimeoutSeconds": _number(0),
            "failoverUrls": _no("the embedded router tells nobody where else to dial"),
            "healthz": _switch(True),
            "metrics": _switch(True),
            "websockets": _switch(True),
            "http": _switch(),
            "httpRootDir": _text(),
        },
        ("CREATE", "DELETE"),
    ),
    "connector": Entity(
        {
            **_CONNECTION,
            "host": _text("127.0.0.1"),
            "proxyProfile": _no("the embedded router dials without a proxy"),
            "allowRedirect": _switch(True),
            "verifyHostname": _switch(True),
            "saslUsername": _NO_PASSWORDS,
            "saslPassword": _NO_PASSWORDS,
        },
        ("CREATE", "DELETE"),
    ),
    "tcpListener": Entity(
        {
            **_SERVICE,
            "host": _text(""),
            "address": _text(),
            "backlog": _number(0),
            "multiAddressStrategy": Attribute(
                "text",
                "none",
                False,
                ("none", "priority", "weighted"),
                dict.fromkeys(("priority", "weighted"), "the embedded router gives a listener one address"),
            ),
            "sslProfile": _NO_TLS,
            "authenticatePeer": _switch(),
            "observer": _text("auto", choices=("none", "auto", "http1", "http2")),
        },
        ("CREATE", "UPDATE", "DELETE"),
        changeable=("observer",),
    ),
    "tcpConnector": Entity(
        {
            **_SERVICE,
            "host": _text("127.0.0.1"),
            "address": _text(required=True),
            "processId": _text(),
            "sslProfile": _NO_TLS,
            "verifyHostname": _switch(True),
        },
        ("CREATE", "DELETE"),
    ),
    "listenerAddress": Entity(
        {
            **_NAME,
            "address": _text(required=True),
            "value": _number(required=True),
            "listener": _text(required=True),
        },
        unsupported="the embedded router gives a listener one address",
    ),
    "address": Entity(
        {
            **_NAME,
            "prefix": _text(),
            "pattern": _text(),
            "distribution": _text("balanced", choices=DISTRIBUTIONS),
            "priority": _number(),
        },
        ("CREATE", "DELETE"),
        managed_as="router.config.address",
    ),
    "log": Entity(
        {
            **_NAME,
            "module": _text(required=True, choices=MODULES),
            "enable": _text(),
            "includeTimestamp": _switch(True),
            "includeSource": _switch(),
            "outputFile": _text(),
        },
        ("UPDATE",),
        changeable=("enable",),
    ),
    "policy": Entity(_NAME, single=True, unsupported="the embedded router has no policies"),
    "vhost": Entity(_NAME, unsupported="the embedded router has no policies"),
    "autoLink": Entity(_NAME, managed_as="router.config.autoLink", unsupported="the embedded router has no auto links"),
}


def describe_entities() -> dict[str, Any]:
    """What may be configured, for whoever asks a router: name in management → attributes and operations."""
    return {
        entity.managed_as or name: {
            "fullyQualifiedType": PREFIX + (entity.managed_as or name),
            "operations": ["READ", *entity.operations],
            "attributes": {key: _describe(attribute) for key, attribute in entity.attributes.items()},
        }
        for name, entity in ENTITIES.items()
        if not entity.unsupported
    }


def _describe(attribute: Attribute) -> dict[str, Any]:
    described: dict[str, Any] = {"type": list(attribute.choices) or attribute.kind, "required": attribute.required}
    return described if attribute.default is None else described | {"default": attribute.default}
