"""Who is there and how are they linked: HELLO, RA, LSR and LSU of one router. Pure: messages and the time come in.

Every second a HELLO goes to all neighbours. Who says in its own that it hears this router is a neighbour, until it has
been silent for `hello_age` seconds or its link is lost. A change of neighbours is advertised to all (RA), who then ask
for the links (LSR, LSU); ways are computed anew at the next tick. What is not advertised for `links_age` is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from knetsim.dataplane.skupper.router.control import (
    TO_ALL,
    TO_NEIGHBOUR,
    Advertisement,
    Control,
    Hello,
    LinksRequest,
    LinksUpdate,
    to_router,
)
from knetsim.dataplane.skupper.router.paths import Routes, find_routes

_HELLO_LOG = logging.getLogger("ROUTER_HELLO")
_LINKS_LOG = logging.getLogger("ROUTER_LS")


@dataclass(frozen=True, slots=True)
class Ages:
    """Times of the protocol, in seconds; as skrouterd's router entity has them."""

    hello_interval: float = 1
    hello_age: float = 3
    advertise_interval: float = 30
    #: … for twice this time after a change
    advertise_interval_in_flux: float = 4
    links_age: float = 60
    #: how long addresses of a router that cannot be reached are kept
    holdoff: float = 1


@dataclass(slots=True)
class Node:
    """Another router."""

    router: str
    instance: int | None = None
    #: the link by which it is a neighbour; None if it is none
    link: Hashable | None = None
    cost: int = 1
    heard_at: float = 0.0
    #: … by that link
    link_heard_at: float = 0.0
    #: its own links, and how new they are
    peers: Mapping[str, int] = field(default_factory=dict)
    version: int = 0
    advertised_at: float = 0.0
    #: how new its addresses are; None: it has not said so yet
    addresses_version: int | None = None
    #: whether its links are to be asked for as soon as it can be reached
    ask_links: bool = True
    #: how often it was found that nobody knows it
    forgotten: int = 0


class Topology:
    """`receive`, `lose` and `tick` change it; what it wants to send is in `outbox`, what it found in `routes`."""

    def __init__(self, router: str, instance: int, ages: Ages, now: float) -> None:
        """`instance`: another one in every run of the router. `now`: seconds of any clock that never jumps."""
        self.router, self.instance, self.ages = router, instance, ages
        self.nodes: dict[str, Node] = {}
        self.routes = Routes()
        #: (address, message) in the order in which they are to be sent
        self.outbox: list[tuple[str, Control]] = []
        #: routers whose addresses are void: they have restarted, or cannot be reached any more
        self.void: list[str] = []
        #: how new this router's own addresses are; whoever changes it calls `advertise`
        self.addresses_version = 0
        self.changed_at = now
        self._peers: dict[str, int] = {}
        self._version = 0
        self._heard: dict[str, float] = {}
        self._hello_at = self._advertised_at = now - 3600
        self._own_changed = self._stale = False
        self._void_at: dict[str, float] = {}
        self._duplicate = False

    @property
    def peers(self) -> Mapping[str, int]:
        """This router's own neighbours, with costs."""
        return self._peers

    def next_link(self, router: str) -> Hashable | None:
        """The link by which `router` is reached; None when it is not."""
        hop = self.nodes.get(self.routes.next_hops.get(router, router))
        return hop.link if hop else None

    def receive(self, message: Control, link: Hashable | None, cost: int, now: float) -> None:
        """A control message of another router, which came by `link` that costs `cost`."""
        if message.router == self.router:
            self._hear_oneself(message)
        elif isinstance(message, Hello):
            self._hear(message, link, cost, now)
        elif isinstance(message, Advertisement):
            self._note_advertisement(message, now)
        elif isinstance(message, LinksUpdate):
            self._note_links(message, now)
        elif isinstance(message, LinksRequest):
            self._learn(message.router)
            links = LinksUpdate(self.router, self.instance, self._version, dict(self._peers))
            self.outbox.append((to_router(message.router), links))

    @property
    def is_due(self) -> bool:
        """Whether there is something that `tick` should do before the next second."""
        asks = any(node.ask_links and self.next_link(node.router) is not None for node in self.nodes.values())
        return self._own_changed or self._stale or asks

    def greet(self) -> None:
        """Say HELLO at once: somebody new is there, or does not know yet that this router hears it."""
        self.outbox.append((TO_NEIGHBOUR, Hello(self.router, self.instance, tuple(self._heard))))

    def lose(self, link: Hashable) -> None:
        """A link is gone: nobody is a neighbour by it any more."""
        for node in self.nodes.values():
            if node.link == link:
                self._part(node, "its link is lost")

    def tick(self, now: float) -> None:
        """To be called about every second."""
        self._expire(now)
        if self._own_changed or self._stale:
            self.changed_at = now
        changed, self._own_changed = self._own_changed, False
        if changed:
            self._version += 1
            self._stale = True
        if self._stale:
            self._stale = False
            self._find_routes(now)
        self._void_unreachable(now)
        self._ask()
        if now - self._hello_at >= self.ages.hello_interval - 0.05:
            self._hello_at = now
            self.outbox.append((TO_NEIGHBOUR, Hello(self.router, self.instance, tuple(self._heard))))
        in_flux = now - self.changed_at <= 2 * self.ages.advertise_interval_in_flux
        interval = self.ages.advertise_interval_in_flux if in_flux else self.ages.advertise_interval
        if changed or now - self._advertised_at >= interval:
            self.advertise(now)

    def advertise(self, now: float) -> None:
        """Tell all how new links and addresses are."""
        self._advertised_at = now
        versions = (self._version, self.addresses_version)
        self.outbox.append((TO_ALL, Advertisement(self.router, self.instance, *versions)))

    # --- neighbours ---------------------------------------------------------------------------------------------------

    def _hear_oneself(self, message: Control) -> None:
        # nobody passes a HELLO on: it is a twin's, or came by a link of this router to itself
        if isinstance(message, Hello) and not self._duplicate:
            self._duplicate = True
            _HELLO_LOG.critical("a neighbour has the name of this router: %s", self.router)

    def _hear(self, message: Hello, link: Hashable | None, cost: int, now: float) -> None:
        is_new = message.router not in self._heard
        self._heard[message.router] = now
        if is_new:
            self.greet()
        if self.router not in message.seen or link is None:
            return
        node = self._learn(message.router)
        node.heard_at = now
        restarted = node.instance not in (None, message.instance)
        is_other = node.link is not None and node.link != link
        if is_other and not restarted and now - node.link_heard_at <= 1.5 * self.ages.hello_interval:
            return  # two links to one neighbour: the first one is used until it is silent
        node.link_heard_at = now
        if node.link != link:
            _HELLO_LOG.info("router %s is a neighbour", message.router)
            node.link, node.cost, node.ask_links = link, cost, True
            # also with the cost that it had by another link: its way is another now
            self._own_changed = self._own_changed or self._peers.get(message.router) != cost
            self._stale = True
            self._peers[message.router] = cost
        self._note_instance(node, message.instance)

    def _part(self, node: Node, why: str) -> None:
        _LINKS_LOG.info("router %s is a neighbour no more: %s", node.router, why)
        node.link = None
        self._own_changed = self._peers.pop(node.router, None) is not None or self._own_changed

    def _learn(self, router: str) -> Node:
        return self.nodes.setdefault(router, Node(router))

    def _note_instance(self, node: Node, instance: int) -> None:
        """A router that was started anew has new links and addresses."""
        if node.instance not in (None, instance):
            _LINKS_LOG.info("router %s has restarted", node.router)
            node.peers, node.version, node.addresses_version, node.ask_links = {}, 0, None, True
            self.void.append(node.router)
            self._stale = True
        node.instance = instance

    # --- link states --------------------------------------------------------------------------------------------------

    def _note_advertisement(self, message: Advertisement, now: float) -> None:
        node = self._learn(message.router)
        self._note_instance(node, message.instance)
        node.advertised_at = now
        node.addresses_version = message.addresses_version
        if node.version < message.links_version:
            node.ask_links = True

    def _note_links(self, message: LinksUpdate, now: float) -> None:
        node = self._learn(message.router)
        self._note_instance(node, message.instance)
        if message.version <= node.version:
            return
        node.peers, node.version, node.advertised_at = dict(message.peers), message.version, now
        self._stale = True
        for peer in message.peers:
            if peer != self.router:
                self._learn(peer)

    def _expire(self, now: float) -> None:
        self._heard = {router: at for router, at in self._heard.items() if now - at <= self.ages.hello_age}
        for node in list(self.nodes.values()):
            if node.link is not None and now - node.heard_at > self.ages.hello_age:
                self._part(node, "it is silent")
            if node.peers and now - node.advertised_at > self.ages.links_age:
                _LINKS_LOG.info("router %s has not advertised itself for %s s", node.router, self.ages.links_age)
                # its version goes too: what it says next is new again
                node.peers, node.version = {}, 0
                self._stale = True
            if node.link is None and not node.peers and not self._is_mentioned(node.router):
                node.forgotten += 1
                if node.forgotten > 2:
                    del self.nodes[node.router]
                    self.void.append(node.router)
                    self._void_at.pop(node.router, None)
            else:
                node.forgotten = 0

    def _is_mentioned(self, router: str) -> bool:
        return any(router in node.peers for node in self.nodes.values())

    def _find_routes(self, now: float) -> None:
        links = {node.router: node.peers for node in self.nodes.values()}
        before = self.routes
        self.routes = find_routes(self.router, {**links, self.router: self._peers})
        for router in before.next_hops.keys() - self.routes.next_hops.keys():
            self._void_at.setdefault(router, now + self.ages.holdoff)
        for router in self.routes.next_hops:
            self._void_at.pop(router, None)
        if before.next_hops != self.routes.next_hops:
            ways = ", ".join(f"{router} by {hop}" for router, hop in sorted(self.routes.next_hops.items()))
            _LINKS_LOG.info("ways: %s", ways or "none")

    def _void_unreachable(self, now: float) -> None:
        for router in [router for router, at in self._void_at.items() if now >= at]:
            del self._void_at[router]
            self.void.append(router)

    def _ask(self) -> None:
        for node in self.nodes.values():
            if node.ask_links and self.next_link(node.router) is not None:
                node.ask_links = False
                self.outbox.append((to_router(node.router), LinksRequest(self.router)))
