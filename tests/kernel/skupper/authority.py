"""Certificate authorities for tests, and what they sign."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates into a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(self._subject, self._key, [], authority=True)
        self._path("ca.crt").write_bytes(certificate.public_bytes(_PEM))

    def profile(self, name: str, host: str) -> tuple[str, dict[str, Any]]:
        """An sslProfile with a certificate for `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key, [host], authority=False)
        self._path(f"{name}.crt").write_bytes(certificate.public_bytes(_PEM))
        encoded = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._path(f"{name}.key").write_bytes(encoded)
        return "sslProfile", {
            "name": "profile",
            "caCertFile": str(self._path("ca.crt")),
            "certFile": str(self._path(f"{name}.crt")),
            "privateKeyFile": str(self._path(f"{name}.key")),
        }

    def _path(self, name: str) -> Path:
        return self.directory / f"{self.name}-{name}"

    def _build(self, subject: x509.Name, key: Any, hosts: list[str], *, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())
