"""Workers and pods for tests of what wires pods, and the question whether packets pass."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from knetsim.dataplane.overlay.subnet_file import SubnetFile, write_subnet_file
from knetsim.dataplane.pod import NativeWiring, PluginWiring, PodNetwork, PodPlace, WorkerPlace
from knetsim.system import netns
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces, entered
from knetsim.system.programs import find_plugin
from knetsim.system.run import run


@dataclass
class PodMaker:
    """Makes workers and the places of pods on them, as a kubelet does; all of it ends with the test."""

    machine: Namespaces
    directory: Path
    stack: ExitStack

    def host(self, name: str, mounts: dict[str, str]) -> Namespaces:
        """A host's place, cloned from the machine's."""
        with entered(self.machine):
            place = netns.create_host(name, mounts)
        self.stack.callback(place.close)
        return place

    def worker(self, name: str = "C0w1", gateway: str = "11.15.64.1/20", mtu: int = 1450) -> WorkerPlace:
        """A worker with a lease of the pod network 11.0.0.0/8, and its subnet file."""
        directory = self.directory / name
        directory.mkdir()
        place = self.host(name, {})
        netlink = self.stack.enter_context(Netlink.in_namespace(place))
        lease = SubnetFile(IPv4Network("11.0.0.0/8"), IPv4Interface(gateway), mtu)
        write_subnet_file(directory, lease)
        return WorkerPlace(name, place, str(directory), netlink, lease)

    def pod(self, worker: WorkerPlace, name: str, uid: str = "") -> PodPlace:
        """The namespace of a pod, not wired yet."""
        namespaces = netns.create_netns(name, name)
        pod = PodPlace(f"k0_{name}", "default", name, uid or f"uid-{name}", namespaces)
        netns.publish_netns(worker.namespaces, namespaces.net, pod.netns_name)
        self.stack.callback(self.end_pod, worker, pod)
        return pod

    @staticmethod
    def end_pod(worker: WorkerPlace, pod: PodPlace) -> None:
        """End the pod's namespace, as a kubelet does after it was unwired. Twice is once."""
        if pod.namespaces.fds:
            netns.unpublish_netns(worker.namespaces, pod.netns_name)
            pod.namespaces.close()


def make_wiring(name: str) -> PodNetwork:
    if name == "native":
        return NativeWiring()
    missing = [plugin for plugin in ("flannel", "bridge", "host-local") if find_plugin(plugin) is None]
    if missing:
        pytest.skip(f"no CNI plugin {', '.join(missing)} on this machine")
    return PluginWiring()


def reaches(source: PodPlace | WorkerPlace, ip: str) -> bool:
    """One ping, answered within a second: whoever wired promised that packets pass."""
    return run(["ping", "-c", "1", "-W", "1", ip], place=source.namespaces, check=False).code == 0
