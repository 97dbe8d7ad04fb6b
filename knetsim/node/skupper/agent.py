"""The Skupper controller of a cluster: v2alpha1 objects in; its router, Services and the objects' statuses kept as they
say.

One thread. Secrets are followed from the first of these objects on, and a cluster without a Site has no router. While
there is one, it is asked every second how its links and addresses are, for that is nobody's object.

    Store ──watch──> informers ──> [skupper C0] ──> plan_site ──RouterPlan──> SiteRouter (0.json, management)
                                        │              └──Services, EndpointSlices──> Store
                                        └──> router's state, other sites' views ──> statuses ──> Store
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, key_of, name_of, namespace_of, uid_of
from knetsim.api.store import Store
from knetsim.dataplane.skupper import RouterPlan, RouterState
from knetsim.dataplane.skupper.router.errors import RouterError
from knetsim.errors import InputError, KnetsimError, NotFound, NotReady, RouterRefusal
from knetsim.node.skupper.followed import LIST_DEADLINE, Followed
from knetsim.node.skupper.grants import (
    Redeemed,
    build_grant_status,
    build_provided,
    build_redeemed,
    build_token_status,
    find_grant,
    find_leftovers,
    find_open_tokens,
    redeem,
)
from knetsim.node.skupper.network import SkupperNetwork
from knetsim.node.skupper.objects import (
    ERROR,
    GRANT,
    TOKEN,
    Fault,
    SiteObjects,
    SitePlace,
    identify,
    is_ours,
    spec_of,
)
from knetsim.node.skupper.plan import SitePlan, plan_site
from knetsim.node.skupper.router import SiteRouter
from knetsim.node.skupper.services import SLICE_SUFFIX
from knetsim.node.skupper.snapshot import Snapshot, find_missing
from knetsim.node.skupper.statuses import build_statuses
from knetsim.node.skupper.views import build_view
from knetsim.node.skupper.writer import ObjectWriter

#: how often a running router is asked for its state, and one that is starting
LOOK_SECONDS = 1.0
_START_SECONDS = 0.1
#: after so many seconds what is in the router is compared with what shall be, although nothing has changed
RESYNC_SECONDS = 30.0

_SITE, _TOKENS = "site", "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteParts:
    """What the controller reads and changes. `services`, `slices` and `pods` are running informers, shared."""

    cluster: str
    store: Store
    services: Informer
    slices: Informer
    pods: Informer
    place: SitePlace
    router: SiteRouter
    network: SkupperNetwork
    repair: bool = True


@dataclass(slots=True)
class _Applied:
    """What the router was told, and when."""

    plan: RouterPlan
    files: Mapping[str, bytes]
    moment: float


class SkupperSite:
    """The controller of one cluster; an add-on."""

    def __init__(self, parts: SiteParts) -> None:
        self._parts, self._store = parts, parts.store
        self._followed = Followed(parts.store)
        # two threads: who redeems tokens waits for other clusters' stores, and the router is looked at meanwhile
        self._loop = Loop(f"skupper {parts.cluster}", self._reconcile, self._failed, threads=2)
        self._writer = ObjectWriter(parts.store, self._look_later)
        self._progress = threading.Condition()
        self._snapshot: Snapshot | None = None
        self._error = ""
        self._applied: _Applied | None = None
        #: something has changed since the last plan was made; between changes only the router is asked
        self._changed = threading.Event()
        self._planned: tuple[SiteObjects, SitePlan] | None = None
        self._redeeming = threading.Lock()
        #: what tokens were worth, by their uids: each is redeemed once, whatever becomes of writing the Link
        self._redeemed: dict[str, Redeemed] = {}
        #: and of those that are worth nothing, for good
        self._worthless: set[str] = set()
        self._pause = _START_SECONDS

    # --- the add-on

    def start(self) -> None:
        """Begin; returns at once."""
        parts = self._parts
        self._followed.start(self._look)
        parts.services.on_change(self._service_changed)
        parts.slices.on_change(self._service_changed)
        parts.pods.on_change(self._pod_changed)
        parts.network.join(parts.cluster, parts.place.address, self, self._look)
        self._loop.start()
        self._look()

    def wait_ready(self) -> None:
        """Wait until all that is stored by now has been looked at: routers find each other later, and tell it in the
        objects' statuses. NotReady."""
        for informer in self._followed.kinds.values():
            informer.wait_current(LIST_DEADLINE)
        if not self._loop.wait_idle(LIST_DEADLINE):
            raise NotReady(f"the Skupper site of {self._parts.cluster} is not looked at", "", self._error)

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with the objects, and with the router."""
        with self._progress:
            found, error = self._snapshot, self._error
        cluster = self._parts.cluster
        told = [(f"Skupper of {cluster}", error)] if error else []
        if found is None:
            return told
        if found.error:
            told.append((f"Skupper router of {cluster}", found.error))
        return told + [(f"{kind} {cluster}/{key}", each.message) for (kind, key), each in found.plan.faults.items()]

    def stop(self) -> None:
        """End watches, thread and router. Twice is once."""
        parts = self._parts
        parts.network.leave(parts.cluster)
        parts.services.forget(self._service_changed)
        parts.slices.forget(self._service_changed)
        parts.pods.forget(self._pod_changed)
        for informer in self._followed.all():
            informer.stop()
        self._loop.stop()
        parts.router.stop()

    @property
    def router_kind(self) -> str:
        """`skrouterd` or `embedded`."""
        return self._parts.router.kind

    # --- for those who write an object and wait

    def snapshot(self) -> Snapshot | None:
        """What was found at the last look; None before the first, and where there is nothing of Skupper."""
        with self._progress:
            return self._snapshot

    def wait_for(self, condition: Callable[[Snapshot], str], timeout: float, what: str) -> Snapshot:
        """Wait until `condition` of what was found is empty; it says what is missing. NotReady after `timeout` s."""
        end, missing = time.monotonic() + timeout, "nothing was found"
        with self._progress:
            while True:
                if self._snapshot is not None:
                    missing = condition(self._snapshot)
                    if not missing:
                        return self._snapshot
                if not self._progress.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    why = f"{self._error or missing}, after {timeout:g} s"
                    raise NotReady(what, self._parts.cluster, why, "knetsim link status")

    def wait_linked(self, timeout: float) -> None:
        """Wait until the site's Links are up, and its Listeners open whose routing keys somebody serves; NotReady."""
        if self._followed.is_empty():
            return
        now = time.monotonic()
        self._look()
        self.wait_for(
            lambda found: find_missing(found) if found.moment >= now else "it was not looked at",
            timeout,
            "Skupper links its sites",
        )

    def redeem(self, grant: str, code: str, subject: str) -> Redeemed:
        """See network.Granting."""
        if not self._followed.synced:
            raise NotReady(f"the site of {self._parts.cluster} is still starting")
        with self._redeeming:  # one at a time: redemptions are counted
            found = find_grant(self._store.list(GRANT).items, grant)
            redeemed, status = redeem(found, code, subject, self._collect(), self._parts.place, time.time())
            self._store.update_status({**found, "status": status})
            return redeemed

    # --- changes

    def _look(self) -> None:
        self._changed.set()
        self._loop.add(_SITE)

    def _look_later(self) -> None:
        self._changed.set()
        self._loop.add_after(_SITE, LOOK_SECONDS)

    def _service_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if not self._followed.is_empty():
            self._look()

    def _pod_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if len(self._followed.kinds["Connector"]):
            self._look()

    def _reconcile(self, key: str) -> float | None:
        if not self._followed.synced:
            return _START_SECONDS
        if key == _TOKENS:
            return self._redeem_tokens()
        if self._followed.is_empty() and self._snapshot is None:
            return None
        moment = time.monotonic()
        objects, plan = self._plan()
        state, error = self._serve(plan)
        self._parts.network.publish(self._parts.cluster, build_view(plan, state))
        others = self._parts.network.others(self._parts.cluster)
        tokens = find_open_tokens(objects, plan)
        hopeful = tuple(name_of(each) for each in tokens if uid_of(each) not in self._worthless)
        found = Snapshot(plan, state, others, error, hopeful, moment)
        with self._progress:
            self._snapshot, self._error = found, ""
            self._progress.notify_all()
        for obj, status in build_statuses(objects, plan, state, others, time.time(), error):
            if obj["kind"] == GRANT:
                self._write_grant(obj, objects, plan)
            else:
                self._writer.write_status(obj, status)
        if tokens:
            self._loop.add(_TOKENS)
        if plan.router is None:
            return None
        # what is on its way comes soon; what does not come is asked for less and less often
        missing = find_missing(found)
        self._pause = min(self._pause * 1.5, LOOK_SECONDS) if missing else _START_SECONDS
        return self._pause if missing else LOOK_SECONDS

    def _plan(self) -> tuple[SiteObjects, SitePlan]:
        """What there is and what shall be; what shall be is written as far as it is objects."""
        if self._planned is not None and not self._changed.is_set():
            return self._planned
        self._changed.clear()
        self._planned = None  # should something fail, it is done again
        objects = self._collect()
        refused = [(obj, why) for obj in build_provided(objects, self._parts.place) if (why := self._writer.write(obj))]
        for obj in find_leftovers(objects):
            self._writer.delete(obj)
        plan = plan_site(objects, self._parts.place)
        ours = [obj for each in (self._parts.services, self._parts.slices) for obj in each.items() if is_ours(obj)]
        refused += self._writer.put(plan.objects, ours)
        for obj, why in refused:
            for owner in find_owners(obj, objects):
                plan.faults.setdefault(identify(owner), Fault(ERROR, why))
        self._planned = objects, plan
        return self._planned

    def _collect(self) -> SiteObjects:
        kinds, secrets = self._followed.kinds, self._followed.follow_secrets(self._look)
        return SiteObjects(
            sites=kinds["Site"].items(),
            accesses=kinds["RouterAccess"].items(),
            links=kinds["Link"].items(),
            listeners=kinds["Listener"].items(),
            connectors=kinds["Connector"].items(),
            grants=kinds["AccessGrant"].items(),
            tokens=kinds["AccessToken"].items(),
            secrets={key_of(each): each for each in secrets.items()},
            services={key_of(each): each for each in self._parts.services.items()},
            pods=self._parts.pods.items(),
        )

    def _serve(self, plan: SitePlan) -> tuple[RouterState | None, str]:
        """Have the router do what is planned; its state, or why it has none."""
        router, now = self._parts.router, time.monotonic()
        if plan.router is None:
            router.stop()
            self._applied = None
            return None, ""
        try:
            if self._is_due(plan, now):
                router.apply(plan.router, plan.files)
                self._applied = _Applied(plan.router, dict(plan.files), now)
            return router.read(), ""
        except RouterRefusal as error:  # it runs, and does all else
            self._applied = None
            return self._read_state(), str(error)
        except (KnetsimError, RouterError) as error:
            self._applied = None
            return None, str(error)

    def _read_state(self) -> RouterState | None:
        try:
            return self._parts.router.read()
        except KnetsimError:
            return None

    def _is_due(self, plan: SitePlan, now: float) -> bool:
        applied = self._applied
        if applied is None or (applied.plan, applied.files) != (plan.router, plan.files):
            return True
        return self._parts.repair and now - applied.moment >= RESYNC_SECONDS

    def _write_grant(self, grant: Object, objects: SiteObjects, plan: SitePlan) -> None:
        """As the grant is now: it may have been redeemed since the look began, and its code must stay."""
        with self._redeeming:
            try:
                present = self._store.get(GRANT, name_of(grant), namespace_of(grant))
            except NotFound:
                return
            if uid_of(present) == uid_of(grant):
                status = build_grant_status(present, objects, plan, time.time())
                if status != present.get("status"):
                    self._writer.write_status(present, status)

    def _redeem_tokens(self) -> float | None:
        """Turn tokens into Links; look again while there are some left that may yet be worth something."""
        planned = self._planned
        if planned is None:
            return None  # whoever is planning, in the other thread, asks again
        objects, plan = planned
        left = False
        for token in find_open_tokens(objects, plan):
            error = self._redeem_token(token, plan)
            left = left or bool(error)
            status = build_token_status(token, error, time.time())
            if status != token.get("status"):
                self._writer.write_status(token, status)
        return LOOK_SECONDS if left else None

    def _redeem_token(self, token: Object, plan: SitePlan) -> str:
        """Turn a token into a Link; why that cannot be, or empty."""
        spec, uid = token["spec"], uid_of(token)
        if uid not in self._redeemed:
            try:
                self._redeemed[uid] = self._parts.network.redeem(spec["url"], spec["code"], uid_of(plan.site or {}))
            except KnetsimError as refusal:
                if isinstance(refusal, InputError):
                    self._worthless.add(uid)
                return f"{refusal}; {refusal.hint}" if refusal.hint else str(refusal)
        self._worthless.discard(uid)
        if not self._is_there(token):
            return ""  # deleted since the look: its Link would be in the way of another token of its name
        made = build_redeemed(token, self._redeemed[uid], plan)
        fault = next((fault for obj in made if (fault := self._writer.make(obj))), "")  # no Link without its Secret
        if not self._is_there(token):  # deleted meanwhile: who deleted the Link after it may have been too early
            for obj in made:
                self._writer.take_back(obj)
        return fault

    def _is_there(self, token: Object) -> bool:
        try:
            return uid_of(self._store.get(TOKEN, name_of(token), namespace_of(token))) == uid_of(token)
        except NotFound:
            return False

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        with self._progress:
            self._error = str(error)
            if self._snapshot is not None:
                self._snapshot = replace(self._snapshot, error=self._error)
            self._progress.notify_all()


def find_owners(obj: Object, objects: SiteObjects) -> list[Object]:
    """The users' objects for which the controller writes `obj`: whose fault it is that it cannot be written. Pure."""
    name = name_of(obj)
    if obj["kind"] == "Secret":
        owners = [each for each in objects.accesses if spec_of(each).get("tlsCredentials") == name]
    elif obj["kind"] in ("Service", "EndpointSlice"):
        host = name.removesuffix(SLICE_SUFFIX) if obj["kind"] == "EndpointSlice" else name
        owners = [each for each in objects.listeners if spec_of(each).get("host") == host]
    else:
        owners = list(objects.sites)
    return [each for each in owners if namespace_of(each) == namespace_of(obj)]
