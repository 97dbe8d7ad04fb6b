"""Certificate authorities in memory, and the key pairs that they sign, as PEM. Nothing here is written to a disk.

Keys are of the curve P-256: made in a millisecond, where RSA takes a tenth of a second. Certificates hold from a day
before their making, so that a clock that is set back does not make them invalid.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from knetsim.errors import InputError

Usage = Literal["server", "client"]

_VALID = datetime.timedelta(days=3650)
_BEFORE = datetime.timedelta(days=1)
_PEM = serialization.Encoding.PEM
_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class SignedPair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority: `make` a new one, or `read` one that was made before."""

    def __init__(self, certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def make(cls, name: str) -> Self:
        """A new one, which signs itself."""
        key, subject = ec.generate_private_key(ec.SECP256R1()), _subject(name)
        builder = _begin(subject, subject, key).add_extension(x509.BasicConstraints(True, None), True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, pair: SignedPair) -> Self:
        """One of which the certificate and key are known. InputError when they are none, or not an authority's."""
        certificate, key = _read_pair(pair)
        try:
            if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise InputError("the certificate is not an authority's")
        except x509.ExtensionNotFound:
            pass  # one of X.509's first version; OpenSSL takes it too
        return cls(certificate, key)

    @property
    def pair(self) -> SignedPair:
        """Its own certificate and key."""
        return _build_pair(self._certificate, self._key)

    def issue(
        self, name: str, usage: Usage, hosts: Sequence[str] = (), group: str = "", *, addresses_as_names: bool = False
    ) -> SignedPair:
        """A key pair of the common name `name`, and `group` as organization, for one side of TLS.

        `hosts` are the DNS names and IP addresses by which a server is reached. `addresses_as_names`: addresses stand
        among the DNS names too, for clients that look nowhere else.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _begin(_subject(name, group), self._certificate.subject, key)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), True)
        # OpenSSL's strict mode, which is Python's since 3.13, wants every certificate to say by which key it is signed
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(signer, False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[usage]]), False)
        if hosts:
            names = [_general_name(host) for host in hosts]
            if addresses_as_names:
                names += [x509.DNSName(host) for host, name in zip(hosts, names, strict=True) if _is_address(name)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return _build_pair(builder.sign(self._key, hashes.SHA256()), key)


def find_pair_fault(pair: SignedPair) -> str:
    """Why these are no certificate and its key, in words; empty when they are."""
    try:
        _read_pair(pair)
    except InputError as error:
        return str(error)
    return ""


def find_authority_fault(certificates: bytes) -> str:
    """Why these are no certificates of authorities, in words; empty when they are."""
    try:
        x509.load_pem_x509_certificates(certificates)
    except ValueError:
        return "there is no certificate in it"
    return ""


def key_to_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """A private key as SEC 1 ("EC PRIVATE KEY"), the form that Kubernetes takes for the key of service accounts too."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(_PEM, form, serialization.NoEncryption())


def _read_pair(pair: SignedPair) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
    try:
        certificate = x509.load_pem_x509_certificates(pair.certificate)[0]
    except ValueError as error:
        raise InputError("the certificate is no PEM of one") from error
    try:
        key = serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError("the key is no PEM of one without a password") from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise InputError("the key does not belong to the certificate")
    return certificate, key  # type: ignore[return-value]


def _subject(name: str, group: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _BEFORE).not_valid_after(now + _VALID)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _is_address(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.IPAddress)


def _build_pair(certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> SignedPair:
    return SignedPair(certificate.public_bytes(_PEM), key_to_pem(key))
