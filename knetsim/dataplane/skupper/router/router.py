"""A router: its parts put together, from a configuration."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from knetsim.dataplane.skupper.router.addresses import Distributions
from knetsim.dataplane.skupper.router.amqp import AmqpConnection
from knetsim.dataplane.skupper.router.clients import Client
from knetsim.dataplane.skupper.router.config import Config, Section
from knetsim.dataplane.skupper.router.connections import Connector, Listener
from knetsim.dataplane.skupper.router.conversation import Conversation
from knetsim.dataplane.skupper.router.core import RouterCore
from knetsim.dataplane.skupper.router.errors import RouterError
from knetsim.dataplane.skupper.router.http import HttpListener
from knetsim.dataplane.skupper.router.logs import RouterLog
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.management import Management
from knetsim.dataplane.skupper.router.metrics import build_metrics
from knetsim.dataplane.skupper.router.peers import Peer
from knetsim.dataplane.skupper.router.services import TcpConnector, TcpListener
from knetsim.dataplane.skupper.router.topology import Ages, Topology

_LOG = logging.getLogger("ROUTER")
VERSION = "0.1.0"
#: seconds, so that many connections that end together cost one look at all objects (10 ms)
_COLLECT_AFTER = 1.0

Part = Listener | Connector | TcpListener | TcpConnector | HttpListener


class Router:
    """`start`, then run the loop; management adds and removes parts while it runs."""

    def __init__(self, config: Config, loop: Loop, log: RouterLog, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        attributes = config.router
        self.loop, self.config, self.log, self.clock = loop, config, log, clock
        self.name = str(attributes["id"] or f"Standalone_{uuid4().hex[:12]}")
        self.version = VERSION
        self.mode = str(attributes["mode"])
        self.drops = bool(attributes["dropTcpConnections"])
        self.started_at = loop.now()
        self.sections: list[Section] = list(config.sections)
        #: entity and name → what does it
        self.parts: dict[tuple[str, str], Part] = {}
        self.conversations: dict[int, Peer | Client] = {}
        # others only ask whether it is the same: a router that is killed and started within a second is another one too
        topology = Topology(self.name, int(clock() * 1000), _read_ages(attributes), loop.now())
        self.core = RouterCore(loop, topology, _read_distributions(config))
        self.management = Management(self)
        self._numbers = 0
        self._collecting = False

    def start(self) -> None:
        """Listen and dial. RouterError when a port is taken."""
        _LOG.info("router %s, version %s, mode %s", self.name, self.version, self.mode)
        for section in self.config.sections:
            self._start(section)
        self.loop.every(1.0, self._tick)

    def add(self, section: Section) -> None:
        """One more section. RouterError when it cannot be carried out; then nothing has changed."""
        self._start(section)
        self.sections.append(section)
        self._redistribute(section)

    def remove(self, section: Section) -> None:
        """Undo a section."""
        part = self.parts.pop((section.entity, section.name), None)
        if part is not None:
            part.stop()
        self.sections.remove(section)
        self._redistribute(section)

    def change(self, section: Section, changed: Section) -> None:
        """Other attributes for a section; what uses it sees them from its next connection on."""
        self.sections[self.sections.index(section)] = changed
        if section.entity == "log":
            self.log.enable(changed.attributes)

    def recent_log(self, limit: int) -> list[list[Any]]:
        """The last lines: module, level, words, file, line, seconds since 1970."""
        return self.log.recent(limit)

    def _redistribute(self, section: Section) -> None:
        if section.entity == "address":
            self.core.redistribute(_read_distributions(Config(tuple(self.sections))))

    def _start(self, section: Section) -> None:
        build = _PARTS.get(section.entity)
        if build is not None:
            part = build(self, section.attributes)
            part.start()
            self.parts[section.entity, section.name] = part

    # --- what connections need ----------------------------------------------------------------------------------------

    def profile(self, name: str) -> Mapping[str, Any]:
        """Host's."""
        for section in self.sections:
            if section.entity == "sslProfile" and section.name == name:
                return section.attributes
        raise RouterError(f"there is no sslProfile '{name}'")

    def converse(self, connection: AmqpConnection, role: str, cost: int, ended: Callable[[str], None]) -> Conversation:
        """Host's."""
        self._numbers += 1
        number = self._numbers

        def over(why: str) -> None:
            self.conversations.pop(number, None)
            self._collect_soon()
            _LOG.info("connection %s with %s has ended: %s", number, connection.peer_address, why)
            ended(why)

        conversation: Peer | Client
        if role == "inter-router":
            conversation = Peer(connection, number, self.core, cost, over)
        else:
            conversation = Client(connection, number, self.core, over)
        self.conversations[number] = conversation
        return conversation

    def _collect_soon(self) -> None:
        """Have the memory of ended connections freed: the garbage collector sees nothing of proton's, a connection's
        streams may still hold it in a circle, and links that come and go would cost megabytes before its next turn."""
        if not self._collecting:
            self._collecting = True
            self.loop.after(_COLLECT_AFTER, self._collect)

    def _collect(self) -> None:
        self._collecting = False
        gc.collect()

    def _tick(self) -> None:
        for conversation in list(self.conversations.values()):
            conversation.connection.tick()
        self.core.tick()


def _read_ages(attributes: Mapping[str, Any]) -> Ages:
    return Ages(
        hello_interval=attributes["helloIntervalSeconds"],
        hello_age=attributes["helloMaxAgeSeconds"],
        advertise_interval=attributes["raIntervalSeconds"],
        advertise_interval_in_flux=attributes["raIntervalFluxSeconds"],
        links_age=attributes["remoteLsMaxAgeSeconds"],
        holdoff=attributes["unreachableHoldoffSeconds"],
    )


def _read_distributions(config: Config) -> Distributions:
    rules = [section.attributes for section in config.of("address")]
    return Distributions(
        default=str(config.router["defaultDistribution"]),
        prefixes={str(rule["prefix"]): str(rule["distribution"]) for rule in rules if rule["prefix"]},
        patterns=tuple((str(rule["pattern"]), str(rule["distribution"])) for rule in rules if rule["pattern"]),
    )


def _build_listener(router: Router, attributes: Mapping[str, Any]) -> Part:
    if not attributes["http"]:
        return Listener(router, attributes)
    pages: dict[str, Callable[[], str]] = {}
    if attributes["healthz"]:
        pages["/healthz"] = lambda: "OK\n"
    if attributes["metrics"]:
        pages["/metrics"] = lambda: build_metrics(router)
    return HttpListener(router.loop, attributes, pages)


_PARTS: Mapping[str, Callable[[Router, Mapping[str, Any]], Part]] = {
    "listener": _build_listener,
    "connector": Connector,
    "tcpListener": lambda router, attributes: TcpListener(router.core, attributes, drops=router.drops),
    "tcpConnector": lambda router, attributes: TcpConnector(router.core, attributes, drops=router.drops),
}
