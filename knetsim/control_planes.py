"""The two control planes that a cluster can have, seen alike by `assembly`: who decides, and through which store.

`KubernetesPlane` is Kubernetes' own (control/kubernetes) with the store through its API server; `EmbeddedPlane` is ours
(control/embedded.py) with the store straight on etcd. control_choice.py says which one a cluster gets.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Protocol

from knetsim import names
from knetsim.api.etcd import Etcd
from knetsim.api.etcd_store import EtcdStore
from knetsim.api.http import ApiClient
from knetsim.api.http_store import HttpStore
from knetsim.api.informer import Informer
from knetsim.api.objects import Object, name_of, namespace_of
from knetsim.api.store import Store
from knetsim.control.embedded import EmbeddedControl, write_pods
from knetsim.control.kubernetes.certificates import Credentials
from knetsim.control.kubernetes.definitions import define_kinds
from knetsim.control.kubernetes.flags import (
    APISERVER,
    CONTROLLERS,
    PROGRAMS,
    SCHEDULER,
    SECURE_PORT,
    ControlPlane,
)
from knetsim.control.kubernetes.plane import KubernetesControl
from knetsim.control.kubernetes.storage import Provisioner
from knetsim.control_choice import EMBEDDED, KUBERNETES
from knetsim.errors import AlreadyExists, KnetsimError, NotFound, ObjectError, StoreUnavailable
from knetsim.node import metrics_api
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.kubelet import Kubelet, KubeletWorker
from knetsim.node.kubelet_api import KubeletApi, build_tls
from knetsim.scenario import ClusterSpec
from knetsim.system.daemon import Supervisor
from knetsim.system.programs import TOOLS, find_program
from knetsim.system.relay import Relay
from knetsim.system.state import KUBECTL_CACHE

READY_DEADLINE = 90.0
_WRITERS = 8
_ANSWER_SECONDS = 1.0
_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Plane(Protocol):
    """A cluster's control plane. Order: `start` (etcd serves), `open_store`, `wait_usable`, `stop`."""

    kind: str

    def start(self, etcd: Etcd) -> None:
        """Begin; returns at once."""

    def open_store(self) -> Store:
        """Wait until objects can be read and written; NotReady."""

    def explain(self) -> str:
        """What serves, in a few words, once it does."""

    def wait_usable(self) -> None:
        """Wait until what users write is carried out; NotReady."""

    def members(self) -> list[tuple[str, int]]:
        """Where a worker must get through to for its Node to be alive; empty: to etcd."""

    def write_pods(self, pods: Sequence[Mapping[str, Any]]) -> list[Object]:
        """Create pods, several at once. When writing one fails, the others are written all the same."""

    def apply(self, obj: Object) -> str:
        """Create an object, or make it as `obj` says: `created`, `configured` … Errors of the store."""

    def read(self, obj: Object) -> Object:
        """An object of any kind as it is stored. NotFound."""

    def read_problems(self) -> list[tuple[str, str]]:
        """What is not as it should be: (object, in words)."""

    def serve_kubelets(self, kubelet: Kubelet, workers: Sequence[KubeletWorker]) -> None:
        """Have the workers answer what the control plane asks of kubelets: exec, logs …"""

    def stop_kubelets(self) -> None:
        """Have them answer no more; before the kubelet itself is stopped."""

    def stop(self) -> None:
        """End it."""


class EmbeddedPlane:
    """Ours: no program but etcd."""

    kind = EMBEDDED

    def __init__(self, service_network: IPv4Network) -> None:
        self._network = service_network
        self._store: EtcdStore | None = None
        self._control: EmbeddedControl | None = None

    def start(self, etcd: Etcd) -> None:
        """See Plane."""
        self._store = EtcdStore(etcd)

    def open_store(self) -> EtcdStore:
        """See Plane."""
        assert self._store is not None, "start was called"
        self._control = EmbeddedControl(self._store, self._network)
        self._control.start(READY_DEADLINE)
        return self._store

    def explain(self) -> str:
        """See Plane."""
        return "embedded, straight on etcd"

    def wait_usable(self) -> None:
        """See Plane."""

    def members(self) -> list[tuple[str, int]]:
        """See Plane."""
        return []

    def write_pods(self, pods: Sequence[Mapping[str, Any]]) -> list[Object]:
        """See Plane."""
        assert self._store is not None, "start was called"
        return write_pods(self._store, pods)

    def apply(self, obj: Object) -> str:
        """See Plane."""
        assert self._store is not None, "start was called"
        try:
            if obj.get("kind") == "Pod":
                self.write_pods([obj])
            else:
                self._store.create(obj)
        except (AlreadyExists, ObjectError) as refusal:
            # a Service that is there has the addresses it asks for: as a new one it would be refused for them
            before = self._find(obj)
            if before is None:
                raise refusal from None
            return "unchanged" if self._store.update(obj) == before else "configured"
        return "created"

    def _find(self, obj: Object) -> Object | None:
        assert self._store is not None, "start was called"
        try:
            return self._store.get(obj["kind"], name_of(obj), namespace_of(obj) or None)
        except (NotFound, ObjectError):
            return None

    def read(self, obj: Object) -> Object:
        """See Plane."""
        assert self._store is not None, "start was called"
        return self._store.get(obj["kind"], name_of(obj), namespace_of(obj) or None)

    def read_problems(self) -> list[tuple[str, str]]:
        """See Plane."""
        return self._control.status() if self._control is not None else []

    def serve_kubelets(self, kubelet: Kubelet, workers: Sequence[KubeletWorker]) -> None:
        """See Plane: nobody asks."""

    def stop_kubelets(self) -> None:
        """See Plane."""

    def stop(self) -> None:
        """See Plane."""
        if self._control is not None:
            self._control.stop()


@dataclass(frozen=True, slots=True)
class KubernetesParts:
    """What Kubernetes' own control plane stands on: its host, its etcd's URLs, and the host's port that leads to it."""

    host: ControlPlaneHost
    etcd: Sequence[str]
    supervisor: Supervisor
    listener: socket.socket | None


class KubernetesPlane:
    """Kubernetes' own, on the cluster's host C0cp."""

    kind = KUBERNETES

    def __init__(self, spec: ClusterSpec, parts: KubernetesParts) -> None:
        directory = Path(names.host_directory(parts.host.name))
        plane = ControlPlane(spec.name, parts.host.address, directory, parts.etcd, spec.services.cidr)
        programs = {name: path for name in PROGRAMS if (path := find_program(name)) is not None}
        self.control = KubernetesControl(plane, parts.host.place, programs, parts.supervisor)
        listener = parts.listener
        self.relay = Relay(spec.name, listener, self.control.begin_dial) if listener is not None else None
        self._store: HttpStore | None = None
        self._kubelets: KubeletApi | None = None
        self._provisioner: Provisioner | None = None
        self._definitions: Future[None] | None = None
        self._host = parts.host
        self._etcd: Etcd | None = None

    def start(self, etcd: Etcd) -> None:
        """See Plane."""
        self._etcd = etcd
        self.control.prepare()
        path = [names.INSIDE_STATE, *_DIRECTORIES, str(TOOLS)]
        admin = str(self.control.plane.kubeconfig("admin"))
        cache = f"{names.INSIDE_STATE}/{KUBECTL_CACHE}"
        self._host.environment = {"KUBECONFIG": admin, "KUBECACHEDIR": cache, "PATH": ":".join(path)}
        self.control.start_apiserver()

    def open_store(self) -> HttpStore:
        """See Plane."""
        control = self.control
        control.wait_ready(APISERVER, READY_DEADLINE)
        control.start_others()
        if self.relay is not None:
            self.relay.start()
        signed = control.credentials
        assert signed is not None
        client = ApiClient(
            control.plane.address,
            SECURE_PORT,
            ca=signed.ca,
            certificate=signed.knetsim.certificate,
            key=signed.knetsim.key,
            dial=control.dial,
        )
        self._store = HttpStore(client)
        self._definitions = define_kinds(self._store)
        return self._store

    def explain(self) -> str:
        """See Plane."""
        return f"kube-apiserver at {self.url or self.control.plane.address}"

    def wait_usable(self) -> None:
        """See Plane: the controllers have made the service account without which no pod is admitted."""
        assert self._store is not None, "open_store was called"
        accounts = Informer(self._store, "ServiceAccount", names.DEFAULT_NAMESPACE)
        accounts.start()
        try:
            accounts.wait_for(
                lambda informer: informer.get(names.DEFAULT_NAMESPACE, "default") is not None,
                READY_DEADLINE,
                "the service account 'default', which the controllers make",
            )
        finally:
            accounts.stop()
        if self._definitions is not None:
            self._definitions.result()
        self._provisioner = Provisioner(self._store)
        self._provisioner.start()
        self.control.wait_ready(SCHEDULER, READY_DEADLINE)

    def members(self) -> list[tuple[str, int]]:
        """See Plane."""
        return [(self.control.plane.address, SECURE_PORT)]

    def write_pods(self, pods: Sequence[Mapping[str, Any]]) -> list[Object]:
        """See Plane."""
        store = self._store
        assert store is not None, "open_store was called"
        with self._explained(), ThreadPoolExecutor(min(_WRITERS, len(pods) or 1), "write pods") as writers:
            written = [writers.submit(store.create, dict(pod)) for pod in pods]
            return [result.result() for result in written]

    def apply(self, obj: Object) -> str:
        """See Plane: server-side apply, in the words of `kubectl apply --server-side`."""
        assert self._store is not None, "open_store was called"
        with self._explained():
            self._store.apply(obj)
        return "serverside-applied"

    def read(self, obj: Object) -> Object:
        """See Plane."""
        assert self._store is not None, "open_store was called"
        return self._store.read(obj)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """An API server that does not answer because its etcd does not is told so; it only says that it takes long."""
        try:
            yield
        except StoreUnavailable as error:
            assert self._etcd is not None, "start was called"
            members = self._etcd.status(_ANSWER_SECONDS)
            unwell = [member.name for member in members if member.error]
            if len(unwell) * 2 < len(members):
                raise
            raise StoreUnavailable(
                "the API server cannot write: its etcd has no majority",
                error.where,
                f"these members do not serve: {', '.join(unwell)}",
                f"{len(members) // 2 + 1} of {len(members)} members must run and reach each other; nothing is lost",
            ) from error

    def read_problems(self) -> list[tuple[str, str]]:
        """See Plane."""
        if self.control.credentials is None:
            return []
        healths = {program: self.control.read_health(program) for program in (APISERVER, CONTROLLERS, SCHEDULER)}
        return [(self.control.daemon_name(program), why) for program, why in healths.items() if why]

    @property
    def url(self) -> str:
        """The URL by which programs of this machine reach the API server; empty when no port leads there."""
        if self.relay is None:
            return ""
        address, port = self.relay.address
        # who listens at all addresses is reached by loopback too, and the certificate says so
        host = "127.0.0.1" if address in ("0.0.0.0", "::") else address
        return f"https://{host}:{port}"

    def kubeconfig(self) -> dict[str, Any]:
        """The administrator's kubeconfig for programs of this machine. NotReady, KnetsimError."""
        if self.relay is None:
            raise KnetsimError(f"no port of this machine leads to {self.control.plane.cluster}")
        return self.control.admin_kubeconfig(self.url)

    def serve_kubelets(self, kubelet: Kubelet, workers: Sequence[KubeletWorker]) -> None:
        """See Plane: on port 10250 of each worker, for the API server alone."""
        signed = self.control.credentials
        assert signed is not None, "start was called"
        self._kubelets = KubeletApi(kubelet, signed.ca)
        self._kubelets.start()
        for worker in workers:
            pair = signed.issue_kubelet(worker.node, worker.address)
            self._kubelets.add_worker(worker, pair.certificate, pair.key)
        self._serve_metrics(self._kubelets, signed)

    def _serve_metrics(self, kubelets: KubeletApi, signed: Credentials) -> None:
        """What `kubectl top` asks, by way of the API server."""
        pair = signed.authority.issue_server("metrics-server", metrics_api.SERVER_NAME, (metrics_api.SERVER_NAME,))
        tls = build_tls(pair.certificate, pair.key, signed.front_proxy_authority)
        at = (metrics_api.ADDRESS, metrics_api.PORT)
        kubelets.serve_beside(self._host.place, at, tls, metrics_api.build_metrics_application)
        for obj in metrics_api.build_metrics_objects(signed.ca.read_bytes()):
            self.apply(obj)

    def stop_kubelets(self) -> None:
        """See Plane."""
        kubelets, self._kubelets = self._kubelets, None
        if kubelets is not None:
            kubelets.stop()

    def stop(self) -> None:
        """See Plane."""
        if self.relay is not None:
            self.relay.stop()
        if self._provisioner is not None:
            self._provisioner.stop()
        self.control.stop()
        if self._store is not None:
            self._store.close()


def require_kubernetes(plane: Plane, cluster: str, what: str) -> KubernetesPlane:
    """The cluster's real control plane; KnetsimError with the remedy where it has none."""
    if isinstance(plane, KubernetesPlane):
        return plane
    why = "its control plane is knetsim's own, which has no API server"
    raise KnetsimError(f"{cluster} has no {what}", why=why, hint="./utils/setup, and controlPlane: kubernetes")
