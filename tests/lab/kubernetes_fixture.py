"""A real kube-apiserver for tests, on the etcd members of etcd_fixture.py: on loopback, with certificates of its own.

    server = ApiServer(members, directory); server.start(); server.client() → ApiClient; server.kill(); server.stop()

No controller runs beside it, so nothing happens to an object that a test does not do; the admission of service accounts
is off, for nobody would make the accounts. It dies with the test process, whatever becomes of that.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from knetsim.api.etcd import Etcd
from knetsim.api.http import ApiClient, Dial
from knetsim.api.http_store import HttpStore
from knetsim.api.objects import KINDS, REGISTRY, storage_prefix
from knetsim.control.embedded import STANDARD_NAMESPACES
from knetsim.control.kubernetes.definitions import define_kinds
from knetsim.system.programs import TOOLS
from knetsim.system.wait import wait_until
from tests.lab.etcd_fixture import EtcdMembers, members

__all__ = ["api_server", "members"]

HOST = "127.0.0.1"
PROGRAM = "kube-apiserver"
#: where it keeps its objects: not where stores keep theirs that are straight on the same etcd
PREFIX = "/kubernetes"
#: seconds from start to ready are 2 on a machine with nothing else to do
READY_SECONDS = 60.0
#: what is not taken away between two tests
_LASTING = {
    "Namespace": STANDARD_NAMESPACES,
    "Service": ("default/kubernetes",),
    "EndpointSlice": ("default/kubernetes",),
}


class ApiServer:
    """One API server. Its certificates and log are in `directory`; it keeps its port when it is started again."""

    def __init__(self, members: EtcdMembers, directory: Path) -> None:
        self.members, self.directory = members, directory
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        authority = Authority(directory)
        authority.issue("apiserver", HOST, addresses=[HOST])
        authority.issue("admin", "knetsim", group="system:masters")
        authority.issue("nobody", "nobody")
        Authority(directory, "stranger").issue("impostor", "knetsim", group="system:masters")
        accounts = ec.generate_private_key(ec.SECP256R1())
        (directory / "sa.key").write_bytes(_key_pem(accounts))
        (directory / "sa.pub").write_bytes(
            accounts.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def client(
        self, who: str = "admin", *, deadline: float = 20.0, dial: Dial | None = None, ca: str = "ca"
    ) -> ApiClient:
        """A client with the certificate of `who`, which trusts `ca`."""
        path = self.directory
        return ApiClient(
            HOST,
            self.port,
            ca=path / f"{ca}.crt",
            certificate=path / f"{who}.crt" if who else None,
            key=path / f"{who}.key" if who else None,
            dial=dial,
            deadline=deadline,
        )

    @property
    def running(self) -> bool:
        """Whether it was started and not killed."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        program = find_apiserver()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *program, *self._flags()],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        client = self.client()
        try:
            wait_until("kube-apiserver", lambda: self._lack(client), READY_SECONDS, where=str(self.directory))
        finally:
            client.close()

    def _lack(self, client: ApiClient) -> str:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
        return client.explain_unready()

    def _flags(self) -> list[str]:
        path = self.directory
        return [
            "--etcd-servers=" + ",".join(target.replace("unix:", "unix://") for target in self.members.targets),
            f"--etcd-prefix={PREFIX}",
            f"--bind-address={HOST}",
            "--advertise-address=192.0.2.1",  # what the Service `kubernetes` leads to, which nobody follows here
            f"--secure-port={self.port}",
            "--service-cluster-ip-range=100.64.0.0/16",
            "--storage-media-type=application/json",
            "--authorization-mode=Node,RBAC",
            "--disable-admission-plugins=ServiceAccount",
            # Its Lease in kube-system would be in every test's list of Leases.
            "--feature-gates=APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false",
            f"--client-ca-file={path}/ca.crt",
            f"--tls-cert-file={path}/apiserver.crt",
            f"--tls-private-key-file={path}/apiserver.key",
            f"--service-account-key-file={path}/sa.pub",
            f"--service-account-signing-key-file={path}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        ]

    def define(self) -> None:
        """Have it serve the kinds that knetsim defines; a moment later it does."""
        client = self.client()
        try:
            define_kinds(HttpStore(client)).result()
        finally:
            client.close()

    def signal(self, what: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(what)

    def kill(self) -> None:
        """`kill -9`, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Take away all objects of the kinds that stores know, but what the server itself has made at its start."""
        etcd = Etcd(self.members.targets)
        try:
            for kind in KINDS.values():
                prefix = storage_prefix(kind).replace(REGISTRY, PREFIX, 1)
                kept = {f"{prefix}{name}" for name in _LASTING.get(kind.name, ())}
                for entry in etcd.prefix(prefix)[0]:
                    if entry.key not in kept:
                        etcd.swap(entry.key, None, entry.revision)
        finally:
            etcd.close()

    def restore(self) -> None:
        """Start it again when it was killed."""
        if not self.running:
            self.start()


class Authority:
    """A certificate authority that puts what it issues into one directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(name, self._key, self._builder(self._name, self._key, authority=True))

    def issue(self, file: str, name: str, *, group: str = "", addresses: list[str] | None = None) -> None:
        """`file`.crt and `file`.key for who is called `name`: a server at these addresses, or else a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if addresses else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(x509.Name(attributes), key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if addresses:
            alternatives = x509.SubjectAlternativeName([x509.IPAddress(ip_address(item)) for item in addresses])
            builder = builder.add_extension(alternatives, critical=False)
        self._write(file, key, builder)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool = False
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey, builder: x509.CertificateBuilder) -> None:
        certificate = builder.sign(self._key, hashes.SHA256())
        (self._directory / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self._directory / f"{file}.key").write_bytes(_key_pem(key))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def find_apiserver() -> list[str]:
    """How it is called; skips the test where there is none."""
    path = f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}"
    if program := shutil.which(PROGRAM, path=path):
        return [program]
    pytest.skip(f"no program `{PROGRAM}` on this machine")


@pytest.fixture(scope="module")
def api_server(members: EtcdMembers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One server for the tests of a module; a test that kills it starts it again."""
    find_apiserver()
    server = ApiServer(members, tmp_path_factory.mktemp("kubernetes"))
    try:
        server.start()
        yield server
    finally:
        server.kill()
