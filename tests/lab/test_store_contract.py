"""What every Store promises of single writes and reads, and of writers that race; on real etcd and a real API server.

`make_store` is the only thing that knows which Store it is: another implementation is another parameter of it. What is
promised of watches, and when members are lost, stands in test_store_watch.py and test_store_loss.py; what only one of
them does in test_embedded_store.py and test_api_store.py.
"""

from __future__ import annotations

import pytest

from knetsim.api.objects import Object, key_of
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, Conflict, NotFound, ObjectError
from tests.lab.etcd_fixture import members
from tests.lab.kubernetes_fixture import api_server
from tests.lab.store_fixture import (
    MakeStore,
    annotated,
    build_lease,
    build_pod,
    increment,
    make_store,
    run_together,
    store,
    version,
)

__all__ = ["api_server", "make_store", "members", "store"]


class TestCreateAndRead:
    def test_what_was_created_is_read(self, store: Store) -> None:
        created = store.create(build_pod("c1"))
        assert store.get("Pod", "c1") == created
        assert store.list("Pod").items == [created]
        metadata = created["metadata"]
        assert metadata["namespace"] == "default"
        assert metadata["generation"] == 1
        assert metadata["uid"]
        assert metadata["creationTimestamp"].endswith("Z")
        assert int(store.list("Pod").revision) >= int(version(created))

    def test_results_belong_to_the_caller(self, store: Store) -> None:
        created = store.create(build_pod("c1"))
        created["spec"]["containers"].clear()
        store.get("Pod", "c1")["spec"]["containers"].clear()
        assert len(store.get("Pod", "c1")["spec"]["containers"]) == 1

    def test_given_objects_are_not_changed(self, store: Store) -> None:
        given = build_pod("c1", nodeName="C0w1")
        store.create(given)
        assert given == build_pod("c1", nodeName="C0w1")

    def test_a_name_is_taken_once(self, store: Store) -> None:
        store.create(build_pod("c1"))
        with pytest.raises(AlreadyExists, match="Pod default/c1"):
            store.create(build_pod("c1"))

    def test_names_are_apart_by_namespace(self, store: Store) -> None:
        store.create(build_pod("c1"))
        other = build_pod("c1")
        other["metadata"]["namespace"] = "kube-system"
        store.create(other)
        assert len(store.list("Pod").items) == 2
        assert [key_of(pod) for pod in store.list("Pod", "kube-system").items] == ["kube-system/c1"]
        assert store.get("Pod", "c1", "kube-system")["metadata"]["namespace"] == "kube-system"

    def test_a_worker_goes_by_both_its_names(self, store: Store) -> None:
        assert store.get("Node", "C0w1")["metadata"]["name"] == "c0w1"
        assert store.create(build_pod("c1", nodeName="C0w2"))["spec"]["nodeName"] == "c0w2"

    def test_what_is_not_there(self, store: Store) -> None:
        with pytest.raises(NotFound, match="Pod default/c9: does not exist"):
            store.get("Pod", "c9")
        assert store.list("Pod").items == []

    def test_generated_names_differ(self, store: Store) -> None:
        pods = []
        for _ in range(3):
            pod = build_pod("")
            pod["metadata"] = {"generateName": "web-"}
            pods.append(store.create(pod)["metadata"]["name"])
        assert len(set(pods)) == 3
        assert all(name.startswith("web-") and len(name) == 9 for name in pods)

    def test_listings_are_sorted_by_key(self, store: Store) -> None:
        for name in ("c3", "c10", "c1"):
            store.create(build_pod(name))
        assert [key_of(pod) for pod in store.list("Pod").items] == ["default/c1", "default/c10", "default/c3"]

    def test_any_text_comes_back(self, store: Store) -> None:
        words = {"kiểm": "tra", "quote": '"\\\n\x00', "emoji": "🛰", "tag": "<&>"}
        store.create(build_lease("l1", holderIdentity="".join(words.values())))
        assert store.get("Lease", "l1")["spec"]["holderIdentity"] == "".join(words.values())

    def test_a_big_object(self, store: Store) -> None:
        text = "x" * 1_000_000
        store.create(build_lease("big", holderIdentity=text))
        assert store.get("Lease", "big")["spec"]["holderIdentity"] == text

    def test_an_object_that_is_too_big(self, store: Store) -> None:
        for size in (1_600_000, 3_000_000):
            with pytest.raises(ObjectError, match="Lease default/big: is too large"):
                store.create(build_lease("big", holderIdentity="x" * size))
        assert store.list("Lease").items == []


class TestRefused:
    def test_every_mistake_is_named(self, store: Store) -> None:
        with pytest.raises(ObjectError, match="2 mistakes") as caught:
            store.create(build_pod("C_1", restartPolicy="never"))
        assert [field for field, _ in caught.value.problems] == ["metadata.name", "spec.restartPolicy"]
        assert store.list("Pod").items == []

    def test_an_unknown_field(self, store: Store) -> None:
        with pytest.raises(ObjectError, match=r"spec\.nodeSelecter"):
            store.create(build_pod("c1", nodeSelecter={}))
        pod = store.create(build_pod("c1"))
        with pytest.raises(ObjectError, match=r"spec\.nodeSelecter"):
            store.update({**pod, "spec": {**pod["spec"], "nodeSelecter": {}}})
        assert store.list("Pod").items == [pod]

    def test_an_unknown_kind(self, store: Store) -> None:
        with pytest.raises(ObjectError, match="unknown kind 'Pood'") as caught:
            store.create({**build_pod("c1"), "kind": "Pood"})
        assert caught.value.hint == "did you mean 'Pod'?"
        with pytest.raises(ObjectError):
            store.list("pods")

    def test_an_unknown_namespace(self, store: Store) -> None:
        lease = build_lease("l1", "kube-sistem")
        with pytest.raises(ObjectError, match="there is no namespace 'kube-sistem'") as caught:
            store.create(lease)
        assert caught.value.hint == "did you mean 'kube-system'?"

    def test_a_new_object_with_a_version(self, store: Store) -> None:
        created = store.create(build_pod("c1"))
        created["metadata"]["name"] = "c2"
        with pytest.raises(ObjectError, match="resourceVersion"):
            store.create(created)


class TestUpdate:
    def test_with_the_expected_version(self, store: Store) -> None:
        created = store.create(build_lease("l1", holderIdentity="a"))
        updated = store.update({**created, "spec": {"holderIdentity": "b"}})
        assert int(version(updated)) > int(version(created))
        assert updated["metadata"]["uid"] == created["metadata"]["uid"]
        assert store.get("Lease", "l1") == updated

    def test_conflict(self, store: Store, make_store: MakeStore) -> None:
        created = store.create(build_lease("l1", holderIdentity="a"))
        make_store().update({**created, "spec": {"holderIdentity": "b"}})
        with pytest.raises(Conflict, match="Lease default/l1: somebody else has changed it"):
            store.update({**created, "spec": {"holderIdentity": "c"}})
        assert store.get("Lease", "l1")["spec"]["holderIdentity"] == "b"

    def test_without_a_version_it_just_happens(self, store: Store, make_store: MakeStore) -> None:
        created = store.create(build_lease("l1", holderIdentity="a"))
        make_store().update({**created, "spec": {"holderIdentity": "b"}})
        store.update(build_lease("l1", holderIdentity="c"))
        found = store.get("Lease", "l1")
        assert found["spec"]["holderIdentity"] == "c"
        assert found["metadata"]["uid"] == created["metadata"]["uid"]
        assert found["metadata"]["creationTimestamp"] == created["metadata"]["creationTimestamp"]

    def test_what_changes_nothing_is_not_written(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        assert store.update(pod) == pod
        assert store.update_status(pod) == pod
        assert version(store.get("Pod", "c1")) == version(pod)

    def test_another_object_of_the_name(self, store: Store) -> None:
        first = store.create(build_lease("l1"))
        store.delete("Lease", "l1")
        store.create(build_lease("l1"))
        del first["metadata"]["resourceVersion"]
        with pytest.raises(Conflict, match="not the object that was meant"):
            store.update(first)

    def test_of_nothing(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.update(build_lease("l1"))
        pod = store.create(build_pod("c1"))
        store.delete("Pod", "c1", grace_seconds=0)
        with pytest.raises(NotFound):
            store.update(pod)

    def test_leaves_status_alone(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        store.update_status({**pod, "status": {"phase": "Running"}})
        updated = store.update(annotated({**build_pod("c1"), "status": {"phase": "Failed"}}, a="b"))
        assert updated["status"]["phase"] == "Running"
        assert updated["metadata"]["annotations"] == {"a": "b"}

    def test_generation_counts_changes_of_the_spec(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        pod = store.update(annotated(pod, a="b"))
        assert pod["metadata"]["generation"] == 1
        pod["spec"]["containers"][0]["image"] = "pause:3.11"
        assert store.update(pod)["metadata"]["generation"] == 2

    def test_a_running_pod_keeps_its_containers(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        pod["spec"]["containers"][0]["command"] = ["true"]
        with pytest.raises(ObjectError) as caught:
            store.update(pod)
        assert caught.value.field.startswith("spec")


class TestUpdateStatus:
    def test_only_the_status(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        changed = annotated({**build_pod("c1", nodeName="c0w2"), "status": {"phase": "Running"}}, a="b")
        updated = store.update_status(changed)
        assert updated["status"] == {"phase": "Running", "qosClass": "BestEffort"}
        assert updated["spec"] == pod["spec"]
        assert "annotations" not in updated["metadata"]
        assert updated["metadata"]["generation"] == 1

    def test_whatever_has_changed_meanwhile(self, store: Store, make_store: MakeStore) -> None:
        old = store.create(build_pod("c1"))
        make_store().update(annotated(old, a="b"))
        updated = store.update_status({**old, "status": {"phase": "Running"}})
        assert updated["metadata"]["annotations"] == {"a": "b"}

    def test_not_of_another_object(self, store: Store) -> None:
        old = store.create(build_pod("c1"))
        store.delete("Pod", "c1", grace_seconds=0)
        store.create(build_pod("c1"))
        with pytest.raises(Conflict):
            store.update_status({**old, "status": {"phase": "Running"}})

    def test_of_a_kind_without(self, store: Store) -> None:
        store.create(build_lease("l1"))
        with pytest.raises(ObjectError, match="has no status"):
            store.update_status({**build_lease("l1"), "status": {}})


class TestSharedStatus:
    def condition(self, kind: str, status: str = "True") -> Object:
        return {"type": kind, "status": status}

    def types(self, obj: Object) -> dict[str, str]:
        return {item["type"]: item["status"] for item in obj["status"].get("conditions", ())}

    def test_conditions_of_others_stay(self, store: Store, make_store: MakeStore) -> None:
        kubelet, scheduler = store, make_store()
        pod = kubelet.create(build_pod("c1"))
        scheduler.update_status({**pod, "status": {**pod["status"], "conditions": [self.condition("PodScheduled")]}})
        ready = [self.condition("Ready", "False"), self.condition("Initialized")]
        kubelet.update_status({**pod, "status": {"phase": "Running", "conditions": ready}})
        told = kubelet.update_status({**pod, "status": {"phase": "Running", "conditions": [self.condition("Ready")]}})
        assert self.types(told) == {"PodScheduled": "True", "Ready": "True", "Initialized": "True"}

    def test_nothing_else_of_the_old_one_stays(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        addresses = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.1.0.1"}
        store.update_status({**pod, "status": {"phase": "Running", "message": "old", **addresses}})
        moved = {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]}
        told = store.update_status({**pod, "status": {"phase": "Running", **moved}})
        assert told["status"] == {"phase": "Running", "qosClass": "BestEffort", **moved}

    def test_of_a_node(self, store: Store) -> None:
        node = store.get("Node", "c0w1")
        address = {"type": "InternalIP", "address": "10.1.0.1"}
        store.update_status({**node, "status": {"capacity": {"example.com/fake": "5"}, "addresses": [address]}})
        moved = {**address, "address": "10.1.0.9"}
        told = store.update_status({**node, "status": {"capacity": {"cpu": "1", "pods": "110"}, "addresses": [moved]}})
        assert told["status"]["capacity"] == {"cpu": "1", "pods": "110", "example.com/fake": "5"}
        assert told["status"]["addresses"] == [moved]

    def test_writers_at_the_same_moment(self, make_store: MakeStore) -> None:
        """Each sets a condition of its own, again and again; none loses another's."""
        stores = [make_store() for _ in range(4)]
        pod = stores[0].create(build_pod("c1"))

        def write(number: int) -> None:
            for turn in range(20):
                condition = self.condition(f"example.com/w{number}", "True" if turn % 2 else "False")
                stores[number].update_status({**pod, "status": {"phase": "Running", "conditions": [condition]}})

        run_together([lambda number=number: write(number) for number in range(4)])
        assert self.types(stores[0].get("Pod", "c1")) == {f"example.com/w{number}": "True" for number in range(4)}


class TestDelete:
    def test_at_once(self, store: Store) -> None:
        created = store.create(build_lease("l1"))
        deleted = store.delete("Lease", "l1")
        assert deleted["metadata"]["uid"] == created["metadata"]["uid"]
        with pytest.raises(NotFound):
            store.delete("Lease", "l1")

    def test_a_bound_pod_gets_time(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        deleted = store.delete("Pod", "c1")
        metadata = deleted["metadata"]
        assert metadata["deletionGracePeriodSeconds"] == 30
        assert metadata["deletionTimestamp"] > pod["metadata"]["creationTimestamp"]
        assert metadata["generation"] == 2
        assert store.get("Pod", "c1") == deleted
        assert store.delete("Pod", "c1") == deleted, "a second delete changes nothing"
        store.delete("Pod", "c1", grace_seconds=0)
        with pytest.raises(NotFound):
            store.get("Pod", "c1")

    def test_a_deletion_can_be_hurried_not_slowed(self, store: Store) -> None:
        store.create(build_pod("c1"))
        slow = store.delete("Pod", "c1", grace_seconds=20)
        fast = store.delete("Pod", "c1", grace_seconds=5)
        assert fast["metadata"]["deletionGracePeriodSeconds"] == 5
        assert fast["metadata"]["deletionTimestamp"] < slow["metadata"]["deletionTimestamp"]
        assert store.delete("Pod", "c1", grace_seconds=60) == fast

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    def test_a_finished_pod_goes_at_once(self, store: Store, phase: str) -> None:
        pod = store.create(build_pod("c1"))
        store.update_status({**pod, "status": {"phase": phase}})
        store.delete("Pod", "c1")
        assert store.list("Pod").items == []

    def test_an_unbound_pod_goes_at_once(self, store: Store) -> None:
        pod = build_pod("c1")
        del pod["spec"]["nodeName"]
        store.create(pod)
        store.delete("Pod", "c1", grace_seconds=30)
        assert store.list("Pod").items == []

    def test_only_the_object_that_is_meant(self, store: Store) -> None:
        first = store.create(build_lease("l1"))
        store.delete("Lease", "l1", uid=first["metadata"]["uid"])
        second = store.create(build_lease("l1"))
        with pytest.raises(Conflict):
            store.delete("Lease", "l1", uid=first["metadata"]["uid"])
        assert store.get("Lease", "l1") == second

    def test_finalizers_hold_it(self, store: Store) -> None:
        lease = build_lease("l1")
        lease["metadata"]["finalizers"] = ["knetsim.io/hold"]
        store.create(lease)
        held = store.delete("Lease", "l1")
        assert held["metadata"]["deletionTimestamp"]
        assert store.delete("Lease", "l1") == held
        held["metadata"]["finalizers"] = []
        store.update(held)
        assert store.list("Lease").items == []

    def test_finalizers_hold_a_pod_after_its_time(self, store: Store) -> None:
        pod = build_pod("c1")
        pod["metadata"]["finalizers"] = ["knetsim.io/hold"]
        store.create(pod)
        store.delete("Pod", "c1")
        held = store.delete("Pod", "c1", grace_seconds=0)
        assert held["metadata"]["deletionGracePeriodSeconds"] == 0
        held["metadata"].pop("finalizers")
        store.update(held)
        assert store.list("Pod").items == []

    def test_a_namespace_takes_nothing_new_while_it_is_deleted(self, store: Store, make_store: MakeStore) -> None:
        store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}})
        store.create(build_lease("l1", "shop"))
        deleted = make_store().delete("Namespace", "shop")
        assert deleted["status"]["phase"] == "Terminating"
        with pytest.raises(ObjectError, match="the namespace 'shop' is being deleted"):
            store.create(build_lease("l2", "shop"))
        assert store.get("Lease", "l1", "shop")

    def test_the_default_namespace_stays(self, store: Store) -> None:
        with pytest.raises(ObjectError, match=r"(cannot|may not) be deleted"):
            store.delete("Namespace", "default")

    def test_a_grace_period_that_is_none(self, store: Store) -> None:
        store.create(build_pod("c1"))
        with pytest.raises(ObjectError, match="grace period"):
            store.delete("Pod", "c1", grace_seconds=-1)


class TestRaces:
    def test_one_creator_wins(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(4)]
        for number in range(10):
            won = run_together(
                [lambda store=store, n=number: _is_created(store, build_pod(f"r{n}")) for store in stores]
            )
            assert sum(won) == 1

    def test_no_increment_is_lost(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(4)]
        stores[0].create(annotated(build_pod("c1"), count="0"))
        run_together([lambda store=store: [increment(store) for _ in range(25)] for store in stores])
        assert stores[0].get("Pod", "c1")["metadata"]["annotations"]["count"] == "100"

    def test_status_and_spec_do_not_lose_each_other(self, make_store: MakeStore) -> None:
        one, other = make_store(), make_store()
        pod = one.create(annotated(build_pod("c1"), count="0"))

        def write_status() -> None:
            for number in range(50):
                one.update_status({**pod, "status": {"phase": "Running", "message": str(number)}})

        run_together([write_status, lambda: [increment(other) for _ in range(50)]])
        found = one.get("Pod", "c1")
        assert found["status"]["message"] == "49"
        assert found["metadata"]["annotations"]["count"] == "50"


def _is_created(store: Store, obj: Object) -> bool:
    try:
        store.create(obj)
    except AlreadyExists:
        return False
    return True
