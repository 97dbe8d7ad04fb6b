"""Skupper's objects as knetsim writes them for its users: for `spec.multicluster`, and for what is typed at the
prompt. Pure.

A link is made as people make one with Skupper: the site that is connected to grants it (AccessGrant `from-c1`), the
other one redeems the grant (AccessToken `to-c0`), which becomes the Link `to-c0` and its certificate. All objects are
in the namespace `default`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim import names

Plain = dict[str, Any]


def build_site(name: str, *, linked_to: bool) -> Plain:
    """A Site; with `linked_to` others may link to it."""
    return _build("Site", name, {"linkAccess": "default"} if linked_to else {})


def build_connector(name: str, routing_key: str, servers: Mapping[str, Any]) -> Plain:
    """What serves a routing key; `servers` is where: its `port`, and the `host` or a `selector` of pods."""
    return _build("Connector", name, {"routingKey": routing_key, **servers})


def build_listener(name: str, routing_key: str, host: str, port: int) -> Plain:
    """Where clients find a routing key: at the Service `host`, or at an address of the router's worker."""
    return _build("Listener", name, {"routingKey": routing_key, "host": host, "port": port})


def build_grant(remote: str, code: str, *, window: str = "") -> Plain:
    """What lets the site `remote` link here, once and with this code; for a time as Go writes it (`1h`), or Skupper's
    quarter of an hour."""
    expires = {"expirationWindow": window} if window else {}
    return _build("AccessGrant", grant_name(remote), {"redemptionsAllowed": 1, **expires, "code": code})


def build_token(local: str, remote: str, address: str, code: str, *, cost: int = 1) -> Plain:
    """What makes the site `local` link to the site `remote`, whose router's worker has `address`; see `build_grant`."""
    url = f"https://{address}:{names.REDEMPTION_PORT}/{names.DEFAULT_NAMESPACE}/{grant_name(local)}"
    return _build("AccessToken", token_name(remote), {"url": url, "code": code, "ca": "", "linkCost": cost})


def grant_name(site: str) -> str:
    """What the grant for a site is called, at the other end of its link."""
    return f"from-{site}"


def token_name(site: str) -> str:
    """What the token for a link to a site is called, and so the Link and its Secret."""
    return f"to-{site}"


def _build(kind: str, name: str, spec: Plain) -> Plain:
    metadata = {"name": name, "namespace": names.DEFAULT_NAMESPACE}
    return {"apiVersion": names.SKUPPER_API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
