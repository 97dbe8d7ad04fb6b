"""How many connections each Service and each backend got on a worker, read from the table's counters.

NAT chains see the first packet of a connection only, so a counter's packets are connections (and UDP flows). Backends
are counted by the elements of their lots, or by the rules of their chains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from knetsim.dataplane.services.table import BACKENDS, SETS, TABLE
from knetsim.system.nft import Nft

_ENDPOINT = "endpoint/"


@dataclass(frozen=True, slots=True)
class AddressCounter:
    """Connections to one address of a Service: `map` is the map it is in, `path` the Service's port
    `default/web/tcp/80`, empty where it has no backend and was refused."""

    map: str
    address: str
    path: str
    connections: int


@dataclass(frozen=True, slots=True)
class BackendCounter:
    """Connections that one backend got from this worker: `path` as above, `backend` is `11.15.64.2:8080`."""

    path: str
    backend: str
    connections: int


def read_counters(nft: Nft) -> tuple[list[AddressCounter], list[BackendCounter]]:
    """What the table of a worker has counted since it was made."""
    return parse_counters(nft.read_json(f"list table ip {TABLE}"))


def parse_counters(found: Iterable[dict[str, Any]]) -> tuple[list[AddressCounter], list[BackendCounter]]:
    """The counters in nft's JSON of the table; pure."""
    addresses: list[AddressCounter] = []
    backends: list[BackendCounter] = []
    for entry in found:
        if (stored := entry.get("map")) and stored["name"] == BACKENDS:
            backends += [_read_lot(*element) for element in stored.get("elem", ())]
        elif stored and stored["name"] in SETS:
            addresses += [_read_address(stored["name"], *element) for element in stored.get("elem", ())]
        elif (rule := entry.get("rule")) and rule["chain"].startswith(_ENDPOINT):
            backends += [_read_backend(rule["chain"], each["counter"]) for each in rule["expr"] if "counter" in each]
    return sorted(addresses, key=lambda each: (each.path, each.address)), sorted(backends, key=_backend_order)


def _backend_order(each: BackendCounter) -> tuple[str, str]:
    return each.path, each.backend


def _read_address(name: str, key: Any, verdict: dict[str, Any]) -> AddressCounter:
    chain = (verdict.get("goto") or {}).get("target", "")
    details = key.get("elem", {}) if isinstance(key, dict) else {}
    path = chain.partition("/")[2] or details.get("comment", "")
    return AddressCounter(name, _read_key(key), path, details.get("counter", {}).get("packets", 0))


def _read_lot(key: Any, data: Any) -> BackendCounter:
    details, (address, port) = key["elem"], data["concat"]
    return BackendCounter(details.get("comment", ""), f"{address}:{port}", details["counter"]["packets"])


def _read_backend(chain: str, counter: dict[str, int]) -> BackendCounter:
    path, address, port = chain.removeprefix(_ENDPOINT).rsplit("/", 2)
    return BackendCounter(path, f"{address}:{port}", counter["packets"])


def _read_key(element: Any) -> str:
    """The key of a set's or map's element in nft's JSON, as it is written: `100.64.0.1 . tcp . 443`."""
    key = element[0] if isinstance(element, list) else element
    if isinstance(key, dict) and "elem" in key:
        key = key["elem"]["val"]
    return " . ".join(map(str, key["concat"])) if isinstance(key, dict) else str(key)
