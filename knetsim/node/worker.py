"""A worker: the Mininet host `C0w1`, which is the Kubernetes Node `c0w1`, with the calls of the first knetsim.

Reality: a machine with a kubelet, a container runtime and CNI plugins. Ours: a host of the underlay with private
/run/netns,
/etc/hosts and /etc/resolv.conf; its kubelet and its pod network's agent are threads of the engine, or real daemons in
its namespaces (flanneld). The calls below write objects and wait for what the agents make of them; nothing is wired by
a second path.
"""

from __future__ import annotations

from typing import Any, Protocol

from knetsim import names
from knetsim.dataplane.underlay import HostNode
from knetsim.errors import UsageError


class WorkerCluster(Protocol):
    """What a worker asks of its cluster."""

    name: str

    def create_pod(self, pod: str, *, worker: Worker | None, namespace: str, command: list[str] | None) -> str:
        """Write a pod, wait until it is ready; its address."""

    def delete_pod(self, pod: str, *, worker: Worker | None, namespace: str) -> None:
        """Delete a pod and wait until it is gone."""

    def exec_pod(self, pod: str, command: str, *, worker: Worker | None, namespace: str) -> str:
        """Run a shell command in a pod; its output."""

    def start_in_pod(self, pod: str, command: str, *, worker: Worker | None, namespace: str) -> int:
        """Start a shell command in a pod and return; its pid."""

    def pod_ip(self, pod: str, *, worker: Worker | None, namespace: str) -> str:
        """A pod's address."""

    def pod_names(self, worker: Worker, namespace: str) -> list[str]:
        """The pods on a worker."""

    def run_ingress(self, name: str, *, worker: Worker, port: int, rules: list[dict[str, str]]) -> None:
        """Have nginx on a worker send paths to endpoints."""


class Worker(HostNode):
    """One worker; `py C0w1.exec_container("c1", "ip addr")` at the prompt ends here."""

    def __init__(self, name: str, ip: str, cluster: WorkerCluster, short_name: str, **params: Any) -> None:
        super().__init__(name, ip, **params)
        self.cluster = cluster
        self.short_name = short_name
        self.node_name = names.node_name(name)
        self.address = ip.split("/", maxsplit=1)[0]

    @property
    def cluster_id(self) -> str:
        """What `utils/exec` calls the cluster: `0`."""
        return names.cluster_id(self.cluster.name)

    @property
    def containers(self) -> list[str]:
        """The names of the pods on this worker, in the namespace `default`."""
        return self.cluster.pod_names(self, names.DEFAULT_NAMESPACE)

    def create_container(
        self, name: str, command: list[str] | str | None = None, namespace: str = names.DEFAULT_NAMESPACE
    ) -> str:
        """Create the pod `name` on this worker and wait until it is ready; its address.

        Without `command` it only holds its network. ObjectError, AlreadyExists.
        """
        words = ["sh", "-c", command] if isinstance(command, str) else command
        return self.cluster.create_pod(name, worker=self, namespace=namespace, command=words)

    def delete_container(self, name: str, namespace: str = names.DEFAULT_NAMESPACE) -> None:
        """Delete the pod `name` of this worker and wait until nothing of it is left. NotFound."""
        self.cluster.delete_pod(name, worker=self, namespace=namespace)

    def exec_container(self, name: str, cmd: str, namespace: str = names.DEFAULT_NAMESPACE) -> str:
        """Run the shell command `cmd` in the pod and return what it printed, once it has ended. NotFound."""
        if not cmd.strip():
            raise UsageError("exec_container needs a command", hint=f'{self.name}.exec_container("{name}", "ip addr")')
        return self.cluster.exec_pod(name, cmd, worker=self, namespace=namespace)

    def exec_container_async(self, name: str, cmd: str, namespace: str = names.DEFAULT_NAMESPACE) -> int:
        """Start the shell command `cmd` in the pod and return its pid; its output goes to a file beside the pod's logs.

        It ends by itself or with the pod. NotFound.
        """
        return self.cluster.start_in_pod(name, cmd, worker=self, namespace=namespace)

    def pod_ip(self, name: str, namespace: str = names.DEFAULT_NAMESPACE) -> str:
        """The address of a pod of this worker. NotFound."""
        return self.cluster.pod_ip(name, worker=self, namespace=namespace)

    def run_ingress(self, name: str, port: int, rules: list[dict[str, str]]) -> None:
        """Have nginx on this worker listen on `port` and send each rule's `path`, a prefix, to its `endpoint`.

        `rules` is `[{"path": "/svc1", "endpoint": "100.64.11.1:8000"}]`. It is written as the Ingress `name`: `kubectl
        delete ingress NAME` ends it, and again with other rules changes it. UsageError, ObjectError, NotReady.
        """
        self.cluster.run_ingress(name, worker=self, port=port, rules=rules)
