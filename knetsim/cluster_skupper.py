"""What users type to link clusters: `create_conf(C1, [C0], svcs)` and `C1.start_skupper()`, as the first knetsim's.

There, a list of services became a router's file, and a router was started with it. Here the list becomes objects of
Skupper: Connectors where a service runs, Listeners elsewhere, grants and tokens for links. The router follows from the
Site, and what was said at the prompt can be read with kubectl afterwards.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knetsim import names
from knetsim.api.objects import Object, name_of, namespace_of, uid_of
from knetsim.errors import NotFound, UsageError
from knetsim.node.skupper.agent import SkupperSite
from knetsim.node.skupper.objects import SITE, is_ours
from knetsim.node.skupper.snapshot import Snapshot
from knetsim.scenario.skupper_objects import build_connector, build_grant, build_listener, build_site, build_token

if TYPE_CHECKING:
    from knetsim.cluster import Cluster

DEADLINE = 30.0
#: how long a token of the prompt is good: whoever types may take time over the other cluster
_WINDOW = "1h"
_KEYS = ("name", "cluster", "host", "port", "lport")
_EXAMPLE = '{"name": "svc1", "cluster": "0", "host": "11.10.0.2", "port": "80", "lport": 1028}'


def create_conf(cluster: Cluster, remotes: Sequence[Cluster] = (), svcs: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write what a cluster's router is to do: link to the `remotes`, and serve or offer the services.

    A service is `{"name": "svc1", "cluster": "0", "host": "11.10.0.2", "port": "80", "lport": 1028}`: it runs in that
    cluster at `host`:`port`, and every other cluster that is given it has it at port `lport` of its router's worker.
    Again is made anew: services of other names stay, links are cut and made again.
    UsageError; errors of the store.
    """
    objects = [build_service(cluster.name, service, cluster.all_clusters()) for service in svcs]
    for obj in objects:
        cluster.plane.apply(obj)
    for remote in remotes:
        code, here, there = secrets.token_urlsafe(16), cluster.name.lower(), remote.name.lower()
        grant = build_grant(here, code, window=_WINDOW)
        token = build_token(here, there, remote.router_worker().address, code)
        _forget(cluster, "AccessToken", name_of(token))
        _forget(cluster, "Link", name_of(token))
        _forget(remote, "AccessGrant", name_of(grant))
        remote.plane.apply(grant)
        cluster.plane.apply(token)


def _forget(cluster: Cluster, kind: str, name: str) -> None:
    """Delete what an earlier call has made, and what became of it: a grant and a token are of use once. A Link that a
    user wrote stays, and the token says so; a Secret goes with the controller's next look."""
    try:
        found = cluster.store.get(kind, name)
        if kind != "Link" or is_ours(found):
            cluster.store.delete(kind, name, namespace_of(found), uid=uid_of(found))
    except NotFound:
        pass


def start_skupper(cluster: Cluster, site: SkupperSite) -> str:
    """See Cluster.start_skupper."""
    if not cluster.store.list("Site").items:
        cluster.plane.apply(build_site(cluster.name.lower(), linked_to=True))
    found = site.wait_for(find_lack_of_router, DEADLINE, f"the Skupper router of {cluster.name}")
    assert found.state is not None, "see find_lack_of_router"
    return found.state.router


def find_lack_of_router(found: Snapshot) -> str:
    """Why a site's router does not run; empty when it does. Pure."""
    if found.plan.router is None:
        refusals = (fault.message for (kind, _), fault in sorted(found.plan.faults.items()) if kind == SITE)
        return next(refusals, "there is no Site that is carried out")
    return found.error or ("" if found.state is not None else "the router does not answer")


# --- services as they are typed; pure


def build_service(cluster: str, service: Mapping[str, Any], clusters: Collection[str]) -> Object:
    """The Connector or Listener that a service stands for in `cluster`, one of `clusters`. UsageError."""
    if problem := next(_find_problems(service), ""):
        raise UsageError(problem, cluster, hint=f"a service is {_EXAMPLE}")
    name, wanted = str(service["name"]), str(service["cluster"])
    home = next((each for each in clusters if wanted.lower() in (each.lower(), names.cluster_id(each))), None)
    if home is None:
        raise UsageError(f"no cluster '{wanted}'", f"service {name}", hint=names.did_you_mean(wanted, clusters))
    if home == cluster:
        return build_connector(name, name, {"host": str(service["host"]), "port": int(service["port"])})
    # at every address of the worker, as the first knetsim's
    return build_listener(name, name, "0.0.0.0", int(service["lport"]))


def _find_problems(service: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(service, Mapping):
        yield f"{service!r} is no service"
        return
    for key in service:
        if key not in _KEYS:
            yield f"a service has no '{key}' ({names.did_you_mean(str(key), _KEYS)})"
    for key in _KEYS:
        if not service.get(key):
            yield f"a service needs '{key}'"
    for key in ("port", "lport"):
        if not str(service[key]).isdecimal() or not 0 < int(service[key]) < 65536:
            yield f"'{key}' is a port, from 1 to 65535, not {service[key]!r}"
