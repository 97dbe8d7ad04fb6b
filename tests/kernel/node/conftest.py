"""Workers without an underlay, and a kubelet for them on a store in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.api.objects import KINDS, Object, encode, format_time, new_uid, storage_key
from knetsim.control.embedded import ensure_namespaces
from knetsim.dataplane.pod import NativeWiring, PodNetwork, WorkerPlace
from knetsim.errors import NotFound
from knetsim.node.images import Images, read_tables
from knetsim.node.kubelet import Kubelet, KubeletWorker
from knetsim.system.cgroup import Cgroups, remove_cgroup_tree
from knetsim.system.container_watch import read_log
from knetsim.system.layers import Layers
from knetsim.system.netns import Namespaces
from knetsim.system.strays import end_processes
from knetsim.system.wait import wait_until
from tests.kernel.conftest import LAYERS
from tests.kernel.pods import PodMaker
from tests.machine import new_simulation_name
from tests.memory_etcd import MemoryEtcd

DEADLINE = 20.0


@pytest.fixture(scope="session")
def images(machine: Namespaces) -> Images:
    """The images of our own table."""
    return Images(read_tables(), Layers(LAYERS, machine))


@pytest.fixture
def worker(pod_maker: PodMaker) -> Namespaces:
    """The namespaces of a worker called C0w1."""
    return pod_maker.worker().namespaces


class Clock:
    """Seconds that pass when the test says so, beside those that pass anyway; and a wall clock that can be set."""

    def __init__(self) -> None:
        self.ahead = 0.0
        #: what somebody has added to the wall clock
        self.step = 0.0

    def wall(self) -> float:
        return time.time() + self.ahead + self.step

    def steady(self) -> float:
        return time.monotonic() + self.ahead


class Lab:
    """A store, workers C0w1 and C0w2, and their kubelet."""

    def __init__(self, pod_maker: PodMaker, images: Images) -> None:
        self.images = images
        self.clock = Clock()
        self.etcd = MemoryEtcd()
        self.store = EtcdStore(self.etcd, clock=self.clock.wall)
        ensure_namespaces(self.store)
        self.pods = Informer(self.store, "Pod")
        self.pods.start()
        self.workers = [pod_maker.worker(f"C0w{number}", f"11.{15 + number}.0.1/20") for number in (1, 2)]
        self.network: PodNetwork = NativeWiring()
        self.cgroups = Cgroups.of_machine(new_simulation_name(), self._note_made)
        self.made: list[str] = []
        self.kubelet = self.build_kubelet()

    def _note_made(self, kind: str, path: str) -> None:
        """As a ledger would, before something is made that outlives its maker."""
        assert kind == "cgroup"
        assert not os.path.exists(path)
        self.made.append(path)

    def build_kubelet(self, network: PodNetwork | None = None, **options: Any) -> Kubelet:
        """A kubelet that has been started; another one is to be stopped before."""
        self.network = network or self.network
        kubelet = self.new_kubelet(**options)
        for number, worker in enumerate(self.workers, 1):
            kubelet.add_worker(KubeletWorker(worker, self.network, f"10.1.1.{number}", {"zone": "a"}))
        kubelet.start()
        return kubelet

    def new_kubelet(self, **options: Any) -> Kubelet:
        """A kubelet without workers, to be started."""
        own = {"wall": self.clock.wall, "steady": self.clock.steady, "cgroups": self.cgroups}
        return Kubelet("C0", self.store, self.pods, self.images, **{**own, **options})

    def replace_kubelet(self, network: PodNetwork | None = None, **options: Any) -> None:
        """End the kubelet and start another one, which knows nothing."""
        self.kubelet.stop()
        self.kubelet = self.build_kubelet(network, **options)

    def pass_time(self, seconds: float) -> None:
        """Let the clocks jump."""
        self.clock.ahead += seconds
        self.kubelet.look_at_clock()

    def set_clock(self, step: float) -> None:
        """Let somebody set the wall clock; no time passes by that."""
        self.clock.step += step
        self.kubelet.look_at_clock()

    def close(self) -> None:
        """End all pods, then the kubelet, and what a kubelet before it has left on a worker's own network."""
        for pod in self.store.list("Pod").items:
            if pod["metadata"].get("finalizers"):
                self.store.update({**pod, "metadata": {**pod["metadata"], "finalizers": []}})
        for pod in self.store.list("Pod").items:
            self.delete(pod["metadata"]["name"], pod["metadata"]["namespace"], grace_seconds=0)
        self.kubelet.stop()
        for worker in self.workers:
            end_processes(worker.namespaces.fds["net"])
        self.pods.stop()
        self.store.close()
        left = [group for path in self.made for group in os.listdir(path) if os.path.isdir(f"{path}/{group}")]
        for path in self.made:
            remove_cgroup_tree(path)
        assert not left, f"groups of pods: {left}"

    # --- pods

    def create(self, name: str = "c1", *containers: Object, worker: int = 1, **spec: Any) -> Object:
        """Write a pod; with a pause container unless said."""
        pod = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": name},
            "spec": {
                "nodeName": f"C0w{worker}",
                "containers": list(containers) or [{"name": "pause", "image": "pause"}],
                "terminationGracePeriodSeconds": 5,
                **spec,
            },
        }
        return self.store.create(pod)

    def put(self, obj: Object) -> Object:
        """Store an object as an API server would, whatever the store without one refuses; one that is there changes."""
        kind = KINDS[obj["kind"]]
        metadata = {"namespace": "default", "uid": new_uid(), "creationTimestamp": format_time(self.clock.wall())}
        stored = {**obj, "apiVersion": kind.api_version, "metadata": {**metadata, **obj["metadata"]}}
        key = storage_key(kind, stored["metadata"]["name"], stored["metadata"]["namespace"])
        before = self.etcd.get(key)
        assert self.etcd.swap(key, encode(stored), before.revision if before else 0).done
        return stored

    def put_pod(self, *containers: Object, name: str = "c1", metadata: Object | None = None, **spec: Any) -> Object:
        """Store a pod of any spec, bound to the first worker."""
        defaults = {
            "nodeName": "c0w1",
            "enableServiceLinks": True,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
        }
        pod = {"kind": "Pod", "metadata": {"name": name, "generation": 1, **(metadata or {})}, "status": {}}
        return self.put({**pod, "spec": {**defaults, "containers": list(containers), **spec}})

    def run(self, name: str = "c1", *containers: Object, **options: Any) -> Object:
        """Write a pod and wait until it is ready."""
        self.create(name, *containers, **options)
        self.kubelet.wait_pods_ready(DEADLINE, [("default", name)])
        return self.get(name)

    def get(self, name: str = "c1") -> Object:
        """A pod as it is stored."""
        return self.store.get("Pod", name)

    def wait(self, condition: Callable[[Object], Any], name: str = "c1") -> Object:
        """A pod, once a condition holds of its status."""

        def holds(informer: Informer) -> bool:
            pod = informer.get("default", name)
            return pod is not None and bool(condition(pod.get("status") or {}))

        try:
            self.pods.wait_for(holds, DEADLINE, f"a status of {name}")
        except Exception as error:
            raise AssertionError(self.get(name)["status"], self.events(name)) from error
        return self.get(name)

    def wait_log(self, text: str, name: str = "c1", container: str | None = None) -> str:
        """What a container wrote, once that holds `text`."""

        def missing() -> str:
            try:
                log = self.log(name, container)
            except NotFound as error:
                return str(error)  # it has not been started yet
            return "" if text in log else log or "anything"

        wait_until(f"{text!r} in the log of {name}", missing, DEADLINE)
        return self.log(name, container)

    def log(self, name: str = "c1", container: str | None = None) -> str:
        """What a container wrote so far."""
        return read_log(self.kubelet.log_path("default", name, container))

    def delete(self, name: str = "c1", namespace: str = "default", *, grace_seconds: int | None = None) -> None:
        """Delete a pod and wait until nothing is left of it."""
        uid = self.store.delete("Pod", name, namespace, grace_seconds=grace_seconds)["metadata"]["uid"]
        self.kubelet.wait_pod_gone(namespace, name, uid, DEADLINE)

    def events(self, *about: str) -> list[tuple[str, str]]:
        """(reason, message) of the Events about objects of these names (c1 unless said), in order."""
        events = [
            event for event in self.store.list("Event").items if event["involvedObject"]["name"] in (about or ("c1",))
        ]
        return [(event["reason"], event["message"]) for event in events]

    def wait_event(self, reason: str, *about: str) -> str:
        """The message of an Event with this reason, once there is one."""
        wait_until(f"an Event {reason}", lambda: "" if reason in dict(self.events(*about)) else reason, DEADLINE)
        return dict(self.events(*about))[reason]

    def worker_of(self, number: int = 1) -> WorkerPlace:
        """A worker's place."""
        return self.workers[number - 1]


@pytest.fixture
def lab(no_leaks: None, pod_maker: PodMaker, images: Images) -> Iterator[Lab]:
    """Everything, with nothing left afterwards."""
    made = Lab(pod_maker, images)
    yield made
    made.close()


def shell(script: str, name: str = "main", **options: Any) -> Object:
    """A container that runs a shell script."""
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **options}


def state_of(status: Object, container: int = 0) -> Object:
    """A container's state in a pod's status."""
    statuses = status.get("containerStatuses") or []
    return statuses[container]["state"] if statuses else {}
