"""A cluster's certificates: whom they let in, what they say, and what they refuse; checked by TLS itself."""

from __future__ import annotations

import base64
import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from knetsim.control.kubernetes.certificates import Authority, Credentials, KeyPair, write_credentials
from knetsim.control.kubernetes.kubeconfig import build_kubeconfig, format_kubeconfig, join_kubeconfigs
from tests import handshakes


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return write_credentials(tmp_path / "pki", "C0", ["10.1.0.10", "kubernetes", "127.0.0.1", "::1"])


def shake_hands(server: KeyPair, client: KeyPair, ca: Path, name: str) -> str:
    """What the server learns of the client's name, when each believes the other by `ca`; ssl.SSLError."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server.certificate, server.key)
    accepting.load_verify_locations(ca)
    accepting.verify_mode = ssl.CERT_REQUIRED
    calling = ssl.create_default_context(cafile=str(ca))
    for context in (accepting, calling):  # as every context of Python 3.13
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    calling.load_cert_chain(client.certificate, client.key)
    return handshakes.shake_hands(accepting, calling, name)


@pytest.mark.parametrize("name", ["10.1.0.10", "kubernetes", "127.0.0.1", "::1"])
def test_the_api_server_is_believed_by_each_of_its_names(credentials: Credentials, name: str) -> None:
    assert shake_hands(credentials.apiserver, credentials.admin, credentials.ca, name) == "kubernetes-admin"


def test_a_name_that_is_not_its_own_is_refused(credentials: Credentials) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(credentials.apiserver, credentials.admin, credentials.ca, "elsewhere")


def test_a_client_of_another_authority_is_refused(credentials: Credentials, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "other", "other").issue_client("admin", "kubernetes-admin", "system:masters")
    with pytest.raises(ssl.SSLError):
        shake_hands(credentials.apiserver, stranger, credentials.ca, "kubernetes")


def test_a_server_certificate_is_none_of_a_client(credentials: Credentials) -> None:
    with pytest.raises(ssl.SSLError):
        shake_hands(credentials.apiserver, credentials.apiserver, credentials.ca, "kubernetes")


def test_each_is_who_rbac_knows(credentials: Credentials) -> None:
    def subject(pair: KeyPair) -> str:
        return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).subject.rfc4514_string()

    assert subject(credentials.admin) == "CN=kubernetes-admin,O=system:masters"
    assert subject(credentials.controllers) == "CN=system:kube-controller-manager"
    assert subject(credentials.scheduler) == "CN=system:kube-scheduler"
    assert subject(credentials.issue_kubelet("c0w1", "10.1.1.1")) == "CN=system:node:c0w1,O=system:nodes"


def test_keys_are_for_their_owner_alone(credentials: Credentials) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in credentials.directory.glob("*.key")}
    assert len(modes) >= 9
    assert set(modes.values()) == {0o600}


def test_a_kubeconfig_holds_all_it_needs(credentials: Credentials) -> None:
    one = build_kubeconfig("knetsim-C0", "https://127.0.0.1:6443", credentials.ca, credentials.admin)
    two = build_kubeconfig("knetsim-C1", "https://127.0.0.1:6444", credentials.ca, credentials.admin)
    read = yaml.safe_load(format_kubeconfig(join_kubeconfigs([one, two])))
    assert read["current-context"] == "knetsim-C0"
    assert [entry["name"] for entry in read["contexts"]] == ["knetsim-C0", "knetsim-C1"]
    assert read["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:6444"
    assert base64.b64decode(read["users"][0]["user"]["client-key-data"]) == credentials.admin.key.read_bytes()
