"""Ports of a worker that lead to its pods: the nft table, and changes of it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path

from knetsim.dataplane.host_ports import HostPort, build_change, build_host_ports

HERE = Path(__file__).parent / "pod_files"
WEB = HostPort(8080, "TCP", "11.16.0.2", 80)
DNS = HostPort(53, "UDP", "11.16.0.3", 5353, "10.1.1.1")


def test_the_table(golden: Callable[[Path, str], None]) -> None:
    text = build_host_ports(IPv4Network("11.16.0.0/20"), [DNS, WEB])
    text += "# the pod of port 8080 is another one, port 53 is no more\n"
    text += build_change([WEB, DNS], [HostPort(8080, "TCP", "11.16.0.9", 80)])
    golden(HERE / "host_ports.nft", text)
    assert build_change([WEB, DNS], [DNS, WEB]) == ""
