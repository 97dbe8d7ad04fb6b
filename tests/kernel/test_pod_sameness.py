"""Netlink and the CNI plugins make the same: links, addresses, routes, ports and settings, on the worker and inside."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from knetsim.dataplane.pod import BRIDGE, PodPlace, Wired, WorkerPlace
from knetsim.system.netlink import (
    set_link,
)
from knetsim.system.netns import Namespaces
from knetsim.system.run import run
from knetsim.system.sysctl import read_sysctl
from tests.kernel.pods import PodMaker, make_wiring, reaches

pytestmark = pytest.mark.usefixtures("no_leaks")


#: random, counted, timed, or named after the pod by one and at random by the other
_MAY_DIFFER = {
    "address", "ifname", "link", "ifid", "id", "bridge_id", "root_id", "valid_life_time", "preferred_life_time",
    "gc_timer", "hello_timer", "tcn_timer", "topology_change_timer", "hold_timer", "message_age_timer",
    "forward_delay_timer", "link_index",
}  # fmt: skip
_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/{}/arp_notify",
    "net/ipv4/conf/{}/forwarding",
    "net/ipv4/conf/{}/rp_filter",
    "net/ipv4/conf/{}/proxy_arp",
    "net/ipv6/conf/{}/accept_dad",
    "net/ipv6/conf/{}/accept_ra",
    "net/ipv6/conf/{}/disable_ipv6",
    "net/ipv6/conf/{}/forwarding",
)


def stripped(value: Any) -> Any:
    """Without what may differ."""
    if isinstance(value, dict):
        return {key: stripped(inner) for key, inner in value.items() if key not in _MAY_DIFFER}
    return [stripped(inner) for inner in value] if isinstance(value, list) else value


def ip_json(place: Namespaces, *words: str) -> Any:
    return stripped(json.loads(run(words, place=place).output))


def read_settings(place: Namespaces, devices: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, device in enumerate(devices):
        names = [name.format(device) for name in _SETTINGS if os.path.isdir("/proc/sys/net/ipv6") or "ipv6" not in name]
        values = read_sysctl(place, *names).values()
        found |= {f"device {number}: {name}": value for name, value in zip(_SETTINGS, values, strict=False)}
    return found


def read_all(worker: WorkerPlace, pod: PodPlace, wired: Wired) -> dict[str, Any]:
    """What a user can see of a pod's network, on the worker and in the pod."""
    result: dict[str, Any] = {"returned": (wired.ip, wired.gateway, wired.mtu, wired.host_interface[:4])}
    for name, place, devices in (
        ("worker", worker.namespaces, (BRIDGE, wired.host_interface)),
        ("pod", pod.namespaces, ("eth0", "lo")),
    ):
        result |= {
            f"{name}: links": ip_json(place, "ip", "-j", "-d", "link"),
            f"{name}: addresses": [
                [address for address in link["addr_info"] if address["family"] == "inet"]
                for link in ip_json(place, "ip", "-j", "addr")
            ],
            f"{name}: routes": ip_json(place, "ip", "-j", "route"),
            f"{name}: local routes": ip_json(place, "ip", "-j", "route", "show", "table", "local"),
            f"{name}: ports": ip_json(place, "bridge", "-j", "-d", "link"),
            f"{name}: settings": read_settings(place, devices),
        }
    result["pod: routes"].sort(key=lambda route: str(route["dst"]))
    return result


def test_netlink_and_the_plugins_make_the_same(pod_maker: PodMaker) -> None:
    seen = {}
    for name in ("native", "plugins"):
        wiring = make_wiring(name)
        worker = pod_maker.worker(f"{name[:3]}w1")
        worker.netlink.apply([set_link("lo", up=True)])
        pod = pod_maker.pod(worker, f"{name}-c1")
        wired = wiring.add(worker, pod)
        assert reaches(pod, wired.gateway)
        worker.netlink.settle_carrier(BRIDGE)
        seen[name] = read_all(worker, pod, wired)
    for part, native in seen["native"].items():
        assert native == seen["plugins"][part], part
