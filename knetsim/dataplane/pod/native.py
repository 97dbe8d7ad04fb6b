"""`cni: native`: a pod's network by netlink, the same kernel objects as flannel's CNI chain makes.

What the chain (flannel, bridge, host-local) does, in three programs and about 20 ms: reserves an address, makes a veth
pair whose one end `eth0` is in the pod and whose other end is a port of the worker's bridge, gives eth0 the address,
routes to the pod network and to everything else through the bridge, and some settings. A test wires one pod each way
and compares.
Ours: the same in three batches of netlink messages and a file under /proc/sys, in about a millisecond, most of which
the kernel needs for the pair and for the port.

How it differs, on purpose:
- A pod's MAC is `0a:58:` and its address (as the bridge plugin had it until 0.8), not random; and the worker's end of
  the pair is named after the pod, not at random. Both are the same however often the pod is wired.
- Addresses are kept in memory (see addresses.py), not in files.
- The plugin waits until the kernel has noticed that the pair has a carrier, looking again after 50 ms; ours has the
  kernel notice it at once (`Netlink.settle_carrier`). Packets pass when `add` returns.
- The pod's ARP entry for its gateway and the worker's for the pod are permanent, not learned. The kernel keeps one ARP
  table for all network namespaces of the machine, and lets it hold 1024 learned entries (gc_thresh3); a thousand pods
  that talk fill it, after which packets are dropped. What is permanent does not count.
- `remove` takes the worker's end down and leaves the deletion of the pair to the end of the pod's network namespace.
  Deleting a veth pair waits about 16 ms for the kernel (RCU); the end of a namespace frees thousands at once, later and
  in the background. A port that is down passes nothing, so the address is free from then on.
- A program in the pod that changes eth0 can be seen by `check`; the plugin of flannel v0.9 implements no CHECK.

Commands: `C0w1 bridge link`, `C0w1 ip netns exec k0_c1 ip addr`, `C0w1 ip netns exec k0_c1 ip route`.
Costs per pod: one veth pair, one bridge port, a few hundred bytes here.
"""

from __future__ import annotations

import errno
import threading
from ipaddress import IPv4Address, IPv4Interface

from knetsim import names
from knetsim.dataplane.pod.addresses import AddressPool
from knetsim.dataplane.pod.bridge import build_mac, ensure_bridge
from knetsim.dataplane.pod.wiring import BRIDGE, POD_INTERFACE, PodPlace, Wired, WorkerPlace
from knetsim.errors import AlreadyExists, KernelError, NotFound
from knetsim.system import netlink
from knetsim.system.netlink import Netlink, Request
from knetsim.system.sysctl import write_sysctl

_GONE = frozenset({errno.ENODEV})
#: do not wait for IPv6's duplicate address detection, as the bridge plugin sets it
_POD_SETTINGS = {f"net/ipv6/conf/{POD_INTERFACE}/accept_dad": "0"}


def host_interface(pod: PodPlace) -> str:
    """The worker's end of the pod's veth pair."""
    return names.pod_veth(pod.namespace, pod.pod, pod.uid)


# --- pure: what is asked of the kernel --------------------------------------------------------------


def build_link(worker: WorkerPlace, pod: PodPlace, address: IPv4Address) -> list[Request]:
    """In the pod: its veth pair, down, the other end in the worker; eth0 to announce its address; loopback up."""
    mtu = worker.lease.mtu
    return [
        netlink.add_veth(
            POD_INTERFACE,
            host_interface(pod),
            peer_netns_fd=worker.namespaces.net,
            mtu=mtu,
            peer_mtu=mtu,
            mac=build_mac(address),
            up=False,
            queue_length=0,
        ),
        netlink.set_arp_notify(POD_INTERFACE),
        netlink.set_link("lo", up=True),
    ]


def build_network(worker: WorkerPlace, index: int, address: IPv4Address) -> list[Request]:
    """In the pod: the address of eth0, up, the routes that flannel and the bridge plugin ask for, the gateway's MAC."""
    lease = worker.lease
    gateway = str(lease.gateway.ip)
    return [
        netlink.add_address(
            index, f"{address}/{lease.subnet.prefixlen}", broadcast=str(lease.subnet.broadcast_address)
        ),
        netlink.set_link(index, up=True),
        netlink.add_route(str(lease.network), via=gateway, index=index),
        netlink.add_route("default", via=gateway, index=index),
        netlink.add_neighbour(index, gateway, build_mac(lease.gateway.ip)),
    ]


def build_port(pod: PodPlace, bridge_index: int, address: IPv4Address) -> list[Request]:
    """In the worker: its end of the pair as a port of the bridge, and the pod's MAC."""
    host = host_interface(pod)
    return [
        netlink.set_link(host, master=bridge_index, up=True),
        netlink.set_bridge_port(host, hairpin=True),
        netlink.add_neighbour(bridge_index, str(address), build_mac(address)),
    ]


# --- the wiring -----------------------------------------------------------------------------------


class _WorkerPods:
    """What is known of one worker's pods: their addresses, by uid how they are wired, the bridge's index (0: look)."""

    def __init__(self, worker: WorkerPlace) -> None:
        self.lock = threading.Lock()
        self.pool = AddressPool(worker.lease.subnet)
        self.wired: dict[str, Wired] = {}
        self.bridge_index = 0


class NativeWiring:
    """Wires the pods of any number of workers; implements `PodNetwork`."""

    name = "native"

    def __init__(self) -> None:
        self._workers: dict[str, _WorkerPods] = {}
        self._lock = threading.Lock()

    def _pods(self, worker: WorkerPlace) -> _WorkerPods:
        with self._lock:
            pods = self._workers.get(worker.name)
            if pods is None:
                pods = self._workers[worker.name] = _WorkerPods(worker)
            elif pods.pool.subnet != worker.lease.subnet:  # a new lease: old pods keep their old addresses
                pods.pool = AddressPool(worker.lease.subnet)
            return pods

    def add(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """Wire the pod; AlreadyExists when it is, KernelError, or KnetsimError when its worker has no address left."""
        pods = self._pods(worker)
        if pod.uid in pods.wired:
            raise AlreadyExists(f"pod {pod} is wired already", worker.name)
        pool = pods.pool
        address = pool.reserve()
        try:
            wired = self._wire(worker, pod, pods, address)
        except BaseException:
            # If this fails too the address stays taken: something may still answer to it.
            requests = [netlink.delete_link(host_interface(pod))]
            if pods.bridge_index:
                requests.append(netlink.delete_neighbour(pods.bridge_index, str(address)))
            worker.netlink.apply(requests)
            pool.release(address)
            raise
        pods.wired[pod.uid] = wired
        return wired

    def _wire(self, worker: WorkerPlace, pod: PodPlace, pods: _WorkerPods, address: IPv4Address) -> Wired:
        if not pods.bridge_index:
            self.ensure_bridge(worker)
        with Netlink.in_namespace(pod.namespaces) as inside:
            self._add_pair(worker, pod, inside, address)
            index = inside.index(POD_INTERFACE)
            if index is None:
                raise NotFound(f"{POD_INTERFACE} of pod {pod} vanished as soon as it was made", worker.name)
            write_sysctl(pod.namespaces, _POD_SETTINGS, missing_ok=True)
            inside.apply(build_network(worker, index, address))
            self._attach(worker, pod, pods, address)
            self._settle(worker, pod, inside)
        gateway = str(worker.lease.gateway.ip)
        return Wired(str(address), gateway, build_mac(address), host_interface(pod), worker.lease.mtu)

    @staticmethod
    def _add_pair(worker: WorkerPlace, pod: PodPlace, inside: Netlink, address: IPv4Address) -> None:
        requests = build_link(worker, pod, address)
        try:
            inside.apply(requests)
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            # What an earlier wiring of this very pod left, which the kernel has not freed yet.
            worker.netlink.apply([netlink.delete_link(host_interface(pod))])
            inside.apply(requests)

    def _attach(self, worker: WorkerPlace, pod: PodPlace, pods: _WorkerPods, address: IPv4Address) -> None:
        """Make the pod's end a port of the bridge; and the bridge, when it went away since we last looked."""
        index = pods.bridge_index
        try:
            worker.netlink.apply(build_port(pod, index, address))
        except KernelError:
            bridge = worker.netlink.link(BRIDGE)
            if bridge is not None and bridge.index == index:
                raise
            self.ensure_bridge(worker)
            worker.netlink.apply(build_port(pod, pods.bridge_index, address))

    @staticmethod
    def _settle(worker: WorkerPlace, pod: PodPlace, inside: Netlink) -> None:
        """Now that both ends are up there is a carrier; the bridge has one with its first port."""
        worker.netlink.settle_carrier(host_interface(pod))
        worker.netlink.settle_carrier(BRIDGE)
        inside.settle_carrier(POD_INTERFACE)

    def adopt(self, worker: WorkerPlace, pod: PodPlace) -> Wired | None:
        """Take over a pod from what the kernel shows: its eth0, its address, its end on the worker."""
        with Netlink.in_namespace(pod.namespaces) as inside:
            link = inside.link(POD_INTERFACE)
            addresses = inside.addresses(link.index) if link else []
        if link is None or not addresses or worker.netlink.link(host_interface(pod)) is None:
            return None
        address = IPv4Interface(addresses[0].cidr)
        pods = self._pods(worker)
        wired = Wired(str(address.ip), str(worker.lease.gateway.ip), link.mac, host_interface(pod), link.mtu)
        pods.pool.take(address.ip)
        pods.wired[pod.uid] = wired
        if not pods.bridge_index:
            self.ensure_bridge(worker)
        return wired

    def repair(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """Ask for everything again, which changes only what differs; the pair is made again if an end is gone."""
        pods = self._pods(worker)
        wired = pods.wired.get(pod.uid)
        if wired is None:
            return self.add(worker, pod)
        address = IPv4Address(wired.ip)
        with Netlink.in_namespace(pod.namespaces) as inside:
            eth0 = inside.link(POD_INTERFACE)
            if eth0 is not None and eth0.kind == "veth" and worker.netlink.link(wired.host_interface) is not None:
                settings = [netlink.set_link(eth0.index, mtu=wired.mtu, mac=wired.mac), netlink.set_link("lo", up=True)]
                inside.apply(settings + build_network(worker, eth0.index, address))
                self._attach(worker, pod, pods, address)
                self._settle(worker, pod, inside)
                return wired
            inside.apply([netlink.delete_link(POD_INTERFACE)])
        wired = pods.wired[pod.uid] = self._wire(worker, pod, pods, address)
        return wired

    def remove(self, worker: WorkerPlace, pod: PodPlace) -> None:
        """Cut the pod off and free its address; its veth pair goes with its namespace, which the caller ends."""
        pods = self._pods(worker)
        cut_off = netlink.set_link(host_interface(pod), up=False)._replace(tolerate=_GONE)
        with pods.lock:  # lest a repair of the bridge brings the pod's end up again
            wired = pods.wired.get(pod.uid)
            if wired is None:
                worker.netlink.apply([cut_off])
                return
            worker.netlink.apply([cut_off, netlink.delete_neighbour(pods.bridge_index, wired.ip)])
            del pods.wired[pod.uid]
        pods.pool.release(IPv4Address(wired.ip))

    def ensure_bridge(self, worker: WorkerPlace) -> list[str]:
        """Make the bridge, or repair it and its ports; what had to be done, in words."""
        pods = self._pods(worker)
        with pods.lock:
            ports = {wired.host_interface for wired in list(pods.wired.values())}
            done = ensure_bridge(worker, ports, build_mac(worker.lease.gateway.ip))
            bridge = worker.netlink.link(BRIDGE)
            if bridge is not None and bridge.index != pods.bridge_index:
                pods.bridge_index = bridge.index
                wired = list(pods.wired.values())
                worker.netlink.apply(netlink.add_neighbour(bridge.index, one.ip, one.mac) for one in wired)
            return done

    def check(self, worker: WorkerPlace, pod: PodPlace) -> list[str]:
        """Compare the kernel with how the pod was wired; what differs, in words."""
        wired = self._pods(worker).wired.get(pod.uid)
        if wired is None:
            return ["it is not wired"]
        with Netlink.in_namespace(pod.namespaces) as inside:
            return explain_host_end(worker, wired) + explain_pod_end(inside, worker, wired)


# --- what differs ---------------------------------------------------------------------------------


def explain_host_end(worker: WorkerPlace, wired: Wired) -> list[str]:
    """What is wrong with the worker's end of a pod's veth pair."""
    bridge, port = worker.netlink.link(BRIDGE), worker.netlink.link(wired.host_interface)
    if port is None:
        return [f"{wired.host_interface} is missing on {worker.name}"]
    wrong = []
    if not port.up:
        wrong.append(f"{port.name} is down")
    if bridge is None:
        wrong.append(f"{BRIDGE} is missing on {worker.name}")
    elif port.master != bridge.index:
        wrong.append(f"{port.name} is not a port of {BRIDGE}")
    elif port.port is not None and not port.port.forwarding:
        wrong.append(f"{port.name} does not forward")
    return wrong


def explain_pod_end(inside: Netlink, worker: WorkerPlace, wired: Wired) -> list[str]:
    """What is wrong with a pod's eth0, its address and its routes."""
    link = inside.link(POD_INTERFACE)
    if link is None:
        return [f"{POD_INTERFACE} is missing in the pod"]
    wrong = []
    if not link.up:
        wrong.append(f"{POD_INTERFACE} is down")
    if link.mtu != wired.mtu:
        wrong.append(f"the MTU of {POD_INTERFACE} is {link.mtu} instead of {wired.mtu}")
    cidr = f"{wired.ip}/{worker.lease.subnet.prefixlen}"
    if cidr not in {entry.cidr for entry in inside.addresses(link.index)}:
        wrong.append(f"{POD_INTERFACE} does not have {cidr}")
    routes = {(route.dst, route.via) for route in inside.routes() if route.index == link.index}
    wanted = [(dst, wired.gateway) for dst in ("default", str(worker.lease.network))]
    return wrong + [f"the route `{dst} via {via}` is missing" for dst, via in wanted if (dst, via) not in routes]
