"""Certificates of hosts: whether what a Secret holds is one, with its key, for that host; and the common one."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID = datetime.timedelta(days=365)
_PEM = serialization.Encoding.PEM
_PUBLIC = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def find_fault(chain: bytes, key: bytes, host: str) -> str:
    """Why this PEM cannot serve as the certificate of `host`, in words; empty when it can."""
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        return "tls.crt is no certificate"
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "tls.key is no private key"
    first = certificates[0]
    if private.public_key().public_bytes(*_PUBLIC) != first.public_key().public_bytes(*_PUBLIC):
        return "tls.key does not belong to tls.crt"
    if not _is_for(first, host):
        return f"its certificate is for {', '.join(_names(first)) or 'no host'}"
    return ""


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name) for name in found.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        return [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    """A name with `*` stands for one label, as in RFC 6125."""
    wanted = host.lower()
    wild = f"*.{wanted.partition('.')[2]}"
    return not host or any(name.lower() in (wanted, wild) for name in _names(certificate))


def make_fallback_pair() -> tuple[bytes, bytes]:
    """A certificate that nobody trusts, and its key, as PEM: for hosts without one. As in ingress-nginx it says so."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kubernetes Ingress Controller Fake Certificate")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ingress.local")]), critical=False)
    )
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(_PEM), private
