"""The store through an API server: lost answers, servers that die, hang or forget, credentials, what only it offers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from knetsim.api.etcd import Etcd
from knetsim.api.http.client import ATTEMPT_SECONDS
from knetsim.api.http_store import HttpStore
from knetsim.api.informer import Informer
from knetsim.api.objects import Object
from knetsim.api.store import SYNCED
from knetsim.errors import AlreadyExists, Conflict, KnetsimError, NotFound, NotReady, ObjectError, StoreUnavailable
from tests.lab.etcd_fixture import EtcdMembers, members
from tests.lab.kubernetes_fixture import HOST, ApiServer, api_server
from tests.lab.store_fixture import (
    SECONDS,
    Follower,
    MakeStore,
    build_lease,
    build_pod,
    check_gap,
    listed,
    make_store,
    version,
)
from tests.lab.unsafe_network import UnsafeNetwork

__all__ = ["api_server", "make_store", "members"]

pytestmark = pytest.mark.parametrize("make_store", ["api"], indirect=True)


@pytest.fixture
def store(make_store: MakeStore) -> HttpStore:
    store = make_store()
    assert isinstance(store, HttpStore)
    return store


@pytest.fixture(autouse=True)
def server_runs_again(api_server: ApiServer) -> Iterator[None]:
    """Whatever a test has done to the server, it is there for the next."""
    yield
    api_server.restore()


@pytest.fixture
def network(api_server: ApiServer) -> Iterator[UnsafeNetwork]:
    network = UnsafeNetwork((HOST, api_server.port))
    yield network
    network.shut()


@pytest.fixture
def shaky(store: HttpStore, api_server: ApiServer, network: UnsafeNetwork) -> Iterator[HttpStore]:
    """A store over a network that a test breaks; it has a connection already."""
    shaky = HttpStore(api_server.client(dial=network.dial))
    shaky.list("Namespace")
    yield shaky
    shaky.close()


class TestLostAnswers:
    """The server has done it, and its answer did not arrive."""

    @pytest.fixture(autouse=True)
    def one_is_lost(self, network: UnsafeNetwork) -> Iterator[None]:
        yield
        assert network.lost.is_set()

    def test_of_a_create(self, shaky: HttpStore, network: UnsafeNetwork) -> None:
        network.lose_answer()
        created = shaky.create(build_pod("c1"))
        assert shaky.list("Pod").items == [created]

    def test_of_a_create_with_a_drawn_name(self, shaky: HttpStore, network: UnsafeNetwork) -> None:
        network.lose_answer()
        pod = build_pod("")
        pod["metadata"] = {"generateName": "web-"}
        created = shaky.create(pod)
        assert shaky.list("Pod").items == [created]

    def test_of_a_create_that_found_another(self, store: HttpStore, shaky: HttpStore, network: UnsafeNetwork) -> None:
        store.create(build_lease("l1", holderIdentity="other"))
        network.lose_answer()
        with pytest.raises(AlreadyExists):
            shaky.create(build_lease("l1", holderIdentity="me"))

    def test_of_an_update(self, shaky: HttpStore, network: UnsafeNetwork) -> None:
        lease = shaky.create(build_lease("l1", holderIdentity="a"))
        network.lose_answer()
        updated = shaky.update({**lease, "spec": {"holderIdentity": "b"}})
        assert updated == shaky.get("Lease", "l1")
        assert updated["spec"] == {"holderIdentity": "b"}

    def test_of_an_update_that_was_too_late(self, store: HttpStore, shaky: HttpStore, network: UnsafeNetwork) -> None:
        lease = shaky.create(build_lease("l1", holderIdentity="a"))
        store.update(build_lease("l1", holderIdentity="other"))
        network.lose_answer()
        with pytest.raises(Conflict):
            shaky.update({**lease, "spec": {"holderIdentity": "b"}})

    def test_of_a_status(self, shaky: HttpStore, network: UnsafeNetwork) -> None:
        pod = shaky.create(build_pod("c1"))
        network.lose_answer()
        assert shaky.update_status({**pod, "status": {"phase": "Running"}})["status"]["phase"] == "Running"

    def test_of_a_delete(self, shaky: HttpStore, network: UnsafeNetwork) -> None:
        lease = shaky.create(build_lease("l1"))
        network.lose_answer()
        assert shaky.delete("Lease", "l1", uid=lease["metadata"]["uid"])["metadata"]["name"] == "l1"
        assert shaky.list("Lease").items == []

    def test_of_a_binding(self, shaky: HttpStore, network: UnsafeNetwork) -> None:
        pod = shaky.create(build_unbound("c1"))
        network.lose_answer()
        shaky.bind(pod, "c0w1")
        assert shaky.get("Pod", "c1")["spec"]["nodeName"] == "c0w1"


class TestServerLost:
    def test_killed_and_started_again(self, make_store: MakeStore, api_server: ApiServer) -> None:
        """Writers wait for it, and every write is told once and in order by a watch."""
        stores = [make_store(deadline=60) for _ in range(3)]
        follower, bystander = (Follower(stores[0].watch(kind)) for kind in ("Lease", "Pod"))
        follower.wait_synced()
        bystander.wait_synced()

        def write(number: int) -> None:
            store = stores[number]
            lease = store.create(build_lease(f"l{number}", holderIdentity="0"))
            for value in range(1, 60):
                lease = store.update({**lease, "spec": {"holderIdentity": str(value)}})

        writers = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(3)]
        for writer in writers:
            writer.start()
        for count in (20, 70):
            follower.wait_for(lambda changes, count=count: len(changes) > count)
            api_server.kill()
            api_server.start()
        for writer in writers:
            writer.join(60)
            assert not writer.is_alive()
        follower.wait_state(listed(stores[0], "Lease"))
        told: dict[str, list[int]] = {}
        for _, lease in (change for change in follower.changes if change.type != SYNCED):
            told.setdefault(lease["metadata"]["name"], []).append(int(lease["spec"]["holderIdentity"]))
        assert told == {f"l{number}": list(range(60)) for number in range(3)}
        assert bystander.words() == ["SYNCED"]

    def test_a_watch_that_begins_without_it_waits(self, store: HttpStore, api_server: ApiServer) -> None:
        store.create(build_lease("l1"))
        api_server.kill()
        follower = Follower(store.watch("Lease"))
        api_server.start()
        follower.wait_synced()
        assert follower.words() == ["ADDED default/l1", "SYNCED"]

    def test_says_so(self, make_store: MakeStore, api_server: ApiServer) -> None:
        hasty = make_store(deadline=0.5)
        api_server.kill()
        with pytest.raises(StoreUnavailable, match=f"https://{HOST}:{api_server.port}.*Connection refused"):
            hasty.list("Pod")
        client = api_server.client()
        with pytest.raises(NotReady, match=r"not ready after 0.2 s.*Connection refused"):
            client.wait_ready(0.2)

    def test_a_server_that_hangs(self, make_store: MakeStore, store: HttpStore, api_server: ApiServer) -> None:
        hasty = make_store(deadline=0.5)
        hasty.create(build_lease("l1"))
        following, waiting = Follower(store.watch("Lease")), store.watch("Lease")
        following.wait_synced()
        api_server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable, match="no answer"):
                hasty.get("Lease", "l1")
            begun = Follower(waiting)
            before = time.monotonic()
            for follower in (following, begun):
                follower.watch.close()
                follower.wait_ended()
            assert time.monotonic() - before < ATTEMPT_SECONDS
        finally:
            api_server.signal(signal.SIGCONT)
        assert hasty.get("Lease", "l1")

    def test_a_store_that_is_closed(self, store: HttpStore) -> None:
        store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            store.list("Pod")
        assert list(store.watch("Pod")) == []


class TestHistoryLost:
    def test_the_difference_is_told(
        self, store: HttpStore, shaky: HttpStore, api_server: ApiServer, network: UnsafeNetwork, members: EtcdMembers
    ) -> None:
        """A watch that was cut off lists again when the server, started anew on a compacted etcd, answers 410."""
        for name in ("kept", "changed", "deleted", "remade"):
            store.create(build_lease(name))
        follower = Follower(shaky.watch("Lease"))
        follower.wait_synced()
        seen = len(follower.changes)
        network.shut()
        store.update(build_lease("changed", holderIdentity="me"))
        store.delete("Lease", "deleted")
        store.delete("Lease", "remade")
        store.create(build_lease("remade"))
        store.create(build_lease("added"))
        api_server.kill()
        etcd = Etcd(members.targets)
        etcd.compact(etcd.prefix("/kubernetes/leases/")[1])
        etcd.close()
        api_server.start()
        network.open()
        follower.wait_state(listed(store, "Lease"))
        check_gap(follower.changes[seen:])
        assert [change.type for change in follower.changes].count(SYNCED) == 1

    def test_a_connection_that_is_cut(self, store: HttpStore, shaky: HttpStore, network: UnsafeNetwork) -> None:
        """The server keeps the history of that moment: every step of it is told."""
        follower = Follower(shaky.watch("Lease"))
        follower.wait_synced()
        network.shut()
        for value in ("a", "b"):
            (store.create if value == "a" else store.update)(build_lease("l1", holderIdentity=value))
        network.open()
        follower.wait_state(listed(store, "Lease"))
        assert follower.words() == ["SYNCED", "ADDED default/l1", "MODIFIED default/l1"]


class TestCredentials:
    @pytest.mark.parametrize("who", ["impostor", ""])
    def test_of_a_stranger(self, store: HttpStore, api_server: ApiServer, who: str) -> None:
        stranger = HttpStore(api_server.client(who))
        with pytest.raises(KnetsimError, match=r"does not know who asks|is refused.*anonymous"):
            stranger.list("Pod")
        stranger.close()

    def test_without_rights(self, store: HttpStore, api_server: ApiServer) -> None:
        nobody = HttpStore(api_server.client("nobody"))
        with pytest.raises(ObjectError, match='User "nobody" cannot create resource "pods"'):
            nobody.create(build_pod("c1"))
        nobody.close()

    def test_of_another_server(self, store: HttpStore, api_server: ApiServer) -> None:
        client = api_server.client(ca="stranger", deadline=60)
        before = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"TLS: .*certificate verify failed"):
            HttpStore(client).list("Pod")
        assert time.monotonic() - before < SECONDS, "another attempt would not better it"

    def test_that_are_no_files(self, store: HttpStore, api_server: ApiServer) -> None:
        with pytest.raises(KnetsimError, match="certificates cannot be read"):
            api_server.client("missing")


class TestOnlyThroughTheServer:
    def test_bind(self, store: HttpStore) -> None:
        pod = store.create(build_unbound("c1"))
        store.bind(pod, "C0w1")
        assert store.get("Pod", "c1")["spec"]["nodeName"] == "c0w1"
        with pytest.raises(Conflict, match="bound to c0w1 already"):
            store.bind(pod, "c0w2")
        store.delete("Pod", "c1", grace_seconds=0)
        with pytest.raises(NotFound):
            store.bind(pod, "c0w2")

    def test_token(self, store: HttpStore) -> None:
        store.create({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "robot"}})
        token = store.token("default", "robot", {"expirationSeconds": 600})
        assert token["token"].count(".") == 2
        assert token["expirationTimestamp"]
        with pytest.raises(NotFound, match="ServiceAccount default/nobody"):
            store.token("default", "nobody", {})

    def test_apply_makes_and_changes(self, store: HttpStore) -> None:
        deployment = build_deployment("web", replicas=2)
        first = store.apply(deployment)
        assert first["kind"] == "Deployment"
        assert version(store.apply(deployment)) == version(first), "the same again is no change"
        assert store.apply(build_deployment("web", replicas=3))["spec"]["replicas"] == 3
        store.delete_object(deployment)
        with pytest.raises(NotFound):
            store.delete_object(deployment)

    def test_apply_of_known_kinds(self, store: HttpStore) -> None:
        node = store.apply({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "C0w1", "labels": {"zone": "a"}}})
        assert node["metadata"]["name"] == "c0w1"
        drawn = store.apply({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"generateName": "words-"}})
        assert drawn["metadata"]["name"].startswith("words-")

    def test_a_custom_resource_right_after_its_definition(self, store: HttpStore) -> None:
        definition = build_definition()
        ship = {"kind": "Ship", "apiVersion": "lab.knetsim.io/v1", "metadata": {"name": "argo"}, "spec": {"oars": 50}}
        with pytest.raises(ObjectError, match="serves no apiVersion"):
            store.apply(ship)
        store.apply(definition)
        try:
            assert store.apply(ship)["spec"] == {"oars": 50}
            with pytest.raises(ObjectError, match="has no kind 'Shipp'") as caught:
                store.apply({**ship, "kind": "Shipp"})
            assert caught.value.hint == "did you mean 'Ship'?"
            store.delete_object(ship)
        finally:
            store.delete_object(definition)

    def test_what_is_refused(self, store: HttpStore) -> None:
        with pytest.raises(ObjectError, match="replicaz"):
            store.apply(build_deployment("web", replicaz=2))
        with pytest.raises(ObjectError, match="there is no namespace 'shopp'"):
            store.apply(build_deployment("web", "shopp"))
        with pytest.raises(ObjectError, match="apps/v1 has no kind") as caught:
            store.apply({**build_deployment("web"), "kind": "Deploiment"})
        assert caught.value.hint == "did you mean 'Deployment'?"
        with pytest.raises(ObjectError, match="needs an apiVersion"):
            store.apply({"kind": "Pod", "metadata": {"name": "c1"}})

    def test_raw(self, store: HttpStore) -> None:
        assert store.client.raw("/version").json["gitVersion"].startswith("v1.")
        assert store.client.raw("/nothing").code == 404
        store.client.wait_ready(SECONDS)

    def test_warnings_are_logged(self, store: HttpStore, caplog: pytest.LogCaptureFixture) -> None:
        store.create(build_pod("c1", nodeSelector={"beta.kubernetes.io/os": "linux"}))
        assert "the API server warns" in caplog.text


def test_a_service_gets_an_address_and_is_watched(store: HttpStore) -> None:
    services = Informer(store, "Service")
    services.start()
    service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    created = store.create(service)
    assert created["spec"]["clusterIP"].startswith("100.64.")
    services.wait_for(lambda services: services.by_key("default/web") is not None, SECONDS, "the Service")
    assert services.by_key("default/web") == created
    store.delete("Service", "web")
    services.wait_for(lambda services: services.by_key("default/web") is None, SECONDS, "its end")
    services.stop()


def build_unbound(name: str) -> Object:
    """A pod that no scheduler has seen."""
    pod = build_pod(name)
    del pod["spec"]["nodeName"]
    return pod


def build_deployment(name: str, namespace: str = "default", **spec: object) -> Object:
    """A Deployment that nobody carries out."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "pause"}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def build_definition() -> Object:
    """A custom resource definition."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "kind": "CustomResourceDefinition",
        "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "ships.lab.knetsim.io"},
        "spec": {
            "group": "lab.knetsim.io",
            "scope": "Namespaced",
            "names": {"kind": "Ship", "plural": "ships"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
