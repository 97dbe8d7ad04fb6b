"""Skupper's objects, and those that they name, as the plan of a site reads them; pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from knetsim import names
from knetsim.api.objects import Object, has_condition, key_of, name_of, namespace_of, uid_of
from knetsim.dataplane.skupper.certificates import AUTHORITY, CERTIFICATE, KEY, find_fault, read_authority
from knetsim.errors import InputError

#: what controllers of Skupper write on what is theirs
CONTROLLED = "internal.skupper.io/controlled"
SITE, ACCESS, LINK, LISTENER, CONNECTOR = "Site", "RouterAccess", "Link", "Listener", "Connector"
GRANT, TOKEN = "AccessGrant", "AccessToken"
READY, PENDING, ERROR = "Ready", "Pending", "Error"
#: of RouterAccess and of endpoints: for links between interior routers
INTER_ROUTER, INTER_ROUTER_PORT = "inter-router", 55671
#: the RouterAccess that a Site's linkAccess stands for, and its certificates
DEFAULT_ACCESS, SITE_SERVER, SITE_AUTHORITY = "skupper-router", "skupper-site-server", "skupper-site-ca"
_ANY, _PORT_MAX = "0.0.0.0", 65535
#: a DNS name, maybe with a wildcard, or an IPv4 or IPv6 address
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")

#: (kind, key) of an object of Skupper
Name = tuple[str, str]


class Fault(NamedTuple):
    """Why an object is not carried out: `Error`, or `Pending` while something is still to come; words."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SitePlace:
    """Where a cluster's router runs."""

    cluster: str
    #: its worker, as host `C0w1` and Node `c0w1`, and the address by which other workers and clusters reach it
    host: str
    node: str
    address: str
    #: ports of this worker that are taken, beside those of names.py
    reserved: frozenset[int] = frozenset()
    #: hosts of the simulation → their addresses
    hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteObjects:
    """What a cluster has; in any order. Secrets and Services by key."""

    sites: Sequence[Object] = ()
    accesses: Sequence[Object] = ()
    links: Sequence[Object] = ()
    listeners: Sequence[Object] = ()
    connectors: Sequence[Object] = ()
    grants: Sequence[Object] = ()
    tokens: Sequence[Object] = ()
    secrets: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, Object] = field(default_factory=dict)
    pods: Sequence[Object] = ()


def identify(obj: Object) -> Name:
    """What plans call an object."""
    return obj["kind"], key_of(obj)


def sort_by_age(objects: Iterable[Object]) -> list[Object]:
    """The oldest first: who came first has a port or a name."""
    return sorted(objects, key=lambda obj: (obj["metadata"].get("creationTimestamp") or "", key_of(obj)))


def spec_of(obj: Object) -> Mapping[str, Any]:
    """An object's spec, which may be missing."""
    return obj.get("spec") or {}


def is_ours(obj: Object) -> bool:
    """Whether Skupper's controller wrote an object, and not a user."""
    return (obj["metadata"].get("annotations") or {}).get(CONTROLLED) == "true"


def build_metadata(name: str, owner: Object, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The metadata of an object that the controller writes for `owner`, in its namespace: it goes when that goes."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
    }
    return {
        "name": name,
        "namespace": namespace_of(owner),
        "annotations": {CONTROLLED: "true", **(annotations or {})},
        "ownerReferences": [reference],
    }


# --- sites ------------------------------------------------------------------------------------------------------------


def find_refusal(site: Object) -> str:
    """Why no router does what a Site wants; empty when one does."""
    spec = spec_of(site)
    if spec.get("edge"):
        return "edge: true: routers are interior ones here, there are no edge sites"
    if spec.get("ha"):
        return "ha: true: there is one router for a site here, not a pair"
    return ""


def choose_site(sites: Iterable[Object]) -> Object | None:
    """The cluster's active Site: the oldest that can be, but one that is active stays so."""
    able = [site for site in sort_by_age(sites) if not find_refusal(site)]
    return min(able, key=lambda site: not has_condition(site, "Configured"), default=None)


def accepts_links(site: Object) -> bool:
    """Whether a Site has a RouterAccess made for it."""
    return spec_of(site).get("linkAccess") not in (None, "", "none")


def find_issuer(site: Object, issuer: str | None = None) -> str:
    """The Secret with the authority that signs: the one that is named, or the Site's."""
    return issuer or spec_of(site).get("defaultIssuer") or SITE_AUTHORITY


# --- certificates -----------------------------------------------------------------------------------------------------


def read_secret(secret: Object) -> dict[str, bytes]:
    """What is in a Secret; values that are no base64 are left out."""
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found


def read_certificates(secrets: Mapping[str, Object], namespace: str, name: str) -> dict[str, bytes] | Fault:
    """The certificates in a Secret, as a router uses them; or why it cannot."""
    secret = secrets.get(f"{namespace}/{name}")
    if secret is None:
        return Fault(ERROR, f"there is no Secret {name} (tlsCredentials)")
    data = {key: value for key, value in read_secret(secret).items() if key in (AUTHORITY, CERTIFICATE, KEY)}
    fault = _find_fault(tuple(sorted(data.items())))
    return Fault(ERROR, f"Secret {name} (tlsCredentials): {fault}") if fault else data


def find_issuer_fault(secrets: Mapping[str, Object], namespace: str, issuer: str) -> Fault:
    """Why certificates that are to be made are not there: their authority is none, or they will be soon."""
    secret = secrets.get(f"{namespace}/{issuer}")
    if secret is None:
        return Fault(PENDING if issuer == SITE_AUTHORITY else ERROR, f"there is no Secret {issuer} (issuer)")
    try:
        read_authority(read_secret(secret))
    except InputError as error:
        return Fault(ERROR, f"Secret {issuer} (issuer): {error}")
    return Fault(PENDING, "its certificates are not made yet")


@lru_cache(maxsize=128)
def _find_fault(data: tuple[tuple[str, bytes], ...]) -> str:
    """Certificates are looked at once, not whenever a plan is made."""
    return find_fault(dict(data))


# --- hosts and ports --------------------------------------------------------------------------------------------------


def read_address(text: str) -> IPv4Address | None:
    """An IPv4 address, or None: the networks of a simulation have no other."""
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def find_host(name: str, place: SitePlace) -> str:
    """The address of a host of the simulation, `C0w1` in any case, or that is written as one; "" for others."""
    if read_address(name) is not None:
        return name
    return {host.lower(): address for host, address in place.hosts.items()}.get(name.lower(), "")


def find_foreign(host: str, place: SitePlace) -> str:
    """Why a router does not listen at an address; empty when its worker has it."""
    address = read_address(host)
    if address is None:
        return f"'{host}' is no IPv4 address"
    if host == place.address or address.is_unspecified or address.is_loopback:
        return ""
    return (
        f"{place.host}, where the router of {place.cluster} runs, has no address {host}; "
        f"0.0.0.0 for all that it has, or {place.address}"
    )


def find_bad_name(hosts: Iterable[str]) -> str:
    """The first of the names and addresses for a certificate that is neither; empty when all are good."""
    return next((each for each in hosts if not _HOST.fullmatch(each)), "")


def read_port(value: Any) -> int:
    """A port, which may be a number in quotes; 0 when it is none."""
    text = str(value)
    port = int(text) if text.isascii() and text.isdecimal() else 0
    return port if port <= _PORT_MAX else 0


def find_taken(place: SitePlace) -> str:
    """Why no router can run in a place: another program has a port that it needs; empty when none has."""
    for port in sorted(place.reserved):
        owner = names.find_port_owner(names.ROUTER_PORTS, _ANY, port)
        if owner:
            return f"no router can run on {place.host}: another program has port {port} there, {owner}"
    return ""


class Ports:
    """Who has which port of the worker: every worker's programs, the router itself, who claims one."""

    _FIXED = (*names.WORKER_PORTS, *names.ROUTER_PORTS)

    def __init__(self, reserved: Iterable[int]) -> None:
        self._taken = [(_ANY, port, "another program of the worker") for port in reserved]

    def claim(self, address: str, port: int, owner: str) -> str:
        """Take a port; who has it already, or empty."""
        fixed = names.find_port_owner(self._FIXED, address, port)
        if fixed:
            return fixed
        for other, taken, by in self._taken:
            if taken == port and names.addresses_meet(address, other):
                return by
        self._taken.append((address, port, owner))
        return ""

    def claim_free(self, address: str, owner: str, first: int) -> int:
        """Take the lowest port from `first` on that is free; 0 when none is."""
        taken = {port for other, port, _ in self._taken if names.addresses_meet(address, other)}
        taken.update(*(each.ports for each in self._FIXED if names.addresses_meet(address, each.address)))
        port = next((port for port in range(first, _PORT_MAX + 1) if port not in taken), 0)
        if port:
            self._taken.append((address, port, owner))
        return port
