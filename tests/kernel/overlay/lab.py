"""A small cluster for the overlay, all in namespaces: veth pairs on a bridge as underlay, a real etcd, workers, pods.

    switch:  br0 ── e1 10.1.0.1 (etcd)
                 ├─ w1 10.1.1.1 ── cni0 ── pods
                 └─ w2 10.1.1.2 …

Nothing of it is in the host's network namespace; etcd is reached by a UNIX socket.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import pytest

from knetsim.api.etcd import Etcd
from knetsim.dataplane.overlay import flanneld
from knetsim.dataplane.overlay.agent import OverlayAgent
from knetsim.dataplane.overlay.flannel_log import NAME as LOG_NAME
from knetsim.dataplane.overlay.lease import VXLAN, Backend, NetworkConfig
from knetsim.dataplane.overlay.lease_store import ensure_network_config
from knetsim.dataplane.overlay.readiness import wait_ready
from knetsim.dataplane.overlay.subnet_file import read_subnet_file
from knetsim.dataplane.overlay.worker import OverlayWorker
from knetsim.system.netlink import Netlink, add_address, add_bridge, add_route, add_veth, set_link
from knetsim.system.netns import Namespaces, create_netns, entered, netns_socket
from knetsim.system.ping import ping
from knetsim.system.programs import find_program
from knetsim.system.run import run
from knetsim.system.sysctl import read_sysctl, write_sysctl
from knetsim.system.wait import wait_until

NETWORK = IPv4Network("11.0.0.0/8")
EtcdT = TypeVar("EtcdT", bound=Etcd)


def build_config(backend: str = VXLAN) -> NetworkConfig:
    """The default scenario's pod network."""
    return NetworkConfig(
        NETWORK, 20, IPv4Address("11.10.0.0"), IPv4Address("11.99.0.0"), Backend(backend, vni=100, port=8472)
    )


@dataclass
class Host:
    """A namespace with one interface on the switch."""

    name: str
    place: Namespaces
    netlink: Netlink
    address: str
    directory: Path

    @property
    def interface(self) -> str:
        return f"{self.name}-eth0"

    @property
    def worker(self) -> OverlayWorker:
        """As the agent sees it."""
        return OverlayWorker(
            self.name, self.place, self.netlink, self.interface, IPv4Address(self.address), self.directory
        )

    def ip(self, *words: str) -> str:
        """The output of a command in this host."""
        return run(words, place=self.place).output

    def sysctl(self, name: str) -> str:
        """A kernel setting of this host."""
        return read_sysctl(self.place, name)[name]


@dataclass
class Pod:
    """A namespace on a worker's bridge."""

    place: Namespaces
    address: str


@dataclass
class Traffic:
    """How many echo requests were answered, and how many not within a second."""

    answered: int = 0
    lost: int = 0


@dataclass
class Lab:
    """The cluster of one test; everything is gone with `stack`."""

    directory: Path
    stack: ExitStack
    hosts: dict[str, Host] = field(default_factory=dict)
    network: IPv4Network = NETWORK
    netlink_class: type[Netlink] = Netlink

    def __post_init__(self) -> None:
        self.switch = self._namespace("switch")
        self.switch_netlink = self._netlink(self.switch)
        self.switch_netlink.apply([add_bridge("br0")])

    def _namespace(self, name: str) -> Namespaces:
        place = create_netns(name, name)
        self.stack.callback(place.close)
        return place

    def _netlink(self, place: Namespaces) -> Netlink:
        return self.stack.enter_context(self.netlink_class.in_namespace(place))

    def add_host(self, name: str, address: str) -> Host:
        """A host on the underlay."""
        place = self._namespace(name)
        host = Host(name, place, self._netlink(place), address, self.directory / name)
        host.directory.mkdir()
        bridge = self.switch_netlink.link("br0")
        assert bridge is not None
        self.switch_netlink.apply([add_veth(name, host.interface, peer_netns_fd=place.net, master=bridge.index)])
        link = host.netlink.link(host.interface)
        assert link is not None
        host.netlink.apply(
            [set_link("lo", up=True), set_link(link.index, up=True), add_address(link.index, f"{address}/8")]
        )
        self.switch_netlink.settle_carrier(name)
        host.netlink.settle_carrier(host.interface)
        write_sysctl(place, {"net.ipv4.ip_forward": "1"})
        self.hosts[name] = host
        return host

    def add_workers(self, count: int) -> list[Host]:
        """Workers w1… at 10.1.1.1…"""
        first = sum(name.startswith("w") for name in self.hosts) + 1
        return [
            self.add_host(f"w{number}", str(IPv4Address("10.1.1.0") + number)) for number in range(first, first + count)
        ]

    # --- etcd

    def start_etcd(self) -> Etcd:
        """One member on e1; the client speaks to its UNIX socket."""
        host = self.hosts.get("e1") or self.add_host("e1", "10.1.0.1")
        self.etcd_process = self._start_etcd_process(host)
        wait_until("etcd", lambda: explain_etcd(host.directory / "client:0"), 60)
        self.etcd = Etcd([f"unix:{host.directory}/client:0"])
        self.stack.callback(self.etcd.close)
        return self.etcd

    def client(self, kind: type[EtcdT]) -> EtcdT:
        """Another client, of a class that a test has made."""
        client = kind([f"unix:{self.hosts['e1'].directory}/client:0"])
        self.stack.callback(client.close)
        return client

    def _start_etcd_process(self, host: Host) -> subprocess.Popen[bytes]:
        argv = [
            "etcd",
            f"--data-dir={host.directory}/data",
            "--listen-client-urls=http://0.0.0.0:2379,unix://client:0",
            f"--advertise-client-urls=http://{host.address}:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--heartbeat-interval=10",
            "--election-timeout=100",
            "--unsafe-no-fsync",
            "--log-outputs=stderr",
            "--logger=zap",
        ]
        return self.start_process(argv, host, "etcd.log")

    def restart_etcd(self) -> None:
        """Start the member again, on the same data, after its process was killed."""
        (self.hosts["e1"].directory / "client:0").unlink(missing_ok=True)  # etcd does not start where one is left
        self.etcd_process = self._start_etcd_process(self.hosts["e1"])
        wait_until("etcd", lambda: explain_etcd(self.hosts["e1"].directory / "client:0"), 60)

    def start_process(self, argv: Sequence[str], host: Host, log: str) -> subprocess.Popen[bytes]:
        """A program on a host, ended with the test."""
        with (host.directory / log).open("ab") as output, entered(host.place):
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=host.directory, start_new_session=True
            )
        self.stack.callback(end_process, process)
        return process

    # --- agents

    def configure(self, backend: str = VXLAN) -> None:
        """Write the network configuration."""
        ensure_network_config(self.etcd, build_config(backend))

    def start_agent(self, hosts: Sequence[Host], **options: Any) -> OverlayAgent:
        """The embedded agent for these workers, and wait until it is ready."""
        agent = OverlayAgent("C0", self.etcd, [host.worker for host in hosts], **options)
        self.stack.callback(agent.stop)
        agent.start()
        agent.wait_ready(20)
        return agent

    def start_flanneld(self, host: Host) -> subprocess.Popen[bytes]:
        """The real daemon on one worker."""
        program = find_program("flanneld")
        if program is None:
            pytest.skip("no flanneld on this machine")
        argv = flanneld.build_argv(
            str(program),
            endpoints=["http://10.1.0.1:2379"],
            address=IPv4Address(host.address),
            directory=host.directory,
        )
        return self.start_process(argv, host, LOG_NAME)

    def wait_ready(self, *hosts: Host) -> None:
        """Wait until these workers reach all the others, whichever agent they have."""
        wait_ready([host.worker for host in hosts], self.etcd, 20)

    # --- pods

    def add_pod(self, host: Host, number: int = 1) -> Pod:
        """A pod on the worker's bridge, wired as CNI's bridge plugin does."""
        file = read_subnet_file(host.directory)
        assert file is not None
        if host.netlink.link("cni0") is None:
            host.netlink.apply([add_bridge("cni0", mtu=file.mtu)])
            bridge = host.netlink.link("cni0")
            assert bridge is not None
            host.netlink.apply([add_address(bridge.index, str(file.gateway))])
        bridge = host.netlink.link("cni0")
        assert bridge is not None
        place = self._namespace(f"{host.name}-pod{number}")
        host.netlink.apply(
            [
                add_veth(
                    f"veth{number}",
                    "eth0",
                    peer_netns_fd=place.net,
                    mtu=file.mtu,
                    peer_mtu=file.mtu,
                    master=bridge.index,
                )
            ]
        )
        netlink = self._netlink(place)
        address = f"{file.subnet.network_address + 1 + number}"
        link = netlink.link("eth0")
        assert link is not None
        netlink.apply(
            [
                set_link("lo", up=True),
                set_link(link.index, up=True),
                add_address(link.index, f"{address}/{file.subnet.prefixlen}"),
                add_route("default", via=str(file.gateway.ip)),
            ]
        )
        host.netlink.settle_carrier(f"veth{number}")
        netlink.settle_carrier("eth0")
        return Pod(place, address)

    # --- traffic

    @contextmanager
    def traffic(self, source: Pod, target: Pod) -> Iterator[Traffic]:
        """One echo request after the other from pod to pod, as long as the block lasts."""
        traffic = Traffic()
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                (time,) = ping(source.place, [target.address], timeout=1.0, attempts=1).values()
                traffic.answered += time is not None
                traffic.lost += time is None
                stop.wait(0.005)  # the pace of the traffic

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield traffic
        finally:
            stop.set()
            thread.join()

    def ping_whole(self, source: Pod, address: str, size: int) -> str:
        """What `ping` says of packets of `size` bytes, header included, that must not be fragmented."""
        argv = ["ping", "-M", "do", "-s", str(size - 28), "-c", "2", "-i", "0.01", "-W", "1", address]
        return run(argv, place=source.place, check=False).output

    def seen_from(self, place: Namespaces, address: str, source: Namespaces) -> str:
        """The address under which a server at `address` in `place` sees a client in `source`."""
        with netns_socket(place, socket.AF_INET, socket.SOCK_STREAM) as server:
            server.bind((address, 0))
            server.listen()
            server.settimeout(5)
            with netns_socket(source, socket.AF_INET, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.connect(server.getsockname())
                connection, (peer, _) = server.accept()
                connection.close()
                return str(peer)


def explain_etcd(path: Path) -> str:
    """What keeps etcd from answering; by HTTP, since gRPC takes 5 s to come back to a socket that listens too early."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            answer = client.makefile("rb").read()
    except OSError as error:
        return str(error)
    return "" if b'"health":"true"' in answer else "a healthy etcd"


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process that this test started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
