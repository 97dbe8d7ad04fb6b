"""The etcd client where a Store does not show it: lost answers, conditions, leases, who is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from knetsim.api.etcd import Etcd, Stored
from knetsim.api.etcd_store import EtcdStore
from knetsim.api.store import Store
from knetsim.control.embedded import ensure_namespaces
from knetsim.errors import KnetsimError, NotFound, ObjectError, StoreUnavailable
from knetsim.system.wait import wait_until
from tests.lab.etcd_fixture import EtcdMembers, members
from tests.lab.store_fixture import SECONDS, annotated, build_lease, build_pod
from tests.lab.wire import Wire

__all__ = ["members"]


@pytest.fixture
def etcd(members: EtcdMembers) -> Iterator[Etcd]:
    client = Etcd(members.targets, deadline=SECONDS)
    client.delete_prefix("/")
    yield client
    client.close()


class TestCalls:
    def test_the_leader_is_asked(self, etcd: Etcd, members: EtcdMembers) -> None:
        leader = members.leader()
        assert [status.leader for status in etcd.status()] == [number == leader for number in (1, 2, 3)]
        assert [status.name for status in etcd.status()] == ["C0e1", "C0e2", "C0e3"]
        assert all(not status.error and status.version.startswith("3.") for status in etcd.status())

    def test_put_get_delete(self, etcd: Etcd) -> None:
        revision = etcd.put("/a/ü", "wert")
        assert etcd.get("/a/ü") == Stored(b"wert", revision)
        assert etcd.get("/a/") is None
        assert etcd.delete("/a/ü") is True
        assert etcd.delete("/a/ü") is False

    def test_prefix_is_sorted_and_of_one_revision(self, etcd: Etcd) -> None:
        for key in ("/a/2", "/a/10", "/b/1", "/a/1"):
            last = etcd.put(key, key)
        entries, revision = etcd.prefix("/a/")
        assert [entry.key for entry in entries] == ["/a/1", "/a/10", "/a/2"]
        assert revision == last

    def test_create_only_once_even_with_the_same_value(self, etcd: Etcd) -> None:
        assert etcd.create("/a", "1")
        assert etcd.create("/a", "1") is None

    def test_compare_and_swap(self, etcd: Etcd) -> None:
        first = etcd.put("/a", "1")
        second = etcd.compare_and_swap("/a", "2", first)
        assert second is not None
        assert etcd.compare_and_swap("/a", "2", first) is None
        assert etcd.compare_and_swap("/b", "2", first) is None
        assert etcd.delete("/a", revision=first) is False
        assert etcd.delete("/a", revision=second) is True

    def test_guards(self, etcd: Etcd) -> None:
        at = etcd.put("/guard", "1")
        assert etcd.swap("/a", b"1", 0, guards={"/guard": at, "/other": None}).guards == {
            "/guard": Stored(b"1", at),
            "/other": None,
        }
        etcd.put("/other", "")
        assert etcd.swap("/a", b"1", 0, guards={"/guard": at, "/other": None}).done
        etcd.put("/guard", "2")
        refused = etcd.swap("/b", b"1", 0, guards={"/guard": at})
        assert not refused.done
        assert refused.current is None

    def test_too_large(self, etcd: Etcd) -> None:
        for size in (2_000_000, 20_000_000):
            with pytest.raises(ObjectError, match="too large"):
                etcd.put("/a", b"x" * size)

    def test_no_members(self) -> None:
        with pytest.raises(ValueError, match="at least one member"):
            Etcd([])

    def test_nothing_is_asked_after_close(self, members: EtcdMembers) -> None:
        client = Etcd(members.targets)
        client.put("/a", "1")
        watch = client.watch_prefix("/", 1)
        client.close()
        for call in (lambda: client.get("/a"), lambda: client.put("/a", "2"), lambda: client.lease_grant(5)):
            with pytest.raises(StoreUnavailable, match="not asked any more"):
                call()
        assert list(watch) == []
        assert {status.error for status in client.status()} == {"closed"}


class TestLeases:
    def test_keys_go_with_their_lease(self, etcd: Etcd) -> None:
        lease = etcd.lease_grant(60)
        etcd.put("/a", "1", lease=lease)
        stored = etcd.get("/a")
        assert stored is not None
        assert stored.lease == lease
        assert etcd.lease_keepalive(lease) == 60
        etcd.lease_revoke(lease)
        assert etcd.get("/a") is None
        etcd.lease_revoke(lease)
        with pytest.raises(NotFound, match="run out"):
            etcd.lease_keepalive(lease)
        with pytest.raises(NotFound):
            etcd.put("/a", "1", lease=lease)

    def test_a_kept_lease_outlives_its_time(self, etcd: Etcd) -> None:
        """A sibling that nobody renews shows when the time is over."""
        kept, left = etcd.lease_grant(2), etcd.lease_grant(2)
        etcd.keep_alive(kept, 2)
        etcd.put("/kept", "1", lease=kept)
        etcd.put("/left", "1", lease=left)
        wait_until("the end of a lease", lambda: "" if etcd.get("/left") is None else "it lives", SECONDS)
        assert etcd.get("/kept") is not None
        etcd.lease_revoke(kept)
        assert etcd.get("/kept") is None

    def test_who_keeps_it_hears_of_its_end(self, etcd: Etcd, members: EtcdMembers) -> None:
        lost, lease = threading.Event(), etcd.lease_grant(3)
        etcd.keep_alive(lease, 3, lambda ended: lost.set() if ended == lease else None)
        other = Etcd(members.targets)
        other.lease_revoke(lease)
        other.close()
        assert lost.wait(SECONDS)


@pytest.fixture
def wire(members: EtcdMembers, tmp_path: Path) -> Iterator[Wire]:
    """A way to member 1 on which answers can be lost."""
    wire = Wire(tmp_path / "wire", Path(members.targets[0].removeprefix("unix:")))
    yield wire
    wire.close()


class TestLostAnswers:
    """The member carries a request out, and the answer never arrives: the repetition must find that it is done."""

    @pytest.fixture
    def distant(self, wire: Wire, tmp_path: Path, etcd: Etcd) -> Iterator[EtcdStore]:
        ensure_namespaces(EtcdStore(etcd))
        store = EtcdStore(Etcd([f"unix:{tmp_path}/wire"], deadline=SECONDS))
        store.create(build_lease("first"))
        yield store
        store.close()

    @pytest.fixture
    def near(self, etcd: Etcd) -> Store:
        return EtcdStore(etcd)

    @staticmethod
    def lose(
        wire: Wire, call: Callable[[], Any], done: Callable[[], bool], then: Callable[[], Any] | None = None
    ) -> Any:
        """The result of `call`; its answer is lost once `done` shows the effect, and after `then`."""
        with ThreadPoolExecutor(1) as thread:
            wire.hold()
            result = thread.submit(call)
            wait_until("the request at the member", lambda: "" if done() else "its effect", SECONDS)
            if then is not None:
                then()
            wire.cut()
            return result.result(SECONDS)

    def test_create(self, wire: Wire, distant: EtcdStore, near: Store) -> None:
        created = self.lose(wire, lambda: distant.create(build_lease("l1")), lambda: len(near.list("Lease").items) == 2)
        assert created == near.get("Lease", "l1")

    def test_create_and_somebody_changes_it(self, wire: Wire, distant: EtcdStore, near: Store) -> None:
        created = self.lose(
            wire,
            lambda: distant.create(build_lease("l1")),
            lambda: len(near.list("Lease").items) == 2,
            lambda: near.update(build_lease("l1", holderIdentity="other")),
        )
        assert created["spec"] == {"holderIdentity": "other"}

    def test_update(self, wire: Wire, distant: EtcdStore, near: Store) -> None:
        lease = distant.get("Lease", "first")
        updated = self.lose(
            wire,
            lambda: distant.update({**lease, "spec": {"holderIdentity": "me"}}),
            lambda: bool(near.get("Lease", "first")["spec"]),
        )
        assert updated == near.get("Lease", "first")

    def test_update_and_somebody_changes_it(self, wire: Wire, distant: EtcdStore, near: Store) -> None:
        lease = distant.get("Lease", "first")
        with pytest.raises(KnetsimError, match="somebody else has changed it"):
            self.lose(
                wire,
                lambda: distant.update({**lease, "spec": {"holderIdentity": "me"}}),
                lambda: bool(near.get("Lease", "first")["spec"]),
                lambda: near.update(build_lease("first", holderIdentity="other")),
            )
        assert near.get("Lease", "first")["spec"] == {"holderIdentity": "other"}

    def test_update_status_whoever_else_changes_it(self, wire: Wire, distant: EtcdStore, near: Store) -> None:
        near.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "c0w1"}})
        pod = distant.create(build_pod("c1"))
        self.lose(
            wire,
            lambda: distant.update_status({**pod, "status": {"phase": "Running"}}),
            lambda: near.get("Pod", "c1")["status"]["phase"] == "Running",
            lambda: near.update(annotated(build_pod("c1"), a="b")),
        )
        found = near.get("Pod", "c1")
        assert found["status"]["phase"] == "Running"
        assert found["metadata"]["annotations"] == {"a": "b"}

    def test_delete(self, wire: Wire, distant: EtcdStore, near: Store) -> None:
        lease = near.get("Lease", "first")
        deleted = self.lose(wire, lambda: distant.delete("Lease", "first"), lambda: not near.list("Lease").items)
        assert deleted["metadata"]["uid"] == lease["metadata"]["uid"]

    def test_delete_of_what_was_made_again(self, wire: Wire, distant: EtcdStore, near: Store) -> None:
        uid = near.get("Lease", "first")["metadata"]["uid"]
        with pytest.raises(KnetsimError):  # what was meant is gone, and what is there now is another
            self.lose(
                wire,
                lambda: distant.delete("Lease", "first", uid=uid),
                lambda: not near.list("Lease").items,
                lambda: near.create(build_lease("first")),
            )
        assert near.get("Lease", "first")["metadata"]["uid"] != uid
