"""Shortest ways through the network: Dijkstra over what every router says about its links. Pure.

All routers compute from the same link states, so they must come to the same ways where two are equally long: routers
are settled in the order of their cost, then of their names, and a way is replaced by a shorter one only.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

#: router → its neighbours, with the cost of the way to each
Links = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Routes:
    """The network as one router sees it; itself is in none of the maps."""

    #: router → the neighbour through which it is reached
    next_hops: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, int] = field(default_factory=dict)
    #: router → those routers whose way to it goes through this one: what they flood is passed on towards it
    valid_origins: Mapping[str, Set[str]] = field(default_factory=dict)
    #: how many hops away the farthest router is
    radius: int = 0


def find_routes(own: str, links: Links) -> Routes:
    """Ways from `own` to all routers that can be reached."""
    known = _complete(links)
    before, costs, hops = _build_tree(own, known)
    next_hops = {}
    for router in before:
        hop = router
        while before[hop] != own:
            hop = before[hop]
        next_hops[router] = hop
    return Routes(next_hops, costs, _find_origins(own, before, known), max(hops.values(), default=0))


def _complete(links: Links) -> Links:
    """With those routers of which only their neighbours tell: they must be reached before they can be asked."""
    known = {router: dict(peers) for router, peers in links.items()}
    for router, peers in links.items():
        for peer in peers:
            known.setdefault(peer, {router: 1})
    return known


def _build_tree(root: str, links: Links) -> tuple[dict[str, str], dict[str, int], dict[str, int]]:
    """For every router that can be reached from `root`: the one before it on its way, its cost, its hops."""
    before: dict[str, str] = {}
    costs, hops = {root: 0}, {root: 0}
    settled: set[str] = set()
    queue = [(0, root)]
    while queue:
        cost, router = heapq.heappop(queue)
        if router in settled:
            continue
        settled.add(router)
        for peer, length in links.get(router, {}).items():
            if peer not in settled and (peer not in costs or cost + length < costs[peer]):
                costs[peer], hops[peer], before[peer] = cost + length, hops[router] + 1, router
                heapq.heappush(queue, (cost + length, peer))
    return before, {router: costs[router] for router in before}, {router: hops[router] for router in before}


def _find_origins(own: str, reachable: Mapping[str, str], links: Links) -> dict[str, frozenset[str]]:
    origins: dict[str, set[str]] = {router: set() for router in reachable}
    for origin in reachable:
        before, _, _ = _build_tree(origin, links)
        through: dict[str, bool] = {origin: False, own: True}
        for router in before:
            if router in origins and _passes(router, before, through):
                origins[router].add(origin)
    return {router: frozenset(found) for router, found in origins.items()}


def _passes(router: str, before: Mapping[str, str], through: dict[str, bool]) -> bool:
    """Whether the way to `router` passes what is true in `through`, which is filled on the way."""
    way = []
    while router not in through:
        way.append(router)
        router = before[router]
    for passed in way:
        through[passed] = through[router]
    return through[router]
