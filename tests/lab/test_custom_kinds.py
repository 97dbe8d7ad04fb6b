"""The kinds that knetsim defines, Skupper's, in every store: stored, checked and followed as Kubernetes' own are."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from knetsim import names
from knetsim.api.etcd import Etcd
from knetsim.api.http_store import HttpStore
from knetsim.api.informer import Informer
from knetsim.api.objects import Object
from knetsim.api.store import Store
from knetsim.control.kubernetes.definitions import define_kinds
from knetsim.errors import Conflict, NotFound, ObjectError, StoreUnavailable
from tests.lab.etcd_fixture import EtcdMembers, members
from tests.lab.kubernetes_fixture import PREFIX, ApiServer, api_server
from tests.lab.store_fixture import SECONDS, Follower, MakeStore, annotated, make_store, run_together, store, version

__all__ = ["api_server", "make_store", "members", "store"]

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(autouse=True)
def served(make_store: MakeStore, request: pytest.FixtureRequest) -> None:
    """Whoever checks the objects knows them."""
    if isinstance(make_store(), HttpStore):
        server: ApiServer = request.getfixturevalue("api_server")
        server.define()


def build(kind: str, name: str = "backend", **spec: Any) -> Object:
    return {"kind": kind, "apiVersion": names.SKUPPER_API_VERSION, "metadata": {"name": name}, "spec": spec}


def build_listener(name: str = "backend", **spec: Any) -> Object:
    return build("Listener", name, **{"routingKey": "backend", "host": "backend", "port": 8080, **spec})


def condition(kind: str, status: str = "True") -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": "Ready",
        "message": "OK",
        "lastTransitionTime": "2025-01-31T10:00:00Z",
    }


def list_until_refused(store: Store, kind: str) -> None:
    """Ask until the server has seen that the definition is gone."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        store.list(kind)


def with_status(obj: Object, **status: Any) -> Object:
    return {**obj, "status": status}


class TestStored:
    def test_what_was_created_is_read(self, store: Store) -> None:
        created = store.create(build_listener())
        assert store.get("Listener", "backend") == created
        assert store.list("Listener").items == [created]
        assert created["metadata"]["namespace"] == "default"
        assert created["metadata"]["generation"] == 1
        assert created["spec"]["type"] == "tcp"
        assert "status" not in created

    def test_a_status_is_not_taken_with_it(self, store: Store) -> None:
        assert "status" not in store.create(with_status(build_listener(), message="mine"))

    def test_generation_counts_changes_of_the_spec(self, store: Store) -> None:
        created = store.create(build_listener())
        assert store.update(annotated(created, a="b"))["metadata"]["generation"] == 1
        changed = store.update(build_listener(port=80))
        assert changed["metadata"]["generation"] == 2
        assert changed["spec"]["port"] == 80
        assert store.update(build_listener(port=80)) == changed

    def test_mistakes(self, store: Store) -> None:
        with pytest.raises(ObjectError) as caught:
            store.create(build("Connector", routingKey="backend", port=0, selector="app=web", host="c4"))
        assert "spec.port" in [field for field, _ in caught.value.problems]
        with pytest.raises(ObjectError, match="prot"):
            store.create(build_listener(prot=80))
        store.create(build_listener())
        with pytest.raises(ObjectError, match=r"spec\.host"):
            store.update(build("Listener", routingKey="backend", port=80))

    def test_deletion(self, store: Store) -> None:
        created = store.create(build_listener())
        store.delete("Listener", "backend", uid=created["metadata"]["uid"])
        with pytest.raises(NotFound, match="Listener default/backend: does not exist"):
            store.get("Listener", "backend")
        with pytest.raises(NotFound):
            store.update_status(with_status(created, message="OK"))

    def test_they_are_followed(self, store: Store) -> None:
        store.create(build_listener("first"))
        follower = Follower(store.watch("Listener"))
        follower.wait_synced()
        second = store.create(build_listener("second"))
        store.update_status(with_status(second, message="OK"))
        store.delete("Listener", "second")
        expected = ["ADDED default/first", "SYNCED", "ADDED default/second", "MODIFIED default/second"]
        follower.wait_for(lambda changes: len(changes) == len(expected) + 1)
        assert follower.words() == [*expected, "DELETED default/second"]
        follower.watch.close()


class TestStatus:
    def test_only_the_status(self, store: Store) -> None:
        created = store.create(build_listener())
        stored = store.update_status({**with_status(created, message="OK"), "spec": {"port": 1}})
        assert stored["status"] == {"message": "OK"}
        assert stored["spec"] == created["spec"]
        assert stored["metadata"]["generation"] == 1
        assert store.update(build_listener(port=80))["status"] == {"message": "OK"}

    def test_what_changes_nothing_is_not_written(self, store: Store) -> None:
        created = store.create(build_listener())
        first = store.update_status(with_status(created, message="OK"))
        assert version(store.update_status(with_status(created, message="OK"))) == version(first)

    def test_nothing_of_the_old_one_stays_but_conditions_of_others(self, store: Store) -> None:
        created = store.create(build_listener())
        before = [condition("Configured"), condition("example.com/Mine")]
        store.update_status(with_status(created, message="no", hasMatchingConnector=True, conditions=before))
        now = store.update_status(with_status(created, status="Ready", conditions=[condition("Configured", "False")]))
        assert now["status"] == {
            "status": "Ready",
            "conditions": [condition("Configured", "False"), condition("example.com/Mine")],
        }

    def test_not_of_another_object(self, store: Store) -> None:
        created = store.create(build_listener())
        store.delete("Listener", "backend")
        store.create(build_listener())
        with pytest.raises(Conflict, match="not the object that was meant"):
            store.update_status(with_status(created, message="OK"))

    def test_mistakes(self, store: Store) -> None:
        created = store.create(build_listener())
        half = {"type": "Ready", "status": "True"}
        for status in ({"mesage": "OK"}, {"conditions": [half]}, {"conditions": [condition("Ready", "yes")]}):
            with pytest.raises(ObjectError, match="status"):
                store.update_status({**created, "status": status})

    def test_writers_at_the_same_moment(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(4)]
        created = stores[0].create(build_listener())
        kinds = [f"example.com/W{index}" for index in range(4)]
        pairs = zip(stores, kinds, strict=True)
        run_together(
            [lambda s=s, k=k: s.update_status(with_status(created, conditions=[condition(k)])) for s, k in pairs]
        )  # type: ignore[misc]
        stored = stores[0].get("Listener", "backend")["status"]["conditions"]
        assert sorted(one["type"] for one in stored) == kinds


def test_where_they_lie_in_etcd(members: EtcdMembers, store: Store) -> None:
    """Where an API server with the definitions puts them."""
    created = store.create(build("Site", "west"))
    prefix = PREFIX if isinstance(store, HttpStore) else "/registry"
    etcd = Etcd(members.targets)
    try:
        stored = etcd.get(f"{prefix}/skupper.io/sites/default/west")
    finally:
        etcd.close()
    assert stored is not None
    written = json.loads(stored.value)
    assert (written["kind"], written["apiVersion"], written["spec"]) == (
        "Site",
        names.SKUPPER_API_VERSION,
        created["spec"],
    )


@pytest.mark.parametrize("make_store", ["api"], indirect=True)
class TestDefinitions:
    def test_who_asks_before_they_are_served_waits(self, make_store: MakeStore, api_server: ApiServer) -> None:
        store = make_store()
        assert isinstance(store, HttpStore)
        definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        store.delete_object({**definition, "metadata": {"name": "links.skupper.io"}})
        brief = make_store(0.5)
        with pytest.raises(StoreUnavailable, match="does not serve this kind"):
            list_until_refused(brief, "Link")
        informer = Informer(store, "Link")
        informer.start()
        try:
            writing = define_kinds(store)
            created = store.create(build("Link", "to-east", endpoints=[]))
            writing.result()
            informer.wait_for(lambda known: known.get("default", "to-east") == created, SECONDS, "the Link")
        finally:
            informer.stop()

    def test_the_tables_of_kubectl(self, make_store: MakeStore) -> None:
        store = make_store()
        assert isinstance(store, HttpStore)
        for definition in store.client.request("GET", _DEFINITIONS)["items"]:
            conditions = {one["type"]: one["status"] for one in definition["status"]["conditions"]}
            assert conditions.get("Established") == conditions.get("NamesAccepted") == "True"
            assert "NonStructuralSchema" not in conditions
            assert definition["spec"]["versions"][0]["additionalPrinterColumns"]
