"""What leads into a cluster, as text: the table of `kp_vip_add`'s VIPs, nginx's configuration."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from knetsim.dataplane.static_vips import StaticVip, VipPlace, build_static_vips

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
