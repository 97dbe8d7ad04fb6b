"""What the policies of a worker let through and what was dropped, in packets, read from the table's counters.

Only packets in a connection's original direction are asked about, so answers are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from knetsim.dataplane.policy.policies import DIRECTIONS, Direction
from knetsim.dataplane.policy.table import TABLE, PolicyTable
from knetsim.system.nft import Nft

_PODS = ("to/", "from/")


@dataclass(frozen=True, slots=True)
class ChainCounter:
    """What one chain counted: that of a policy (`ingress/default/web`) what it allowed, that of pods
    (`to/default/deny_web`) what none of their policies allowed."""

    chain: str
    direction: Direction
    dropped: bool
    packets: int


def read_counters(nft: Nft) -> list[ChainCounter]:
    """What the table of a worker has counted since it was made; nothing where there is none."""
    if ("ip", TABLE) not in nft.read_tables():
        return []
    return parse_counters(nft.read_json(f"list table ip {TABLE}"))


def parse_counters(found: Iterable[dict[str, Any]]) -> list[ChainCounter]:
    """The counters in nft's JSON of the table, by chain; pure."""
    packets: dict[str, int] = {}
    for entry in found:
        if rule := entry.get("rule"):
            own = sum(each["counter"]["packets"] for each in rule["expr"] if "counter" in each)
            packets[rule["chain"]] = packets.get(rule["chain"], 0) + own
    return [
        ChainCounter(chain, direction, chain.startswith(_PODS), packets[chain])
        for chain in sorted(packets)
        for direction in DIRECTIONS
        if chain.startswith((f"{direction}/", "to/" if direction == "ingress" else "from/"))
    ]


def add_up(counters: Iterable[ChainCounter], table: PolicyTable) -> dict[str, tuple[int, int]]:
    """(allowed, dropped) by the chain of each policy and direction. What was dropped counts for every policy that
    selects the pod: each of them could have allowed it."""
    totals: dict[str, tuple[int, int]] = {}
    for each in counters:
        jumps = [rule.removeprefix("jump ") for rule in table.chains.get(each.chain, ()) if rule.startswith("jump ")]
        for chain in jumps if each.dropped else [each.chain]:
            allowed, dropped = totals.get(chain, (0, 0))
            counted = (0, each.packets) if each.dropped else (each.packets, 0)
            totals[chain] = (allowed + counted[0], dropped + counted[1])
    return totals
