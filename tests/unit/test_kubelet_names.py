"""What pods are called, and what their resolver can take; nothing here needs a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from knetsim.api.objects import Object
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.files import ClusterDns, build_resolv_conf
from knetsim.node.kubelet.host_names import HostName, build_host_name, build_kernel_name


def pod(name: str = "c1", **spec: Any) -> Object:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def test_host_names() -> None:
    assert build_host_name(pod()) == HostName("c1")
    assert build_host_name(pod(hostname="web", subdomain="db")).full == "web.db.shop.svc.cluster.local"
    assert build_host_name(pod("a" * 62 + ".b")).name == "a" * 62
    assert build_host_name(pod(hostname="web", subdomain="db", hostnameOverride="x.y")) == HostName("x.y")


def test_the_kernels_name() -> None:
    def named(**spec: Any) -> str:
        one = pod(**spec)
        return build_kernel_name(one, build_host_name(one))

    assert named(subdomain="db") == "c1"
    assert named(setHostnameAsFQDN=True) == "c1"
    assert named(subdomain="db", setHostnameAsFQDN=True) == "c1.db.shop.svc.cluster.local"
    with pytest.raises(KnetsimError, match=r"too long \(64 characters is the max, 78 characters requested\)"):
        named(hostname="w" * 52, subdomain="db", setHostnameAsFQDN=True)


def test_a_worker_without_name_servers() -> None:
    nothing = "# no name server in this version\n"
    assert build_resolv_conf(pod(dnsPolicy="Default"), None, nothing, pytest.fail) == nothing
    assert build_resolv_conf(pod(), None, "nameserver 1.1.1.1\n", pytest.fail) == "nameserver 1.1.1.1\n"


def test_searches_that_a_resolver_cannot_take() -> None:
    warnings: list[str] = []
    names = [f"x{number}.org" for number in range(40)]
    text = build_resolv_conf(pod(dnsConfig={"searches": names}), ClusterDns(("1.1.1.1",)), "", warnings.append)
    assert len(text.splitlines()[0].split()) == 33
    assert warnings[0].startswith("Search Line limits were exceeded")
    long = ["a" * 250 + str(number) for number in range(9)]
    text = build_resolv_conf(pod(dnsConfig={"searches": [*long, "b" * 254]}), None, "", warnings.append)
    assert len(text.splitlines()[0]) < 2048 + len("search ")
    assert "b" not in text
