"""What became of a site's objects, as their statuses: from its plan, its router's state and other sites; pure.

Conditions are those of Skupper, said in words of our own. `hasMatchingConnector` is what the router knows: whether
somebody serves the routing key, here or wherever a link leads to. `hasMatchingListener` is what the other sites say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from knetsim.api.objects import Object, key_of, name_of
from knetsim.dataplane.skupper.state import RouterState
from knetsim.node.skupper.conditions import (
    CONFIGURED,
    GOOD,
    MATCHED,
    OPERATIONAL,
    RESOLVED,
    RUNNING,
    Conditions,
    State,
    judge,
    pending,
)
from knetsim.node.skupper.grants import build_grant_status, find_token_status
from knetsim.node.skupper.objects import SiteObjects, accepts_links, find_issuer, identify, spec_of
from knetsim.node.skupper.plan import SitePlan
from knetsim.node.skupper.views import SiteView, build_network, build_view, find_reached

__all__ = ["SiteView", "build_statuses", "build_view"]

_CONTROLLER = {"name": "knetsim"}


def build_statuses(
    objects: SiteObjects,
    plan: SitePlan,
    state: RouterState | None,
    others: Sequence[SiteView],
    now: float,
    error: str = "",
) -> list[tuple[Object, Object]]:
    """The objects whose status is not as it shall be, each with the one that it shall have.

    `state` is None while the router does not answer, which `error` may explain.
    """
    judge_one = _Judge(objects, plan, state, others, now, error)
    found = []
    for obj, status in judge_one.all():
        if status is not None and status != obj.get("status"):
            found.append((obj, status))
    return found


class _Judge:
    def __init__(
        self,
        objects: SiteObjects,
        plan: SitePlan,
        state: RouterState | None,
        others: Sequence[SiteView],
        now: float,
        error: str,
    ) -> None:
        self._objects, self._plan, self._state, self._now = objects, plan, state, now
        # a router that has just been replaced by one of another name has nothing to say of this plan
        if plan.router is None or (state is not None and state.router not in ("", plan.router.router)):
            self._state = None
        self._others = {view.router: view for view in others}
        self._reached = find_reached(build_view(plan, self._state), others, self._state)
        self._silent = "the site's router does not answer" + (f": {error}" if error else "")

    def all(self) -> Iterator[tuple[Object, Object | None]]:
        """Every object with its status; None where it stays as it is."""
        objects = self._objects
        kinds: tuple[tuple[Iterable[Object], Callable[[Object], Object | None]], ...] = (
            (objects.sites, self._judge_site),
            (objects.accesses, self._judge_access),
            (objects.links, self._judge_link),
            (objects.listeners, self._judge_listener),
            (objects.connectors, self._judge_connector),
            (objects.grants, lambda grant: build_grant_status(grant, objects, self._plan, self._now)),
            (objects.tokens, lambda token: find_token_status(token, objects, self._plan, self._now)),
        )
        for found, judge_one in kinds:
            for obj in found:
                yield obj, judge_one(obj)

    def _begin(self, obj: Object, state: State | None = None) -> Conditions:
        """Configured: false with a fault, and while the router does not answer."""
        fault = self._plan.faults.get(identify(obj))
        here = GOOD if self._state is not None else pending(self._silent)
        found = Conditions(obj, self._now)
        found.set(CONFIGURED, judge(fault) if fault is not None else state or here)
        return found

    def _note(self, obj: Object) -> str:
        return self._plan.notes.get(identify(obj), "")

    # --- kinds

    def _judge_site(self, site: Object) -> Object:
        found = self._begin(site, GOOD)
        if site is not self._plan.site:
            return found.build([CONFIGURED])
        endpoints = [each for key in sorted(self._plan.endpoints) for each in self._plan.endpoints[key]]
        found.set(RUNNING, GOOD if self._state is not None else pending(self._silent))
        found.set(RESOLVED, GOOD if endpoints else pending("it has no RouterAccess that other sites can link to"))
        needed = [CONFIGURED, RUNNING, *([RESOLVED] if accepts_links(site) else [])]
        status = found.build(needed, self._note(site))
        status |= {"defaultIssuer": find_issuer(site), "controller": dict(_CONTROLLER)}
        if endpoints:
            status["endpoints"] = endpoints
        status["sitesInNetwork"] = len(self._reached)
        if self._reached:
            status["network"] = build_network(self._reached)
        return status

    def _judge_access(self, access: Object) -> Object:
        found = self._begin(access)
        endpoints = self._plan.endpoints.get(key_of(access), [])
        found.set(RESOLVED, GOOD if endpoints else pending("nobody can link to it"))
        status = found.build([CONFIGURED, RESOLVED], self._note(access))
        return {**status, "endpoints": endpoints} if endpoints else status

    def _judge_link(self, link: Object) -> Object:
        found = self._begin(link)
        state = self._state.links.get(name_of(link)) if self._state is not None and self._is_good(link) else None
        if state is None:
            found.set(OPERATIONAL, pending("not connected"))
        elif state.up:
            found.set(OPERATIONAL, GOOD)
        else:
            found.set(OPERATIONAL, pending(f"not connected: {state.detail}" if state.detail else "not connected"))
        status = found.build([CONFIGURED, OPERATIONAL], self._note(link))
        remote = self._others.get(state.peer) if state is not None and state.peer else None
        if remote is not None:
            status |= {"remoteSiteId": remote.uid, "remoteSiteName": remote.site}
        return status

    def _judge_listener(self, listener: Object) -> Object:
        found, key = self._begin(listener), spec_of(listener).get("routingKey", "")
        served = self._is_served(key) and self._is_good(listener)
        found.set(MATCHED, GOOD if served else pending(f"no Connector of the network has routing key '{key}'"))
        closed = None
        if served and self._state is not None and not self._state.listening.issuperset(self._routing(listener)):
            closed = pending("the router has not opened its port")
        status = found.build([CONFIGURED, MATCHED], self._note(listener), but=closed)
        return {**status, "hasMatchingConnector": served}

    def _judge_connector(self, connector: Object) -> Object:
        found, key = self._begin(connector), spec_of(connector).get("routingKey", "")
        asked = self._is_good(connector) and any(key in view.listeners for view in self._reached)
        found.set(MATCHED, GOOD if asked else pending(f"no Listener of the network has routing key '{key}'"))
        missing = None
        if self._state is not None and not self._state.served.issuperset(self._routing(connector)):
            missing = pending("the router does not have it yet")
        status = found.build([CONFIGURED, MATCHED], self._note(connector), but=missing)
        status["hasMatchingListener"] = asked
        pods = self._plan.pods.get(key_of(connector))
        return {**status, "selectedPods": [dict(pod) for pod in pods]} if pods else status

    # --- what is so

    def _is_good(self, obj: Object) -> bool:
        return identify(obj) not in self._plan.faults

    def _routing(self, obj: Object) -> tuple[str, ...]:
        return self._plan.routing.get(identify(obj), ())

    def _is_served(self, key: str) -> bool:
        address = self._state.addresses.get(key) if self._state is not None else None
        return address is not None and address.local + address.remote > 0
