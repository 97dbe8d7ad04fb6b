"""What every Store promises while etcd members are killed, stopped and compacted under it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from knetsim.api.etcd import Compacted, Etcd
from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.api.store import DELETED, SYNCED, Store
from knetsim.errors import Conflict, StoreUnavailable
from tests.lab.etcd_fixture import EtcdMembers, members
from tests.lab.kubernetes_fixture import api_server
from tests.lab.store_fixture import (
    SECONDS,
    Follower,
    MakeStore,
    annotated,
    build_lease,
    build_pod,
    check_gap,
    listed,
    make_store,
)

__all__ = ["api_server", "make_store", "members"]

WRITERS = 4


@pytest.fixture(autouse=True)
def all_members_run_again(members: EtcdMembers) -> Iterator[None]:
    """Whatever a test has killed is started again."""
    yield
    members.restore()


def set_count(store: Store, name: str, count: int) -> None:
    """Have the pod's annotation say `count`; what was done, perhaps, by an attempt that failed is not done again."""
    while True:
        pod = store.get("Pod", name)
        if pod["metadata"]["annotations"]["count"] == str(count):
            return
        try:
            store.update(annotated(pod, count=str(count)))
        except (Conflict, StoreUnavailable):
            continue
        return


class TestOneMemberLost:
    def test_nothing_is_lost_or_told_twice(self, make_store: MakeStore, members: EtcdMembers) -> None:
        """Four writers go on while each member in turn, the leader first, is killed and comes back."""
        stores = [make_store() for _ in range(WRITERS)]
        follower, other = Follower(make_store().watch("Pod")), Follower(stores[0].watch("Pod"))
        follower.wait_synced()
        over = threading.Event()
        counts = [0] * WRITERS

        def write(number: int) -> None:
            store, name = stores[number], f"p{number}"
            store.create(annotated(build_pod(name), count="0"))
            while not over.is_set():
                counts[number] += 1
                set_count(store, name, counts[number])
                store.create(build_pod(f"{name}-{counts[number]}"))

        writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        follower.wait_for(lambda changes: len(changes) > 100)
        for _ in range(3):
            number = members.leader()
            members.kill(number)
            seen = len(follower.changes)
            follower.wait_for(lambda changes, seen=seen: len(changes) > seen + 100)  # type: ignore[misc]
            members.start(number)
        over.set()
        for writer in writers:
            writer.join()

        final = listed(stores[0])
        assert {f"default/p{number}-{count}" for number in range(WRITERS) for count in range(1, counts[number] + 1)} | {
            f"default/p{number}" for number in range(WRITERS)
        } == set(final)
        for one in (follower, other):
            one.wait_state(final)
        told: dict[str, list[int]] = {}
        for change in follower.changes:
            if change.type != SYNCED and "annotations" in change.object["metadata"]:
                name = change.object["metadata"]["name"]
                told.setdefault(name, []).append(int(change.object["metadata"]["annotations"]["count"]))
        assert told == {f"p{number}": list(range(counts[number] + 1)) for number in range(WRITERS)}
        words = [word for word in follower.words() if word.startswith("ADDED")]
        assert len(words) == len(set(words))

    def test_a_member_that_hangs(self, make_store: MakeStore, members: EtcdMembers) -> None:
        store = make_store(deadline=60)  # an API server gives a member up after 40 s; until then some attempts fail
        store.create(build_lease("l1"))
        number = members.leader()
        members.signal(number, signal.SIGSTOP)
        try:
            store.update(build_lease("l1", holderIdentity="me"))
            assert store.get("Lease", "l1")["spec"] == {"holderIdentity": "me"}
        finally:
            members.signal(number, signal.SIGCONT)

    def test_a_store_that_begins_without_it(self, make_store: MakeStore, members: EtcdMembers) -> None:
        members.kill(1)
        store = make_store()
        store.create(build_lease("l1"))
        follower = Follower(store.watch("Lease"))
        follower.wait_synced()
        assert follower.words() == ["ADDED default/l1", "SYNCED"]


class TestNoQuorum:
    def test_says_so_and_loses_nothing(self, make_store: MakeStore, members: EtcdMembers) -> None:
        store, hasty = make_store(), make_store(deadline=3)
        before = store.create(build_lease("l1", holderIdentity="a"))
        assert hasty.get("Lease", "l1") == before
        follower = Follower(store.watch("Lease"))
        follower.wait_synced()
        members.kill(2, 3)
        with pytest.raises(StoreUnavailable) as caught:
            hasty.create(build_lease("l2"))
        if isinstance(hasty, EtcdStore):
            assert "2 of 3 members do not answer: C0e2, C0e3" in str(caught.value)
            assert "C0e1 says: no leader" in caught.value.why
        with pytest.raises(StoreUnavailable):
            hasty.get("Lease", "l1")
        members.start(2, 3)
        assert listed(store, "Lease")["default/l1"] == before
        store.update(build_lease("l1", holderIdentity="b"))
        follower.wait_state(listed(store, "Lease"))
        assert DELETED not in {change.type for change in follower.changes}

    def test_a_watch_that_begins_in_it_waits(self, make_store: MakeStore, members: EtcdMembers) -> None:
        store = make_store()
        store.create(build_lease("l1"))
        members.kill(1, 2)
        follower = Follower(store.watch("Lease"))
        members.start(1, 2)
        follower.wait_synced()
        assert follower.words() == ["ADDED default/l1", "SYNCED"]

    def test_a_watch_that_waits_can_be_closed(self, make_store: MakeStore, members: EtcdMembers) -> None:
        members.kill(1, 2, 3)
        follower = Follower(make_store().watch("Lease"))
        follower.watch.close()
        follower.wait_ended()

    def test_an_informer_keeps_what_it_knows(self, make_store: MakeStore, members: EtcdMembers) -> None:
        store = make_store()
        store.create(build_pod("c1"))
        pods = Informer(store, "Pod")
        pods.start()
        pods.wait_synced(SECONDS)
        members.kill(1, 2, 3)
        assert pods.get("default", "c1") is not None
        members.start(1, 2, 3)
        store.create(build_pod("c2"))
        pods.wait_for(lambda pods: len(pods) == 2, SECONDS, "c2")
        pods.stop()


@pytest.mark.parametrize("make_store", ["etcd"], indirect=True)
class TestCompaction:
    def test_the_difference_is_told(self, make_store: MakeStore, members: EtcdMembers) -> None:
        """A watch whose history was compacted while its only member was away lists again."""
        store, writer = EtcdStore(members.targets[:1]), make_store()
        for name in ("kept", "changed", "deleted", "remade"):
            store.create(build_lease(name))
        follower = Follower(store.watch("Lease"))
        follower.wait_synced()
        seen = len(follower.changes)
        members.kill(1)
        writer.update(build_lease("changed", holderIdentity="me"))
        writer.delete("Lease", "deleted")
        writer.delete("Lease", "remade")
        writer.create(build_lease("remade"))
        writer.create(build_lease("added"))
        assert isinstance(writer, EtcdStore)
        writer.etcd.compact(int(writer.list("Lease").revision))
        members.start(1)
        follower.wait_state(listed(writer, "Lease"))
        check_gap(follower.changes[seen:])
        assert [change.type for change in follower.changes].count(SYNCED) == 1
        store.close()

    def test_the_client_says_so(self, make_store: MakeStore, members: EtcdMembers) -> None:
        etcd = Etcd(members.targets)
        first = etcd.put("/test/a", "1")
        last = etcd.put("/test/a", "2")
        etcd.compact(last)
        etcd.compact(last)
        with pytest.raises(Compacted) as caught:
            next(etcd.watch_prefix("/test/", first))
        assert caught.value.revision == last
        etcd.close()
