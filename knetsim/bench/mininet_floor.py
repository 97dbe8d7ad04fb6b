"""What a host of the underlay costs, beside a host of plain Mininet: a shell, a namespace, a link to a Linux bridge.

The simulator's hosts are Mininet's objects, made another way (knetsim/dataplane/underlay.py); this is what that saves.
Mininet.init is not called: it changes sysctls of the whole machine.
"""

from __future__ import annotations

import time

from mininet.link import Link
from mininet.net import Mininet
from mininet.node import Host
from mininet.nodelib import LinuxBridge

from knetsim.bench.layout import Layout
from knetsim.dataplane.underlay import HostNode, Underlay


class _Bridge(LinuxBridge):  # type: ignore[misc]
    """Mininet's Linux bridge, without its warnings about sysctls, of which nothing here depends."""

    @classmethod
    def setup(cls) -> None:
        """Nothing to look at."""


#: so many hosts are made, of which one is the mean
HOSTS = 10


def time_plain_host() -> float:
    """Seconds for a host of plain Mininet: made, linked to a bridge, given its address."""
    Mininet.inited = True
    began = time.monotonic()
    net = Mininet(controller=None, switch=_Bridge, host=Host, link=Link, build=False)
    switch = net.addSwitch("plain0")
    for number in range(1, HOSTS + 1):
        net.addLink(net.addHost(f"plain{number}", ip=f"10.200.0.{number}/8"), switch)
    net.build()
    net.start()
    seconds = time.monotonic() - began
    net.stop()
    return seconds / HOSTS


def time_host() -> float:
    """Seconds for a host of the simulator, made to the same point."""
    began = time.monotonic()
    net = Underlay()
    switch = net.addSwitch("ours0")
    for host in Layout(HOSTS, 0, others=0, cluster="Cx").worker_hosts():
        net.addLink(net.addHost(host.name, cls=HostNode, ip=f"{host.address}/8"), switch)
    seconds = time.monotonic() - began
    for node in net.hosts:
        node.terminate()
    return seconds / HOSTS
