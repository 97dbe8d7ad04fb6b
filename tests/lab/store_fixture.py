"""What the tests of Store share: stores on a fresh cluster, on etcd or through an API server; objects; a watch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from knetsim.api.etcd import Etcd
from knetsim.api.etcd_store import EtcdStore
from knetsim.api.http_store import HttpStore
from knetsim.api.objects import Object, key_of
from knetsim.api.store import ADDED, DELETED, MODIFIED, SYNCED, Change, Store, Watch
from knetsim.control.embedded import ensure_namespaces
from knetsim.errors import Conflict
from tests.lab.etcd_fixture import EtcdMembers
from tests.lab.kubernetes_fixture import ApiServer

AnyStore = EtcdStore | HttpStore
MakeStore = Callable[..., AnyStore]
Result = TypeVar("Result")

#: more than anything takes that does not hang
SECONDS = 20.0


@pytest.fixture(params=["etcd", "api"])
def make_store(request: pytest.FixtureRequest, members: EtcdMembers) -> Iterator[MakeStore]:
    """Makes stores on one empty cluster with the standard namespaces and the Nodes c0w1, c0w2; of each kind of store.

    A module that uses it imports the fixtures `members` and `api_server` too.
    """
    make_one = _etcd_stores(members) if request.param == "etcd" else _api_stores(request.getfixturevalue("api_server"))
    made: list[AnyStore] = []

    def make(deadline: float = SECONDS) -> AnyStore:
        made.append(make_one(deadline))
        return made[-1]

    first = make()
    ensure_namespaces(first)
    for name in ("c0w1", "c0w2"):
        first.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}})
    yield make
    for store in made:
        store.close()


def _etcd_stores(members: EtcdMembers) -> Callable[[float], AnyStore]:
    etcd = Etcd(members.targets)
    etcd.delete_prefix("/registry/")
    etcd.close()
    return lambda deadline: EtcdStore(Etcd(members.targets, deadline=deadline))


def _api_stores(server: ApiServer) -> Callable[[float], AnyStore]:
    server.empty()
    return lambda deadline: HttpStore(server.client(deadline=deadline))


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """One of them."""
    return make_store()


def build_pod(name: str, **spec: Any) -> Object:
    """A pod that does nothing, on c0w1 unless said."""
    containers = [{"name": "main", "image": "pause:3.10"}]
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "spec": {"containers": containers, "nodeName": "c0w1", **spec},
    }


def build_lease(name: str, namespace: str = "default", **spec: Any) -> Object:
    """A Lease: an object without status, defaults or grace."""
    metadata = {"name": name, "namespace": namespace}
    return {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata, "spec": spec}


def annotated(obj: Object, **annotations: str) -> Object:
    """The object with these annotations."""
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def version(obj: Object) -> str:
    """Its resourceVersion."""
    return str(obj["metadata"]["resourceVersion"])


def increment(store: Store, name: str = "c1") -> None:
    """Add one to the pod's annotation `count`, whoever else does so too."""
    while True:
        pod = store.get("Pod", name)
        count = int(pod["metadata"]["annotations"]["count"]) + 1
        try:
            store.update(annotated(pod, count=str(count)))
        except Conflict:
            continue
        return


def run_together(functions: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call all at the same moment, each in a thread; their results in order."""
    gate = threading.Barrier(len(functions))

    def run(function: Callable[[], Result]) -> Result:
        gate.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))


class Follower:
    """Writes down, in a thread, what a watch tells."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.changes: list[Change] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for change in self.watch:
            with self._more:
                self.changes.append(change)
                self._more.notify_all()

    def wait_for(self, condition: Callable[[list[Change]], bool]) -> list[Change]:
        """All changes so far, once the condition holds of them."""
        end = time.monotonic() + SECONDS
        with self._more:
            while not condition(self.changes):
                assert self._more.wait(end - time.monotonic()), f"not seen: {self.words()}"
            return list(self.changes)

    def wait_synced(self) -> list[Change]:
        """Until the full list was told."""
        return self.wait_for(lambda changes: any(change.type == SYNCED for change in changes))

    def wait_state(self, expected: dict[str, Object]) -> None:
        """Until what was told adds up to these objects."""
        self.wait_for(lambda changes: self.state() == expected)

    def state(self) -> dict[str, Object]:
        """The objects that exist by what was told."""
        objects: dict[str, Object] = {}
        for kind, obj in self.changes:
            if kind == DELETED:
                objects.pop(key_of(obj), None)
            elif kind != SYNCED:
                objects[key_of(obj)] = obj
        return objects

    def words(self) -> list[str]:
        """What was told, short: `ADDED default/c1`."""
        return [f"{kind} {key_of(obj)}".strip() for kind, obj in self.changes]

    def steps(self) -> list[Change]:
        """What was told, but that a Pod which is deleted at once is ending first: not every store tells that."""
        return [
            change
            for change in self.changes
            if not change.object.get("metadata", {}).get("deletionTimestamp") or change.type == DELETED
        ]

    def wait_ended(self) -> None:
        """Until the iteration is over."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


def check_gap(changes: Sequence[Change]) -> None:
    """That a watch which has missed these changes of Leases has told them: `changed`; `deleted`; `remade`, which was
    deleted and created; `added`."""
    told = [(change.type, change.object["metadata"]["name"]) for change in changes]
    assert sorted(told) == sorted(
        [(MODIFIED, "changed"), (DELETED, "deleted"), (DELETED, "remade"), (ADDED, "remade"), (ADDED, "added")]
    )
    assert told.index((DELETED, "remade")) < told.index((ADDED, "remade"))


def listed(store: Store, kind: str = "Pod") -> dict[str, Object]:
    """All objects of a kind by key."""
    return {key_of(obj): obj for obj in store.list(kind).items}
