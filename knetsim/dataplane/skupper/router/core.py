"""The middle of a router: where every message and stream goes, by what the network and the configuration say.

Control messages, short messages and streams come in from neighbours, streams from this router's own TCP listeners, and
each goes to whoever its address means: this router, the next hop to another one, or one of the places that serve it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from knetsim.dataplane.skupper.router.addresses import Address, Distributions, Target, read_address
from knetsim.dataplane.skupper.router.control import (
    AddressesRequest,
    AddressesUpdate,
    Control,
    UnknownVersion,
    read_control,
    write_control,
)
from knetsim.dataplane.skupper.router.distribution import Place, Places
from knetsim.dataplane.skupper.router.errors import DecodeError
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.message import Annotations, Properties, build_message, read_body
from knetsim.dataplane.skupper.router.mobile import MobileAddresses
from knetsim.dataplane.skupper.router.peers import Peer
from knetsim.dataplane.skupper.router.streams import ACCEPTED, REJECTED, RELEASED, Incoming
from knetsim.dataplane.skupper.router.topology import Topology

_LOG = logging.getLogger("ROUTER_CORE")
_LINKS_LOG = logging.getLogger("ROUTER_LS")


class Consumer(Protocol):
    """Who serves an address at this router."""

    name: str

    def take(self, incoming: Incoming, over: Callable[[], None]) -> None:
        """A stream for it. It settles it, and calls `over` when all is done."""


class RouterCore:
    """One per router."""

    def __init__(self, loop: Loop, topology: Topology, distributions: Distributions) -> None:
        self.loop, self.topology = loop, topology
        self.router = topology.router
        self.mobile = MobileAddresses(self.router)
        self.distributions = distributions
        self.addresses: dict[str, Address] = {}
        self.peers: list[Peer] = []
        #: what a topological address of this router means → who takes what is sent to it
        self.own: dict[str, Callable[[Incoming], None]] = {}
        #: the clients' own addresses → who takes what this router itself has for them
        self.clients: dict[str, Callable[[bytes], None]] = {}
        #: called when an address becomes reachable, or is no more
        self.watchers: dict[str, list[Callable[[], None]]] = {}
        self._numbers = itertools.count(1)
        self._ticking = self._flushing = False
        self._warned: set[str] = set()
        self._routes = topology.routes

    # --- time and neighbours ------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called every second, and whenever the topology is due."""
        self._ticking = False
        now = self.loop.now()
        self.topology.tick(now)
        for router in self.topology.void:
            self.mobile.void(router)
        self.topology.void.clear()
        for router in self.topology.routes.next_hops:
            self.mobile.compare(router, self.topology.nodes[router].addresses_version, now)
        self._apply()

    def gain_peer(self, peer: Peer) -> None:
        """Core's."""
        self.peers.append(peer)
        self.topology.greet()
        self._apply()

    def lose_peer(self, peer: Peer) -> None:
        """Core's."""
        if peer in self.peers:
            self.peers.remove(peer)
            self.topology.lose(peer)
            self._apply()

    def _apply(self) -> None:
        """Carry out what the topology and the addresses have come to."""
        if self.topology.routes is not self._routes:
            self._routes = self.topology.routes
            for key in list(self.addresses):
                self._refresh(key)
        changed, self.mobile.changed = self.mobile.changed, set()
        for key in changed:
            self._refresh(key)
        for outbox in (self.topology.outbox, self.mobile.outbox):
            messages = list(outbox)
            outbox.clear()
            for address, message in messages:
                self._send_control(address, message)
        if self.topology.is_due and not self._ticking:
            self._ticking = True
            self.loop.soon(self.tick)

    # --- control messages ---------------------------------------------------------------------------------------------

    def take_control(self, peer: Peer, incoming: Incoming) -> None:
        """Core's."""
        octets, head = bytes(incoming.octets), incoming.head
        incoming.settle(ACCEPTED)
        if head is None or head.to is None:
            return
        annotations, target = head.annotations, read_address(head.to)
        if target.kind != "local" and annotations is not None and f"0/{self.router}" in annotations.trace:
            return  # it went in a circle
        if target.kind == "topological" and target.router != self.router:
            passed = (annotations or Annotations(ingress=f"0/{self.router}")).seen_by(self.router)
            self._pass_on(target, passed, passed.encode() + octets[head.rest_at :], peer)
            if target.router != "all":
                return
        opcode = head.application.get("opcode")
        try:
            message = read_control(opcode, read_body(octets, head))
        except UnknownVersion as error:
            if error.router not in self._warned:
                self._warned.add(error.router)
                _LINKS_LOG.warning("%s; ignored", error)
            return
        except DecodeError as error:
            _LINKS_LOG.error("%s from %s is ignored: %s", opcode, peer.router, error)
            return
        if message is not None:
            self._receive(message, peer)

    def _receive(self, message: Control, peer: Peer) -> None:
        if isinstance(message, AddressesRequest | AddressesUpdate):
            if message.router in self.topology.nodes:
                self.mobile.receive(message)
            else:
                _LINKS_LOG.warning("addresses of %s, which is an unknown router, are ignored", message.router)
        else:
            self.topology.receive(message, peer, peer.cost, self.loop.now())
            node = self.topology.nodes.get(message.router)
            if node is not None and message.router in self.topology.routes.next_hops:
                self.mobile.compare(message.router, node.addresses_version, self.loop.now())
        self._apply()

    def _send_control(self, address: str, message: Control) -> None:
        opcode, body = write_control(message)
        annotations = Annotations(ingress=f"0/{self.router}", trace=(f"0/{self.router}",))
        octets = build_message(annotations, Properties(to=address), {"opcode": opcode}, body)
        target = read_address(address)
        if target.kind == "local":
            for peer in self.peers:
                peer.send_control(octets)
        else:
            self._pass_on(target, annotations, octets, None)

    def _pass_on(self, target: Target, annotations: Annotations, octets: bytes, came_by: Peer | None) -> None:
        """Towards one router, or all whose shortest way from where it came in leads through this one."""
        if target.router != "all":
            link = self.topology.next_link(target.router)
            if isinstance(link, Peer):
                link.send_control(octets)
            return
        for peer in self._flood_to(annotations, came_by):
            peer.send_control(octets)

    def _flood_to(self, annotations: Annotations, came_by: Peer | None) -> Iterable[Peer]:
        origin = (annotations.ingress or "").removeprefix("0/")
        routes, links = self.topology.routes, []
        if origin == self.router:
            # a new neighbour has no way yet, and is the one who must hear of this router
            new = [node.link for name, node in self.topology.nodes.items() if name not in routes.next_hops]
            links = [*map(self.topology.next_link, routes.next_hops), *new]
        else:
            for router, origins in routes.valid_origins.items():
                if origin in origins:
                    links.append(self.topology.next_link(router))
        return {
            link: None
            for link in links
            if isinstance(link, Peer) and link is not came_by and f"0/{link.router}" not in annotations.trace
        }

    # --- addresses ----------------------------------------------------------------------------------------------------

    def serve(self, address: str, consumer: Consumer) -> None:
        """`consumer` serves `address` from now on."""
        entry = self._entry(f"M{address}")
        entry.consumers[consumer.name] = consumer
        self.mobile.serve(entry.key, entry.places.distribution)
        self._changed()

    def withdraw(self, address: str, consumer: Consumer) -> None:
        """… and no more; what is under way goes on."""
        entry = self._entry(f"M{address}")
        entry.consumers.pop(consumer.name, None)
        if not entry.consumers:
            self.mobile.withdraw(entry.key)
        self._refresh(entry.key)
        self._changed()

    def watch(self, address: str, changed: Callable[[], None]) -> None:
        """Call when `address` may have become reachable or unreachable."""
        self._entry(f"M{address}").watchers += 1
        self.watchers.setdefault(f"M{address}", []).append(changed)

    def unwatch(self, address: str, changed: Callable[[], None]) -> None:
        """Call no more."""
        key = f"M{address}"
        self.watchers[key].remove(changed)
        self._entry(key).watchers -= 1
        self._refresh(key)

    def is_reachable(self, address: str) -> bool:
        """Whether anybody serves `address` who can be reached."""
        entry = self.addresses.get(f"M{address}")
        return entry is not None and bool(entry.places.places) and entry.places.distribution != "unavailable"

    def redistribute(self, distributions: Distributions) -> None:
        """Other rules; what is under way goes on."""
        self.distributions = distributions
        for key, entry in list(self.addresses.items()):
            entry.places.distribution = distributions.of(key[1:])
            self._refresh(key)
            if entry.consumers:
                self.mobile.serve(key, entry.places.distribution)
        self._changed()

    def _entry(self, key: str) -> Address:
        if key not in self.addresses:
            self.addresses[key] = Address(key, Places(self.distributions.of(key[1:])))
            self._set_places(self.addresses[key])
        return self.addresses[key]

    def _refresh(self, key: str) -> None:
        """An address may have other places now."""
        entry = self._entry(key)
        self._set_places(entry)
        for changed in list(self.watchers.get(key, ())):
            changed()
        if self._is_idle(entry):
            self.loop.soon(lambda: self._forget(key))

    def _forget(self, key: str) -> None:
        entry = self.addresses.get(key)
        if entry is not None and self._is_idle(entry):
            del self.addresses[key]

    def _is_idle(self, entry: Address) -> bool:
        """Whether nobody serves it, not even a router to which there is no way at the moment."""
        used = entry.places.places or entry.consumers or entry.watchers
        return not used and not any(self.mobile.servers(entry.key))

    def _set_places(self, entry: Address) -> None:
        costs = self.topology.routes.costs
        own = [("consumer", name, 0) for name in entry.consumers]
        others = [("router", router, costs[router]) for router in self.mobile.servers(entry.key) if router in costs]
        entry.places.set([*own, *others])

    def _changed(self) -> None:
        """Own addresses have changed: all are told at the end of this turn."""
        if not self._flushing:
            self._flushing = True
            self.loop.soon(self._tell)

    def _tell(self) -> None:
        self._flushing = False
        if self.mobile.flush():
            self.topology.addresses_version = self.mobile.version
            self.topology.advertise(self.loop.now())
        self._apply()

    # --- messages and streams -----------------------------------------------------------------------------------------

    def choose(self, address: str, trace: Iterable[str] = ()) -> tuple[Address, Place] | None:
        """Where a stream to `address` goes: a place that must be released; None if there is none."""
        entry = self.addresses.get(f"M{address}")
        if entry is None:
            return None
        passed = set(trace)
        place = entry.places.choose(lambda one: one.kind == "consumer" or self._leads_on(one.name, passed))
        return (entry, place) if place is not None else None

    def peer_to(self, router: str) -> Peer | None:
        """The neighbour by which a router is reached."""
        link = self.topology.next_link(router)
        return link if isinstance(link, Peer) else None

    def _leads_on(self, router: str, passed: set[str]) -> bool:
        peer = self.peer_to(router)
        return peer is not None and f"0/{peer.router}" not in passed and f"0/{router}" not in passed

    def take_message(self, incoming: Incoming) -> None:
        """Core's: forward it, or give it to whom it is for here."""
        head = incoming.head
        assert head is not None
        if head.to is None:
            return incoming.settle(REJECTED)
        target = read_address(head.to)
        annotations = head.annotations or Annotations(ingress=f"0/{self.router}")
        if target.kind == "topological" and target.router == self.router:
            taker = self.own.get(target.text)
            return taker(incoming) if taker is not None else incoming.settle(RELEASED)
        if f"0/{self.router}" in annotations.trace or len(annotations.trace) > self.topology.routes.radius + 1:
            return incoming.settle(RELEASED)
        if target.kind == "topological":
            return self._forward(incoming, annotations, self.peer_to(target.router), None)
        chosen = self.choose(target.text, annotations.trace)
        if chosen is None:
            return incoming.settle(RELEASED)
        return self._deliver(incoming, annotations, *chosen)

    def _deliver(self, incoming: Incoming, annotations: Annotations, entry: Address, place: Place) -> None:
        def over() -> None:
            entry.places.release(place)

        if place.kind == "consumer":
            entry.egress += 1
            return entry.consumers[place.name].take(incoming, over)
        entry.transit += 1
        return self._forward(incoming, annotations, self.peer_to(place.name), over)

    def _forward(
        self, incoming: Incoming, annotations: Annotations, peer: Peer | None, over: Callable[[], None] | None
    ) -> None:
        """To a neighbour, as it came, with this router in the trace."""
        assert incoming.head is not None
        if peer is None or f"0/{peer.router}" in annotations.trace:
            incoming.settle(RELEASED)
            return over() if over else None
        first = annotations.seen_by(self.router).encode()
        del incoming.octets[: incoming.head.rest_at]
        if annotations.is_stream and incoming.head.annotations is not None:
            incoming.sink = peer.send_stream(incoming, first, over)
            return None
        sent = peer.send_short(first + bytes(incoming.octets))
        incoming.settle(ACCEPTED if sent else RELEASED)
        return over() if over else None

    def take_client_message(self, incoming: Incoming, address: str) -> None:
        """A whole message of a client to `address`."""
        target = read_address(address)
        if target.kind == "mobile":
            target = Target("topological", target.text, self.router)
        if target.router == self.router:
            taker = self.own.get(target.text)
            return taker(incoming) if taker is not None else incoming.settle(RELEASED)
        # the link says where it goes; the message itself need not
        override = f"amqp:/_topo/0/{target.router}/{target.text}"
        annotations = Annotations(to_override=override, ingress=f"0/{self.router}")
        return self._forward(incoming, annotations, self.peer_to(target.router), None)

    def answer_own(self, key: str, octets: bytes) -> None:
        """A message of this router's own for one of its clients."""
        client = self.clients.get(key)
        if client is not None:
            client(octets)

    def send(self, router: str, octets: bytes) -> bool:
        """A whole message of this router's own to another. Whether it was sent."""
        peer = self.peer_to(router)
        return peer is not None and peer.send_short(octets)

    def new_address(self, taker: Callable[[Incoming], None]) -> tuple[str, str]:
        """An address of this router that nobody else has: as others write it, and its key in `own`."""
        key = f"temp.{next(self._numbers):x}.{self.topology.instance:x}"
        self.own[key] = taker
        return f"amqp:/_topo/0/{self.router}/{key}", key
