"""What one cluster of a simulation amounts to in the kernel, as plain data: what the floors build by hand; pure.

A `Layout` stands for `workers` workers with `pods` pods spread over them, `others` hosts without pods (etcd members,
the control plane's host), all on one switch; names and addresses follow the simulator's own plan (knetsim/names.py,
knetsim/scenario/spec.py), so that what is built by hand can be compared with it, object by object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from knetsim import names

#: the underlay and the pod network of scenarios that say nothing else
UNDERLAY = IPv4Network("10.0.0.0/8")
POD_NETWORK = IPv4Network("11.0.0.0/8")
VNI, PORT = 100, 8472
UNDERLAY_MTU, POD_MTU = 1500, 1450
VTEP = f"flannel.{VNI}"
BRIDGE = "cni0"
TOP_SWITCH = names.TOP_SWITCH
#: three etcd members and the control plane's host
OTHERS = 4

_FIRST_SUBNET = int(IPv4Address("11.10.0.0"))
_SUBNET_LENGTH = 20


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the underlay; `port` is its switch's end of its link."""

    name: str
    address: IPv4Address
    port: str

    @property
    def interface(self) -> str:
        """Its only link."""
        return f"{self.name}-eth0"


@dataclass(frozen=True, slots=True)
class WorkerHost(Host):
    """A worker: a host with a subnet of the pod network, and the hardware address of its VTEP."""

    subnet: IPv4Network
    mac: str

    @property
    def gateway(self) -> IPv4Address:
        """The address of its bridge."""
        return self.subnet.network_address + 1


@dataclass(frozen=True, slots=True)
class PodHost:
    """A pod: its namespace `k0_p1`, its worker, its address, the worker's end of its veth pair."""

    name: str
    worker: WorkerHost
    address: IPv4Address
    veth: str


@dataclass(frozen=True, slots=True)
class Layout:
    """A cluster by its size; `cluster` is its name and `index` its place among others."""

    workers: int
    pods: int
    others: int = OTHERS
    cluster: str = "C0"
    index: int = 0

    @property
    def switch(self) -> str:
        """The switch of all its hosts."""
        return names.cluster_switch(self.cluster)

    def worker_hosts(self) -> list[WorkerHost]:
        """The workers in order."""
        return [self.worker(number) for number in range(1, self.workers + 1)]

    def other_hosts(self) -> list[Host]:
        """The hosts that have no pods; their links come after the workers'."""
        base = UNDERLAY.network_address + ((self.index + 1) << 16)
        return [
            Host(f"{self.cluster}x{number}", base + number, f"{self.switch}-eth{self.workers + number}")
            for number in range(1, self.others + 1)
        ]

    def worker(self, number: int) -> WorkerHost:
        """Worker number `number`, from 1."""
        first = UNDERLAY.network_address + ((self.index + 1) << 16) + 256
        subnet = IPv4Network((_FIRST_SUBNET + (number - 1) * (1 << (32 - _SUBNET_LENGTH)), _SUBNET_LENGTH))
        mac = "0e:" + (self.index << 32 | number).to_bytes(5, "big").hex(":")
        return WorkerHost(
            names.worker_host(self.cluster, f"w{number}"), first + number, f"{self.switch}-eth{number}", subnet, mac
        )

    def pod(self, number: int) -> PodHost:
        """Pod number `number`, from 1; they go round the workers."""
        turn, place = divmod(number - 1, self.workers)
        worker = self.worker(place + 1)
        return PodHost(
            names.pod_netns(self.cluster, names.DEFAULT_NAMESPACE, f"p{number}"),
            worker,
            worker.gateway + 1 + turn,
            names.pod_veth(names.DEFAULT_NAMESPACE, f"p{number}", self.cluster),
        )

    def pod_hosts(self) -> Iterator[PodHost]:
        """The pods in order."""
        return (self.pod(number) for number in range(1, self.pods + 1))
