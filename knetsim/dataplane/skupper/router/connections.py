"""Listeners and connectors: how connections between routers, and of management's clients, come to be.

A connector dials again and again, at once after a connection that worked and then ever more slowly, up to every
five seconds.
"""

from __future__ import annotations

import itertools
import logging
import random
import socket
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from proton import SSLDomain

from knetsim.dataplane.skupper.router.amqp import AmqpConnection
from knetsim.dataplane.skupper.router.conversation import Conversation, Terms
from knetsim.dataplane.skupper.router.errors import RouterError
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.peers import CAPABILITIES
from knetsim.dataplane.skupper.router.sockets import Dial, open_listener
from knetsim.dataplane.skupper.router.tls import build_domain

_LOG = logging.getLogger("CONN_MGR")
#: seconds between attempts: at first, and at most
_FIRST, _LONGEST = 0.1, 5.0
#: what is offered where the configuration does not say: larger frames are less work, and peers may send smaller ones
_FRAME = 65536
_ACCEPT = 64
#: seconds until both sides must have said who they are
_HANDSHAKE = 10.0


class Host(Protocol):
    """What connections are made for."""

    loop: Loop
    #: this router's name, and what it calls itself
    name: str
    version: str

    def profile(self, name: str) -> Mapping[str, Any]:
        """The attributes of an sslProfile."""

    def converse(self, connection: AmqpConnection, role: str, cost: int, ended: Callable[[str], None]) -> Conversation:
        """Keep a connection and say what it is for; `ended` is called when it is over."""


def build_terms(host: Host, attributes: Mapping[str, Any], domain: SSLDomain | None, number: int) -> Terms:
    """What is said when a connection of a listener or connector opens."""
    dialled = "verifyHostname" in attributes
    properties: dict[str, Any] = {"product": "knetsim-router", "version": host.version, "qd.conn-id": number}
    properties |= attributes["openProperties"] or {}
    routers = attributes["role"] == "inter-router"
    if routers:
        properties["qd.annotations-version"] = 2
        if attributes["cost"] > 1:
            properties["qd.inter-router-cost"] = attributes["cost"]
    certificate = domain is not None and (dialled or attributes["authenticatePeer"])
    mechanisms = attributes.get("saslMechanisms") or ("EXTERNAL ANONYMOUS" if certificate else "ANONYMOUS")
    return Terms(
        container=host.name,
        max_frame=attributes["maxFrameSize"] or _FRAME,
        channels=attributes["maxSessions"],
        idle=attributes["idleTimeoutSeconds"],
        mechanisms=mechanisms,
        require_authentication=bool(attributes.get("authenticatePeer")),
        require_encryption=bool(attributes.get("requireSsl") or attributes.get("requireEncryption")),
        domain=domain,
        peer_name=attributes["host"] if dialled and domain is not None and attributes["verifyHostname"] else None,
        hostname=attributes["host"] if dialled else "",
        capabilities=CAPABILITIES if routers else CAPABILITIES[:1],
        properties=properties,
    )


_numbers = itertools.count(1)


class Listener:
    """A listener of the configuration."""

    def __init__(self, host: Host, attributes: Mapping[str, Any]) -> None:
        self.host, self.attributes = host, attributes
        self._socket: socket.socket | None = None
        self._domain: SSLDomain | None = None

    def start(self) -> None:
        """Listen. RouterError when the port is taken or the certificates cannot be used."""
        attributes = self.attributes
        if attributes["sslProfile"]:
            profile, authenticate = self.host.profile(attributes["sslProfile"]), attributes["authenticatePeer"]
            self._domain = build_domain(profile, dialled=False, authenticate=authenticate, verify_name=False)
            if not attributes["requireSsl"] and not authenticate:
                self._domain.allow_unsecured_client()
        try:
            self._socket = open_listener(attributes["host"], attributes["port"], 64)
        except OSError as error:
            place = f"{attributes['host'] or '*'}:{attributes['port']}"
            what = f"listener '{attributes['name']}': cannot listen at {place}"
            raise RouterError(f"{what}: {error.strerror or error}") from error
        self.host.loop.watch(self._socket.fileno(), self._accept, level=True)

    def stop(self) -> None:
        """Listen no more; what is connected stays, as with skrouterd."""
        if self._socket is not None:
            self.host.loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _accept(self, _mask: int) -> None:
        for _ in range(_ACCEPT):
            if self._socket is None:
                return
            try:
                stream, peer = self._socket.accept()
            except OSError:
                return
            terms = build_terms(self.host, self.attributes, self._domain, next(_numbers))
            connection = AmqpConnection(self.host.loop, stream, terms, dialled=False)
            connection.peer_address = f"{peer[0]}:{peer[1]}"
            role, cost = self.attributes["role"], self.attributes["cost"]
            conversation = self.host.converse(connection, role, cost, lambda why: None)
            connection.start(conversation)
            _limit_handshake(connection, self.attributes["initialHandshakeTimeoutSeconds"] or _HANDSHAKE)


def _limit_handshake(connection: AmqpConnection, seconds: float) -> None:
    # one that is over until then is not to be kept for this
    reference = weakref.ref(connection)

    def give_up() -> None:
        late = reference()
        if late is not None and late.opened_at is None:
            late.drop("the peer has not said who it is")

    connection.loop.after(seconds, give_up)


class Connector:
    """A connector of the configuration."""

    def __init__(self, host: Host, attributes: Mapping[str, Any]) -> None:
        self.host, self.attributes = host, attributes
        #: why the last attempt failed, or the last connection ended
        self.words = ""
        self._connection: AmqpConnection | None = None
        self._wait = _FIRST
        self._stopped = False

    def start(self) -> None:
        """Dial, until `stop`. RouterError when the certificates cannot be used."""
        self._dial()

    def stop(self) -> None:
        """Dial no more, and end the connection."""
        self._stopped = True
        if self._connection is not None:
            self._connection.close("the connector is deleted")

    @property
    def status(self) -> str:
        """As skrouterd's: `SUCCESS`, `CONNECTING` or `FAILED`."""
        if self._connection is not None and self._connection.opened_at is not None:
            return "SUCCESS"
        return "FAILED" if self.words else "CONNECTING"

    @property
    def _place(self) -> str:
        return f"{self.attributes['host']}:{self.attributes['port']}"

    def _dial(self) -> None:
        if not self._stopped:
            attributes = self.attributes
            Dial(self.host.loop, attributes["host"], attributes["port"], self._dialled, self._failed)

    def _dialled(self, stream: socket.socket) -> None:
        if self._stopped:
            stream.close()
            return
        attributes, domain = self.attributes, None
        try:
            if attributes["sslProfile"]:
                profile = self.host.profile(attributes["sslProfile"])
                verify = attributes["verifyHostname"]
                domain = build_domain(profile, dialled=True, authenticate=False, verify_name=verify)
        except RouterError as error:
            stream.close()
            self._failed(str(error))
            return
        terms = build_terms(self.host, attributes, domain, next(_numbers))
        connection = AmqpConnection(self.host.loop, stream, terms, dialled=True)
        connection.peer_address = self._place
        self._connection = connection
        connection.start(self.host.converse(connection, attributes["role"], attributes["cost"], self._failed))
        _limit_handshake(connection, _HANDSHAKE)

    def _failed(self, why: str) -> None:
        worked = self._connection is not None and self._connection.opened_at is not None
        self._connection = None
        if worked:
            self._wait = _FIRST
        if why != self.words or worked:
            _LOG.warning("connector '%s': no connection to %s: %s", self.attributes["name"], self._place, why)
        self.words = why
        if not self._stopped:
            # not all routers at once when one of them comes back
            self.host.loop.after(self._wait * random.uniform(0.8, 1.2), self._dial)
            self._wait = min(_LONGEST, 2 * self._wait)
