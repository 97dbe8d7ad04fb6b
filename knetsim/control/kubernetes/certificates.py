"""The certificate authorities of a cluster, and who they say is who; made anew at every start, in `C0cp/pki`.

As kubeadm lays them out (kubernetes.io/docs/setup/best-practices/certificates): one authority for the cluster, one for
the front proxy (the API server when it passes a request on to an extension server), and a key pair that signs service
accounts' tokens. Keys are of the curve P-256: made in a millisecond, where RSA takes a tenth of a second. Certificates
hold from a day before their making, so that a clock that is set back does not make them invalid.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from knetsim.control.kubernetes.flags import FRONT_PROXY_CLIENT, KUBELET_CLIENT

_VALID = datetime.timedelta(days=3650)
_BEFORE = datetime.timedelta(days=1)
#: who may do everything, as RBAC's bootstrap policy has it
MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a certificate and its key lie, as PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority: signs key pairs into its directory."""

    def __init__(self, directory: Path, file: str, name: str) -> None:
        """Makes the authority `name`; its certificate is `FILE.crt`, its key `FILE.key`."""
        self._directory, self._key = directory, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _begin(self._name, self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        usage = _key_usage(signs_certificates=True)
        certificate = builder.add_extension(usage, True).sign(self._key, hashes.SHA256())
        self.pair = _write(directory, file, certificate, self._key)

    def issue_client(self, file: str, user: str, group: str = "") -> KeyPair:
        """Who is, for the API server, the user `user` of the group `group`."""
        return self._issue(file, user, group, (), ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_server(self, file: str, name: str, addresses: Sequence[str], group: str = "") -> KeyPair:
        """A server that is reached by `addresses`: DNS names and IP addresses."""
        return self._issue(file, name, group, addresses, ExtendedKeyUsageOID.SERVER_AUTH)

    def _issue(
        self, file: str, name: str, group: str, addresses: Sequence[str], usage: x509.ObjectIdentifier
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _begin(subject, self._name, key).add_extension(x509.BasicConstraints(False, None), True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), True)
        # OpenSSL's strict mode, which is Python's since 3.13, wants every certificate to say by which key it is signed
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(signer, False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        if addresses:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(a) for a in addresses]), False)
        return _write(self._directory, file, builder.sign(self._key, hashes.SHA256()), key)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything that is signed for one cluster, by purpose; see `write_credentials`."""

    directory: Path
    authority: Authority
    apiserver: KeyPair
    kubelet_client: KeyPair
    front_proxy_authority: Path
    front_proxy_client: KeyPair
    admin: KeyPair
    knetsim: KeyPair
    controllers: KeyPair
    scheduler: KeyPair
    proxy: KeyPair
    accounts_key: Path
    accounts_public: Path

    @property
    def ca(self) -> Path:
        """The certificate of the cluster's authority."""
        return self.authority.pair.certificate

    def issue_kubelet(self, node: str, address: str) -> KeyPair:
        """The server certificate of a Node's kubelet."""
        return self.authority.issue_server(f"kubelet-{node}", f"system:node:{node}", (node, address), "system:nodes")


def write_credentials(directory: Path, cluster: str, addresses: Sequence[str]) -> Credentials:
    """Make all of a cluster's certificates. `addresses` are the names and addresses by which its API server is
    reached."""
    directory.mkdir(parents=True, mode=0o700)
    authority = Authority(directory, "ca", f"knetsim {cluster}")
    front = Authority(directory, "front-proxy-ca", f"knetsim {cluster} front proxy")
    accounts = ec.generate_private_key(ec.SECP256R1())
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    text = accounts.public_key().public_bytes(serialization.Encoding.PEM, public)
    return Credentials(
        directory=directory,
        authority=authority,
        apiserver=authority.issue_server("apiserver", "kube-apiserver", addresses),
        kubelet_client=authority.issue_client("apiserver-kubelet-client", KUBELET_CLIENT, MASTERS),
        front_proxy_authority=front.pair.certificate,
        front_proxy_client=front.issue_client("front-proxy-client", FRONT_PROXY_CLIENT),
        admin=authority.issue_client("admin", "kubernetes-admin", MASTERS),
        knetsim=authority.issue_client("knetsim", "knetsim", MASTERS),
        controllers=authority.issue_client("controller-manager", "system:kube-controller-manager"),
        scheduler=authority.issue_client("scheduler", "system:kube-scheduler"),
        proxy=authority.issue_client("kube-proxy", "system:kube-proxy"),
        accounts_key=_write_private(directory / "sa.key", _key_text(accounts)),
        accounts_public=_write_private(directory / "sa.pub", text),
    )


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


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _write(directory: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    path = directory / f"{file}.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return KeyPair(path, _write_private(directory / f"{file}.key", _key_text(key)))


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    # SEC 1 ("EC PRIVATE KEY"): the form that Kubernetes takes for the key of service accounts too
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write_private(path: Path, text: bytes) -> Path:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(text)
    return path
