"""A cluster: its hosts, its etcd, its agents, and what users type at it (`py C0.get("w1")`).

Assembled here: etcd members → store → pod network (flanneld or the embedded agent, worker by worker) → kubelet. Calls
that change something write an object and wait until the agents have made it true.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, TypeVar

from knetsim import names
from knetsim.api.objects import describe, key_of, name_of, namespace_of, uid_of
from knetsim.assembly import ClusterAssembly, ClusterParts
from knetsim.cluster_skupper import start_skupper
from knetsim.dataplane.static_vips import StaticVip
from knetsim.errors import AlreadyExists, KnetsimError, NotFound, NotReady, UsageError
from knetsim.node.ingress import Ingresses
from knetsim.node.ingress_objects import build_pinned
from knetsim.node.skupper.agent import SkupperSite
from knetsim.node.static_vips import StaticVips, build_vip_service, find_address, is_vip
from knetsim.node.worker import Worker
from knetsim.system.netns import Namespaces
from knetsim.system.ping import ping
from knetsim.system.run import run

POD_DEADLINE = 60.0
VIP_DEADLINE = 30.0
INGRESS_DEADLINE = 30.0
#: a command that a human typed may run as long as it likes
_COMMAND_DEADLINE = 24 * 3600.0


T = TypeVar("T")


class Cluster(ClusterAssembly):
    """One simulated cluster; `name` is `C0`."""

    # --- what users type ----------------------------------------------------------------------------------------------

    def get(self, name: str) -> Worker:
        """The worker `w1` (also `C0w1`, `c0w1`). NotFound."""
        for worker in self.workers:
            if name.lower() in (worker.short_name, worker.node_name):
                return worker
        known = [worker.short_name for worker in self.workers]
        raise NotFound(f"no worker '{name}' in {self.name}", hint=names.did_you_mean(name, known))

    def create_pod(
        self,
        pod: str,
        *,
        worker: Worker | None = None,
        namespace: str = names.DEFAULT_NAMESPACE,
        command: list[str] | None = None,
        image: str = "",
    ) -> str:
        """Create a pod, on `worker` or where there is room, wait until it is ready, and return its address.

        Without `image` a command has this machine's own system for its files, and without both there is no process.
        ObjectError, AlreadyExists; NotReady, with the pod's own words, when it does not become ready.
        """
        own = "registry.k8s.io/pause:3.10" if command is None else "debian"
        container: dict[str, Any] = {"name": "pause" if command is None else "main", "image": image or own}
        if command is not None:
            container["command"] = command
        # whoever types delete_container waits for it: most programs at the prompt do not heed SIGTERM as process 1
        spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 1}
        if worker is not None:
            spec["nodeName"] = worker.node_name
        metadata = {"name": pod, "namespace": namespace}
        self.plane.write_pods([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
        self.kubelet.wait_pods_ready(POD_DEADLINE, [(namespace, pod)])
        return self.pod_ip(pod, namespace=namespace)

    def delete_pod(self, pod: str, *, worker: Worker | None = None, namespace: str = names.DEFAULT_NAMESPACE) -> None:
        """Delete a pod and wait until nothing of it is left. NotFound."""
        uid = self._pod(pod, worker, namespace)["metadata"]["uid"]
        self.store.delete("Pod", pod, namespace, uid=uid)
        self.kubelet.wait_pod_gone(namespace, pod, uid, POD_DEADLINE)

    def exec_pod(
        self, pod: str, command: str, *, worker: Worker | None = None, namespace: str = names.DEFAULT_NAMESPACE
    ) -> str:
        """Run a shell command in a pod; what it printed, once it has ended. NotFound."""
        self._pod(pod, worker, namespace)
        place = self.kubelet.exec_place(namespace, pod)
        try:
            return run(
                ["sh", "-c", command], place=place, check=False, merge=True, timeout=_COMMAND_DEADLINE, cwd="/"
            ).output
        finally:
            place.close()

    def start_in_pod(
        self, pod: str, command: str, *, worker: Worker | None = None, namespace: str = names.DEFAULT_NAMESPACE
    ) -> int:
        """Start a shell command in a pod; its pid. It ends by itself or with the pod. NotFound."""
        self._pod(pod, worker, namespace)
        return self.kubelet.start_in_pod(namespace, pod, ["sh", "-c", command])

    def pod_ip(self, pod: str, *, worker: Worker | None = None, namespace: str = names.DEFAULT_NAMESPACE) -> str:
        """A pod's address. NotFound, NotReady while it has none."""
        address = self._pod(pod, worker, namespace).get("status", {}).get("podIP")
        if not address:
            raise NotReady(f"pod {pod} has no address yet", self.name)
        return str(address)

    def pod_names(self, worker: Worker, namespace: str = names.DEFAULT_NAMESPACE) -> list[str]:
        """The pods of a namespace on a worker."""
        return sorted(
            pod["metadata"]["name"]
            for pod in self._up(self.pods).items()
            if pod["spec"].get("nodeName") == worker.node_name and pod["metadata"]["namespace"] == namespace
        )

    def kp_vip_add(self, vip: str, pods: list[str]) -> None:
        """Have the address `vip`, one of the Services' range, lead to these pods, by any protocol, on every worker.

        A flow keeps the pod that its first packet drew. The pods are static: one that is deleted keeps its share, which
        fails. Again with the same pods is nothing new; with others it is theirs. UsageError, AlreadyExists (a Service
        has the address), NotFound, NotReady.
        """
        address, vips = self._read_vip(vip), self._addon(StaticVips)
        if not pods or isinstance(pods, str):
            raise UsageError("kp_vip_add needs a list of pods", hint=f'{self.name}.kp_vip_add("{vip}", ["c2", "c3"])')
        found = vips.find(address)
        if found is not None and not is_vip(found):
            raise AlreadyExists(f"{vip} is taken", self.name, f"Service {key_of(found)} has it")
        addresses = [find_address(self._up(self.pods), pod) for pod in pods]
        service = build_vip_service(address, pods, addresses)
        if found is None:
            self.store.create(service)
        elif any(found["metadata"]["annotations"].get(key) != text for key, text in _annotations(service).items()):
            annotations = {**found["metadata"]["annotations"], **_annotations(service)}
            self.store.update({**found, "metadata": {**found["metadata"], "annotations": annotations}})
        wanted = StaticVip(address, tuple(dict.fromkeys(map(IPv4Address, addresses))))
        vips.wait_applied(lambda known: wanted in known, vip, VIP_DEADLINE)

    def kp_vip_del(self, vip: str) -> None:
        """Take away what `kp_vip_add` made. NotFound."""
        address, vips = self._read_vip(vip), self._addon(StaticVips)
        found = vips.find(address)
        if found is None or not is_vip(found):
            raise NotFound(f"no VIP {vip} of kp_vip_add", self.name, hint=names.did_you_mean(vip, vips.known()))
        self.store.delete("Service", name_of(found), namespace_of(found), uid=uid_of(found))
        vips.wait_applied(lambda known: all(each.address != address for each in known), vip, VIP_DEADLINE)

    def _read_vip(self, vip: str) -> IPv4Address:
        network = self.spec.services.cidr
        try:
            address = IPv4Address(vip)
        except ValueError as error:
            raise UsageError(f"'{vip}' is no IPv4 address", self.name) from error
        if address not in network:
            hint = f"for example {network.network_address + min(2561, network.num_addresses - 2)}"
            raise UsageError(f"{vip} is not in the range of Services, {network}", self.name, hint=hint)
        return address

    def _addon(self, kind: type[T]) -> T:
        return self._up(next((addon for addon in self.addons if isinstance(addon, kind)), None))

    def run_ingress(self, name: str, *, worker: Worker, port: int, rules: list[dict[str, str]]) -> None:
        """Have nginx on a worker send paths to endpoints; `Worker.run_ingress` says more."""
        self.plane.apply(build_pinned(name, worker.node_name, port, rules))
        problems = self._addon(Ingresses).wait_seen(self.store.get("Ingress", name), INGRESS_DEADLINE)
        if problems:
            raise KnetsimError(f"Ingress {name} is not served as it says", worker.name, problems[0].message)

    def start_skupper(self) -> str:
        """Have the cluster be a Skupper site, and wait until its router runs; the router's id. NotReady.

        What it does is in the cluster's Links, Listeners and Connectors: of the scenario, of manifests, or of
        `create_conf`.
        """
        return start_skupper(self, self._addon(SkupperSite))

    def wait_linked(self, timeout: float) -> None:
        """Wait until what the cluster uses of others by Skupper can be reached; NotReady after `timeout` seconds."""
        self._addon(SkupperSite).wait_linked(timeout)

    def router_worker(self) -> Worker:
        """The worker on which the cluster's Skupper router runs."""
        return self.get(self._parts.scenario.multicluster.site(self.name).worker)

    def all_clusters(self) -> list[str]:
        """The names of the simulation's clusters, with this one."""
        return [each.name for each in self._parts.scenario.clusters]

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {', '.join(worker.name for worker in self.workers)}>"

    def apply(self, objects: list[dict[str, Any]]) -> dict[str, list[str]]:
        """Create objects, or make those that exist as these say: a line for each, `done` or `failed`."""
        lines: dict[str, list[str]] = {"done": [], "failed": []}
        for obj in objects:
            try:
                lines["done"].append(f"{describe(obj)}: {self.plane.apply(obj)}")
            except KnetsimError as error:
                hint = f" ({error.hint})" if error.hint else ""
                lines["failed"].append(f"{describe(obj)}: {error}{hint}")
        return lines

    # --- pods ---------------------------------------------------------------------------------------------------------

    def _pod(self, pod: str, worker: Worker | None, namespace: str) -> dict[str, Any]:
        found = self._up(self.pods).get(namespace, pod)
        if found is None:
            known = [
                other["metadata"]["name"]
                for other in self._up(self.pods).items()
                if other["metadata"]["namespace"] == namespace
            ]
            raise NotFound(f"no pod '{pod}' in {self.name}, namespace {namespace}", hint=names.did_you_mean(pod, known))
        if worker is not None and found["spec"].get("nodeName") != worker.node_name:
            home = found["spec"].get("nodeName", "")
            there = next((each.name for each in self.workers if each.node_name == home), "")
            hint = f'py {there}.exec_container("{pod}", …)' if there else ""
            raise NotFound(f"pod '{pod}' is not on {worker.name}", why=f"it is on {home or 'no worker yet'}", hint=hint)
        return found

    def require_pod_on(self, worker: Worker, namespace: str, pod: str) -> None:
        """NotFound unless the pod is on that worker."""
        self._pod(pod, worker, namespace)

    def pod_place(self, namespace: str, pod: str, container: str | None) -> tuple[Namespaces, Worker]:
        """Where commands for a pod run (the caller closes it), and its worker. NotFound."""
        found = self._pod(pod, None, namespace)
        return self.kubelet.exec_place(namespace, pod, container), self.get(found["spec"].get("nodeName", ""))

    def pod_addresses(self) -> dict[str, str]:
        """The addresses of all pods that have one, by name (`namespace/name` outside `default`)."""
        addresses = {}
        for pod in self._up(self.pods).items():
            address = pod.get("status", {}).get("podIP")
            if address and "deletionTimestamp" not in pod["metadata"]:
                addresses[_pod_word(pod)] = address
        return dict(sorted(addresses.items()))

    def ping_pods(self, addresses: dict[str, str]) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
        """For each pod: which of the others answered it."""
        for name in addresses:
            namespace, _, pod = name.rpartition("/")
            place = self.kubelet.exec_place(namespace or names.DEFAULT_NAMESPACE, pod)
            try:
                others = {other: address for other, address in addresses.items() if other != name}
                times = ping(place, list(others.values()))
                yield name, [(other, times[address] is not None) for other, address in others.items()]
            finally:
                place.close()

    def pod_count(self) -> int:
        """How many pods there are."""
        return len(self.pods) if self.pods else 0


def _annotations(obj: dict[str, Any]) -> dict[str, str]:
    return dict(obj["metadata"]["annotations"])


def _pod_word(pod: dict[str, Any]) -> str:
    """`c1`, or `web/c1` outside the namespace `default`."""
    metadata = pod["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    return name if namespace == names.DEFAULT_NAMESPACE else f"{namespace}/{name}"


__all__ = ["Cluster", "ClusterParts"]
