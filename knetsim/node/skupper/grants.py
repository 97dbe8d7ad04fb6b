"""What a site has beside what its user writes, and how one site lets another link to it; pure, but for random keys.

Certificates are as Skupper's: the Secret skupper-site-ca is the site's authority; it signs the router's own
certificate and those of whoever redeems an AccessToken. There a token is redeemed by HTTPS at the other site's
controller; here the controllers live in one engine, and the token's URL says which of them is meant.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from knetsim import names
from knetsim.api.objects import Object, describe, format_time, key_of, name_of, namespace_of, parse_time, uid_of
from knetsim.dataplane.skupper.certificates import AUTHORITY, CERTIFICATE, build_authority, issue
from knetsim.errors import InputError, NotFound, NotReady
from knetsim.node.skupper.conditions import (
    GOOD,
    PROCESSED,
    REDEEMED,
    RESOLVED,
    Conditions,
    State,
    failed,
    judge,
    pending,
)
from knetsim.node.skupper.objects import (
    ACCESS,
    DEFAULT_ACCESS,
    ERROR,
    INTER_ROUTER,
    INTER_ROUTER_PORT,
    LINK,
    SITE_AUTHORITY,
    SITE_SERVER,
    SiteObjects,
    SitePlace,
    accepts_links,
    build_metadata,
    choose_site,
    find_issuer,
    identify,
    is_ours,
    read_address,
    read_secret,
    sort_by_age,
    spec_of,
)
from knetsim.node.skupper.plan import Endpoint, SitePlan, plan_site

#: whose token a Link and its Secret come from; what a certificate was made of
TOKEN_UID, MADE_OF = "knetsim.io/token", "knetsim.io/made-of"
_WINDOW = 15 * 60.0
_CODE_BYTES = 18
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|us|µs|ns|m|s)")

Data = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a token is worth: where to link to, and the certificates to do it with, as a Secret's data."""

    endpoints: tuple[Endpoint, ...]
    certificates: Data


# --- what the controller writes ---------------------------------------------------------------------------------------


def build_provided(objects: SiteObjects, place: SitePlace) -> list[Object]:
    """What the active Site should have and has not: its authority, the RouterAccess of `linkAccess`, certificates that
    RouterAccesses ask for. What is there but is not as it should be has its resourceVersion; a user's is left alone."""
    site = choose_site(objects.sites)
    if site is None:
        return []
    found: list[Object] = []
    known = {key: read_secret(secret) for key, secret in objects.secrets.items()}
    authority = f"{namespace_of(site)}/{SITE_AUTHORITY}"
    if authority not in known:
        known[authority] = build_authority(f"{name_of(site)} site CA")
        found.append(_build_secret(SITE_AUTHORITY, site, known[authority]))
    accesses = {key_of(each): each for each in objects.accesses if namespace_of(each) == namespace_of(site)}
    access = _build_access(site, accesses.get(f"{namespace_of(site)}/{DEFAULT_ACCESS}"))
    if access is not None:
        found.append(access)
        accesses[key_of(access)] = access
    for each in sort_by_age(accesses.values()):
        if spec_of(each).get("generateTlsCredentials") and spec_of(each).get("tlsCredentials"):
            secret = _build_server(site, each, objects.secrets, known, place)
            if secret is not None:
                known[key_of(secret)] = read_secret(secret)
                found.append(secret)
    return found


def find_leftovers(objects: SiteObjects) -> list[Object]:
    """What the controller wrote for a Site that is gone, the RouterAccess of one that takes no links, and the Secret of
    a token whose Link is gone, when a new token is called so."""
    active = choose_site(objects.sites)
    uids = {uid_of(site) for site in objects.sites}
    found = _find_used_up(objects)
    for obj in (*objects.accesses, *objects.links, *objects.secrets.values()):
        owners = [each for each in obj["metadata"].get("ownerReferences") or () if each.get("kind") == "Site"]
        if not is_ours(obj) or not owners:
            continue
        closed = obj["kind"] == ACCESS and (active is None or not accepts_links(active))
        if obj not in found and (closed or not any(each.get("uid") in uids for each in owners)):
            found.append(obj)
    return found


def _find_used_up(objects: SiteObjects) -> list[Object]:
    used = {f"{namespace_of(each)}/{name}" for each in objects.links for name in (name_of(each), _credentials(each))}
    found = []
    for token in objects.tokens:
        secret = objects.secrets.get(key_of(token))
        if secret is None or not is_ours(secret) or key_of(token) in used:
            continue
        if _read_token_uid(secret) not in ("", uid_of(token)):
            found.append(secret)
    return found


def _credentials(link: Object) -> str:
    return str(spec_of(link).get("tlsCredentials") or "")


def _build_access(site: Object, before: Object | None) -> Object | None:
    """The RouterAccess of a Site that accepts links, when it has to be written."""
    if not accepts_links(site) or (before is not None and not is_ours(before)):
        return None
    spec = {
        "roles": [{"name": INTER_ROUTER, "port": INTER_ROUTER_PORT}],
        "tlsCredentials": SITE_SERVER,
        "generateTlsCredentials": True,
        "issuer": find_issuer(site),
    }
    if before is not None and spec_of(before) == spec:
        return None
    metadata = before["metadata"] if before is not None else build_metadata(DEFAULT_ACCESS, site)
    return {"apiVersion": names.SKUPPER_API_VERSION, "kind": ACCESS, "metadata": metadata, "spec": spec}


def _build_server(
    site: Object, access: Object, present: Mapping[str, Object], known: Mapping[str, Data], place: SitePlace
) -> Object | None:
    """The certificates of a RouterAccess, when they have to be written: they are not there, or ours and of another
    authority or for other hosts."""
    spec, namespace = spec_of(access), namespace_of(site)
    name, authority = spec["tlsCredentials"], known.get(f"{namespace}/{find_issuer(site, spec.get('issuer'))}")
    before = present.get(f"{namespace}/{name}")
    if authority is None or (before is None and f"{namespace}/{name}" in known):
        return None
    if not names.DNS_SUBDOMAIN.fullmatch(name):
        return None  # the RouterAccess's status says so
    bound = read_address(spec.get("bindHost") or "")
    bound_to = [] if bound is None or bound.is_unspecified else [str(bound)]
    hosts = [*dict.fromkeys((place.address, *bound_to, *(spec.get("subjectAlternativeNames") or ())))]
    made_of = hashlib.sha256(authority.get(CERTIFICATE, b"") + "\n".join(hosts).encode()).hexdigest()[:16]
    if before is not None:
        annotations = before["metadata"].get("annotations") or {}
        if not is_ours(before) or annotations.get(MADE_OF) == made_of:
            return None
    try:
        data = issue(authority, name_of(access), "server", hosts)
    except (InputError, ValueError):
        return None  # its authority is none, or a name is no host's: the RouterAccess's status says so
    secret = _build_secret(name, site, data, {MADE_OF: made_of})
    if before is not None:
        secret["metadata"] = {**before["metadata"], **secret["metadata"]}
    return secret


def _build_secret(name: str, owner: Object, data: Data, annotations: Mapping[str, str] | None = None) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": build_metadata(name, owner, annotations),
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in sorted(data.items())},
    }


# --- grants -----------------------------------------------------------------------------------------------------------


def build_grant_status(grant: Object, objects: SiteObjects, plan: SitePlan, now: float) -> Object:
    """The status of an AccessGrant: what a token needs, or why there is none to be had."""
    spec, before = spec_of(grant), grant.get("status") or {}
    found, fault = Conditions(grant, now), plan.faults.get(identify(grant))
    window = read_duration(spec.get("expirationWindow") or "")
    processed = judge(fault)
    if fault is None and window is None:
        processed = failed(f"expirationWindow '{spec['expirationWindow']}' is no time: 15m or 1h30m, for example")
    found.set(PROCESSED, processed)
    values: Object = {"redemptions": before.get("redemptions", 0)}
    if processed.true:
        assert window is not None, "the condition says so"
        values["code"] = spec.get("code") or before.get("code") or secrets.token_urlsafe(_CODE_BYTES)
        values["expirationTime"] = before.get("expirationTime") or format_time(now + window)
        values["url"] = f"https://{plan.place.address}:{names.REDEMPTION_PORT}/{uid_of(grant)}"
        resolved = _resolve(grant, objects, plan)
        if isinstance(resolved, State):
            found.set(RESOLVED, resolved)
        else:
            found.set(RESOLVED, GOOD)
            values["ca"] = resolved[1][CERTIFICATE].decode(errors="replace")
    else:
        found.set(RESOLVED, pending("it was not accepted"))
    note = "settings have no effect" if spec.get("settings") else ""
    return {**found.build([PROCESSED, RESOLVED], note), **values}


def _resolve(grant: Object, objects: SiteObjects, plan: SitePlan) -> State | tuple[list[Endpoint], Data]:
    """Where a grant lets others link to, and the authority that signs for them."""
    assert plan.site is not None
    issuer = find_issuer(plan.site, spec_of(grant).get("issuer"))
    secret = objects.secrets.get(f"{namespace_of(grant)}/{issuer}")
    if secret is None:
        return pending(f"there is no Secret {issuer} (issuer)")
    authority = read_secret(secret)
    for access in sort_by_age(objects.accesses):
        endpoints = plan.endpoints.get(key_of(access))
        name = spec_of(access).get("tlsCredentials")
        believed = plan.files.get(f"tls/{name}/{AUTHORITY}") if name else None
        if endpoints and believed is not None and believed == authority.get(CERTIFICATE):
            return endpoints, authority
    return pending(f"no RouterAccess with certificates of {issuer} is there to link to; see the Site's linkAccess")


def find_grant(grants: Iterable[Object], name: str) -> Object:
    """The AccessGrant that the path of a token's URL means: a uid, or namespace/name. NotFound."""
    for grant in grants:
        if name and name in (uid_of(grant), key_of(grant)):
            return grant
    raise NotFound(f"there is no AccessGrant {name}")


def redeem(
    grant: Object, code: str, subject: str, objects: SiteObjects, place: SitePlace, now: float
) -> tuple[Redeemed, Object]:
    """What a grant is worth to the site whose uid `subject` is, and the grant's status from then on.

    InputError when it is worth nothing to whoever knows only this code, NotReady when it may be later.
    """
    status, what = grant.get("status") or {}, describe(grant)
    if not status.get("code"):
        raise NotReady(f"{what} has no code yet")
    if not hmac.compare_digest(str(status["code"]).encode(), code.encode()):
        raise InputError(f"the code is not that of {what}")
    if now >= parse_time(status["expirationTime"]):
        raise InputError(f"{what} ended at {status['expirationTime']}")
    allowed, redemptions = spec_of(grant).get("redemptionsAllowed") or 1, status.get("redemptions") or 0
    if redemptions >= allowed:
        raise InputError(f"{what} was redeemed as often as it may be: {allowed}")
    plan = plan_site(objects, place)
    fault = plan.faults.get(identify(grant))
    if fault is not None:
        raise NotReady(f"{what}: {fault.message}")
    if plan.site is not None and subject == uid_of(plan.site):
        raise InputError(f"{what} is of this very site")
    resolved = _resolve(grant, objects, plan)
    if isinstance(resolved, State):
        raise NotReady(f"{what}: {resolved.message}")
    endpoints, authority = resolved
    redeemed = Redeemed(tuple(endpoints), issue(authority, subject, "client"))
    return redeemed, {**status, "redemptions": redemptions + 1}


def read_duration(text: str) -> float | None:
    """Seconds of a duration as Go writes it, `1h30m`; 15 minutes for an empty one; None when it is none."""
    if not text:
        return _WINDOW
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


# --- tokens -----------------------------------------------------------------------------------------------------------


def find_open_tokens(objects: SiteObjects, plan: SitePlan) -> list[Object]:
    """The AccessTokens that are still to be redeemed, the oldest first."""
    return [token for token in sort_by_age(objects.tokens) if _judge_token(token, objects, plan) is None]


def find_token_status(token: Object, objects: SiteObjects, plan: SitePlan, now: float) -> Object | None:
    """An AccessToken's status; None while it is open, for then it depends on who redeems it."""
    state = _judge_token(token, objects, plan)
    if state is None or (state.true and state.reason != ERROR and _is_redeemed(token)):
        return None
    return _build_token_status(token, state, now)


def build_token_status(token: Object, error: str, now: float) -> Object:
    """The status of an AccessToken that was redeemed, or could not be: `error`."""
    return _build_token_status(token, failed(error) if error else GOOD, now)


def build_redeemed(token: Object, redeemed: Redeemed, plan: SitePlan) -> list[Object]:
    """What a redeemed token becomes: a Secret and the Link that uses it. They go with the Site, not with the token."""
    assert plan.site is not None
    name, mark = name_of(token), {TOKEN_UID: uid_of(token)}
    spec = {
        "endpoints": list(redeemed.endpoints),
        "tlsCredentials": name,
        "cost": spec_of(token).get("linkCost") or 1,
    }
    metadata = build_metadata(name, plan.site, mark)
    link = {"apiVersion": names.SKUPPER_API_VERSION, "kind": LINK, "metadata": metadata, "spec": spec}
    return [_build_secret(name, plan.site, redeemed.certificates, mark), link]


def _judge_token(token: Object, objects: SiteObjects, plan: SitePlan) -> State | None:
    """Whether a token is redeemed, or why it will not be; None while it may be."""
    fault = plan.faults.get(identify(token))
    if _is_redeemed(token):
        if fault is not None and plan.site is None:
            return State(True, ERROR, "it was redeemed for a Site that is gone")
        return GOOD
    if fault is not None:
        return judge(fault)
    links = {key_of(each): each for each in objects.links}
    for kind, present in (("Link", links), ("Secret", objects.secrets)):
        obj = present.get(key_of(token))
        if obj is not None and _read_token_uid(obj) != uid_of(token):
            return failed(f"there is a {kind} {name_of(token)} already, which is not of this token")
        if obj is not None and kind == "Link":
            return GOOD  # it was made, and then nobody wrote so
    return None


def _read_token_uid(obj: Object) -> str:
    """Whose token a Link or a Secret comes from; empty when it comes from none."""
    return str((obj["metadata"].get("annotations") or {}).get(TOKEN_UID) or "")


def _is_redeemed(token: Object) -> bool:
    return bool((token.get("status") or {}).get("redeemed"))


def _build_token_status(token: Object, state: State, now: float) -> Object:
    found = Conditions(token, now)
    found.set(REDEEMED, state)
    status = found.build([REDEEMED], but=failed(state.message) if state.reason == ERROR else None)
    return {**status, "redeemed": state.true}
