"""The Node object of a worker and its Lease, as a kubelet registers and renews them; pure.

Sources: Kubernetes' pkg/kubelet/nodestatus/setters.go, pkg/kubelet/util/nodelease.go.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knetsim import names
from knetsim.api.objects import Object, format_micro_time, format_time
from knetsim.dataplane.pod import PodNetwork, WorkerPlace

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
#: what the API server may count on, sorted: it passes WebSockets on as they are, instead of translating them to SPDY
FEATURES = ("ExtendWebSocketsToKubelet",)
#: the release whose kubelet this one stands for
KUBELET_VERSION = "v1.36.3"


@dataclass(frozen=True, slots=True)
class KubeletWorker:
    """A worker whose pods are to be carried out: its place, who wires its pods, its address in the underlay.

    `labels` are the Node's beside the standard ones; `max_pods` is what the Node announces.
    """

    place: WorkerPlace
    network: PodNetwork
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    max_pods: int = 110

    @property
    def node(self) -> str:
        """The name of its Node."""
        return names.node_name(self.place.name)


@dataclass(frozen=True, slots=True)
class Machine:
    """What every Node of a simulation says of the machine that they all are."""

    cpus: int
    memory: int
    disk: int
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    architecture: str

    @classmethod
    def read(cls) -> Machine:
        """Asks the kernel."""
        disk = os.statvfs("/")
        return cls(
            cpus=os.cpu_count() or 1,
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            disk=disk.f_frsize * disk.f_blocks,
            kernel=platform.release(),
            os_image=_os_image(),
            machine_id=_first_line("/etc/machine-id"),
            boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
            architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        )


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    for line in _first_line("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def build_node(worker: KubeletWorker, machine: Machine, now: float) -> Object:
    """The Node to be registered."""
    labels = {
        **worker.labels,
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": worker.node,
        "kubernetes.io/os": "linux",
    }
    subnet = str(worker.place.lease.subnet)
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": worker.node, "labels": labels},
        "spec": {"podCIDR": subnet, "podCIDRs": [subnet]},
        "status": build_node_status(worker, machine, (), now),
    }


def build_node_status(
    worker: KubeletWorker, machine: Machine, before: Sequence[Mapping[str, Any]], now: float
) -> Object:
    """The Node's status. `before` are its conditions as they were: a transition's time moves only with its status."""
    resources = {
        "cpu": str(machine.cpus),
        "ephemeral-storage": f"{machine.disk // 1024}Ki",
        "memory": f"{machine.memory // 1024}Ki",
        "pods": str(worker.max_pods),
    }
    return {
        "capacity": resources,
        "allocatable": dict(resources),
        "conditions": _build_conditions(before, now),
        "addresses": [
            {"type": "InternalIP", "address": worker.address},
            {"type": "Hostname", "address": worker.node},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "declaredFeatures": list(FEATURES),
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": "knetsim://0.1.0",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
    }


_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


def _build_conditions(before: Sequence[Mapping[str, Any]], now: float) -> list[Object]:
    known = {condition["type"]: condition for condition in before}
    moment, conditions = format_time(now), []
    for name, status, reason, message in _CONDITIONS:
        old = known.pop(name, {})
        since = old["lastTransitionTime"] if old.get("status") == status else moment
        conditions.append(
            {
                "type": name,
                "status": status,
                "lastHeartbeatTime": moment,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        )
    return conditions + [dict(condition) for condition in known.values()]


def build_lease(node: Object, now: float) -> Object:
    """The Lease whose renewal is a Node's heartbeat. `node` is the registered one: the Lease goes with it."""
    metadata = node["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "kind": "Lease",
        "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": metadata["name"], "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
        "spec": {
            "holderIdentity": metadata["name"],
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": format_micro_time(now),
        },
    }
