"""What leads into a cluster, as text: the table of `kp_vip_add`'s VIPs, nginx's configuration."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.dataplane.ingress.nginx import build_nginx
from knetsim.dataplane.ingress.sites import Certificate
from knetsim.dataplane.static_vips import StaticVip, VipPlace, build_static_vips
from knetsim.node.ingress_objects import IngressPlaces, plan_ingresses
from tests.certificates import issue

DIRECTORY = Path(__file__).parent / "doors"
Golden = Callable[[Path, str], None]
PODS = IPv4Network("11.0.0.0/8")
VIPS = (
    StaticVip(IPv4Address("100.64.11.1"), (IPv4Address("11.15.64.9"),)),
    StaticVip(IPv4Address("100.64.10.1"), (IPv4Address("11.15.64.2"), IPv4Address("11.80.0.2"))),
)


@pytest.mark.parametrize(
    ("name", "place", "vips"),
    [
        ("vips", VipPlace(PODS), VIPS),
        ("vips-without-br_netfilter", VipPlace(PODS, IPv4Network("11.15.64.0/20")), VIPS[:1]),
        ("vips-none", VipPlace(PODS), ()),
    ],
)
def test_the_table_of_static_vips(golden: Golden, name: str, place: VipPlace, vips: tuple[StaticVip, ...]) -> None:
    golden(DIRECTORY / f"{name}.nft", build_static_vips(place, vips))


# --- ingress


def build_service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": ports, **spec}}


def build_slice(*addresses: str, port: int, name: str = "http") -> dict[str, Any]:
    endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
    return {"addressType": "IPv4", "ports": [{"name": name, "port": port}], "endpoints": endpoints}


def build_secret(chain: bytes, key: bytes) -> dict[str, Any]:
    return {"data": {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}}


class Objects:
    """What the cases' Ingresses name."""

    def __init__(self) -> None:
        shop = [{"name": "http", "port": 8080}]
        self._services = {
            "default/web": build_service("web", clusterIP="100.64.0.9"),
            "default/shop": build_service("shop", clusterIP="100.64.0.10", ports=shop),
            "default/empty": build_service("empty", clusterIP="100.64.0.11"),
            "default/headless": build_service("headless", clusterIP="None"),
            "default/outside": build_service("outside", type="ExternalName", externalName="example.com"),
        }
        self._slices = {
            "default/web": [build_slice("11.15.64.2", port=8080)],
            "default/shop": [build_slice("11.15.64.3", port=9000)],
            "default/headless": [build_slice("11.15.64.5", "11.15.64.4", port=8080)],
        }
        self._secrets = {
            "default/sound": build_secret(*issue("www.example.com")),
            "default/broken": build_secret(b"no certificate", b"no key"),
        }

    def service(self, key: str) -> dict[str, Any] | None:
        return self._services.get(key)

    def slices(self, key: str) -> list[dict[str, Any]]:
        return self._slices.get(key, [])

    def secret(self, key: str) -> dict[str, Any] | None:
        return self._secrets.get(key)


INGRESSES: dict[str, Any] = yaml.safe_load((DIRECTORY / "ingress.yaml").read_text())


def build_ingress(name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    created = metadata.pop("created", "2026-01-01T00:00:00Z")
    metadata = {"name": name, "namespace": "default", "creationTimestamp": created, **metadata}
    return {"kind": "Ingress", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("case", INGRESSES)
def test_what_nginx_is_told(golden: Golden, case: str) -> None:
    given = INGRESSES[case]
    ingresses = [
        build_ingress(each["name"], each["spec"], **{k: v for k, v in each.items() if k not in ("name", "spec")})
        for each in given["ingresses"]
    ]
    serving = tuple(given.get("serving", ["c0w1"]))
    plan = plan_ingresses(ingresses, Objects(), IngressPlaces(frozenset({"c0w1", "c0w2"}), serving, 80, 443))
    lines = [f"# {problem.key}: {problem.reason}: {problem.message}" for problem in plan.problems]
    common = Certificate(Path("tls/common.crt"), Path("tls/common.key"))
    for node, doors in plan.doors.items():
        text = build_nginx(Path("/tmp/knetsim/C0w1/nginx"), doors, common)
        # what is said once is not said again by every case; keys are made anew each time, and so are digests
        varying = text if case == "prefix-exact-and-plain" else text[text.index("\t}\n") + 3 :]
        varying = re.sub(r"_[0-9a-f]{8}\.", "_DIGEST.", varying)
        lines += [f"# the nginx of {node}", re.sub(r'return 200 "[0-9a-f]{16}"', 'return 200 "VERSION"', varying)]
    golden(DIRECTORY / f"ingress-{case}.conf", "\n".join([*lines, ""]))
