"""The underlay: hosts, switches and links as Mininet knows them, made by netlink instead of by shell commands.

Reality: machines in a data centre on switches. Mininet's way: a bash per host, whose commands make the host's
namespace,
interfaces and addresses (about 28 ms a host). Ours: a host is a set of namespaces held by descriptors, its link and
address one netlink message each (about 2 ms a host, no process); switches are Linux bridges in the simulation's root
network namespace, as Mininet's LinuxBridge. The objects are Mininet's (`Node`, `Link`, `Intf`, `Mininet`), so its
prompt, `net`, `links`, `link C0w1 C0s0 down` and `py` work; a host's bash starts when the first command is typed at it.

Library code drives hosts through `HostNode.place` and `.netlink`, never through `cmd`: the shell belongs to the human
at the prompt. Commands that show it: `net`, `links`, `C0w1 ip addr`, `sh bridge link`.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Callable
from typing import Any

import mininet.log
from mininet.link import Intf, Link
from mininet.net import Mininet
from mininet.node import Node, Switch

from knetsim.errors import NotFound
from knetsim.names import INTERFACE_NAME_MAX, did_you_mean
from knetsim.system import netlink, netns
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces
from knetsim.system.sysctl import write_sysctl

logging.setLoggerClass(logging.Logger)  # importing mininet.log replaces it for the whole process
mininet.log.setLogLevel("output")

MTU = 1500
#: so many hosts learn each other's hardware addresses by ARP: their pairs are half of what the machine's table holds
LEARNING_HOSTS = 22


class PlaceNode(Node):  # type: ignore[misc]
    """A Mininet node that stands in a place of ours; its shell is started by the first command it is given."""

    shell: Any
    inNamespace: bool

    def __init__(self, name: str, place: Namespaces, **params: Any) -> None:
        self.place = place
        self.netlink = Netlink.in_namespace(place)
        self._interactive_pid: int | None = None
        super().__init__(name, **params)

    @classmethod
    def checkSetup(cls) -> None:
        """Mininet looks for `ifconfig` here, by running `which`; set-up saw to it."""

    @property
    def pid(self) -> int:
        """The pid of the node's shell, which is started if need be: what Mininet's tools attach to."""
        self.ensure_shell()
        assert self._interactive_pid is not None
        return self._interactive_pid

    @pid.setter
    def pid(self, value: int | None) -> None:
        self._interactive_pid = value

    def startShell(self, mnopts: str | None = None) -> None:
        """Mininet starts the shell with the node; we wait until somebody types."""

    def ensure_shell(self) -> None:
        """Start the node's interactive bash, in the node's namespaces, unless it runs."""
        if self.shell is not None and self.shell.poll() is None:
            return
        self.shell = None
        in_namespace, self.inNamespace = self.inNamespace, False
        try:
            with netns.entered(self.place):
                super().startShell()
        finally:
            self.inNamespace = in_namespace

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:
        """Type a command into the node's shell."""
        self.ensure_shell()
        super().sendCmd(*args, **kwargs)

    def cmd(self, *args: Any, **kwargs: Any) -> Any:
        """Type a command into the node's shell and return its output; for humans, see the design note."""
        self.ensure_shell()
        return super().cmd(*args, **kwargs)

    def terminate(self) -> None:
        """End the shell and let go of the namespaces; the kernel frees what nothing else holds."""
        super().terminate()
        self.netlink.close()
        self.place.close()

    def __repr__(self) -> str:
        intfs = ",".join(f"{intf.name}:{intf.IP()}" for intf in self.intfList())
        return f"<{type(self).__name__} {self.name}: {intfs}>"


class HostNode(PlaceNode):
    """A machine of the underlay: own network, mount, UTS and IPC namespaces, one interface `NAME-eth0`."""

    def __init__(self, name: str, ip: str, mounts: dict[str, str] | None = None, **params: Any) -> None:
        """`ip` is the address with its prefix length; `mounts` maps files to where the host shall see them."""
        place = netns.create_host(name, mounts or {})
        super().__init__(name, place, ip=ip, **params)

    def configDefault(self, **params: Any) -> dict[str, Any]:
        """Nothing is left to configure: the link brought its address."""
        return {}


class BridgeSwitch(Switch, PlaceNode):  # type: ignore[misc]
    """A switch: a Linux bridge in the simulation's root network namespace, without spanning tree."""

    def __init__(self, name: str, place: Namespaces, **params: Any) -> None:
        params.setdefault("dpid", "1")  # OpenFlow's; Mininet wants one of every switch
        PlaceNode.__init__(self, name, place, inNamespace=False)
        self.dpid, self.opts, self.listenPort, self.controlIntf = params["dpid"], "", None, None
        self.netlink.apply([netlink.add_bridge(name, mtu=MTU)])
        link = self.netlink.link(name)
        assert link is not None
        self.index = link.index

    def start(self, controllers: object) -> None:
        """Forward again after `stop`."""
        self.netlink.apply([netlink.set_link(self.index, up=True)])

    def stop(self, deleteIntfs: bool = True) -> None:
        """Cease to forward, as when a switch loses power; its links stay."""
        self.netlink.apply([netlink.set_link(self.index, up=False)])

    def connected(self) -> bool:
        """A bridge waits for no controller."""
        return True


class NetlinkIntf(Intf):  # type: ignore[misc]
    """An end of a link. It is made with its addresses, so configuring it sends nothing."""

    ip: str | None
    prefixLen: str | None
    mac: str | None

    def __init__(self, name: str, index: int, **params: Any) -> None:
        self.index, self.mtu = index, MTU
        super().__init__(name, **params)

    def config(self, mac: str | None = None, ip: str | None = None, up: bool = True, **_: Any) -> dict[str, Any]:
        """Remember the address that the link was made with."""
        if ip:
            self.ip, self.prefixLen = ip.split("/")
        return {}

    def setIP(self, ipstr: str, prefixLen: int | None = None) -> None:
        """Replace the interface's IPv4 addresses by `ipstr` (with its prefix length, there or in `prefixLen`)."""
        address = ipaddress.ip_interface(ipstr if "/" in ipstr else f"{ipstr}/{prefixLen}")
        old = [entry for entry in self.node.netlink.addresses() if entry.index == self.index and "." in entry.cidr]
        self.node.netlink.apply(
            [netlink.delete_address(self.index, entry.cidr) for entry in old]
            + [netlink.add_address(self.index, str(address)), netlink.set_link(self.index, up=True)]
        )
        self.ip, self.prefixLen = str(address.ip), str(address.network.prefixlen)

    def setMAC(self, macstr: str) -> None:
        """Change the interface's hardware address."""
        self.node.netlink.apply([netlink.set_link(self.index, mac=macstr)])
        self.mac = macstr

    def updateIP(self) -> str | None:
        """The first IPv4 address that the kernel has for the interface now."""
        cidrs = [entry.cidr for entry in self.node.netlink.addresses() if entry.index == self.index]
        self.ip = next((cidr.split("/")[0] for cidr in cidrs if "." in cidr), None)
        return self.ip

    def updateMAC(self) -> str | None:
        """The hardware address that the kernel has for the interface now."""
        link = self.node.netlink.link(self.name)
        self.mac = link.mac if link else None
        return self.mac

    def updateAddr(self) -> tuple[str | None, str | None]:
        """Both of the above."""
        return self.updateIP(), self.updateMAC()

    def isUp(self, setUp: bool = False) -> bool:
        """Whether the interface is up, after bringing it up if asked."""
        if setUp:
            self.node.netlink.apply([netlink.set_link(self.index, up=True)])
        link = self.node.netlink.link(self.name)
        return link is not None and link.up

    def ifconfig(self, *args: str) -> str:
        """Mininet's `link A B up|down` comes here; other uses go through the node's shell as in Mininet."""
        if args in (("up",), ("down",)):
            self.node.netlink.apply([netlink.set_link(self.index, up=args == ("up",))])
            return ""
        return str(super().ifconfig(*args))

    def status(self) -> str:
        """`OK` while the interface exists."""
        return "OK" if self.node.netlink.link(self.name) else "MISSING"

    def delete(self) -> None:
        """Delete the interface, and with it the other end."""
        link = self.node.netlink.link(self.name)
        if link:
            self.node.netlink.apply([netlink.delete_link(link.index)])
        self.node.delIntf(self)
        self.link = None


class VethLink(Link):  # type: ignore[misc]
    """A cable: a veth pair, made with one message at the switch and one at the host."""

    def __init__(self, node1: PlaceNode, node2: PlaceNode, addr1: str, addr2: str, **_: Any) -> None:
        """`node2` is a switch; `node1` a host or a switch. `addr1`, `addr2` are their hardware addresses."""
        if not isinstance(node2, BridgeSwitch):
            node1, node2, addr1, addr2 = node2, node1, addr2, addr1
        assert isinstance(node2, BridgeSwitch), "a link needs a switch at one end"
        port1, port2 = node1.newPort(), node2.newPort()
        name1, name2 = self.intfName(node1, port1), self.intfName(node2, port2)
        for name in (name1, name2):
            if len(name) > INTERFACE_NAME_MAX:
                raise ValueError(f"interface name {name} is longer than {INTERFACE_NAME_MAX}")
        near_switch = isinstance(node1, BridgeSwitch)
        node2.netlink.apply(
            [
                netlink.add_veth(
                    name2, name1, mtu=MTU, peer_mtu=MTU, master=node2.index, mac=addr2, peer_mac=addr1,
                    peer_netns_fd=None if near_switch else node1.place.net,
                )
            ]
        )  # fmt: skip
        index1, index2 = _index(node1, name1), _index(node2, name2)
        self._configure(node1, index1, near_switch)
        # else the kernel drops packets until a worker thread of its own has noticed the carrier, and a lost SYN is a
        # second
        for node, name in ((node2, node2.name), (node2, name2), (node1, name1)):
            node.netlink.settle_carrier(name)
        self.intf1 = NetlinkIntf(
            name1, index1, node=node1, port=port1, link=self, mac=addr1, ip=node1.params.get("ip"), moveIntfFn=_stay
        )
        self.intf2 = NetlinkIntf(name2, index2, node=node2, port=port2, link=self, mac=addr2, moveIntfFn=_stay)

    @staticmethod
    def _configure(node: PlaceNode, index: int, near_switch: bool) -> None:
        if near_switch:
            assert isinstance(node, BridgeSwitch)
            node.netlink.apply([netlink.set_link(index, up=True, master=node.index)])
        else:
            node.netlink.apply(
                [
                    netlink.set_link(1, up=True),  # lo is the first device of every network namespace
                    netlink.set_link(index, up=True),
                    netlink.add_address(index, node.params["ip"]),
                ]
            )


def _stay(*_: object) -> None:
    """The interface is in its node's namespace already."""


def _index(node: PlaceNode, name: str) -> int:
    link = node.netlink.link(name)
    assert link is not None, f"{name} was made but is not there"
    return int(link.index)


class Underlay(Mininet):  # type: ignore[misc]
    """All hosts, switches and links of a simulation; Mininet's object of the name `net`.

    Mininet.init, which changes sysctls of the whole machine, is never called.
    """

    def __init__(self) -> None:
        self.root = Namespaces.of_thread("the simulation")
        Mininet.inited = True
        super().__init__(controller=None, link=VethLink, switch=BridgeSwitch, host=HostNode, build=False)
        bridge_filters = ("iptables", "ip6tables", "arptables")
        if os.path.isdir("/proc/sys/net/bridge"):
            # switches forward frames; what they carry is no business of the root namespace's packet filter
            write_sysctl(self.root, {f"net.bridge.bridge-nf-call-{name}": "0" for name in bridge_filters})
        with Netlink.in_namespace(self.root) as root:
            root.apply([netlink.set_link(1, up=True)])
        self.built = True

    def addSwitch(self, name: str, cls: Callable[..., Any] | None = None, **params: Any) -> Any:
        """A bridge in the root namespace."""
        place = Namespaces.of_thread(name, ("net",))
        switch = super().addSwitch(name, cls, place=place, **params)
        return switch

    def settle_addresses(self) -> None:
        """In a large underlay, give every host the hardware addresses of all others for good.

        Learned ones share one table of 1024 for the whole machine, whatever the namespace
        (net.ipv4.neigh.default.gc_thresh3);
        permanent ones do not count. In a small one they are learned, as in reality: `C0w1 ip neigh`.
        """
        if len(self.hosts) <= LEARNING_HOSTS:
            return
        known = [(host, host.defaultIntf()) for host in self.hosts]
        for host, own in known:
            host.netlink.apply(
                netlink.add_neighbour(own.index, other.ip, other.mac) for peer, other in known if peer is not host
            )

    def find_node(self, name: str) -> PlaceNode:
        """The host or switch `name`, whatever the case of its letters; NotFound with the nearest name."""
        if name in self.nameToNode:
            node: PlaceNode = self.nameToNode[name]
            return node
        for known, candidate in self.nameToNode.items():
            if known.lower() == name.lower():
                found: PlaceNode = candidate
                return found
        raise NotFound(f"no host or switch '{name}'", hint=did_you_mean(name, self.nameToNode))
