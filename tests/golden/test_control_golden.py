"""What Kubernetes' own control plane is started with, word for word: what the slides show."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from knetsim.control.kubernetes.certificates import Authority, Credentials, KeyPair
from knetsim.control.kubernetes.flags import (
    APISERVER,
    CONTROLLERS,
    SCHEDULER,
    ControlPlane,
    build_apiserver_argv,
    build_controllers_argv,
    build_scheduler_argv,
    build_scheduler_config,
)

Golden = Callable[[Path, str], None]
HERE = Path(__file__).parent / "control"
PLANE = ControlPlane(
    cluster="C0",
    address="10.1.0.10",
    directory=Path("/tmp/knetsim/C0cp"),
    etcd=["http://10.1.0.1:2379", "http://10.1.0.2:2379", "http://10.1.0.3:2379"],
    services=IPv4Network("100.64.0.0/16"),
)


def pair(file: str) -> KeyPair:
    directory = PLANE.directory / "pki"
    return KeyPair(directory / f"{file}.crt", directory / f"{file}.key")


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    """Certificates of which nothing but the paths is looked at."""
    authority = Authority(tmp_path, "ca", "test")
    authority.pair = pair("ca")
    return Credentials(
        directory=PLANE.directory / "pki",
        authority=authority,
        apiserver=pair("apiserver"),
        kubelet_client=pair("apiserver-kubelet-client"),
        front_proxy_authority=pair("front-proxy-ca").certificate,
        front_proxy_client=pair("front-proxy-client"),
        admin=pair("admin"),
        knetsim=pair("knetsim"),
        controllers=pair("controller-manager"),
        scheduler=pair("scheduler"),
        proxy=pair("kube-proxy"),
        accounts_key=PLANE.directory / "pki/sa.key",
        accounts_public=PLANE.directory / "pki/sa.pub",
    )


def lines(argv: list[str]) -> str:
    return " \\\n    ".join(argv) + "\n"


def test_apiserver(golden: Golden, credentials: Credentials) -> None:
    golden(HERE / "apiserver.txt", lines(build_apiserver_argv(APISERVER, PLANE, credentials)))


def test_controllers(golden: Golden, credentials: Credentials) -> None:
    golden(HERE / "controllers.txt", lines(build_controllers_argv(CONTROLLERS, PLANE, credentials)))


def test_scheduler(golden: Golden) -> None:
    golden(HERE / "scheduler.txt", lines(build_scheduler_argv(SCHEDULER, PLANE)))
    golden(HERE / "scheduler.yaml", yaml.safe_dump(build_scheduler_config(PLANE), sort_keys=False))
