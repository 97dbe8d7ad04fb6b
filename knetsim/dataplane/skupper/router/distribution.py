"""Which of several backends a connection goes to: closest or balanced. Pure.

Balanced weighs every place by what is under way to it and by what the way costs, so that a router with a backend of its
own uses one that is farther away only when its own is busier by the cost. Closest looks at the cost alone. Among equals
the one that was not taken for the longest time is next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Place:
    """Where an address is served."""

    #: `consumer` of this router, or another `router`
    kind: str
    name: str
    #: of the way; 0 for this router's own
    cost: int = 0
    #: how many connections are under way to it
    outstanding: int = 0
    taken_at: int = 0


@dataclass(slots=True)
class Places:
    """The places of one address, and what is under way to each."""

    distribution: str = "balanced"
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    _turn: int = 0

    def set(self, costs: Iterable[tuple[str, str, int]]) -> None:
        """The places that there are now: kind, name, cost. What is under way to those that stay is kept."""
        before, self.places = self.places, {}
        for kind, name, cost in costs:
            place = self.places[kind, name] = before.get((kind, name)) or Place(kind, name)
            place.cost = cost

    def choose(self, suits: Callable[[Place], bool] = lambda _: True) -> Place | None:
        """The place for a new connection, which must be given back by `release`; None if none suits."""
        candidates = [place for place in self.places.values() if suits(place)]
        if not candidates or self.distribution == "unavailable":
            return None
        self._turn += 1
        chosen = min(candidates, key=self._weight)
        chosen.taken_at = self._turn
        chosen.outstanding += 1
        return chosen

    def _weight(self, place: Place) -> tuple[int, int]:
        busy = 0 if self.distribution == "closest" else place.outstanding
        return busy + place.cost, place.taken_at

    @staticmethod
    def release(place: Place) -> None:
        """A connection that was under way to `place` is over."""
        place.outstanding -= 1
