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
from knetsim.api.objects import Object, key_of, make_key, name_of, namespace_of, revision_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import Conflict, NotFound, NotReady, StoreUnavailable
from knetsim.node.images import Images
from knetsim.node.kubelet.files import ClusterDns
from knetsim.node.kubelet.heartbeat import BEAT_SECONDS
from knetsim.node.kubelet.host_sandbox import HostSandbox
from knetsim.node.kubelet.intake import Intake, Teller
from knetsim.node.kubelet.node import KubeletWorker
from knetsim.node.kubelet.not_simulated import NotSimulated
from knetsim.node.kubelet.pod import PodRun, explain
from knetsim.node.kubelet.readiness import Awaited, is_finished
from knetsim.node.kubelet.registration import Nodes, Registered
from knetsim.node.kubelet.sources import StoreSources
from knetsim.node.kubelet.static_pods import StaticPods, hash_of
from knetsim.system.cgroup import NO_CGROUPS, Cgroups
from knetsim.system.container import Process
from knetsim.system.invocation import as_typed
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
        cgroups: Cgroups = NO_CGROUPS,
    ) -> None:
        """`pods` is the informer of all Pods, started by the caller. `members` are the addresses and ports of etcd
        (or of the API server) that a worker must reach for its Node to be alive; none: it always is. Without `repair`
        what somebody changes by hand stays so. Limits are enforced with `cgroups`."""
        self.cluster, self._store, self._pods = cluster, store, pods
        self._steady = steady
        raise_open_files()  # every pod holds two
        self._nodes = Nodes(store, members, beat_seconds, wall, steady)
        self._workers: dict[str, Registered] = {}
        self._runs: dict[str, PodRun] = {}
        self._lock, self._forgotten = Lock(), Condition()
        self._started = False
        self._teller = Teller(EventRecorder(store, COMPONENT, clock=wall))
        self._loop = self._build_loop(threads, resync_seconds)
        self._bridges = self._build_bridge_loop(resync_seconds if repair else None)
        self._static = StaticPods(store, pods, self._tell_node, wall)
        sources, pace = StoreSources(store, self._loop.add), resync_seconds / 2 if repair else None
        self._intake = Intake(
            cluster, store, self._nodes, images, dns, self._teller, sources, self._loop.add, wall, steady, pace, cgroups
        )

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
        self._teller.queue.start()
        self._loop.start()
        self._bridges.start()
        self._nodes.start(self._look_at_pods)
        self._static.start()

    def stop(self) -> None:
        """End all threads. Pods and their processes stay as they are, for a kubelet after this one or for the
        sandbox's end."""
        self._pods.forget(self._note)
        self._static.stop()
        self._nodes.stop()
        self._bridges.stop()
        self._loop.stop()
        self._intake.close()
        self._teller.queue.stop()
        for run in self._runs.values():
            run.release()

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
        self._static.add(worker.node, worker.place.directory, lambda: self._nodes.current(worker.node))
        self._look_at_pods(worker.node)

    def _look_at_pods(self, node: str) -> None:
        """There is a reason to look at all pods of a node."""
        for pod in self._pods.items():
            if _node_of(pod) == node:
                self._loop.add(key_of(pod))
        for key, run in list(self._runs.items()):
            if run.sandbox.worker.node == node:
                self._loop.add(key)

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
        if run is not None and not self._nodes.reaches_now(run.sandbox.worker.node):
            return run.sync(pod or {}, online=False)  # its worker does not know what is stored
        if run is not None and (pod is None or uid_of(pod) != run.uid):
            if self._static.wants(key, run.digest):
                if pod is None or hash_of(pod) != run.digest:
                    return None  # its mirror is made anew
                run.rebind(pod)
            else:
                run.destroy()
                self._forget(key)
                run = None
        node = _node_of(pod or {})
        registered = self._workers.get(node)
        if pod is None or registered is None or not self._nodes.reaches_now(node):
            return None
        if pod["metadata"].get("deletionTimestamp") and (run is None or self._static.wants(key, hash_of(pod))):
            self._delete_object(pod)
            return None
        if run is None:
            if is_finished(pod) or not self._intake.admit(pod, node):
                return None
            run = self._runs[key] = self._intake.build(registered, pod)
        return self._sync(run, pod, key)

    def _sync(self, run: PodRun, pod: Object, key: str) -> float | None:
        again = run.sync(pod)
        if run.gone:
            self._forget(key)
        elif run.over:
            self._intake.release(key, run.sandbox.worker.node, ended=True)
        return again

    def _take_over(self, registered: Registered) -> None:
        """Know the worker's pods that have an address, before any other gets one."""
        for pod in self._pods.items():
            address = (pod.get("status") or {}).get("podIP")
            if _node_of(pod) == registered.worker.node and address:
                self._runs[key_of(pod)] = self._intake.take_over(registered, pod)

    def _delete_object(self, pod: Object) -> None:
        """A pod that is to end, and of which nothing is here."""
        try:
            self._store.delete("Pod", name_of(pod), namespace_of(pod), grace_seconds=0, uid=uid_of(pod))
        except (NotFound, Conflict):
            pass  # it is gone already

    def _forget(self, key: str) -> None:
        self._intake.release(key, self._runs[key].sandbox.worker.node)
        with self._forgotten:
            del self._runs[key]
            self._forgotten.notify_all()

    def _tell_failure(self, key: str, error: Exception, pause: float) -> None:
        pod = self._pods.by_key(key)
        if pod is None or isinstance(error, StoreUnavailable):  # nobody could be told by an Event
            _log.warning("pod %s: %s; trying again in %g s", key, explain(error), pause)
            return
        message = f"error syncing pod, trying again in {pause:g} s: {explain(error)}"
        self._teller.tell(pod, "FailedSync", message, WARNING, _node_of(pod))

    # --- what the pods of a worker share

    def _nodes_with_pods(self) -> Iterable[str]:
        return {run.sandbox.worker.node for run in list(self._runs.values())}

    def _ensure_bridge(self, node: str) -> None:
        worker = self._workers[node].worker
        done = worker.network.ensure_bridge(worker.place)
        if done:
            self._tell_node(node, "NetworkRepaired", f"The pods' bridge was changed by hand: {'; '.join(done)}")
        ports = self._intake.host_ports.get(node)
        if ports and (again := ports.repair()):
            self._tell_node(node, "NetworkRepaired", f"The ports that lead to pods were changed by hand: {again}")

    def _tell_bridge_failure(self, node: str, error: Exception, pause: float) -> None:
        self._tell_node(node, "FailedNetworkRepair", f"trying again in {pause:g} s: {explain(error)}")

    def _tell_node(self, node: str, reason: str, message: str) -> None:
        self._teller.tell(self._workers[node].node, reason, message, WARNING, node)

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
        self._intake.watch.add(process, Process.close)
        return pid

    def log_path(self, namespace: str, pod: str, container: str | None = None, *, previous: bool = False) -> str:
        """The log of a container, of its present run or of the one before. NotFound."""
        return self.find(namespace, pod)[0].log_path(container, previous=previous)

    def pods_on(self, node: str) -> list[Object]:
        """The pods that are bound to a Node."""
        return [pod for pod in self._pods.items() if _node_of(pod) == node]

    def node(self, node: str) -> Object:
        """A Node as it is stored."""
        return self._nodes.current(node)

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

    def not_simulated(self) -> list[tuple[str, NotSimulated]]:
        """What of the pods' specs is not carried out, with the pods' keys; each pod has Events of it."""
        return self._intake.not_simulated()

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
        return f"see its Events, and {run.sandbox.directory}" if run else f"see its Events, and {as_typed('status')}"

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
