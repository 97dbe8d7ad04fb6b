"""The ingress controller of a cluster: Ingresses in, every worker's nginx and the Ingresses' statuses kept as they say.

One thread for all workers. Services, EndpointSlices and Secrets are followed from the first Ingress on; a cluster
without Ingresses has no nginx and no such watch. What is wrong with an Ingress is an Event on it and a problem of the
status; its other paths, and everybody else's, are served.

    Store ──watch──> informers ──> [ingress C0] ──> plan_ingresses ──Doors──> WorkerNginx, one per worker
                                                        └──problems──> Events
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, key_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, CommandError, KnetsimError, NotFound, NotReady
from knetsim.node.ingress_nginx import WorkerNginx
from knetsim.node.ingress_objects import DoorKey, IngressPlaces, Plan, Problem, build_class, is_ours, plan_ingresses
from knetsim.node.service_objects import BY_OWNER, index_by_owner

RESYNC_SECONDS = 30.0
LIST_DEADLINE = 60.0
_CLASS = "class"
_ALL = "ingresses"
#: ports that need not be told
_USUAL_PORTS = (80, 443)

#: called with (the object, a reason, a message)
Tell = Callable[[Object, str, str], None]
TellHost = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class IngressWorker:
    """A worker, on which nginx may be wanted."""

    node: str
    address: str
    nginx: WorkerNginx


class _Objects:
    """What Ingresses name, followed; a `View`. By watches of its own: what was written before the first Ingress is in
    their first lists, so that nothing is told to be missing that another watch has not heard of yet."""

    def __init__(self, store: Store) -> None:
        self.services, self.secrets = Informer(store, "Service"), Informer(store, "Secret")
        self.endpoint_slices = Informer(store, "EndpointSlice", indexes={BY_OWNER: index_by_owner})
        self._informers = (self.services, self.secrets, self.endpoint_slices)

    def start(self, changed: Callable[[], None]) -> None:
        for informer in self._informers:
            informer.start()
        for informer in self._informers:
            informer.wait_synced(LIST_DEADLINE)
            informer.on_change(lambda key, before, after: changed())

    def wait_current(self) -> None:
        for informer in self._informers:
            informer.wait_current(LIST_DEADLINE)

    def stop(self) -> None:
        for informer in self._informers:
            informer.stop()

    def service(self, key: str) -> Object | None:
        return self.services.by_key(key)

    def slices(self, key: str) -> Sequence[Object]:
        return self.endpoint_slices.find(BY_OWNER, key)

    def secret(self, key: str) -> Object | None:
        return self.secrets.by_key(key)


class Ingresses:
    """The controller; an add-on of the cluster."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        workers: Iterable[IngressWorker],
        places: IngressPlaces,
        *,
        repair: bool = True,
        tell: Tell = lambda obj, reason, message: None,
        tell_host: TellHost = lambda host, reason, message: None,
    ) -> None:
        self._cluster, self._store, self._places = cluster, store, places
        self._tell, self._tell_host = tell, tell_host
        self._workers = {worker.node: worker for worker in workers}
        self._ingresses, self._classes = Informer(store, "Ingress"), Informer(store, "IngressClass")
        self._objects: _Objects | None = None
        self._progress = threading.Condition()
        #: Ingresses that were looked at last, as uid and generation; and what is wrong with them
        self._seen: dict[str, tuple[str, int]] = {}
        self._problems: list[Problem] = []
        self._error = ""
        self._published: set[str] = set()
        self._loop = Loop(
            f"ingress {cluster}",
            self._reconcile,
            self._failed,
            threads=1,
            keys=lambda: [_ALL] if self._seen else [],
            resync_seconds=RESYNC_SECONDS if repair else None,
        )

    # --- the add-on

    def start(self) -> None:
        """Begin; returns at once."""
        for informer in (self._ingresses, self._classes):
            informer.start()
            informer.on_change(lambda key, before, after: self._loop.add(_ALL))
        if self._places.serving:
            self._loop.add(_CLASS)
        self._loop.start()

    def wait_ready(self) -> None:
        """Wait until every Ingress that is known by now is served, by the backends that are stored by now, or it is
        known why none is: the rest of the cluster does without nginx. NotReady."""
        for informer in (self._ingresses, self._classes):
            informer.wait_synced(LIST_DEADLINE)
        classes = self._classes.items()
        for ingress in self._store.list("Ingress").items:
            if is_ours(ingress, classes):
                self._wait(ingress, LIST_DEADLINE, or_error=True)
        if self._objects is not None:
            self._objects.wait_current()
            self._loop.wait_idle(LIST_DEADLINE)

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with Ingresses, and with nginx."""
        with self._progress:
            found = [(f"Ingress {self._cluster}/{each.key}", each.message) for each in self._problems]
            return found + ([(f"Ingresses of {self._cluster}", self._error)] if self._error else [])

    def stop(self) -> None:
        """End watches, thread and every nginx. Twice is once."""
        for informer in (self._ingresses, self._classes):
            informer.stop()
        self._loop.stop()
        if self._objects is not None:
            self._objects.stop()
        for worker in self._workers.values():
            worker.nginx.stop()

    # --- for those who write an Ingress and wait

    def wait_seen(self, ingress: Object, timeout: float) -> list[Problem]:
        """Wait until the Ingress, as it is given here, is served; what of it is not. NotReady."""
        self._wait(ingress, timeout)
        with self._progress:
            return [each for each in self._problems if each.key == key_of(ingress)]

    def _wait(self, ingress: Object, timeout: float, *, or_error: bool = False) -> None:
        key, wanted = key_of(ingress), _version(ingress)

        def is_seen() -> bool:
            uid, generation = self._seen.get(key, ("", 0))
            return (uid == wanted[0] and generation >= wanted[1]) or (or_error and bool(self._error))

        with self._progress:
            if not self._progress.wait_for(is_seen, timeout):
                raise NotReady(f"Ingress {key} is not served after {timeout:g} s", self._cluster, self._error)

    # --- changes

    def _reconcile(self, key: str) -> float | None:
        if key == _CLASS:
            try:
                self._store.create(build_class())
            except AlreadyExists:
                pass
            with self._progress:
                self._error = ""
            return None
        if not (self._ingresses.synced and self._classes.synced):
            return 0.1
        classes = self._classes.items()
        ours = [
            each
            for each in self._ingresses.items()
            if not each["metadata"].get("deletionTimestamp") and is_ours(each, classes)
        ]
        if ours or self._objects is not None:
            self._serve(ours)
        return None

    def _serve(self, ours: Sequence[Object]) -> None:
        if self._objects is None:
            objects = _Objects(self._store)
            self._objects = objects
            objects.start(lambda: self._loop.add(_ALL))
        plan = self._put(ours)
        by_key = {key_of(each): each for each in ours}
        news = self._find_news(plan, by_key)
        with self._progress:
            self._seen = {key: _version(each) for key, each in by_key.items()}
            self._problems, self._error = plan.problems, ""
            self._progress.notify_all()
        for ingress, problem in news:  # last: whoever sees the Event finds it in the status, too
            self._tell(ingress, problem.reason, problem.message)
        self._publish(plan, by_key)

    def _put(self, ours: Sequence[Object]) -> Plan:
        """Have every nginx serve what it shall; what none takes is left out, and a problem."""
        plan = self._plan(ours)
        try:
            self._apply(plan)
        except CommandError:
            faults = {key: fault for each in ours if (fault := self._find_fault(each)) for key in [key_of(each)]}
            if not faults:
                raise
            plan = self._plan([each for each in ours if key_of(each) not in faults])
            self._apply(plan)
            plan.problems += [Problem(key, "Rejected", f"nginx does not take it: {why}") for key, why in faults.items()]
        return plan

    def _plan(self, ours: Sequence[Object]) -> Plan:
        assert self._objects is not None, "followed from the first Ingress on"
        return plan_ingresses(ours, self._objects, self._places)

    def _apply(self, plan: Plan) -> None:
        failed: list[KnetsimError] = []
        for node, worker in self._workers.items():
            try:
                worker.nginx.apply(plan.doors.get(node, ()), plan.files)
            except CommandError:
                raise
            except KnetsimError as error:  # the others' go on
                failed.append(error)
                self._tell_host(worker.nginx.host, "IngressFailed", str(error))
        if failed:
            raise failed[0]

    def _find_fault(self, ingress: Object) -> str:
        plan = self._plan([ingress])
        faults = (self._workers[node].nginx.find_fault(doors, plan.files) for node, doors in plan.doors.items())
        return next((fault for fault in faults if fault), "")

    def _find_news(self, plan: Plan, ours: Mapping[str, Object]) -> list[tuple[Object, Problem]]:
        """The problems that are new: of an Ingress that was not looked at before, all."""
        news = []
        for problem in plan.problems:
            ingress = ours[problem.key]
            known = self._seen.get(problem.key, ("", 0))[0] == uid_of(ingress)
            if not known or problem not in self._problems:
                news.append((ingress, problem))
        return news

    # --- statuses

    def _publish(self, plan: Plan, ours: Mapping[str, Object]) -> None:
        """Write where each Ingress is served into its status; take it out of those that are not ours any more."""
        for key, ingress in ours.items():
            self._write_status(ingress, [self._build_address(door) for door in plan.served.get(key, ())])
        for key in self._published - ours.keys():
            left = self._ingresses.by_key(key)
            if left is not None:
                self._write_status(left, [])
        self._published = set(ours)

    def _build_address(self, door: DoorKey) -> dict[str, Any]:
        node, *ports = door
        found: dict[str, Any] = {"ip": self._workers[node].address}
        if not set(ports) <= {*_USUAL_PORTS, 0}:
            found["ports"] = [{"port": port, "protocol": "TCP"} for port in ports if port]
        return found

    def _write_status(self, ingress: Object, addresses: list[dict[str, Any]]) -> None:
        status = ingress.get("status") or {}
        if ((status.get("loadBalancer") or {}).get("ingress") or []) == addresses:
            return
        balancer = {"ingress": addresses} if addresses else {}
        try:
            self._store.update_status({**ingress, "status": {**status, "loadBalancer": balancer}})
        except NotFound:
            pass  # gone meanwhile

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        with self._progress:
            self._error = str(error)
            self._progress.notify_all()


def _version(ingress: Object) -> tuple[str, int]:
    return uid_of(ingress), int(ingress["metadata"].get("generation") or 0)
