"""The kubelet of all workers of a cluster, as threads per concern. See the package for what it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Condition, Lock

from knetsim.api.events import WARNING, EventRecorder
from knetsim.api.informer import Informer
from knetsim.api.loop import Clock, Loop
from knetsim.api.objects import Object, key_of, make_key, name_of, namespace_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import Conflict, NotFound, NotReady, StoreUnavailable
from knetsim.node.images import Images, NodeImages
from knetsim.node.kubelet.actions import Actions
from knetsim.node.kubelet.admission import reject_pod
from knetsim.node.kubelet.containers import Surroundings
from knetsim.node.kubelet.events import EventQueue
from knetsim.node.kubelet.files import ClusterDns
from knetsim.node.kubelet.heartbeat import BEAT_SECONDS
from knetsim.node.kubelet.host_ports import HostPorts
from knetsim.node.kubelet.host_sandbox import HostSandbox
from knetsim.node.kubelet.lifecycle import field_path
from knetsim.node.kubelet.node import KubeletWorker
from knetsim.node.kubelet.pod import PodRun, explain, revision_of
from knetsim.node.kubelet.readiness import Awaited, is_finished
from knetsim.node.kubelet.registration import Nodes, Registered
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.node.kubelet.sources import StoreSources
from knetsim.node.kubelet.volumes import PodVolumes
from knetsim.system.container import Process
from knetsim.system.container_watch import ContainerWatch
from knetsim.system.limits import raise_open_files
from knetsim.system.netns import Namespaces

_log = logging.getLogger(__name__)

COMPONENT = "kubelet"
_SYNC_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """What the kubelet knows of a worker: how many pods it carries out there, whether the worker reached the store at
    the last look, and when (seconds since 1970) it last did."""

    worker: str
    node: str
    pods: int
    reachable: bool
    last_heartbeat: float


@dataclass(frozen=True, slots=True)
class OwnedNames:
    """What of a worker's /run/netns and of its interfaces belongs to pods."""

    namespaces: frozenset[str]
    interfaces: frozenset[str]


class Kubelet:
    """Registers workers as Nodes and carries out the Pods bound to them. `start` once, `stop` once."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        pods: Informer,
        images: Images,
        *,
        members: Sequence[tuple[str, int]] = (),
        dns: ClusterDns | None = None,
        repair: bool = True,
        threads: int = 4,
        resync_seconds: float = 30.0,
        beat_seconds: float = BEAT_SECONDS,
        wall: Clock = time.time,
        steady: Clock = time.monotonic,
    ) -> None:
        """`pods` is the informer of all Pods, started by the caller. `members` are the addresses and ports of etcd
        (or of the API server) that a worker must reach for its Node to be alive; none: it always is. Without `repair`
        what somebody changes by hand stays so."""
        self.cluster, self._store, self._pods = cluster, store, pods
        self._images, self._node_images = images, dict[str, NodeImages]()
        self._dns, self._wall, self._steady = dns, wall, steady
        self._check_seconds = resync_seconds / 2 if repair else None
        raise_open_files()  # every pod holds two
        self._nodes = Nodes(store, members, beat_seconds, wall, steady)
        self._workers: dict[str, Registered] = {}
        self._runs: dict[str, PodRun] = {}
        self._lock, self._forgotten = Lock(), Condition()
        self._started = False
        self._recorder, self._events = EventRecorder(store, COMPONENT, clock=wall), EventQueue()
        self._watch, self._actions = ContainerWatch(), Actions()
        self._loop = self._build_loop(threads, resync_seconds)
        self._host_ports: dict[str, HostPorts] = {}
        self._sources = StoreSources(store, self._loop.add)
        self._bridges = self._build_bridge_loop(resync_seconds if repair else None)

    def _build_loop(self, threads: int, resync_seconds: float) -> Loop:
        return Loop(
            f"kubelet {self.cluster}",
            self._reconcile,
            self._tell_failure,
            threads=threads,
            keys=lambda: list(self._runs),
            resync_seconds=resync_seconds,
            clock=self._steady,
        )

    def _build_bridge_loop(self, resync_seconds: float | None) -> Loop:
        return Loop(
            f"bridges {self.cluster}",
            self._ensure_bridge,
            self._tell_bridge_failure,
            threads=1,
            keys=self._nodes_with_pods,
            resync_seconds=resync_seconds,
            clock=self._steady,
        )

    # --- start and end

    def start(self) -> None:
        """Begin to carry out pods; those that a kubelet before this one started are taken over first.

        NotReady when the informer has no first list.
        """
        self._pods.wait_synced(_SYNC_SECONDS)
        with self._lock:
            self._started = True
            for registered in self._workers.values():
                self._take_over(registered)
        self._pods.on_change(self._note)
        self._events.start()
        self._loop.start()
        self._bridges.start()
        self._nodes.heartbeat.start()

    def stop(self) -> None:
        """End all threads. Pods and their processes stay as they are, for a kubelet after this one or for the
        sandbox's end."""
        self._pods.forget(self._note)
        self._nodes.heartbeat.stop()
        self._bridges.stop()
        self._loop.stop()
        self._sources.stop()
        self._actions.close()
        self._watch.close()
        self._events.stop()
        for run in self._runs.values():
            run.release()
        for ports in self._host_ports.values():
            ports.close()

    def look_at_clock(self) -> None:
        """The clocks have jumped: a test's do."""
        for loop in (self._loop, self._bridges):
            loop.look_at_clock()

    def add_worker(self, worker: KubeletWorker) -> None:
        """Register a worker as a Node that is Ready, and carry out its pods from now on. Errors of the store."""
        registered = self._nodes.register(worker)
        with self._lock:
            if self._started:
                self._take_over(registered)
            self._workers[worker.node] = registered
        for pod in self._pods.items():
            if _node_of(pod) == worker.node:
                self._loop.add(key_of(pod))

    # --- pods

    def _note(self, key: str, before: Object | None, after: Object | None) -> None:
        """A Pod has changed: look at it, if it is one of ours and it is not our own writing that comes round."""
        run = self._runs.get(key)
        if run is None and _node_of(after or before or {}) not in self._workers:
            return
        if run is not None and after is not None and run.written == revision_of(after):
            return
        self._loop.add(key)

    def _reconcile(self, key: str) -> float | None:
        pod, run = self._pods.by_key(key), self._runs.get(key)
        if run is not None and (pod is None or uid_of(pod) != run.uid):
            run.destroy()
            self._forget(key)
            run = None
        registered = self._workers.get(_node_of(pod or {}))
        if pod is None or registered is None:
            return None
        if run is None:
            if pod["metadata"].get("deletionTimestamp"):
                self._delete_object(pod)
                return None
            if is_finished(pod) or self._reject(pod):
                return None
            run = self._runs[key] = self._build_run(registered, pod)
        again = run.sync(pod)
        if run.gone:
            self._forget(key)
        return again

    def _reject(self, pod: Object) -> bool:
        """Have a pod fail that may not run here; whether it may not."""
        rejection, node = reject_pod(pod, self._store, self._wall()), _node_of(pod)
        if rejection is not None:
            self._events.put(lambda: self._recorder.record(pod, *rejection, type=WARNING, host=node))
        return rejection is not None

    def _build_run(self, registered: Registered, pod: Object) -> PodRun:
        node, key = registered.worker.node, key_of(pod)

        def tell(reason: str, message: str, kind: str, container: str) -> None:
            path = field_path(pod["spec"], container) if container else ""
            self._events.put(lambda: self._recorder.record(pod, reason, message, type=kind, host=node, field_path=path))

        def build_volumes(directory: str) -> PodVolumes:
            return PodVolumes(directory, worker.place, pod, sources, self._wall)

        def warn(message: str) -> None:
            tell("DNSConfigForming", message, WARNING, "")

        sources, worker = self._sources.of_pod(key), registered.worker
        images = self._node_images.setdefault(node, NodeImages(self._images, self._steady))
        around = Surroundings(
            self._watch, self._actions, self._wall, self._steady, tell, lambda: self._loop.add(key), sources, images
        )
        place = HostSandbox if pod["spec"].get("hostNetwork") else PodSandbox
        ports = self._host_ports.setdefault(node, HostPorts(worker.place))
        sandbox = place(worker, self.cluster, pod, self._dns, registered.resolv_conf, build_volumes, ports, warn)
        return PodRun(pod, sandbox, around, self._store, self._check_seconds)

    def _take_over(self, registered: Registered) -> None:
        """Know the worker's pods that have an address, before any other gets one."""
        for pod in self._pods.items():
            address = (pod.get("status") or {}).get("podIP")
            if _node_of(pod) == registered.worker.node and address:
                run = self._build_run(registered, pod)
                run.restore(pod)
                self._runs[key_of(pod)] = run

    def _delete_object(self, pod: Object) -> None:
        """A pod that is to end, and of which nothing is here."""
        try:
            self._store.delete("Pod", name_of(pod), namespace_of(pod), grace_seconds=0, uid=uid_of(pod))
        except (NotFound, Conflict):
            pass  # it is gone already

    def _forget(self, key: str) -> None:
        self._sources.forget(key)
        with self._forgotten:
            del self._runs[key]
            self._forgotten.notify_all()

    def _tell_failure(self, key: str, error: Exception, pause: float) -> None:
        pod = self._pods.by_key(key)
        if pod is None or isinstance(error, StoreUnavailable):  # nobody could be told by an Event
            _log.warning("pod %s: %s; trying again in %g s", key, explain(error), pause)
            return
        message = f"error syncing pod, trying again in {pause:g} s: {explain(error)}"
        self._events.put(lambda: self._recorder.record(pod, "FailedSync", message, type=WARNING, host=_node_of(pod)))

    # --- what the pods of a worker share

    def _nodes_with_pods(self) -> Iterable[str]:
        return {run.sandbox.worker.node for run in list(self._runs.values())}

    def _ensure_bridge(self, node: str) -> None:
        worker = self._workers[node].worker
        done = worker.network.ensure_bridge(worker.place)
        if done:
            self._tell_node(node, "NetworkRepaired", f"The pods' bridge was changed by hand: {'; '.join(done)}")
        ports = self._host_ports.get(node)
        if ports and (again := ports.repair()):
            self._tell_node(node, "NetworkRepaired", f"The ports that lead to pods were changed by hand: {again}")

    def _tell_bridge_failure(self, node: str, error: Exception, pause: float) -> None:
        self._tell_node(node, "FailedNetworkRepair", f"trying again in {pause:g} s: {explain(error)}")

    def _tell_node(self, node: str, reason: str, message: str) -> None:
        involved = self._workers[node].node
        self._events.put(lambda: self._recorder.record(involved, reason, message, type=WARNING, host=node))

    # --- questions

    def exec_place(self, namespace: str, pod: str, container: str | None = None) -> Namespaces:
        """Where commands in a pod run, to be closed by the caller. NotFound when the pod or the container does not
        run."""
        run, found = self.find(namespace, pod)
        return run.exec_place(found, container)

    def start_in_pod(self, namespace: str, pod: str, argv: Sequence[str], container: str | None = None) -> int:
        """Start a command that ends by itself or with the pod; its pid. Its output goes to `exec-N.log` in the pod's
        directory. NotFound, CommandError."""
        run, found = self.find(namespace, pod)
        process = run.start_command(found, argv, container)
        pid = process.pid
        self._watch.add(process, Process.close)
        return pid

    def log_path(self, namespace: str, pod: str, container: str | None = None, *, previous: bool = False) -> str:
        """The log of a container, of its present run or of the one before. NotFound."""
        return self.find(namespace, pod)[0].log_path(container, previous=previous)

    def pods_on(self, node: str) -> list[Object]:
        """The pods that are bound to a Node."""
        return [pod for pod in self._pods.items() if _node_of(pod) == node]

    def runs(self) -> list[PodRun]:
        """The pods that are carried out now, and those that have ended here."""
        return list(self._runs.values())

    def find(self, namespace: str, name: str) -> tuple[PodRun, Object]:
        """A pod that is or was carried out here, and its object. NotFound."""
        key = make_key(name, namespace)
        pod, run = self._pods.by_key(key), self._runs.get(key)
        if pod is None:
            raise NotFound(f"no pod '{name}' in {self.cluster}, namespace {namespace}")
        if run is None or run.uid != uid_of(pod):
            raise NotFound(f"pod {key} is not running", why=f"its phase is {(pod.get('status') or {}).get('phase')}")
        return run, pod

    def status(self) -> list[WorkerHealth]:
        """How each worker is, by name."""
        counts: dict[str, int] = {}
        for run in list(self._runs.values()):
            node = run.sandbox.worker.node
            counts[node] = counts.get(node, 0) + 1
        return [
            WorkerHealth(worker.place.name, worker.node, counts.get(worker.node, 0), beat.reached, beat.last)
            for worker, beat in self._nodes.beats()
        ]

    def owned_names(self, node: str) -> OwnedNames:
        """What of a worker's /run/netns and of its interfaces belongs to pods."""
        sandboxes = [run.sandbox for run in list(self._runs.values()) if run.sandbox.worker.node == node]
        wired = [sandbox.wired for sandbox in sandboxes]
        return OwnedNames(
            frozenset(sandbox.netns_name for sandbox in sandboxes if not isinstance(sandbox, HostSandbox)),
            frozenset(one.host_interface for one in wired if one is not None and one.host_interface),
        )

    # --- waiting

    def wait_pods_ready(self, deadline: float, pods: Iterable[tuple[str, str]] | None = None) -> None:
        """Wait until pods, as (namespace, name), are ready or have succeeded; all that are stored now, unless said.

        NotReady, with the pods' own words, after `deadline` seconds, or as soon as one has failed; NotFound.
        """
        if pods is None:
            wanted = self._store.list("Pod").items
        else:
            wanted = [self._store.get("Pod", name, namespace) for namespace, name in pods]
        uids = {key_of(pod): uid_of(pod) for pod in wanted}
        Awaited(uids, self._pods, self.cluster, self._explain_where).wait(deadline)

    def _explain_where(self, key: str) -> str:
        """Where a user finds more about a pod."""
        run = self._runs.get(key)
        return f"see its Events, and {run.sandbox.directory}" if run else "see its Events, and knetsim status"

    def wait_pod_gone(self, namespace: str, pod: str, uid: str, deadline: float) -> None:
        """Wait until nothing is left of the pod with that uid, in the store or on its worker; NotReady after
        `deadline` s."""
        key = make_key(pod, namespace)
        end = time.monotonic() + deadline

        def is_gone(obj: Mapping[str, object] | None) -> bool:
            return obj is None or uid_of(obj) != uid

        self._pods.wait_for(lambda informer: is_gone(informer.by_key(key)), deadline, f"the end of pod {key}")
        with self._forgotten:
            while (run := self._runs.get(key)) is not None and run.uid == uid:
                if not self._forgotten.wait(end - time.monotonic()):
                    raise NotReady(f"the end of pod {key}", self.cluster, f"not seen within {deadline:g} s")


def _node_of(pod: Mapping[str, object]) -> str:
    spec = pod.get("spec")
    node = spec.get("nodeName") if isinstance(spec, Mapping) else None
    return node if isinstance(node, str) else ""
