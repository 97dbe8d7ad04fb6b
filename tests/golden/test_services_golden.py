"""The nft text of Services, whole and as changes: what the slides show, and what nft takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.dataplane.services.kube_proxy import build_argv, build_config
from knetsim.dataplane.services.ports import Backend, ServicePlace, ServicePort
from knetsim.dataplane.services.rules import build_service
from knetsim.dataplane.services.table import build_base, build_changes, build_difference, build_picks, find_picks
from knetsim.system.nfnetlink import Count

DIRECTORY = Path(__file__).parent / "services"
CASES: dict[str, Any] = yaml.safe_load((DIRECTORY / "cases.yaml").read_text())
PLACE = ServicePlace("c0w1", IPv4Address("10.1.1.1"), IPv4Network("11.0.0.0/8"), IPv4Network("100.64.0.0/16"), zone="a")
ROUTED = ServicePlace(
    "c0w1",
    IPv4Address("10.1.1.1"),
    IPv4Network("11.0.0.0/8"),
    IPv4Network("100.64.0.0/16"),
    routed=IPv4Network("11.15.64.0/20"),
)
Golden = Callable[[Path, str], None]


def read_port(values: dict[str, Any]) -> ServicePort:
    """A port as `cases.yaml` has it."""
    backends = tuple(
        Backend(**{**each, "address": IPv4Address(each["address"]), "zones": frozenset(each.get("zones", ()))})
        for each in values.get("backends", ())
    )
    given: dict[str, Any] = {
        "namespace": "default",
        "protocol": "tcp",
        **values,
        "cluster_ip": IPv4Address(values["cluster_ip"]),
        "external_ips": tuple(map(IPv4Address, values.get("external_ips", ()))),
        "balancer_ips": tuple(map(IPv4Address, values.get("balancer_ips", ()))),
        "source_ranges": tuple(map(IPv4Network, values.get("source_ranges", ()))),
        "backends": backends,
    }
    return ServicePort(**given)


@pytest.mark.parametrize(("name", "place"), [("table", PLACE), ("table-without-br_netfilter", ROUTED)])
def test_the_table_without_services(golden: Golden, name: str, place: ServicePlace) -> None:
    golden(DIRECTORY / f"{name}.nft", build_base(place))


def test_the_real_kube_proxys_configuration(golden: Golden) -> None:
    directory = Path("/tmp/knetsim/C0w1")
    config = build_config("c0w1", PLACE.pod_network, Path("/tmp/knetsim/C0cp/proxy.conf"))
    argv = build_argv("kube-proxy", directory)
    golden(DIRECTORY / "kube-proxy.txt", f"{' '.join(argv)}\n\n{yaml.safe_dump(config, sort_keys=False)}")


@pytest.mark.parametrize("case", CASES)
def test_what_services_add(golden: Golden, case: str) -> None:
    rules = [build_service([read_port(values)], PLACE) for values in CASES[case]]
    changes = build_changes(build_difference(None, each) for each in rules)
    golden(DIRECTORY / f"{case}.nft", build_picks(find_picks(rules)) + changes)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("backend-comes", ("cluster-ip", 0, 1), ("cluster-ip", 0, 2)),
        ("backend-goes", ("cluster-ip", 0, 2), ("cluster-ip", 0, 1)),
        ("cluster-ip-goes", ("cluster-ip", 0, 2), None),
        ("backend-comes-to-chains", ("affinity", 0, 1), ("affinity", 0, 2)),
        ("last-backend-goes", ("external", 0, 1), ("external", 0, 0)),
        ("first-backend-comes", ("external", 0, 0), ("external", 0, 1)),
        ("service-goes", ("affinity", 0, 2), None),
        ("walled-service-goes", ("source-ranges", 0, 1), None),
    ],
)
def test_what_a_change_says(
    golden: Golden, name: str, before: tuple[str, int, int], after: tuple[str, int, int] | None
) -> None:
    old, new = _rules(before), _rules(after)
    picks = new.picks - old.picks if new else ()
    golden(DIRECTORY / f"{name}.nft", build_picks(picks) + build_changes([build_difference(old, new)]))


def test_what_comes_in_place_of_what_goes_counts_on(golden: Golden) -> None:
    """The first backend goes, so that the second one gets its lot."""
    (port,) = (read_port(values) for values in CASES["cluster-ip"][:1])
    fewer = build_service([replace(port, backends=port.backends[1:])], PLACE)
    difference = build_difference(build_service([port], PLACE), fewer)
    known = {"service-ips": Count(7, 420), "backends": Count(3, 180)}
    counts = {new: known[old.set] for new, old in difference.carried.items()}
    golden(DIRECTORY / "first-backend-goes.nft", build_changes([difference], counts))


def _rules(state: tuple[str, int, int] | None) -> Any:
    if state is None:
        return None
    case, number, backends = state
    values = CASES[case][number]
    return build_service([read_port({**values, "backends": values["backends"][:backends]})], PLACE)
