"""hostPort: from a port of the worker to a pod on it, by an nft table of its own, made with the first pod that asks.

What a node does. The kubelet hands a pod's hostPorts to its runtime, and the CNI plugin portmap turns the address of a
connection's first packet: of those that come from outside and of the node's own, also through localhost. What comes
from the node itself or from its pods is masqueraded, so that the answer comes back the same way.
What ours does: the same, in the table `ip knetsim-hostports` of the worker, as elements of two maps, so that one more
pod is one more element.
How it differs: portmap has a chain per pod and calls nft for each; nothing listens on the port, as there.
Commands: `C0w1 nft list table ip knetsim-hostports`. Cost: nothing without hostPorts; then one look-up for the first
packet of a connection to the worker itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from knetsim.dataplane.pod import BRIDGE
from knetsim.errors import KernelError, KnetsimError
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft
from knetsim.system.sysctl import write_sysctl

TABLE = "knetsim-hostports"
#: of what is to be masqueraded, as portmap's; kube-proxy's is 0x4000
_MARK = 0x2000
_ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True, order=True)
class HostPort:
    """A port of the worker that leads to a port of a pod; `address` is one of the worker's, or "" for any."""

    port: int
    protocol: str
    pod_ip: str
    pod_port: int
    address: str = ""

    @property
    def _key(self) -> str:
        own = "" if self.address in ("", _ANY) else f"{self.address} . "
        return f"{own}{self.protocol.lower()} . {self.port}"

    def elements(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """What it is in the sets of the table: (set, element) of who comes, and of where it goes."""
        kind = "ports" if self.address in ("", _ANY) else "address-ports"
        return (kind, self._key), (f"{kind}-to-pods", f"{self._key} : {self.pod_ip} . {self.pod_port}")


def build_host_ports(subnet: IPv4Network, ports: Iterable[HostPort] = ()) -> str:
    """The nft text that makes the table of a worker whose pods are in `subnet`, or makes it anew; pure."""
    any_key, own_key = "inet_proto . inet_service", "ipv4_addr . inet_proto . inet_service"
    text = f"""\
{build_no_host_ports()}table ip {TABLE} {{
	comment "hostPort: from ports of the worker to its pods"
	set ports {{ type {any_key}; }}
	map ports-to-pods {{ type {any_key} : ipv4_addr . inet_service; }}
	set address-ports {{ type {own_key}; }}
	map address-ports-to-pods {{ type {own_key} : ipv4_addr . inet_service; }}
	chain to-pods {{
		ip daddr . meta l4proto . th dport @address-ports goto to-pods-by-address
		meta l4proto . th dport @ports goto to-pods-by-port
	}}
	chain to-pods-by-address {{
		jump mark-own
		dnat ip to ip daddr . meta l4proto . th dport map @address-ports-to-pods
	}}
	chain to-pods-by-port {{
		jump mark-own
		dnat ip to meta l4proto . th dport map @ports-to-pods
	}}
	chain mark-own {{
		ip saddr {{ 127.0.0.0/8, {subnet} }} meta mark set meta mark | {_MARK:#x} comment "the answer comes back here"
	}}
	chain prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump to-pods
	}}
	chain output {{
		type nat hook output priority -100; policy accept;
		fib daddr type local jump to-pods
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & {_MARK:#x} != 0 meta mark set meta mark ^ {_MARK:#x} masquerade fully-random
	}}
}}
"""
    return text + build_change((), ports)


def build_no_host_ports() -> str:
    """The nft text that takes the table away; also where there is none; pure."""
    return f"table ip {TABLE}\ndelete table ip {TABLE}\n"


def build_change(before: Iterable[HostPort], after: Iterable[HostPort]) -> str:
    """The nft text that leads from some ports to others; pure."""
    old, new = (dict.fromkeys(one for port in sorted(ports) for one in port.elements()) for ports in (before, after))
    lines = [f"delete element ip {TABLE} {name} {{ {element} }}" for name, element in old if (name, element) not in new]
    lines += [f"add element ip {TABLE} {name} {{ {element} }}" for name, element in new if (name, element) not in old]
    return "".join(f"{line}\n" for line in lines)


class WorkerHostPorts:
    """The table of one worker; used by one thread at a time."""

    def __init__(self, namespaces: Namespaces, subnet: IPv4Network) -> None:
        self._namespaces, self._subnet = namespaces, subnet
        self._nft: Nft | None = None
        self._applied: frozenset[HostPort] | None = None
        self._text = ""

    def apply(self, ports: Iterable[HostPort]) -> None:
        """Have exactly these ports lead to pods. CommandError, and the whole table the next time."""
        wanted, before = frozenset(ports), self._applied
        if before is None and not wanted:
            return
        self._applied = None
        nft = self._open()
        if before is None:
            nft.apply(build_host_ports(self._subnet, wanted))
        elif text := build_change(before, wanted):
            nft.apply(text)
        self._applied, self._text = wanted, self._read(nft)

    def repair(self) -> str:
        """Make the table anew if somebody has changed it; what was done, or ""."""
        if self._nft is None or self._applied is None:
            return ""
        try:
            if self._read(self._nft) == self._text:
                return ""
        except KnetsimError:
            pass  # there is no such table any more
        ports, self._applied = self._applied, None
        self.apply(ports)
        return f"table ip {TABLE} was made anew"

    def _open(self) -> Nft:
        if self._nft is None:
            try:  # the worker's own processes reach pods from 127.0.0.1, as portmap has it
                write_sysctl(self._namespaces, {f"net.ipv4.conf.{BRIDGE}.route_localnet": "1"}, missing_ok=True)
            except KernelError as error:
                where = self._namespaces.name
                raise KnetsimError("ports of the worker cannot lead to pods", where, str(error)) from error
            self._nft = Nft(self._namespaces)
        return self._nft

    def _read(self, nft: Nft) -> str:
        return nft.read(f"list table ip {TABLE}", stateless=True)

    def close(self) -> None:
        """Let go of the socket; the rules stay. Twice is once."""
        if self._nft is not None:
            self._nft.close()
            self._nft, self._applied = None, None


def merge_ports(by_pod: Mapping[str, Iterable[HostPort]]) -> list[HostPort]:
    """All pods' ports; of two that want the same one, the pod that came first has it."""
    taken: dict[tuple[str, str], HostPort] = {}
    for ports in by_pod.values():
        for port in ports:
            taken.setdefault(port.elements()[0], port)
    return list(taken.values())
