"""Who is there: neighbours come and go, links are told on, restarts and silence are noticed. The clock is ours."""

from __future__ import annotations

import itertools
import logging

import pytest

from knetsim.dataplane.skupper.router.addresses import read_address
from knetsim.dataplane.skupper.router.control import Advertisement, Hello, LinksRequest, LinksUpdate
from knetsim.dataplane.skupper.router.topology import Ages, Topology


class Network:
    """Topologies that hear each other at once; a link is its two ends."""

    def __init__(self, **links: int) -> None:
        """`AB=1`: routers A and B are linked, at this cost."""
        self.now = 1000.0
        self.links = {frozenset(pair): cost for pair, cost in links.items()}
        names = sorted({name for pair in links for name in pair})
        self.routers = {name: Topology(name, 1, Ages(), self.now) for name in names}

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            for name, router in list(self.routers.items()):
                router.tick(self.now)
                self._carry(name)
            while any(router.outbox for router in self.routers.values()):
                for name in self.routers:
                    self._carry(name)

    def restart(self, name: str) -> None:
        self.routers[name] = Topology(name, int(self.now), Ages(), self.now)

    def cut(self, pair: str, *, noticed: bool) -> None:
        del self.links[frozenset(pair)]
        if noticed:
            for name in pair:
                self.routers[name].lose(frozenset(pair))

    def ways(self, name: str) -> dict[str, str]:
        return dict(self.routers[name].routes.next_hops)

    def _carry(self, name: str) -> None:
        outbox = self.routers[name].outbox
        messages = list(outbox)
        outbox.clear()
        for address, message in messages:
            target = read_address(address)
            for link, cost in list(self.links.items()):
                other = next(iter(link - {name}), "")
                if name in link and target.kind == "local":
                    self.routers[other].receive(message, link, cost, self.now)
            if target.kind == "topological":
                for other in self._reached(name) if target.router == "all" else [target.router]:
                    if other != name and other in self._reached(name):
                        self.routers[other].receive(message, None, 1, self.now)

    def _reached(self, start: str) -> set[str]:
        reached = {start}
        for _ in self.routers:
            reached |= set(itertools.chain.from_iterable(link for link in self.links if link & reached))
        return reached


def test_two_routers_find_each_other() -> None:
    network = Network(AB=1)
    network.pass_time(3)
    assert network.ways("A") == {"B": "B"}
    assert network.ways("B") == {"A": "A"}
    assert network.routers["A"].nodes["B"].peers == {"A": 1}


def test_a_line_knows_its_ends_and_a_change_of_cost_another_way() -> None:
    network = Network(AB=1, BC=1, AC=5)
    network.pass_time(5)
    assert network.ways("A") == {"B": "B", "C": "B"}
    assert network.routers["A"].routes.costs == {"B": 1, "C": 2}
    network.cut("BC", noticed=True)
    network.pass_time(3)
    assert network.ways("A") == {"B": "B", "C": "C"}
    assert network.routers["B"].routes.costs == {"A": 1, "C": 6}


def test_a_silent_neighbour_is_given_up_after_its_age() -> None:
    network = Network(AB=1)
    network.pass_time(3)
    network.cut("AB", noticed=False)
    network.pass_time(3)
    assert network.ways("A") == {"B": "B"}
    network.pass_time(2)
    assert network.ways("A") == {}
    # its addresses are kept a little longer
    network.pass_time(1)
    assert network.routers["A"].void == ["B"]


def test_a_link_that_comes_back_in_time_costs_no_addresses() -> None:
    network = Network(AB=1)
    network.pass_time(3)
    network.cut("AB", noticed=True)
    network.routers["A"].tick(network.now + 0.1)
    assert network.ways("A") == {}
    network.links[frozenset("AB")] = 1
    network.routers["A"].receive(Hello("B", 1, ("A",)), frozenset("AB"), 1, network.now + 0.2)
    network.routers["A"].tick(network.now + 0.3)
    network.routers["A"].tick(network.now + 5)
    assert network.routers["A"].void == []


def test_a_restart_is_noticed_though_the_neighbour_was_never_silent() -> None:
    network = Network(AB=1, BC=1)
    network.pass_time(4)
    network.restart("B")
    network.pass_time(3)
    for name in "AC":
        assert "B" in network.routers[name].void
        assert network.ways(name) == {"B": "B", next(iter({"A", "C"} - {name})): "B"}


def test_a_router_that_advertises_itself_no_more_is_forgotten() -> None:
    network = Network(AB=1, BC=1)
    network.pass_time(4)
    a = network.routers["A"]
    # C and its link are lost, and B is the only one to tell: it is not heard either
    del network.routers["C"], network.links[frozenset("BC")]
    network.pass_time(6)
    assert network.ways("A") == {"B": "B"}
    network.pass_time(65)
    assert set(a.nodes) == {"B"}
    assert "C" in a.void


def test_what_is_sent_and_when() -> None:
    router = Topology("A", 7, Ages(), 1000.0)
    router.tick(1000.0)
    kinds = [type(message).__name__ for _, message in router.outbox]
    assert kinds == ["Hello", "Advertisement"]
    router.outbox.clear()
    sent = []
    for second in range(1, 61):
        router.tick(1000.0 + second)
        sent += [(second, type(message).__name__) for _, message in router.outbox]
        router.outbox.clear()
    assert [second for second, kind in sent if kind == "Hello"] == list(range(1, 61))
    # every four seconds for eight after the start, then every thirty
    assert [second for second, kind in sent if kind == "Advertisement"] == [4, 8, 38]


def test_links_are_told_to_who_asks() -> None:
    router = Topology("A", 7, Ages(), 1000.0)
    router.receive(Hello("B", 1, ("A",)), "link", 4, 1000.0)
    assert router.is_due
    router.tick(1000.1)
    router.outbox.clear()
    router.receive(LinksRequest("B"), "link", 4, 1000.2)
    assert router.outbox == [("amqp:/_topo/0/B/qdrouter", LinksUpdate("A", 7, 1, {"B": 4}))]


def test_old_links_are_not_taken_for_new_ones() -> None:
    router = Topology("A", 7, Ages(), 1000.0)
    router.receive(LinksUpdate("B", 1, 5, {"A": 1, "C": 1}), None, 1, 1000.0)
    router.receive(LinksUpdate("B", 1, 4, {"A": 1}), None, 1, 1000.1)
    assert router.nodes["B"].peers == {"A": 1, "C": 1}
    assert "C" in router.nodes


def test_newer_links_are_asked_for() -> None:
    router = Topology("A", 7, Ages(), 1000.0)
    router.receive(Hello("B", 1, ("A",)), "link", 1, 1000.0)
    router.tick(1000.1)
    router.outbox.clear()
    router.receive(Advertisement("B", 1, 3, 0), "link", 1, 1000.2)
    router.tick(1000.3)
    assert ("amqp:/_topo/0/B/qdrouter", LinksRequest("A")) in router.outbox


def test_who_does_not_hear_this_router_is_no_neighbour() -> None:
    router = Topology("A", 7, Ages(), 1000.0)
    router.receive(Hello("B", 1, ("C",)), "link", 1, 1000.0)
    router.tick(1000.1)
    assert router.peers == {}
    # but it is told at once that it is heard
    assert router.outbox[0][1] == Hello("A", 7, ("B",))


def test_of_two_links_to_a_neighbour_the_first_is_used_until_it_is_silent() -> None:
    router = Topology("A", 7, Ages(), 1000.0)
    for second in range(3):
        router.receive(Hello("B", 1, ("A",)), "first", 1, 1000.0 + second)
        router.receive(Hello("B", 1, ("A",)), "second", 2, 1000.1 + second)
        router.tick(1000.2 + second)
        assert router.next_link("B") == "first"
    for second in range(3, 6):
        router.receive(Hello("B", 1, ("A",)), "second", 2, 1000.1 + second)
        router.tick(1000.2 + second)
    assert router.next_link("B") == "second"
    assert router.peers == {"B": 2}


def test_a_namesake_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    router = Topology("A", 7, Ages(), 1000.0)
    logging.getLogger("ROUTER_HELLO").propagate = True
    # this one by a link to itself, and a twin
    for instance in (7, 7, 8):
        router.receive(Hello("A", instance), "link", 1, 1000.0)
    assert caplog.text.count("the name of this router") == 1
    assert router.nodes == {}
