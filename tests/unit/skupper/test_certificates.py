"""Certificates of sites: believed by those of one authority, refused by others, and told apart from what is none."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest

from knetsim.dataplane.skupper.certificates import build_authority, find_fault, issue, read_authority
from knetsim.errors import InputError
from tests import handshakes

SITE, OTHER = build_authority("skupper-site-ca"), build_authority("another")


def context(directory: Path, name: str, data: Mapping[str, bytes], side: int) -> ssl.SSLContext:
    """One side of mutual TLS, from a Secret's data."""
    files = {}
    for key, content in data.items():
        files[key] = directory / f"{name}-{key}"
        files[key].write_bytes(content)
    made = ssl.SSLContext(side)
    made.load_cert_chain(files["tls.crt"], files["tls.key"])
    made.load_verify_locations(files["ca.crt"])
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    return made


def shake_hands(directory: Path, server: Mapping[str, bytes], client: Mapping[str, bytes], name: str) -> None:
    """ssl.SSLError when either does not believe the other."""
    accepting = context(directory, "server", server, ssl.PROTOCOL_TLS_SERVER)
    calling = context(directory, "client", client, ssl.PROTOCOL_TLS_CLIENT)
    handshakes.shake_hands(accepting, calling, name)


@pytest.mark.parametrize("name", ["10.1.0.1", "west.example"])
def test_sites_of_one_authority_believe_each_other(tmp_path: Path, name: str) -> None:
    server = issue(SITE, "skupper-router", "server", ["10.1.0.1", "west.example"])
    shake_hands(tmp_path, server, issue(SITE, "east", "client"), name)


def test_a_token_of_another_site_is_not_believed(tmp_path: Path) -> None:
    server, stranger = issue(SITE, "router", "server", ["west"]), issue(OTHER, "east", "client")
    with pytest.raises(ssl.SSLError):
        shake_hands(tmp_path, server, stranger | {"ca.crt": SITE["tls.crt"]}, "west")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, server, issue(SITE, "east", "client"), "elsewhere")


def test_what_is_no_certificate_is_told() -> None:
    good = issue(SITE, "east", "client")
    assert find_fault(good) == ""
    assert find_fault({key: good[key] for key in ("ca.crt", "tls.crt")}) == "it has no tls.key"
    assert find_fault({key: good[key] for key in ("tls.key", "tls.crt")}) == "it has no ca.crt"
    assert find_fault(good | {"tls.crt": b"?"}) == "the certificate is no PEM of one"
    assert find_fault(good | {"tls.key": b"?"}) == "the key is no PEM of one without a password"
    assert find_fault(good | {"tls.key": SITE["tls.key"]}) == "the key does not belong to the certificate"
    assert find_fault(good | {"ca.crt": b"?"}) == "ca.crt: there is no certificate in it"


def test_an_authority_is_read_again_and_others_are_not() -> None:
    assert read_authority(SITE).pair.certificate == SITE["tls.crt"]
    with pytest.raises(InputError, match="not an authority's"):
        read_authority(issue(SITE, "east", "client"))
    with pytest.raises(InputError, match=r"no tls\.crt"):
        read_authority({})
