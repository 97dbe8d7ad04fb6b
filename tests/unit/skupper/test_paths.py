"""Shortest ways: right lengths, and floods that reach everybody once."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from knetsim.dataplane.skupper.router.paths import Links, find_routes

TRIANGLE = {"A": {"B": 1, "C": 5}, "B": {"A": 1, "C": 1}, "C": {"A": 5, "B": 1}}


def test_a_router_alone() -> None:
    routes = find_routes("A", {"A": {}})
    assert (routes.next_hops, routes.costs, routes.radius) == ({}, {}, 0)


def test_the_cheaper_way_of_a_triangle() -> None:
    routes = find_routes("A", TRIANGLE)
    assert routes.next_hops == {"B": "B", "C": "B"}
    assert routes.costs == {"B": 1, "C": 2}
    assert routes.radius == 2
    assert find_routes("B", TRIANGLE).valid_origins == {"A": {"C"}, "C": {"A"}}
    assert routes.valid_origins == {"B": frozenset(), "C": frozenset()}


def test_a_router_of_which_only_a_neighbour_tells_can_be_asked() -> None:
    routes = find_routes("A", {"A": {"B": 4}, "B": {"A": 4, "C": 2}})
    assert routes.next_hops == {"B": "B", "C": "B"}
    assert find_routes("A", {"A": {"B": 4}}).costs == {"B": 4}


def test_who_cannot_be_reached_is_not_there() -> None:
    routes = find_routes("A", {"A": {"B": 1}, "B": {"A": 1}, "C": {"D": 1}, "D": {"C": 1}})
    assert set(routes.costs) == {"B"}


def test_of_two_ways_of_one_length_all_take_the_same() -> None:
    square = {"A": {"B": 1, "C": 1}, "B": {"A": 1, "D": 1}, "C": {"A": 1, "D": 1}, "D": {"B": 1, "C": 1}}
    assert find_routes("A", square).next_hops["D"] == "B"
    assert find_routes("D", square).next_hops["A"] == "B"
    # B knows that A's way to D leads through it, and C that it does not
    assert "A" in find_routes("B", square).valid_origins["D"]
    assert "A" not in find_routes("C", square).valid_origins["D"]


@st.composite
def networks(draw: st.DrawFn) -> dict[str, dict[str, int]]:
    """Connected, up to eight routers, equal costs being frequent."""
    names = "ABCDEFGH"[: draw(st.integers(2, 8))]
    links: dict[str, dict[str, int]] = {name: {} for name in names}

    def link(one: str, other: str) -> None:
        links[one][other] = links[other][one] = draw(st.integers(1, 3))

    for number, name in enumerate(names[1:], start=1):
        link(name, names[draw(st.integers(0, number - 1))])
    for one, other in itertools.combinations(names, 2):
        if other not in links[one] and draw(st.integers(0, 3)) == 0:
            link(one, other)
    # the order in which neighbours are told of must not matter
    return {name: dict(draw(st.permutations(sorted(peers.items())))) for name, peers in links.items()}


@given(networks())
def test_costs_are_the_least(links: dict[str, dict[str, int]]) -> None:
    least: dict[tuple[str, str], float] = {(one, one): 0 for one in links}
    for one, peers in links.items():
        least |= {(one, other): cost for other, cost in peers.items()}
    for over, one, other in itertools.product(links, repeat=3):
        way = least.get((one, over), float("inf")) + least.get((over, other), float("inf"))
        least[one, other] = min(least.get((one, other), float("inf")), way)
    for one in links:
        assert find_routes(one, links).costs == {other: least[one, other] for other in links if other != one}


@given(networks())
def test_next_hops_lead_there(links: dict[str, dict[str, int]]) -> None:
    routes = {name: find_routes(name, links) for name in links}
    for start, end in itertools.permutations(links, 2):
        at, cost = start, 0
        while at != end:
            hop = routes[at].next_hops[end]
            cost += links[at][hop]
            at = hop
        assert cost == routes[start].costs[end]


@given(networks(), st.data())
def test_a_flood_reaches_everybody_once(links: dict[str, dict[str, int]], data: st.DataObject) -> None:
    origin = data.draw(st.sampled_from(sorted(links)))
    reached = flood(links, origin)
    assert reached == Counter({name: 1 for name in links if name != origin})


def flood(links: Links, origin: str) -> Counter[str]:
    """How often each router gets what `origin` sends to all, by the rule that routers follow."""
    routes: dict[str, Any] = {name: find_routes(name, links) for name in links}
    reached: Counter[str] = Counter()
    # the origin sends to all neighbours by which it reaches somebody
    waiting = [(hop, (origin,)) for hop in dict.fromkeys(routes[origin].next_hops.values())]
    while waiting:
        at, trace = waiting.pop()
        reached[at] += 1
        onwards = {
            routes[at].next_hops[router] for router, origins in routes[at].valid_origins.items() if origin in origins
        }
        waiting += [(hop, (*trace, at)) for hop in onwards if hop not in trace]
    return reached
