"""Whether a pod is taken by its worker, and everything that it needs there, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from knetsim.api.events import WARNING, EventRecorder
from knetsim.api.loop import Clock
from knetsim.api.objects import Object, key_of
from knetsim.api.store import Store
from knetsim.errors import NotFound
from knetsim.node.images import Images, NodeImages
from knetsim.node.kubelet.actions import Actions
from knetsim.node.kubelet.admission import Rejection, check_admission, reject_pod
from knetsim.node.kubelet.capacity import NodeBook, needs_labels
from knetsim.node.kubelet.events import EventQueue
from knetsim.node.kubelet.files import ClusterDns
from knetsim.node.kubelet.host_ports import HostPorts
from knetsim.node.kubelet.host_sandbox import HostSandbox
from knetsim.node.kubelet.lifecycle import all_containers, field_path
from knetsim.node.kubelet.not_simulated import NotSimulated, find_not_simulated
from knetsim.node.kubelet.pod import PodRun
from knetsim.node.kubelet.registration import Nodes, Registered
from knetsim.node.kubelet.resources import read_limits
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.node.kubelet.sources import StoreSources
from knetsim.node.kubelet.surroundings import Surroundings
from knetsim.node.kubelet.volumes import PodVolumes
from knetsim.system.cgroup import Cgroups
from knetsim.system.container_watch import ContainerWatch


@dataclass(slots=True)
class Teller:
    """Has Events written: by a thread of their own, no pod waits for one."""

    recorder: EventRecorder
    queue: EventQueue = field(default_factory=EventQueue)

    def tell(self, involved: Object, reason: str, message: str, kind: str, node: str, path: str = "") -> None:
        """Say something of an object, or of the part of it at `path`, on behalf of a node."""
        self.queue.put(lambda: self.recorder.record(involved, reason, message, type=kind, host=node, field_path=path))


@dataclass(slots=True)
class Intake:
    """Takes pods for the workers of a cluster. Any thread may use it, for one key at a time."""

    cluster: str
    store: Store
    nodes: Nodes
    images: Images
    dns: ClusterDns | None
    teller: Teller
    sources: StoreSources
    wake: Callable[[str], None]
    wall: Clock
    steady: Clock
    check_seconds: float | None
    cgroups: Cgroups
    watch: ContainerWatch = field(default_factory=ContainerWatch)
    actions: Actions = field(default_factory=Actions)
    host_ports: dict[str, HostPorts] = field(default_factory=dict)
    _node_images: dict[str, NodeImages] = field(default_factory=dict)
    _books: dict[str, NodeBook] = field(default_factory=dict)
    _lacking: dict[str, list[NotSimulated]] = field(default_factory=dict)

    # --- whether it is taken

    def admit(self, pod: Object, node: str) -> bool:
        """Take a pod, or have it fail; whether it is taken."""
        rejection = check_admission(pod) or self._check_room(pod, node)
        if rejection is None:
            self._note_lacking(pod, node)
            return True
        reject_pod(pod, rejection, self.store, self.wall())
        self.teller.tell(pod, *rejection, WARNING, node)
        return False

    def _book(self, node: str) -> NodeBook:
        """What is taken of a worker: one book, also when several threads are the first to ask."""
        return self._books.setdefault(node, NodeBook())

    def _check_room(self, pod: Object, node: str) -> Rejection | None:
        if needs_labels(pod["spec"]):  # which somebody may have changed just before
            try:
                return self._book(node).admit(key_of(pod), pod, self.store.get("Node", node))
            except NotFound:
                pass
        return self._book(node).admit(key_of(pod), pod, self.nodes.current(node))

    def _note_lacking(self, pod: Object, node: str) -> None:
        found = self._find_lacking(pod)
        if found:
            self._lacking[key_of(pod)] = found
            for one in found:
                self.teller.tell(pod, "NotSimulated", str(one), WARNING, node)

    def _find_lacking(self, pod: Object) -> list[NotSimulated]:
        """What of it is not carried out. Control groups are only asked for when it matters."""
        if any(read_limits(one) for one in (pod["spec"], *all_containers(pod["spec"]))):
            return find_not_simulated(pod, self.cgroups.resources())
        return find_not_simulated(pod)

    def take_over(self, registered: Registered, pod: Object) -> PodRun:
        """The run of a pod that a kubelet before this one has taken."""
        self._book(registered.worker.node).take(key_of(pod), pod)
        if found := self._find_lacking(pod):
            self._lacking[key_of(pod)] = found
        run = self.build(registered, pod)
        run.restore(pod)
        return run

    def release(self, key: str, node: str, *, ended: bool = False) -> None:
        """The pod needs no room any more; unless it has only `ended`, nothing else is known of it either."""
        self._book(node).release(key)
        if not ended:
            self.sources.forget(key)
            self._lacking.pop(key, None)

    def not_simulated(self) -> list[tuple[str, NotSimulated]]:
        """What of the pods that are here is not carried out, with the pods' keys."""
        return [(key, one) for key, found in sorted(self._lacking.items()) for one in found]

    # --- what it needs

    def build(self, registered: Registered, pod: Object) -> PodRun:
        """A pod's run, with everything around it."""
        worker, key = registered.worker, key_of(pod)
        node, sources = worker.node, self.sources.of_pod(key)

        def tell(reason: str, message: str, kind: str, container: str) -> None:
            path = field_path(pod["spec"], container) if container else ""
            self.teller.tell(pod, reason, message, kind, node, path)

        def build_volumes(directory: str) -> PodVolumes:
            return PodVolumes(directory, worker.place, pod, sources, self.wall)

        def warn(message: str) -> None:
            tell("DNSConfigForming", message, WARNING, "")

        images = self._node_images.setdefault(node, NodeImages(self.images, self.steady))
        around = Surroundings(
            self.watch,
            self.actions,
            self.wall,
            self.steady,
            tell,
            lambda: self.wake(key),
            sources,
            images,
            self.cgroups,
        )
        place = HostSandbox if pod["spec"].get("hostNetwork") else PodSandbox
        ports = self.host_ports.setdefault(node, HostPorts(worker.place))
        sandbox = place(worker, self.cluster, pod, self.dns, registered.resolv_conf, build_volumes, ports, warn)
        return PodRun(pod, sandbox, around, self.store, self.check_seconds)

    def close(self) -> None:
        """Follow and probe no more."""
        self.sources.stop()
        self.actions.close()
        self.watch.close()
        for ports in self.host_ports.values():
            ports.close()
