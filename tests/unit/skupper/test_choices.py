"""Which backend a connection goes to, and what an address means."""

from __future__ import annotations

from collections import Counter

import pytest

from knetsim.dataplane.skupper.router.addresses import Distributions, Target, read_address
from knetsim.dataplane.skupper.router.distribution import Places

HERE, THERE = ("consumer", "own", 0), ("router", "B", 1)


def take(places: Places, times: int) -> Counter[str]:
    """Connections that stay."""
    chosen = [places.choose() for _ in range(times)]
    return Counter(place.name for place in chosen if place is not None)


def test_equals_share() -> None:
    places = Places()
    places.set([("consumer", "one", 0), ("consumer", "two", 0)])
    assert take(places, 10) == {"one": 5, "two": 5}


def test_those_who_are_done_are_next() -> None:
    places = Places()
    places.set([("consumer", "one", 0), ("consumer", "two", 0)])
    chosen = [places.choose() for _ in range(4)]
    for place in chosen:
        assert place is not None
        if place.name == "one":
            places.release(place)
    assert take(places, 2) == {"one": 2}


def test_short_connections_take_turns() -> None:
    places = Places()
    places.set([("router", "B", 1), ("router", "C", 1)])
    names = []
    for _ in range(6):
        place = places.choose()
        assert place is not None
        names.append(place.name)
        places.release(place)
    assert Counter(names) == {"B": 3, "C": 3}


def test_a_dear_way_is_used_when_the_near_ones_are_busier_by_its_cost() -> None:
    places = Places()
    places.set([HERE, ("router", "B", 4)])
    assert take(places, 4) == {"own": 4}
    assert take(places, 6) == {"own": 3, "B": 3}


def test_closest_never_leaves_while_there_is_one_here() -> None:
    places = Places("closest")
    places.set([HERE, THERE])
    assert take(places, 20) == {"own": 20}
    places.set([THERE, ("router", "C", 1), ("router", "D", 2)])
    assert take(places, 20) == {"B": 10, "C": 10}


def test_what_is_under_way_is_kept_when_places_change() -> None:
    places = Places()
    places.set([HERE, THERE])
    assert take(places, 3) == {"own": 2, "B": 1}
    places.set([HERE, THERE, ("router", "C", 1)])
    assert {name: place.outstanding for (_, name), place in places.places.items()} == {"own": 2, "B": 1, "C": 0}


def test_who_does_not_suit_is_not_taken() -> None:
    places = Places()
    assert places.choose() is None
    places.set([HERE, THERE])
    place = places.choose(lambda one: one.kind == "router")
    assert place is not None and place.name == "B"
    assert places.choose(lambda _: False) is None
    places.distribution = "unavailable"
    assert places.choose() is None


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("web:8080", Target("mobile", "web:8080")),
        ("amqp:/web:8080", Target("mobile", "web:8080")),
        ("amqp://host:5672/web", Target("mobile", "web")),
        ("amqps:/mc/x", Target("mobile", "mc/x")),
        ("amqp:/_local/qdhello", Target("local", "qdhello")),
        ("amqp:/_topo/0/all/qdrouter.ma", Target("topological", "qdrouter.ma", "all")),
        ("_topo/0/B/$management", Target("topological", "$management", "B")),
        ("amqp:/_topo/0/B/temp.1/x", Target("topological", "temp.1/x", "B")),
        ("amqp:/_topo/0/B", Target("mobile", "_topo/0/B")),
        ("", Target("mobile", "")),
    ],
)
def test_addresses(address: str, target: Target) -> None:
    assert read_address(address) == target


def test_the_longest_prefix_says_how() -> None:
    rules = Distributions(
        "closest", {"mc": "multicast", "mc/one": "balanced"}, [("a.*.c", "unavailable"), ("b.#", "balanced")]
    )
    expected = {
        "web": "closest",
        "mc": "multicast",
        "mc/x": "multicast",
        "mc.x": "multicast",
        "mcx": "closest",
        "mc/one/two": "balanced",
        "a.b.c": "unavailable",
        "a/b/c": "unavailable",
        "a.b.b.c": "closest",
        "b": "balanced",
        "b.x.y": "balanced",
    }
    assert {address: rules.of(address) for address in expected} == expected
