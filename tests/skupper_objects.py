"""Skupper's objects for tests, written shortly: what every stored object has is filled in."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from knetsim import names
from knetsim.api.objects import key_of
from knetsim.dataplane.skupper.certificates import build_authority, issue
from knetsim.node.skupper.objects import SiteObjects, SitePlace

Object = dict[str, Any]

PLACE = SitePlace(
    cluster="C0",
    host="C0w1",
    node="c0w1",
    address="10.0.0.11",
    reserved=frozenset({1024, 8001}),
    hosts={"C0w1": "10.0.0.11", "C0w2": "10.0.0.12", "C1w1": "10.0.0.21", "C2w1": "10.0.0.31"},
)
_VERSIONS = {"Service": "v1", "Secret": "v1", "Pod": "v1"}
_LISTS = {
    "Site": "sites",
    "RouterAccess": "accesses",
    "Link": "links",
    "Listener": "listeners",
    "Connector": "connectors",
    "AccessGrant": "grants",
    "AccessToken": "tokens",
    "Pod": "pods",
}


@cache
def _authority() -> dict[str, bytes]:
    return build_authority("test")


@cache
def make_certificates(kind: str = "good") -> dict[str, bytes]:
    """What is in a Secret: `good`, `torn` (no PEM), `half` (no authority), `authority`."""
    if kind == "authority":
        return _authority()
    good = issue(_authority(), "test", "server", ["10.0.0.11"])
    if kind == "half":
        return {key: value for key, value in good.items() if key != "ca.crt"}
    return good if kind == "good" else {**good, "tls.crt": b"-----BEGIN CERTIFICATE-----\n"}


def build_object(number: int, kind: str, name: str, **given: Any) -> Object:
    """One object; the later in a list, the younger. A Secret is given with `certificates: good`, a Pod with `ip`,
    `labels`, `ready` and `phase`."""
    metadata = {
        "name": name,
        "namespace": given.pop("namespace", "default"),
        "uid": f"{kind.lower()}-{name}",
        "generation": 1,
        "creationTimestamp": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
        **given.pop("metadata", {}),
    }
    obj: Object = {"apiVersion": _VERSIONS.get(kind, names.SKUPPER_API_VERSION), "kind": kind, "metadata": metadata}
    if kind == "Pod":
        metadata["labels"] = given.pop("labels", {})
        ready = "True" if given.pop("ready", True) else "False"
        address = given.pop("ip", "")
        obj["status"] = {
            "phase": given.pop("phase", "Running"),
            "conditions": [{"type": "Ready", "status": ready}],
            **({"podIP": address} if address else {}),
        }
    if "certificates" in given:
        data = make_certificates(given.pop("certificates"))
        obj["data"] = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return obj | given


def build_objects(written: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Objects, the oldest first."""
    return [build_object(number, **each) for number, each in enumerate(written)]


def group(objects: Iterable[Object]) -> SiteObjects:
    """Objects as the controller has them."""
    lists: dict[str, list[Object]] = {name: [] for name in _LISTS.values()}
    maps: dict[str, dict[str, Object]] = {"Secret": {}, "Service": {}}
    for obj in objects:
        if obj["kind"] in maps:
            maps[obj["kind"]][key_of(obj)] = obj
        else:
            lists[_LISTS[obj["kind"]]].append(obj)
    return SiteObjects(**lists, secrets=maps["Secret"], services=maps["Service"])
