"""The hosts of the Services' lab (tests/kernel/services/lab.py) with the policy agent, and objects written by hand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.api.objects import encode, key_of, kind_of, storage_key
from knetsim.dataplane.pod import GuardedWiring, PodPlace
from knetsim.node.policy_agent import NetworkPolicies, PolicyWorker
from knetsim.system.wait import wait_until
from tests.kernel.pods import PodMaker
from tests.kernel.services.lab import Host, Pod, ServicesLab
from tests.memory_etcd import MemoryEtcd

SECONDS = 60.0
#: what can be asked: address, port, protocol
End = tuple[object, int, str]


class PolicyLab(ServicesLab):
    """See above; `told` are the Events of the agent."""

    def __init__(self, maker: PodMaker, stack: ExitStack, wiring: str = "native", **options: Any) -> None:
        super().__init__(maker, stack, wiring)
        self.etcd = MemoryEtcd()
        self.store = EtcdStore(self.etcd)
        self._places: dict[str, PodPlace] = {}
        self.told: list[tuple[Any, ...]] = []
        stack.callback(self.store.close)
        self.pods = Informer(self.store, "Pod")
        stack.callback(self.pods.stop)
        self.pods.start()
        self.pods.wait_synced(SECONDS)
        self.put_namespace("default")
        self.policies = NetworkPolicies(
            "C0",
            self.store,
            self.pods,
            [PolicyWorker(host.name, host.name.lower(), host.place) for host in (self.w1, self.w2)],
            tell=lambda obj, *words: self.told.append((key_of(obj), *words)),
            tell_host=lambda *words: self.told.append(words),
            **options,
        )
        stack.callback(self.policies.stop)
        self.policies.start()
        self._wiring = GuardedWiring(self._wiring, self.policies)

    # --- objects

    def write(self, obj: Any) -> None:
        """Write an object past the store, as a kube-apiserver does."""
        with self.etcd._changed:
            self.etcd._write(_key(obj), encode(obj))

    def put(self, obj: Any) -> None:
        """Write an object, and wait until it is in the kernels."""
        self.write(obj)
        self.settle()

    def delete(self, obj: Any) -> None:
        """Delete it, and wait likewise."""
        self.etcd.delete_prefix(_key(obj))
        self.settle()

    def put_namespace(self, name: str, **labels: str) -> None:
        """A namespace with these labels and its name."""
        metadata = {"name": name, "uid": name, "labels": {"kubernetes.io/metadata.name": name, **labels}}
        self.write({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata})
        if hasattr(self, "policies"):
            self.settle()

    def settle(self) -> None:
        """Wait until the agent has heard of all that is stored, and every kernel has it."""
        for informer in (self.pods, self.policies.policies, self.policies.namespaces):
            stored = {key_of(obj): obj["metadata"]["resourceVersion"] for obj in self.store.list(informer.kind).items}

            def is_same(each: Informer, stored: dict[str, str] = stored) -> bool:
                return {key_of(obj): obj["metadata"]["resourceVersion"] for obj in each.items()} == stored

            informer.wait_for(is_same, SECONDS, f"all {informer.kind} objects")
            # an informer stores first and calls then; one that is added now is called after those
            heard = threading.Event()

            def note(*_: Any, event: threading.Event = heard) -> None:
                event.set()

            informer.on_change(note)
            informer.forget(note)
        self.policies.wait_ready()

    # --- pods

    def labelled(
        self,
        name: str,
        host: Host,
        protocol: str = "",
        port: int = 8080,
        *,
        namespace: str = "default",
        port_name: str = "http",
        **labels: str,
    ) -> Pod:
        """A pod with these labels, wired and in the store; with a protocol it answers at a named port."""
        container: dict[str, Any] = {"name": "main", "image": "busybox"}
        if protocol:
            container["ports"] = [{"name": port_name, "containerPort": port, "protocol": protocol.upper()}]
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels}
        obj: dict[str, Any] = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}
        obj["spec"] = {"nodeName": host.name.lower(), "containers": [container]}
        self.put(obj)
        pod = self._wire(name, host, namespace)
        if protocol:
            self.listen(pod.place, name, protocol, port)
        obj["status"] = {"phase": "Running", "podIP": pod.ip}
        self.put(obj)
        return pod

    def _wire(self, name: str, host: Host, namespace: str) -> Pod:
        assert host.worker is not None
        place = self._places[name] = replace(self._maker.pod(host.worker, name), namespace=namespace)
        wired = self._wiring.add(host.worker, place)
        return Pod(name, host.name.lower(), place.namespaces, wired.ip)

    def relabel(self, pod: Pod, **labels: str) -> None:
        """Give a pod other labels."""
        obj = self.store.get("Pod", pod.name, "default")
        obj["metadata"]["labels"] = labels
        self.put(obj)

    def end(self, pod: Pod, host: Host) -> None:
        """Unwire a pod and delete it, as a kubelet does."""
        assert host.worker is not None
        place = self._places[pod.name]
        self._wiring.remove(host.worker, place)
        self._maker.end_pod(host.worker, place)
        self.delete(self.store.get("Pod", pod.name, place.namespace))

    # --- asking

    def opens(self, pod: Pod, address: object, port: int = 8080, protocol: str = "tcp") -> bool:
        """Whether somebody answers a pod there."""
        return not isinstance(self.ask(pod.place, address, port, protocol), str)

    def answered(self, asked: Sequence[tuple[Pod, End]]) -> list[bool]:
        """Whether the pods are answered there; all ask at once, for what is held back is known only after a while."""
        with ThreadPoolExecutor(len(asked)) as threads:
            return list(threads.map(lambda pair: self.opens(pair[0], *pair[1]), asked))

    def reached(self, clients: Sequence[Pod], ends: Sequence[End]) -> set[tuple[str, object]]:
        """Which clients are answered at which of these ends: (client, address) pairs."""
        asked = [(client, end) for client in clients for end in ends]
        answers = zip(asked, self.answered(asked), strict=True)
        return {(client.name, end[0]) for (client, end), answered in answers if answered}


def policy(name: str, selector: Any = None, *, namespace: str = "default", **spec: Any) -> Any:
    """A NetworkPolicy; `ingress` and `egress` are its rules, and a direction with rules is isolated."""
    types = [word for word in ("Ingress", "Egress") if word.lower() in spec]
    return {
        "kind": "NetworkPolicy",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "uid": name},
        "spec": {"podSelector": selector or {}, "policyTypes": types, **spec},
    }


def labels(**pairs: str) -> Any:
    """A selector of these labels."""
    return {"matchLabels": pairs}


def wait_repaired(lab: PolicyLab, count: int) -> None:
    """Wait until the first worker was repaired so many times."""
    wait_until("a repair", lambda: "" if lab.policies.status()[0].repairs >= count else "not yet", SECONDS)


def _key(obj: Any) -> str:
    return storage_key(kind_of(obj), obj["metadata"]["name"], obj["metadata"].get("namespace"))
