"""What it takes to wire a pod, whoever does it: the worker, the pod, the result, and the calls (`PodNetwork`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from knetsim.dataplane.overlay.subnet_file import SubnetFile
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces

#: the pod's interface, the bridge on the worker that joins the pods, and the name of their network, as everywhere
POD_INTERFACE = "eth0"
BRIDGE = "cni0"
NETWORK = "cbr0"


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """A worker as its pods' network sees it. `lease` is what the overlay put into the subnet file.

    `directory` is where the worker's files are; `netlink` is a socket in its network namespace.
    """

    name: str
    namespaces: Namespaces
    directory: str
    netlink: Netlink
    lease: SubnetFile


@dataclass(frozen=True, slots=True)
class PodPlace:
    """A pod that is to be wired. Its network namespace is open in `namespaces` and published in its worker's
    /run/netns as `netns_name`; the kubelet made it and closes it after `PodNetwork.remove`.
    """

    netns_name: str
    namespace: str
    pod: str
    uid: str
    namespaces: Namespaces

    @property
    def netns_path(self) -> str:
        """The pod's network namespace as a path, inside its worker."""
        return f"/run/netns/{self.netns_name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True)
class Wired:
    """A pod's end of the network: its address, its gateway, its MAC, the worker's end of its veth pair, its MTU."""

    ip: str
    gateway: str
    mac: str
    host_interface: str
    mtu: int


class PodNetwork(Protocol):
    """Gives pods their network. Any thread may call; pods of different workers do not wait for each other."""

    name: str

    def add(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """Wire the pod. When it fails nothing of it is left. When it returns, packets pass."""

    def adopt(self, worker: WorkerPlace, pod: PodPlace) -> Wired | None:
        """Take over a pod that was wired before the caller was started; None when it is not wired."""

    def check(self, worker: WorkerPlace, pod: PodPlace) -> list[str]:
        """What is not as `add` made it, in words; empty when all is well."""

    def repair(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """Make what `check` finds wrong as `add` made it, with the same address, while the pod's processes live on.

        A pod that is not wired gets an address as with `add`.
        """

    def remove(self, worker: WorkerPlace, pod: PodPlace) -> None:
        """Unwire the pod: on return its address answers no more and is free. What is gone is fine; twice is once."""

    def ensure_bridge(self, worker: WorkerPlace) -> list[str]:
        """Make or repair what the pods of a worker share; what had to be done, in words."""
