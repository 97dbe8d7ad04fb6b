"""The controller on a store in memory, with a router that only notes what it is told: writes, races, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from knetsim import names
from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.api.objects import describe, has_condition, uid_of
from knetsim.cluster_skupper import create_conf
from knetsim.control.embedded import ensure_namespaces
from knetsim.dataplane.skupper import RouterPlan, RouterState
from knetsim.errors import KnetsimError, NotFound, NotReady, RouterRefusal
from knetsim.node.skupper.agent import SiteParts, SkupperSite
from knetsim.node.skupper.grants import TOKEN_UID
from knetsim.node.skupper.network import SkupperNetwork
from knetsim.node.skupper.objects import CONTROLLED
from knetsim.node.skupper.router import SiteRouter
from knetsim.system.wait import wait_until
from tests.memory_etcd import MemoryEtcd
from tests.skupper_objects import PLACE

if TYPE_CHECKING:
    from knetsim.cluster import Cluster

SECONDS = 60.0


class Router:
    """Does all that it is told, at once: links are up, ports open."""

    kind = "embedded"

    def __init__(self) -> None:
        self.plan: RouterPlan | None = None
        self.error: KnetsimError | None = None
        #: called while the controller waits for the router
        self.meanwhile: Callable[[], None] = lambda: None

    def apply(self, plan: RouterPlan, files: Mapping[str, bytes]) -> list[str]:
        self.plan = plan
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return []

    def read(self) -> RouterState:
        if self.plan is None:
            raise NotReady("the router does not answer")
        return RouterState(self.plan.router, listening=frozenset(f"listener/{each.name}" for each in self.plan.offered))

    def stop(self) -> None:
        self.plan = None


class Store(EtcdStore):
    """Tells what is created: `meanwhile` is called before, `created` has it afterwards."""

    def __init__(self) -> None:
        super().__init__(MemoryEtcd())
        self.meanwhile: Callable[[Mapping[str, Any]], None] = lambda obj: None
        self.created: list[str] = []

    def create(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        self.meanwhile(obj)
        stored = super().create(obj)
        self.created.append(describe(stored))
        return stored


class Site:
    """A controller with all that it needs."""

    def __init__(
        self, cluster: str = "C0", address: str = PLACE.address, network: SkupperNetwork | None = None
    ) -> None:
        self.store, self.router = Store(), Router()
        ensure_namespaces(self.store)
        self._informers = {kind: Informer(self.store, kind) for kind in ("Service", "EndpointSlice", "Pod")}
        for informer in self._informers.values():
            informer.start()
            informer.wait_synced(SECONDS)
        self.agent = SkupperSite(
            SiteParts(
                cluster=cluster,
                store=self.store,
                services=self._informers["Service"],
                slices=self._informers["EndpointSlice"],
                pods=self._informers["Pod"],
                place=replace(PLACE, cluster=cluster, address=address),
                router=cast("SiteRouter", self.router),
                network=network or SkupperNetwork(),
            )
        )
        self.agent.start()

    def close(self) -> None:
        self.agent.stop()
        for informer in self._informers.values():
            informer.stop()
        self.store.close()

    def create(self, kind: str, name: str, **spec: Any) -> None:
        metadata = {"name": name, "namespace": "default"}
        self.store.create({"apiVersion": names.SKUPPER_API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})

    def status(self, kind: str, name: str) -> Any:
        return self.store.get(kind, name).get("status") or {}

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        def missing() -> str:
            try:
                return "" if condition() else "not yet"
            except NotFound as error:
                return str(error)

        wait_until(what, missing, SECONDS)

    def wait_condition(self, kind: str, name: str, condition: str) -> None:
        self.wait(f"{condition} of {name}", lambda: has_condition(self.store.get(kind, name), condition))

    def wait_message(self, kind: str, name: str, words: str) -> None:
        self.wait(f"'{words}' of {name}", lambda: words in self.status(kind, name).get("message", ""))


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def test_a_listener_gets_a_service_that_leads_to_the_router(site: Site) -> None:
    site.create("Site", "c0")
    site.create("Listener", "web", routingKey="web", host="web", port=80)
    site.wait("the slice", lambda: bool(site.store.get("EndpointSlice", "web-skupper")))
    assert site.store.get("EndpointSlice", "web-skupper")["endpoints"][0]["addresses"] == [PLACE.address]
    target = site.store.get("Service", "web")["spec"]["ports"][0]["targetPort"]
    site.wait("the port", lambda: [each.port for each in (site.router.plan or RouterPlan("")).offered] == [target])
    site.store.delete("Listener", "web")
    site.wait(
        "no Service", lambda: not [one for one in site.store.list("Service").items if one["metadata"]["name"] == "web"]
    )


def test_a_service_that_is_deleted_is_made_again(site: Site) -> None:
    site.create("Site", "c0")
    site.create("Listener", "web", routingKey="web", host="web", port=80)
    site.wait("the Service", lambda: bool(site.store.get("Service", "web")))
    uid = site.store.get("Service", "web")["metadata"]["uid"]
    site.store.delete("Service", "web")
    site.wait("another Service", lambda: site.store.get("Service", "web")["metadata"]["uid"] != uid)


def test_a_slice_of_somebody_else_is_told_and_left_alone(site: Site) -> None:
    metadata = {"name": "web-skupper", "namespace": "default"}
    theirs = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4"}
    site.store.create({**theirs, "endpoints": [], "ports": []})
    site.create("Site", "c0")
    site.create("Listener", "web", routingKey="web", host="web", port=80)
    site.create("Listener", "other", routingKey="other", host="other", port=80)
    site.wait_message("Listener", "web", "EndpointSlice default/web-skupper already")
    site.wait("what else there is", lambda: bool(site.store.get("EndpointSlice", "other-skupper")))
    assert site.store.get("EndpointSlice", "web-skupper")["endpoints"] == []


def test_what_the_router_refuses_is_told_and_it_still_answers(site: Site) -> None:
    site.router.error = RouterRefusal("the router does not want it", "C0w1", "port 1 is taken")
    site.create("Site", "c0")
    site.create("Listener", "web", routingKey="web", host="web", port=80)
    site.agent.wait_for(lambda found: "" if found.error and found.state is not None else "nothing", SECONDS, "refusal")
    assert any("does not want it" in what for _, what in site.agent.problems())
    site.router.error = None
    site.agent.wait_for(lambda found: found.error, SECONDS, "the router's consent")


def test_a_redemption_during_a_look_is_not_forgotten(site: Site) -> None:
    """The statuses of a look are written after it, when what they were made of may be old."""
    site.create("Site", "c0", linkAccess="default")
    site.create("AccessGrant", "g", redemptionsAllowed=1, code="secret")
    site.wait_condition("AccessGrant", "g", "Ready")
    redeemed = []

    def redeem() -> None:
        if not redeemed:
            redeemed.append(site.agent.redeem("default/g", "secret", "another"))

    site.router.meanwhile = redeem
    site.create("Listener", "web", routingKey="web", host="web", port=80)  # a reason to look, and to tell the router
    site.wait("a redemption", lambda: bool(redeemed))
    site.wait_condition("Listener", "web", "Configured")
    assert site.status("AccessGrant", "g")["redemptions"] == 1
    with pytest.raises(KnetsimError, match="as often as it may be"):
        site.agent.redeem("default/g", "secret", "a third")


def test_a_code_that_is_made_up_stays(site: Site) -> None:
    site.create("Site", "c0", linkAccess="default")
    site.create("AccessGrant", "g")
    site.wait("a code", lambda: bool(site.status("AccessGrant", "g").get("code")))
    code = site.status("AccessGrant", "g")["code"]
    site.wait_condition("AccessGrant", "g", "Ready")
    site.create("Listener", "web", routingKey="web", host="web", port=80)
    site.wait_condition("Listener", "web", "Configured")
    assert site.status("AccessGrant", "g")["code"] == code


def test_a_token_becomes_a_link_once_and_a_wrong_one_does_not() -> None:
    network = SkupperNetwork()
    first, second = Site(network=network), Site("C1", "10.0.0.21", network)
    try:
        first.create("Site", "c0", linkAccess="default")
        first.create("AccessGrant", "g", redemptionsAllowed=5, code="secret")
        second.create("Site", "c1")
        url = f"https://{PLACE.address}:9090/default/g"
        second.create("AccessToken", "good", url=url, code="secret", ca="")
        second.create("AccessToken", "bad", url=url, code="guessed", ca="")
        second.wait_condition("AccessToken", "good", "Redeemed")
        second.wait_message("AccessToken", "bad", "the code is not that of")
        link = second.store.get("Link", "good")
        assert link["spec"]["endpoints"][0]["host"] == PLACE.address
        assert first.status("AccessGrant", "g")["redemptions"] == 1
        second.wait("the link in the router", lambda: bool(second.router.plan and second.router.plan.links))
        assert second.agent.snapshot().tokens == ()  # type: ignore[union-attr]
    finally:
        second.close()
        first.close()


@pytest.fixture
def two() -> Iterator[tuple[Site, Site]]:
    """Sites of two clusters; the first has a grant for the second, whose code is `secret`."""
    network = SkupperNetwork()
    first, second = Site(network=network), Site("C1", "10.0.0.21", network)
    first.create("Site", "c0", linkAccess="default")
    first.create("AccessGrant", "from-c1", redemptionsAllowed=1, code="secret")
    second.create("Site", "c1")
    yield first, second
    second.close()
    first.close()


def test_a_token_that_is_deleted_while_it_becomes_a_link_leaves_none(two: tuple[Site, Site]) -> None:
    store = two[1].store

    def delete_token(obj: Mapping[str, Any]) -> None:
        if obj["kind"] == "Link":
            store.delete("AccessToken", "to-c0")

    store.meanwhile = delete_token
    two[1].create("AccessToken", "to-c0", url=f"https://{PLACE.address}:9090/default/from-c1", code="secret", ca="")
    two[1].wait("the Link", lambda: "Link default/to-c0" in store.created)
    two[1].wait("no Link", lambda: not store.list("Link").items)
    assert [describe(each) for each in store.list("Secret").items] == ["Secret default/skupper-site-ca"]


def test_the_secret_of_another_token_does_not_stand_for_a_tokens_own(two: tuple[Site, Site]) -> None:
    store = two[1].store
    annotations = {CONTROLLED: "true", TOKEN_UID: "another"}
    metadata = {"name": "to-c0", "namespace": "default", "annotations": annotations}
    others = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}

    def put_another(obj: Mapping[str, Any]) -> None:
        """As if no informer had heard of it yet."""
        if describe(dict(obj)) == "Secret default/to-c0":
            store.meanwhile = lambda obj: None
            store.create(others)

    store.meanwhile = put_another
    two[1].create("AccessToken", "to-c0", url=f"https://{PLACE.address}:9090/default/from-c1", code="secret", ca="")
    two[1].wait_condition("AccessToken", "to-c0", "Redeemed")
    token = uid_of(store.get("AccessToken", "to-c0"))
    found = [store.get(kind, "to-c0")["metadata"]["annotations"][TOKEN_UID] for kind in ("Secret", "Link")]
    assert found == [token, token]
    secret, link = "Secret default/to-c0", "Link default/to-c0"
    assert [each for each in store.created if each in (secret, link)] == [secret, secret, link]


class Typed:
    """A cluster as `create_conf` uses it: `Cluster`, without a simulation."""

    def __init__(self, site: Site, name: str, address: str) -> None:
        self.store, self.name, self._address = site.store, name, address

    @property
    def plane(self) -> Typed:
        return self

    def apply(self, obj: dict[str, Any]) -> None:
        self.store.create(obj)

    def router_worker(self) -> Typed:
        return self

    @property
    def address(self) -> str:
        return self._address

    def all_clusters(self) -> list[str]:
        return ["C0", "C1"]


def test_create_conf_again_makes_the_link_again(two: tuple[Site, Site]) -> None:
    first, second = two
    remote, local = (
        cast("Cluster", Typed(site, name, each))
        for site, name, each in ((first, "C0", PLACE.address), (second, "C1", "10.0.0.21"))
    )
    known = ""
    for _ in range(3):
        create_conf(local, [remote])
        second.wait("another Link", lambda known=known: uid_of(second.store.get("Link", "to-c0")) != known)
        second.wait_condition("AccessToken", "to-c0", "Redeemed")
        known = uid_of(second.store.get("Link", "to-c0"))
        token = uid_of(second.store.get("AccessToken", "to-c0"))
        assert second.store.get("Secret", "to-c0")["metadata"]["annotations"][TOKEN_UID] == token
    assert second.status("AccessToken", "to-c0")["redeemed"] is True
    assert first.status("AccessGrant", "from-c1")["redemptions"] == 1


def test_a_site_that_goes_takes_all_that_was_its(site: Site) -> None:
    site.create("Site", "c0", linkAccess="default")
    site.create("Listener", "web", routingKey="web", host="web", port=80)
    site.wait("the Service", lambda: bool(site.store.get("Service", "web")))
    site.wait("certificates", lambda: bool(site.store.get("Secret", "skupper-site-server")))
    site.store.delete("Site", "c0")

    def left() -> list[str]:
        kinds = ("Service", "EndpointSlice", "Secret", "RouterAccess")
        objects = [one for kind in kinds for one in site.store.list(kind).items]
        return [one["metadata"]["name"] for one in objects if CONTROLLED in one["metadata"].get("annotations", {})]

    site.wait("that nothing is left", lambda: left() == [] and site.router.plan is None)
    site.wait_message("Listener", "web", "no active Site")


def test_what_is_wrong_with_the_store_is_what_is_waited_for_in_vain(site: Site) -> None:
    with pytest.raises(NotReady, match="nothing was found"):
        site.agent.wait_for(lambda found: "", 0.0, "a site")
