"""Addresses: what they mean, and who is reached by one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knetsim.dataplane.skupper.router.distribution import Places


@dataclass(frozen=True, slots=True)
class Target:
    """An address of a message, read."""

    #: `local`: the neighbour that gets it · `topological`: something of `router` · `mobile`: whoever serves it
    kind: str
    text: str
    router: str = ""


def read_address(address: str) -> Target:
    """`amqp:/_topo/0/A/temp.x`, `amqp:/_local/qdhello`, `web:8080`; a scheme, host and leading slash say nothing."""
    rest = address
    for scheme in ("amqps:", "amqp:"):
        if rest.startswith(scheme):
            rest = rest[len(scheme) :]
            if rest.startswith("//"):
                rest = rest[2:].partition("/")[2]
    rest = rest.removeprefix("/")
    if rest.startswith("_local/"):
        return Target("local", rest.removeprefix("_local/"))
    parts = rest.split("/", 3)
    if parts[0] == "_topo" and len(parts) == 4:
        return Target("topological", parts[3], parts[2])
    return Target("mobile", rest)


@dataclass(slots=True)
class Address:
    """A mobile address: its places, and how many messages went where."""

    key: str
    places: Places
    #: this router's own consumers, by name
    consumers: dict[str, Any] = field(default_factory=dict)
    #: how many of this router's own want it reachable
    watchers: int = 0
    ingress: int = 0
    egress: int = 0
    transit: int = 0


@dataclass(frozen=True, slots=True)
class Distributions:
    """Which distribution an address has: by the longest prefix that the configuration names."""

    default: str = "balanced"
    prefixes: Mapping[str, str] = field(default_factory=dict)
    patterns: Sequence[tuple[str, str]] = ()

    def of(self, address: str) -> str:
        """`address` without its class letter."""
        for pattern, distribution in self.patterns:
            if _matches(pattern.split("."), address.replace("/", ".").split(".")):
                return distribution
        found = [
            prefix for prefix in self.prefixes if address == prefix or address.startswith((f"{prefix}.", f"{prefix}/"))
        ]
        return self.prefixes[max(found, key=len)] if found else self.default


def _matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """`*` is one word, `#` any number of them."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_matches(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _matches(pattern[1:], words[1:])
