"""The certificate authorities of a cluster, and who they say is who; made anew at every start, in `C0cp/pki`.

As kubeadm lays them out (kubernetes.io/docs/setup/best-practices/certificates): one authority for the cluster, one for
the front proxy (the API server when it passes a request on to an extension server), and a key pair that signs service
accounts' tokens.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from knetsim.control.kubernetes.flags import FRONT_PROXY_CLIENT, KUBELET_CLIENT
from knetsim.system import certificates

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
        self._directory, self._authority = directory, certificates.Authority.make(name)
        self.pair = _write(directory, file, self._authority.pair)

    def issue_client(self, file: str, user: str, group: str = "") -> KeyPair:
        """Who is, for the API server, the user `user` of the group `group`."""
        return _write(self._directory, file, self._authority.issue(user, "client", group=group))

    def issue_server(self, file: str, name: str, addresses: Sequence[str], group: str = "") -> KeyPair:
        """A server that is reached by `addresses`: DNS names and IP addresses."""
        return _write(self._directory, file, self._authority.issue(name, "server", addresses, group))


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
        accounts_key=_write_private(directory / "sa.key", certificates.key_to_pem(accounts)),
        accounts_public=_write_private(directory / "sa.pub", text),
    )


def _write(directory: Path, file: str, pair: certificates.SignedPair) -> KeyPair:
    path = directory / f"{file}.crt"
    path.write_bytes(pair.certificate)
    return KeyPair(path, _write_private(directory / f"{file}.key", pair.key))


def _write_private(path: Path, text: bytes) -> Path:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(text)
    return path
