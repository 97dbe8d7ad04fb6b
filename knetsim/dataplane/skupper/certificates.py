"""Certificates by which sites know each other, as Skupper keeps them: in the data of Secrets.

A site's authority is a Secret with `tls.crt` and `tls.key`. What it signs is a Secret with `ca.crt` besides: a server's
for whoever dials in, a client's for whoever holds a token. A router believes whom the authority in `ca.crt` has signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knetsim.errors import InputError
from knetsim.system.certificates import (
    Authority,
    SignedPair,
    Usage,
    find_authority_fault,
    find_pair_fault,
)

__all__ = ["AUTHORITY", "CERTIFICATE", "KEY", "Authority", "build_authority", "find_fault", "issue", "read_authority"]

#: what is called how in a Secret
AUTHORITY, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"


def build_authority(name: str) -> dict[str, bytes]:
    """A new authority, as the data of a Secret."""
    pair = Authority.make(name).pair
    return {CERTIFICATE: pair.certificate, KEY: pair.key}


def read_authority(data: Mapping[str, bytes]) -> Authority:
    """The authority that a Secret's data are. InputError."""
    return Authority.read(_read_pair(data))


def issue(authority: Mapping[str, bytes], name: str, usage: Usage, hosts: Sequence[str] = ()) -> dict[str, bytes]:
    """What the authority with this data signs, as the data of a Secret. InputError when the authority is none.

    `hosts` are the DNS names and IP addresses by which a server is reached.
    """
    # proton, with which both kinds of routers dial, compares the host that it dials with DNS names alone
    pair = read_authority(authority).issue(name, usage, hosts, addresses_as_names=True)
    return {AUTHORITY: authority[CERTIFICATE], CERTIFICATE: pair.certificate, KEY: pair.key}


def find_fault(data: Mapping[str, bytes]) -> str:
    """Why a router cannot use a Secret's data as its certificates, in words; empty when it can."""
    try:
        pair = _read_pair(data)
    except InputError as error:
        return str(error)
    if AUTHORITY not in data:
        return f"it has no {AUTHORITY}"
    fault = find_authority_fault(data[AUTHORITY])
    return f"{AUTHORITY}: {fault}" if fault else find_pair_fault(pair)


def _read_pair(data: Mapping[str, bytes]) -> SignedPair:
    for key in (CERTIFICATE, KEY):
        if key not in data:
            raise InputError(f"it has no {key}")
    return SignedPair(data[CERTIFICATE], data[KEY])
