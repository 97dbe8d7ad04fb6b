"""What the overlay writes, sends and says, word for word: what the slides show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from knetsim.dataplane.overlay.backend import choose_backend
from knetsim.dataplane.overlay.flanneld import build_argv
from knetsim.dataplane.overlay.lease import (
    HOST_GW,
    VXLAN,
    Backend,
    Lease,
    NetworkConfig,
    build_lease_value,
    build_network_config,
    config_key,
    lease_key,
    parse_lease,
    parse_network_config,
)
from knetsim.dataplane.overlay.masquerade import build_masquerade
from knetsim.dataplane.overlay.snapshot import merge, without
from knetsim.dataplane.overlay.state import Entries, Observed, Underlay, diff_address, diff_device, diff_entries
from knetsim.errors import ObjectError

DIRECTORY = Path(__file__).parent / "overlay"
NETWORK = IPv4Network("11.0.0.0/8")
UNDERLAY = Underlay("C0w1-eth0", 2, 1500)
Golden = Callable[[Path, str], None]


def build_config(backend: str) -> NetworkConfig:
    return NetworkConfig(
        NETWORK, 20, IPv4Address("11.10.0.0"), IPv4Address("11.99.0.0"), Backend(backend, vni=100, port=8472)
    )


def build_leases(backend: str) -> list[Lease]:
    """Those of three workers."""
    overlay = choose_backend(Backend(backend, vni=100))
    return [
        overlay.build_lease(
            IPv4Network(f"11.{10 + number}.0.0/20"), IPv4Address(f"10.1.1.{number}"), f"02:00:00:00:00:0{number}"
        )
        for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("backend", [VXLAN, HOST_GW])
def test_keys_and_values_in_etcd(golden: Golden, backend: str) -> None:
    lines = [config_key(), build_network_config(build_config(backend))]
    for lease in build_leases(backend):
        lines += [lease_key(lease.subnet), build_lease_value(lease)]
    golden(DIRECTORY / f"etcd-{backend}.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("backend", [VXLAN, HOST_GW])
def test_the_commands_that_make_a_worker_s_overlay_change_and_end_it(golden: Golden, backend: str) -> None:
    overlay = choose_backend(build_config(backend).backend)
    own, second, third = build_leases(backend)
    index = 2 if backend == HOST_GW else 3
    onlink = backend == VXLAN

    def entries(*leases: Lease) -> Entries:
        return without(merge(map(overlay.build_entries, leases)), overlay.build_entries(own))

    desired = overlay.build_desired(own, entries(own, second), UNDERLAY)
    steps = {
        "the first two workers": [
            *diff_device(Observed(), desired),
            *diff_address(Observed(index), desired),
            *diff_entries(entries(), desired.entries, index, onlink=onlink),
        ],
        "a third one comes": diff_entries(entries(second), entries(second, third), index, onlink=onlink),
        "the second one goes": diff_entries(entries(second, third), entries(third), index, onlink=onlink),
    }
    text = "\n".join(f"# {step}\n" + "\n".join(map(str, requests)) + "\n" for step, requests in steps.items())
    names = {"if2": UNDERLAY.interface, "if3": "flannel.100"}
    for index_name, name in names.items():
        text = text.replace(f"dev {index_name}", f"dev {name}")
    golden(DIRECTORY / f"commands-{backend}.txt", text)


def test_masquerading(golden: Golden) -> None:
    golden(DIRECTORY / "masquerade.nft", build_masquerade(NETWORK))


def test_flanneld_s_command_line(golden: Golden) -> None:
    argv = build_argv(
        "flanneld",
        endpoints=[f"http://10.1.0.{number}:2379" for number in (1, 2, 3)],
        address=IPv4Address("10.1.1.1"),
        directory=Path("/tmp/knetsim/C0w1"),
    )
    golden(DIRECTORY / "flanneld.txt", "\n".join(argv) + "\n")


def explain(parse: Callable[[], object]) -> str:
    with pytest.raises(ObjectError) as caught:
        parse()
    return f"{caught.value}" + (f" ({caught.value.hint})" if caught.value.hint else "")


def test_messages_about_the_network_configuration(golden: Golden) -> None:
    cases = yaml.safe_load((DIRECTORY / "network-config-errors.yaml").read_text())
    lines = [f"{name}: {explain(partial(parse_network_config, text))}" for name, text in cases.items()]
    golden(DIRECTORY / "network-config-errors.txt", "\n".join(lines) + "\n")


def test_messages_about_leases(golden: Golden) -> None:
    cases = yaml.safe_load((DIRECTORY / "lease-errors.yaml").read_text())
    lines = [f"{name}: {explain(partial(parse_lease, **case))}" for name, case in cases.items()]
    golden(DIRECTORY / "lease-errors.txt", "\n".join(lines) + "\n")
