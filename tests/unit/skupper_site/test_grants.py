"""What a site has beside its user's objects; from a grant to a link of another site."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from knetsim.api.accept import accept_create
from knetsim.api.objects import describe, key_of, kind_of, parse_time, uid_of
from knetsim.dataplane.skupper import build_router_config
from knetsim.dataplane.skupper.certificates import find_fault
from knetsim.errors import InputError, KnetsimError, NotFound, NotReady
from knetsim.node.skupper.grants import (
    build_grant_status,
    build_provided,
    build_redeemed,
    build_token_status,
    find_grant,
    find_leftovers,
    find_open_tokens,
    read_duration,
    redeem,
)
from knetsim.node.skupper.objects import SitePlace, read_secret
from knetsim.node.skupper.plan import plan_site
from tests.skupper_objects import PLACE, Object, build_object, build_objects, group, make_certificates

SITE = {"kind": "Site", "name": "c0", "spec": {"linkAccess": "default"}}
NOW = parse_time("2026-01-02T00:00:00Z")
THERE = SitePlace("C1", "C1w1", "c1w1", "10.0.0.21", hosts=PLACE.hosts)


class Cluster:
    """The objects of a cluster, with what its controller adds."""

    def __init__(self, *written: dict[str, Any], place: SitePlace = PLACE) -> None:
        self.place, self.objects = place, build_objects(map(deepcopy, written))

    def put(self, *objects: Object) -> None:
        for obj in objects:
            self.objects = [each for each in self.objects if describe(each) != describe(obj)]
            stored = deepcopy(obj)
            stored["metadata"].setdefault("uid", describe(obj))
            stored["metadata"].setdefault("creationTimestamp", "2026-01-01T01:00:00Z")
            stored["metadata"].setdefault("resourceVersion", "1")
            self.objects.append(stored)

    def get(self, what: str) -> Object:
        return next(each for each in self.objects if describe(each) == what)

    def drop(self, what: str) -> None:
        self.objects = [each for each in self.objects if describe(each) != what]

    def provide(self) -> list[str]:
        found = build_provided(group(self.objects), self.place)
        self.put(*found)
        return [describe(each) for each in found]

    def offer(self) -> Object:
        """The AccessGrant with its status."""
        self.provide()
        grouped = group(self.objects)
        grant = grouped.grants[0]
        grant["status"] = build_grant_status(grant, grouped, plan_site(grouped, self.place), NOW)
        return grant

    def redeem(self, code: str, now: float = NOW, subject: str = "site-c1") -> Any:
        grouped = group(self.objects)
        return redeem(grouped.grants[0], code, subject, grouped, self.place, now)


def grant(**spec: Any) -> dict[str, Any]:
    return {"kind": "AccessGrant", "name": "from-c1", "spec": spec}


def token(name: str = "to-c0", **spec: Any) -> dict[str, Any]:
    return {"kind": "AccessToken", "name": name, "spec": {"url": "https://x/y", "code": "abc", "ca": "", **spec}}


def read_hosts(secret: Object) -> list[str]:
    """For whom a certificate is; addresses stand in it as names too."""
    certificate = x509.load_pem_x509_certificate(read_secret(secret)["tls.crt"])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted({str(each.value) for each in names})


# --- what the controller writes


def test_what_a_site_that_takes_links_has() -> None:
    cluster = Cluster(SITE)
    found = build_provided(group(cluster.objects), PLACE)
    assert [describe(each) for each in found] == [
        "Secret default/skupper-site-ca",
        "RouterAccess default/skupper-router",
        "Secret default/skupper-site-server",
    ]
    for each in found:
        accept_create(kind_of(each), each, NOW)
    assert find_fault(read_secret(found[2])) == ""
    assert read_secret(found[2])["ca.crt"] == read_secret(found[0])["tls.crt"]
    assert read_hosts(found[2]) == ["10.0.0.11"]


def test_twice_is_once_and_the_router_has_its_port() -> None:
    cluster = Cluster(SITE)
    cluster.provide()
    assert cluster.provide() == []
    plan = plan_site(group(cluster.objects), PLACE)
    assert plan.faults == {}
    assert plan.router is not None
    assert [(each.name, each.port, each.certificates) for each in plan.router.ports] == [
        ("access/skupper-router", 55671, "tls/skupper-site-server")
    ]


@pytest.mark.parametrize("spec", [{}, {"linkAccess": ""}, {"linkAccess": "none"}])
def test_a_site_that_takes_no_links_has_an_authority_only(spec: dict[str, str]) -> None:
    assert Cluster({**SITE, "spec": spec}).provide() == ["Secret default/skupper-site-ca"]


def test_without_a_site_there_is_nothing() -> None:
    assert Cluster(grant()).provide() == []


def test_a_users_router_access_is_left_alone_and_has_its_certificates() -> None:
    spec = {
        "roles": [{"name": "inter-router"}],
        "tlsCredentials": "mine",
        "generateTlsCredentials": True,
        "bindHost": "192.0.2.7",
        "subjectAlternativeNames": ["c0.example", "10.0.0.11"],
    }
    cluster = Cluster(SITE, {"kind": "RouterAccess", "name": "skupper-router", "spec": spec})
    assert cluster.provide() == ["Secret default/skupper-site-ca", "Secret default/mine"]
    assert read_hosts(cluster.get("Secret default/mine")) == ["10.0.0.11", "192.0.2.7", "c0.example"]
    assert cluster.get("RouterAccess default/skupper-router")["spec"] == spec


@pytest.mark.parametrize("name", ["Mine", "../mine", "my secret"])
def test_certificates_that_no_secret_can_hold_are_not_made(name: str) -> None:
    spec = {"roles": [{"name": "inter-router"}], "tlsCredentials": name, "generateTlsCredentials": True}
    cluster = Cluster({"kind": "Site", "name": "c0"}, {"kind": "RouterAccess", "name": "mine", "spec": spec})
    assert cluster.provide() == ["Secret default/skupper-site-ca"]
    plan = make_plan(cluster)
    assert plan.faults["RouterAccess", "default/mine"].message == (
        f"tlsCredentials '{name}' is no name that a Secret may have"
    )
    assert plan.files == {}


def test_certificates_are_made_anew_for_other_hosts_and_another_authority() -> None:
    cluster = Cluster(SITE)
    cluster.provide()
    before = cluster.get("Secret default/skupper-site-server")
    cluster.place = replace(PLACE, address="10.0.0.99")
    assert cluster.provide() == ["Secret default/skupper-site-server"]
    after = cluster.get("Secret default/skupper-site-server")
    assert read_hosts(after) == ["10.0.0.99"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    cluster.objects = [each for each in cluster.objects if each["metadata"]["name"] != "skupper-site-ca"]
    assert cluster.provide() == ["Secret default/skupper-site-ca", "Secret default/skupper-site-server"]
    assert plan_site(group(cluster.objects), cluster.place).faults == {}


def test_a_users_certificates_are_left_alone() -> None:
    cluster = Cluster(SITE, {"kind": "Secret", "name": "skupper-site-server", "certificates": "good"})
    assert cluster.provide() == ["Secret default/skupper-site-ca", "RouterAccess default/skupper-router"]


def test_another_issuer_changes_the_router_access_and_its_certificates() -> None:
    cluster = Cluster(SITE, {"kind": "Secret", "name": "mine", "certificates": "authority"})
    cluster.provide()
    cluster.objects[0]["spec"]["defaultIssuer"] = "mine"
    assert cluster.provide() == ["RouterAccess default/skupper-router", "Secret default/skupper-site-server"]
    server = read_secret(cluster.get("Secret default/skupper-site-server"))
    assert server["ca.crt"] == make_certificates("authority")["tls.crt"]
    assert cluster.provide() == []


@pytest.mark.parametrize(
    ("certificates", "reason", "message"),
    [
        (None, "Error", "there is no Secret mine (issuer)"),
        ("torn", "Error", "Secret mine (issuer): the certificate is no PEM of one"),
        ("good", "Error", "Secret mine (issuer): the certificate is not an authority's"),
    ],
)
def test_an_authority_that_is_none(certificates: str | None, reason: str, message: str) -> None:
    secret = [{"kind": "Secret", "name": "mine", "certificates": certificates}] if certificates else []
    cluster = Cluster({**SITE, "spec": {"linkAccess": "default", "defaultIssuer": "mine"}}, *secret)
    cluster.provide()
    fault = plan_site(group(cluster.objects), PLACE).faults["RouterAccess", "default/skupper-router"]
    assert fault == (reason, message)


def test_what_is_left_of_a_site_goes_with_it() -> None:
    cluster = Cluster(SITE, grant(code="abc"), {"kind": "Secret", "name": "users", "certificates": "good"})
    cluster.offer()
    cluster.put(*build_redeemed(build_object(9, **token()), cluster.redeem("abc")[0], make_plan(cluster)))
    assert find_leftovers(group(cluster.objects)) == []
    cluster.objects[0]["spec"] = {}
    assert list(map(describe, find_leftovers(group(cluster.objects)))) == ["RouterAccess default/skupper-router"]
    cluster.objects = [each for each in cluster.objects if each["kind"] != "Site"]
    assert sorted(map(describe, find_leftovers(group(cluster.objects)))) == [
        "Link default/to-c0",
        "RouterAccess default/skupper-router",
        "Secret default/skupper-site-ca",
        "Secret default/skupper-site-server",
        "Secret default/to-c0",
    ]


def test_a_token_that_comes_again_under_its_name_is_redeemed_again() -> None:
    there, cluster = Cluster(SITE, grant(code="abc"), place=THERE), Cluster({"kind": "Site", "name": "c1"}, token())
    there.offer()
    first = cluster.get("AccessToken default/to-c0")
    cluster.put(*build_redeemed(first, there.redeem("abc")[0], make_plan(cluster)))
    second = deepcopy(first)
    second["metadata"]["uid"] = "another"
    cluster.put(second)
    # the Link works: nothing of it goes
    assert find_leftovers(group(cluster.objects)) == []
    assert find_open_tokens(group(cluster.objects), make_plan(cluster)) == []

    # nor while a user's Link has its certificates
    users = deepcopy(cluster.get("Link default/to-c0"))
    users["metadata"] |= {"name": "mine", "annotations": {}, "ownerReferences": []}
    cluster.drop("Link default/to-c0")
    cluster.put(users)
    assert find_leftovers(group(cluster.objects)) == []

    cluster.drop("Link default/mine")
    (left,) = find_leftovers(group(cluster.objects))
    assert describe(left) == "Secret default/to-c0"
    cluster.drop(describe(left))
    assert [uid_of(each) for each in find_open_tokens(group(cluster.objects), make_plan(cluster))] == ["another"]


def test_a_users_secret_is_in_a_tokens_way_and_stays() -> None:
    cluster = Cluster(SITE, token(), {"kind": "Secret", "name": "to-c0", "certificates": "good"})
    assert find_leftovers(group(cluster.objects)) == []
    assert find_open_tokens(group(cluster.objects), make_plan(cluster)) == []


def make_plan(cluster: Cluster) -> Any:
    return plan_site(group(cluster.objects), cluster.place)


# --- from a grant to a link


def test_a_token_becomes_a_link_that_the_other_router_believes() -> None:
    there, here = Cluster(SITE, grant(), place=THERE), Cluster({"kind": "Site", "name": "c1"})
    status = there.offer()["status"]
    here.put(build_object(1, **token(url=status["url"], code=status["code"], ca=status["ca"], linkCost=3)))
    (open_token,) = find_open_tokens(group(here.objects), make_plan(here))

    redeemed, after = there.redeem(open_token["spec"]["code"])
    assert after == {**status, "redemptions": 1}
    made = build_redeemed(open_token, redeemed, make_plan(here))
    for obj in made:
        accept_create(kind_of(obj), obj, NOW)
    here.put(*made)

    plan = make_plan(here)
    assert plan.faults == {}
    (link,) = plan.router.links
    assert (link.name, link.host, link.port, link.cost, link.certificates) == (
        "to-c0",
        "10.0.0.21",
        55671,
        3,
        "tls/to-c0",
    )
    # a router wants names that differ: the Link and its Secret have the same one
    assert '"tls/to-c0"' in build_router_config(plan.router)
    authority = x509.load_pem_x509_certificate(read_secret(there.get("Secret default/skupper-site-ca"))["tls.crt"])
    client = x509.load_pem_x509_certificate(plan.files["tls/to-c0/tls.crt"])
    client.verify_directly_issued_by(authority)
    assert client.subject.rfc4514_string() == "CN=site-c1"
    assert isinstance(client.public_key(), ec.EllipticCurvePublicKey)
    # even if nobody wrote into the token that it was redeemed
    assert find_open_tokens(group(here.objects), plan) == []


def test_a_code_is_kept_and_no_two_grants_have_the_same() -> None:
    one, other = Cluster(SITE, grant()), Cluster(SITE, grant())
    code = one.offer()["status"]["code"]
    assert one.offer()["status"]["code"] == code
    assert other.offer()["status"]["code"] != code
    assert len(code) >= 24
    given = Cluster(SITE, grant(code="abc"))
    assert given.offer()["status"]["code"] == "abc"


def test_when_a_grant_ends_is_kept() -> None:
    cluster = Cluster(SITE, grant(expirationWindow="1h"))
    ends = cluster.offer()["status"]["expirationTime"]
    assert ends == "2026-01-02T01:00:00Z"
    found = group(cluster.objects)
    assert build_grant_status(found.grants[0], found, make_plan(cluster), NOW + 60)["expirationTime"] == ends
    assert cluster.redeem(found.grants[0]["status"]["code"], NOW + 3599)
    with pytest.raises(InputError, match="AccessGrant default/from-c1 ended at 2026-01-02T01:00:00Z"):
        cluster.redeem(found.grants[0]["status"]["code"], NOW + 3600)


def test_a_grant_that_ends_at_once() -> None:
    assert Cluster(SITE, grant(expirationWindow="0s")).offer()["status"]["expirationTime"] == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("spec", "status", "code", "error", "message"),
    [
        ({}, {}, "abd", InputError, "the code is not that of AccessGrant default/from-c1"),
        ({}, {}, "", InputError, "the code is not that of"),
        ({}, {"redemptions": 1}, "abc", InputError, "was redeemed as often as it may be: 1"),
        ({"redemptionsAllowed": 2}, {"redemptions": 2}, "abc", InputError, "as often as it may be: 2"),
        ({"issuer": "mine"}, {}, "abc", NotReady, "there is no Secret mine"),
    ],
)
def test_a_token_that_is_worth_nothing(
    spec: dict[str, Any], status: dict[str, Any], code: str, error: type[KnetsimError], message: str
) -> None:
    cluster = Cluster(SITE, grant(code="abc", **spec))
    cluster.offer()["status"].update(status)
    with pytest.raises(error, match=message):
        cluster.redeem(code)


def test_a_site_does_not_link_to_itself() -> None:
    cluster = Cluster(SITE, grant(code="abc"))
    cluster.offer()
    with pytest.raises(InputError, match="is of this very site"):
        cluster.redeem("abc", subject="site-c0")


def test_a_grant_of_which_nothing_is_known_yet() -> None:
    with pytest.raises(NotReady, match="has no code yet"):
        Cluster(SITE, grant(code="abc")).redeem("abc")


def test_a_grant_of_a_site_that_takes_no_links() -> None:
    cluster = Cluster({"kind": "Site", "name": "c0"}, grant(code="abc"))
    status = cluster.offer()["status"]
    assert status["status"] == "Pending"
    assert "no RouterAccess with certificates of skupper-site-ca" in status["message"]
    with pytest.raises(NotReady, match="no RouterAccess"):
        cluster.redeem("abc")


def test_grants_by_uid_and_by_name() -> None:
    grants = group(build_objects([grant()])).grants
    assert find_grant(grants, "accessgrant-from-c1") is grants[0]
    assert find_grant(grants, "default/from-c1") is grants[0]
    for name in ("from-c1", "other/from-c1", ""):
        with pytest.raises(NotFound):
            find_grant(grants, name)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15m", 900), ("1h30m", 5400), ("1.5h", 5400), ("90s", 90), ("500ms", 0.5), ("", 900), ("1d", None), ("5", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert read_duration(text) == seconds


# --- tokens


def test_a_token_that_was_refused_is_tried_again_and_its_status_says_why() -> None:
    cluster = Cluster({"kind": "Site", "name": "c1"}, token())
    refused = cluster.objects[1]
    refused["status"] = build_token_status(refused, "the code is not that of …", NOW)
    assert (refused["status"]["status"], refused["status"]["redeemed"]) == ("Error", False)
    assert find_open_tokens(group(cluster.objects), make_plan(cluster)) == [refused]
    refused["status"] = build_token_status(refused, "", NOW)
    assert (refused["status"]["status"], refused["status"]["redeemed"]) == ("Ready", True)
    assert find_open_tokens(group(cluster.objects), make_plan(cluster)) == []


def test_the_oldest_token_is_first() -> None:
    cluster = Cluster({"kind": "Site", "name": "c1"}, token("b"), token("a"))
    found = find_open_tokens(group(reversed(cluster.objects)), make_plan(cluster))
    assert list(map(key_of, found)) == ["default/b", "default/a"]
