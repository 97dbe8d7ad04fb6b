"""What every Store promises of a watch, and what the informer makes of it."""

from __future__ import annotations

import threading

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.api.objects import Object
from knetsim.api.store import ADDED, DELETED, MODIFIED, SYNCED, Store
from knetsim.control.embedded import write_pods
from knetsim.errors import NotReady
from tests.lab.etcd_fixture import members
from tests.lab.kubernetes_fixture import api_server
from tests.lab.store_fixture import (
    SECONDS,
    Follower,
    MakeStore,
    annotated,
    build_lease,
    build_pod,
    listed,
    make_store,
    run_together,
    store,
    version,
)

__all__ = ["api_server", "make_store", "members", "store"]


class TestWatch:
    def test_list_then_synced_then_changes(self, store: Store) -> None:
        first = [store.create(build_pod(name)) for name in ("c1", "c2")]
        follower = Follower(store.watch("Pod"))
        follower.wait_synced()
        third = store.create(build_pod("c3"))
        changed = store.update(annotated(third, a="b"))
        store.delete("Pod", "c3", grace_seconds=0)
        follower.wait_for(lambda changes: changes[-1].type == DELETED)
        changes = follower.steps()
        assert [change.type for change in changes] == [ADDED, ADDED, SYNCED, ADDED, MODIFIED, DELETED]
        assert [change.object for change in changes[:2]] == first
        assert changes[3].object == third
        assert changes[4].object == changed
        gone = changes[5].object
        assert gone["metadata"]["annotations"] == {"a": "b"}
        assert int(version(gone)) > int(version(changed))

    def test_of_nothing_is_synced(self, store: Store) -> None:
        follower = Follower(store.watch("Lease"))
        follower.wait_synced()
        assert follower.words() == ["SYNCED"]

    def test_of_one_namespace(self, store: Store) -> None:
        store.create(build_lease("here", "kube-system"))
        store.create(build_lease("there"))
        follower = Follower(store.watch("Lease", "kube-system"))
        follower.wait_synced()
        store.create(build_lease("there2"))
        store.create(build_lease("here2", "kube-system"))
        follower.wait_for(lambda changes: len(changes) >= 3)
        assert follower.words() == ["ADDED kube-system/here", "SYNCED", "ADDED kube-system/here2"]

    def test_ends_when_another_thread_closes_it(self, store: Store) -> None:
        follower = Follower(store.watch("Pod"))
        follower.wait_synced()
        follower.watch.close()
        follower.wait_ended()
        follower.watch.close()
        assert list(follower.watch) == []

    def test_ends_before_it_began(self, store: Store) -> None:
        watch = store.watch("Pod")
        watch.close()
        assert list(watch) == []

    def test_ends_with_its_store(self, make_store: MakeStore) -> None:
        store = make_store()
        follower = Follower(store.watch("Pod"))
        follower.wait_synced()
        store.close()
        follower.wait_ended()

    def test_deleted_and_made_again(self, store: Store) -> None:
        follower = Follower(store.watch("Lease"))
        follower.wait_synced()
        for _ in range(2):
            store.create(build_lease("l1"))
            store.delete("Lease", "l1")
        follower.wait_for(lambda changes: len(changes) >= 5)
        assert follower.words() == ["SYNCED", *["ADDED default/l1", "DELETED default/l1"] * 2]

    def test_thousands_of_objects(self, make_store: MakeStore) -> None:
        """More than are listed in one answer; an API server takes its time for each."""
        stores = [make_store() for _ in range(2)]
        follower, count = Follower(stores[0].watch("Pod")), 5000 if isinstance(stores[0], EtcdStore) else 1200
        for begin in range(0, count, 600):
            write_pods(stores[1], [build_pod(f"p{number}") for number in range(begin, min(begin + 600, count))])
        follower.wait_for(lambda changes: len(changes) > count)
        assert follower.state() == listed(stores[1])
        late = Follower(stores[1].watch("Pod"))
        late.wait_synced()
        assert late.state() == follower.state()
        assert late.words().index("SYNCED") == count

    def test_every_writer_is_heard_in_order(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(4)]
        follower = Follower(stores[0].watch("Lease"))
        follower.wait_synced()

        def write(number: int) -> None:
            for value in range(1, 51):
                lease = build_lease(f"l{number}", holderIdentity=str(value))
                (stores[number].update if value > 1 else stores[number].create)(lease)

        run_together([lambda number=number: write(number) for number in range(4)])  # type: ignore[misc]
        follower.wait_state(listed(stores[0], "Lease"))
        told: dict[str, list[int]] = {}
        for change in follower.changes:
            if change.type in (ADDED, MODIFIED):
                name = change.object["metadata"]["name"]
                told.setdefault(name, []).append(int(change.object["spec"]["holderIdentity"]))
        assert told == {f"l{number}": list(range(1, 51)) for number in range(4)}
        versions = [int(version(change.object)) for change in follower.changes if change.type != SYNCED]
        assert versions == sorted(versions)


class TestInformer:
    def test_follows_and_finds(self, store: Store) -> None:
        store.create(build_pod("c1"))
        pods = Informer(store, "Pod", indexes={"node": lambda pod: [pod["spec"]["nodeName"]]})
        heard: list[tuple[str, bool, bool]] = []
        pods.start()
        pods.wait_synced(SECONDS)

        def note(key: str, old: Object | None, new: Object | None) -> None:
            if new is None or not new["metadata"].get("deletionTimestamp"):  # not every store tells that it is ending
                heard.append((key, old is not None, new is not None))

        pods.on_change(note)
        store.create(build_pod("c2", nodeName="c0w2"))
        pods.wait_for(lambda pods: len(pods) == 2, SECONDS, "c2")
        second = pods.get("default", "c2")
        assert second is not None
        assert second is pods.by_key("default/c2")
        assert pods.find("node", "c0w2") == [second]
        assert pods.find("node", "c0w9") == []
        store.update(annotated(second, a="b"))
        store.delete("Pod", "c1", grace_seconds=0)
        pods.wait_for(lambda pods: len(pods) == 1, SECONDS, "the end of c1")
        assert pods.find("node", "c0w1") == []
        assert [pod["metadata"]["name"] for pod in pods.items()] == ["c2"]
        pods.stop()
        assert heard == [
            ("default/c1", False, True),
            ("default/c2", False, True),
            ("default/c2", True, True),
            ("default/c1", True, False),
        ]

    def test_is_current_once_all_that_is_stored_was_told(self, store: Store) -> None:
        """However late the watch is: what was written before is known, and those who follow have heard of it."""
        informer = Informer(store, "Lease")
        heard: set[str] = set()
        informer.on_change(lambda key, before, after: heard.add(key))
        informer.start()
        try:
            names = {f"lease-{number}" for number in range(20)}
            for name in names:
                store.create(build_lease(name, "kube-system"))
            last = store.update(annotated(store.get("Lease", "lease-0", "kube-system"), a="b"))
            informer.wait_current(SECONDS)
            assert {f"kube-system/{name}" for name in names} <= heard
            assert informer.get("kube-system", "lease-0") == last
        finally:
            informer.stop()

    def test_objects_are_shared_not_copied(self, store: Store) -> None:
        store.create(build_pod("c1"))
        pods = Informer(store, "Pod")
        pods.start()
        pods.wait_synced(SECONDS)
        assert pods.get("default", "c1") is pods.items()[0]
        pods.stop()

    def test_says_what_it_waited_for(self, store: Store) -> None:
        pods = Informer(store, "Pod")
        pods.start()
        with pytest.raises(NotReady, match="a pod that never comes"):
            pods.wait_for(lambda pods: len(pods) > 0, 0.05, "a pod that never comes")
        pods.stop()

    def test_those_who_are_added_late_hear_everything_once(self, store: Store) -> None:
        pods = Informer(store, "Pod")
        pods.start()
        pods.wait_synced(SECONDS)
        heard: list[list[str]] = [[] for _ in range(10)]

        def listen() -> None:
            for names in heard:

                def note(key: str, old: Object | None, new: Object | None, names: list[str] = names) -> None:
                    assert old is None
                    names.append(key)

                pods.on_change(note)

        listener = threading.Thread(target=listen)
        written = [build_pod(f"p{number}") for number in range(100)]
        for number, pod in enumerate(written):
            store.create(pod)
            if number == 50:
                listener.start()
        listener.join()
        pods.wait_for(lambda pods: len(pods) == 100, SECONDS, "100 pods")
        pods.stop()
        assert all(sorted(names) == sorted(f"default/p{number}" for number in range(100)) for names in heard)
