"""Two workers and the control plane's host on a switch, pods that answer, and Services written by hand.

    switch:  br0 ─┬─ C0w1 10.1.1.1 ── cni0 11.15.64.1/20 ── pods
                  ├─ C0w2 10.1.1.2 ── cni0 11.15.80.1/20 ── pods
                  ├─ C0cp 10.1.0.10
                  └─ out  10.1.9.9     a machine that is not of the cluster

The pod network is routed (host-gw). A pod that answers sends back its name and whom it saw asking.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NamedTuple

from knetsim.dataplane.pod import PodPlace, WorkerPlace
from knetsim.dataplane.services.host import ensure_bridge_filter, ensure_service_route, has_bridge_filter
from knetsim.dataplane.services.ports import Backend, ServicePlace, ServicePort
from knetsim.dataplane.services.rules import build_service
from knetsim.dataplane.services.worker import WorkerServices
from knetsim.system.netlink import Netlink, add_address, add_bridge, add_route, add_veth, set_link
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.sysctl import write_sysctl
from tests.kernel.pods import PodMaker, make_wiring

POD_NETWORK = IPv4Network("11.0.0.0/8")
SERVICE_NETWORK = IPv4Network("100.64.0.0/16")
VIP = IPv4Address("100.64.0.9")
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
#: more than any answer takes; what gets none within it is lost
ANSWER_SECONDS = 2.0
#: as the other end of a refused connection says it
REFUSED = "refused"
LOST = "lost"


class Answer(NamedTuple):
    """Who answered, and whom it saw asking."""

    pod: str
    client: str


@dataclass
class Pod:
    """A wired pod."""

    name: str
    node: str
    place: Namespaces
    ip: str

    def backend(self, port: int = 8080, **state: Any) -> Backend:
        """The pod as a backend."""
        return Backend(IPv4Address(self.ip), port, self.node, **state)


@dataclass
class Host:
    """A host on the switch; a worker has pods and a table of Services."""

    name: str
    place: Namespaces
    netlink: Netlink
    address: str
    worker: WorkerPlace | None = None
    services: WorkerServices | None = None
    pods: dict[str, PodPlace] = field(default_factory=dict)


class ServicesLab:
    """See above; `stack` ends all of it."""

    def __init__(self, maker: PodMaker, stack: ExitStack, wiring: str = "native") -> None:
        self._maker, self._stack, self._wiring = maker, stack, make_wiring(wiring)
        self._switch = self._plain("switch")
        write_sysctl(self._switch.place, {"net.bridge.bridge-nf-call-iptables": "0"}, missing_ok=True)
        self._switch.netlink.apply([add_bridge("br0")])
        self.w1 = self._worker("C0w1", "10.1.1.1", "11.15.64.1/20")
        self.w2 = self._worker("C0w2", "10.1.1.2", "11.15.80.1/20")
        self.cp = self._host("C0cp", "10.1.0.10")
        self.out = self._host("out", "10.1.9.9")
        for host in (self.w1, self.w2, self.cp):
            for other in (self.w1, self.w2):
                if other is not host and other.worker is not None:
                    subnet = str(other.worker.lease.subnet)
                    host.netlink.apply([add_route(subnet, via=other.address)])

    # --- hosts and pods

    def _plain(self, name: str) -> Host:
        place = self._maker.host(name, {})
        netlink = self._stack.enter_context(Netlink.in_namespace(place))
        netlink.apply([set_link(1, up=True)])
        return Host(name, place, netlink, "")

    def _connect(self, host: Host, address: str) -> None:
        host.address = address
        port, inside = f"{host.name}-p", f"{host.name}-eth0"
        bridge = self._switch.netlink.link("br0")
        assert bridge is not None
        self._switch.netlink.apply([add_veth(port, inside, peer_netns_fd=host.place.net), set_link(port, up=True)])
        end, link = self._switch.netlink.link(port), host.netlink.link(inside)
        assert end is not None
        assert link is not None
        self._switch.netlink.apply([set_link(end.index, master=bridge.index, up=True)])
        host.netlink.apply([add_address(link.index, f"{address}/8"), set_link(link.index, up=True)])
        write_sysctl(host.place, {"net.ipv4.ip_forward": "1"})
        for netlink, name in ((self._switch.netlink, port), (host.netlink, inside)):
            netlink.settle_carrier(name)

    def _host(self, name: str, address: str) -> Host:
        host = self._plain(name)
        self._connect(host, address)
        return host

    def _worker(self, name: str, address: str, gateway: str) -> Host:
        worker = self._maker.worker(name, gateway, 1500)
        worker.netlink.apply([set_link(1, up=True)])
        host = Host(name, worker.namespaces, worker.netlink, address, worker)
        self._connect(host, address)
        return host

    def pod(self, name: str, host: Host) -> Pod:
        """A pod on a worker, wired."""
        assert host.worker is not None
        place = self._maker.pod(host.worker, name)
        wired = self._wiring.add(host.worker, place)
        return Pod(name, host.name.lower(), place.namespaces, wired.ip)

    def serve(self, name: str, host: Host, protocol: str = "tcp", port: int = 8080) -> Pod:
        """A pod that answers."""
        pod = self.pod(name, host)
        self.listen(pod.place, name, protocol, port)
        return pod

    def listen(self, place: Namespaces, name: str, protocol: str = "tcp", port: int = 8080) -> None:
        """Have something in `place` answer with `name`, until the test ends."""
        sock = netns_socket(place, socket.AF_INET, _KINDS[protocol])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", port))
        answer = _answer_streams if protocol == "tcp" else _answer_datagrams
        if protocol == "tcp":
            sock.listen(64)
        thread = threading.Thread(target=answer, args=(sock, name), daemon=True)
        thread.start()
        self._stack.callback(_end, sock, thread)

    # --- Services

    def install(self, host: Host, *, routed: bool = False) -> WorkerServices:
        """Have the host ready for Services, with an empty table. `routed`: as on a kernel without br_netfilter."""
        subnet = host.worker.lease.subnet if host.worker else None
        if routed:
            write_sysctl(host.place, {"net.bridge.bridge-nf-call-iptables": "0"}, missing_ok=True)
        else:
            ensure_bridge_filter(host.place)
        ensure_service_route(host.netlink, f"{host.name}-eth0", IPv4Address(host.address), SERVICE_NETWORK)
        place = ServicePlace(
            host.name.lower(),
            IPv4Address(host.address),
            POD_NETWORK,
            SERVICE_NETWORK,
            routed=subnet if routed or not has_bridge_filter(host.place) else None,
        )
        host.services = WorkerServices(host.place, place)
        self._stack.callback(host.services.close)
        host.services.apply({}, ())
        return host.services

    def install_all(self) -> None:
        """Have both workers and the control plane's host ready."""
        for host in (self.w1, self.w2, self.cp):
            self.install(host)

    def apply(self, *ports: ServicePort) -> None:
        """Have exactly these ports, each a Service of its own, on every host that is ready."""
        for host in (self.w1, self.w2, self.cp):
            if host.services is not None:
                desired = {port.path: build_service([port], host.services.place) for port in ports}
                gone = [key for key in self._keys if key not in desired]
                host.services.apply(desired, [*desired, *gone])
        self._keys = [port.path for port in ports]

    _keys: list[str] = []  # noqa: RUF012 - replaced, never changed

    # --- asking

    def ask(self, place: Namespaces, address: object, port: int = 80, protocol: str = "tcp") -> Answer | str:
        """Connect from `place` and read the answer; REFUSED, or LOST when nothing came back."""
        with netns_socket(place, socket.AF_INET, _KINDS[protocol]) as sock:
            sock.settimeout(ANSWER_SECONDS)
            try:
                sock.connect((str(address), port))
                sock.send(b"who?\n")
                return Answer(*sock.recv(200).decode().split())
            except (ConnectionRefusedError, PermissionError):
                return REFUSED  # a datagram of the host's own that is refused: EPERM, from send itself
            except (TimeoutError, OSError):
                return LOST

    def spread(self, place: Namespaces, address: object, count: int, protocol: str = "tcp") -> Counter[str]:
        """Who answered how many of `count` questions."""
        answers = (self.ask(place, address, protocol=protocol) for _ in range(count))
        return Counter(answer.pod if isinstance(answer, Answer) else answer for answer in answers)


def build_port(*pods: Pod, protocol: Any = "tcp", **options: Any) -> ServicePort:
    """Port 80 of the Service default/web at VIP, with these pods' port 8080."""
    backends = tuple(pod.backend() for pod in pods)
    values = {"namespace": "default", "service": "web", "port": 80, "cluster_ip": VIP, "backends": backends}
    return ServicePort(protocol=protocol, **{**values, **options})


def _answer_streams(sock: socket.socket, name: str) -> None:
    while True:
        try:
            connection, client = sock.accept()
        except OSError:
            return
        with connection:
            connection.sendall(f"{name} {client[0]}\n".encode())


def _answer_datagrams(sock: socket.socket, name: str) -> None:
    while True:
        try:
            _, client = sock.recvfrom(200)
        except OSError:
            return
        if not client:
            return
        sock.sendto(f"{name} {client[0]}\n".encode(), client)


def _end(sock: socket.socket, thread: threading.Thread) -> None:
    _quietly(lambda: sock.shutdown(socket.SHUT_RDWR))
    thread.join(5)
    sock.close()


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError:
        return  # ENOTCONN: a datagram socket wakes up nevertheless
