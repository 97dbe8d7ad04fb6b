"""All that a cluster's objects of Skupper ask for, as a plan: what its router does, Services, what cannot be; pure.

The same objects give the same plan, in whatever order they are listed. A fault of one object touches no other: it has
nothing in the router, and its status says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knetsim import names
from knetsim.api.objects import Object, key_of, name_of, namespace_of
from knetsim.dataplane.skupper import (
    Certificates,
    NeighbourLink,
    NeighbourPort,
    OfferedService,
    RouterPlan,
    ServedService,
)
from knetsim.dataplane.skupper.certificates import AUTHORITY, CERTIFICATE, KEY
from knetsim.node.skupper.backends import find_backends
from knetsim.node.skupper.objects import (
    ERROR,
    INTER_ROUTER,
    INTER_ROUTER_PORT,
    Fault,
    Name,
    Ports,
    SiteObjects,
    SitePlace,
    choose_site,
    find_bad_name,
    find_foreign,
    find_host,
    find_issuer,
    find_issuer_fault,
    find_refusal,
    find_taken,
    identify,
    read_certificates,
    read_port,
    sort_by_age,
    spec_of,
)
from knetsim.node.skupper.services import Offers, is_named

__all__ = ["Fault", "SiteObjects", "SitePlace", "SitePlan", "plan_site"]

_ANY = "0.0.0.0"
_COST_MAX = 2**31 - 1
_EDGE = "edge"
#: how one endpoint of a RouterAccess, a Link or a Site is written
Endpoint = dict[str, str]


@dataclass(slots=True)
class SitePlan:
    """What shall be. Without an active Site there is neither a router nor anything else."""

    place: SitePlace
    site: Object | None = None
    router: RouterPlan | None = None
    #: certificates: path below the router's directory → content
    files: dict[str, bytes] = field(default_factory=dict)
    #: Services and EndpointSlices
    objects: list[Object] = field(default_factory=list)
    faults: dict[Name, Fault] = field(default_factory=dict)
    #: what of an object that is carried out has no effect
    notes: dict[Name, str] = field(default_factory=dict)
    #: what an object is in the router: names of a connector, tcpListener, tcpConnectors
    routing: dict[Name, tuple[str, ...]] = field(default_factory=dict)
    #: a Connector's key → its pods, as its status names them
    pods: dict[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)
    #: a RouterAccess's key → where other routers reach it
    endpoints: dict[str, list[Endpoint]] = field(default_factory=dict)
    #: Listeners and Connectors that are carried out, the oldest first
    listeners: list[Object] = field(default_factory=list)
    connectors: list[Object] = field(default_factory=list)
    links: list[Object] = field(default_factory=list)


def plan_site(objects: SiteObjects, place: SitePlace) -> SitePlan:
    """The plan of a cluster's site."""
    taken = find_taken(place)
    plan = SitePlan(place, None if taken else choose_site(objects.sites))
    _judge_sites(objects.sites, plan, taken)
    everything = (objects.accesses, objects.links, objects.listeners, objects.connectors, objects.grants)
    for obj in (obj for each in (*everything, objects.tokens) for obj in each):
        _judge_place(obj, plan)
    if plan.site is not None:
        _Planner(plan, objects, plan.site).run()
    return plan


def _judge_sites(sites: Sequence[Object], plan: SitePlan, taken: str) -> None:
    for site in sites:
        refusal = find_refusal(site) or taken
        if refusal:
            plan.faults[identify(site)] = Fault(ERROR, refusal)
        elif site is not plan.site and plan.site is not None:
            plan.faults[identify(site)] = Fault(
                ERROR, f"Site {key_of(plan.site)} is the cluster's active one: knetsim runs one router for a cluster"
            )
        elif spec_of(site).get("settings"):
            plan.notes[identify(site)] = "settings have no effect"


def _judge_place(obj: Object, plan: SitePlan) -> None:
    """Objects count in the active Site's namespace."""
    namespace = namespace_of(obj)
    if plan.site is None:
        plan.faults[identify(obj)] = Fault(ERROR, "there is no active Site in the namespace")
    elif namespace != namespace_of(plan.site):
        active = f"knetsim runs one router for a cluster, and its Site is {key_of(plan.site)}"
        plan.faults[identify(obj)] = Fault(ERROR, f"there is no active Site in the namespace: {active}")


class _Planner:
    def __init__(self, plan: SitePlan, objects: SiteObjects, site: Object) -> None:
        self._plan, self._objects, self._site, self._place = plan, objects, site, plan.place
        self._ports = Ports(plan.place.reserved)
        self._pods = [pod for pod in objects.pods if namespace_of(pod) == namespace_of(site)]
        #: ClusterIPs and ports of Listeners' Services → ports of the router
        self._own_addresses: dict[tuple[str, int], int] = {}
        self._certificates: dict[str, Certificates] = {}
        self._doors: list[NeighbourPort] = []
        self._links: list[NeighbourLink] = []
        self._offered: list[OfferedService] = []
        self._served: list[ServedService] = []

    def run(self) -> None:
        """In the order in which ports are had: links first, then who names a port, then who takes any."""
        plan = self._plan
        for access in self._counting(self._objects.accesses):
            self._add_access(access)
        for link in self._counting(self._objects.links):
            self._add_link(link)
        self._add_listeners(self._counting(self._objects.listeners))
        for connector in self._counting(self._objects.connectors):
            self._add_connector(connector)
        plan.router = RouterPlan(
            router=f"{name_of(self._site)}-{self._place.host}",
            certificates=tuple(self._certificates[name] for name in sorted(self._certificates)),
            links=tuple(sorted(self._links, key=lambda each: each.name)),
            ports=tuple(sorted(self._doors, key=lambda each: each.name)),
            served=tuple(sorted(self._served, key=lambda each: (each.name, each.host))),
            offered=tuple(sorted(self._offered, key=lambda each: each.name)),
        )

    def _counting(self, objects: Sequence[Object]) -> list[Object]:
        return [obj for obj in sort_by_age(objects) if identify(obj) not in self._plan.faults]

    def _refuse(self, obj: Object, message: str) -> None:
        self._plan.faults[identify(obj)] = Fault(ERROR, message)

    def _note(self, obj: Object, *words: str) -> None:
        """Tell what has no effect, with settings, which have none anywhere."""
        found = [word for word in words if word]
        if spec_of(obj).get("settings"):
            found.append("settings have no effect")
        if found:
            self._plan.notes[identify(obj)] = "; ".join(found)

    def _use(self, obj: Object, *, coming: bool = False) -> str | None:
        """The certificates that an object names, "" for none; None with a fault when they cannot be used. `coming`:
        the controller is making them."""
        name = spec_of(obj).get("tlsCredentials") or ""
        if not name:
            return ""
        if not names.DNS_SUBDOMAIN.fullmatch(name):
            self._refuse(obj, f"tlsCredentials '{name}' is no name that a Secret may have")
            return None
        # no name of an object: a router wants names that differ, and a Link is mostly called as its Secret
        profile = f"tls/{name}"
        if profile in self._certificates:
            return profile
        found = read_certificates(self._objects.secrets, namespace_of(obj), name)
        if isinstance(found, Fault):
            if coming and f"{namespace_of(obj)}/{name}" not in self._objects.secrets:
                issuer = find_issuer(self._site, spec_of(obj).get("issuer"))
                found = find_issuer_fault(self._objects.secrets, namespace_of(obj), issuer)
            self._plan.faults[identify(obj)] = found
            return None
        paths = {key: f"tls/{name}/{key}" for key in (AUTHORITY, CERTIFICATE, KEY)}
        self._certificates[profile] = Certificates(profile, paths[AUTHORITY], paths[CERTIFICATE], paths[KEY])
        self._plan.files.update({paths[key]: found[key] for key in paths})
        return profile

    # --- links between sites

    def _add_access(self, access: Object) -> None:
        spec = spec_of(access)
        roles = {role.get("name", ""): role for role in spec.get("roles") or ()}
        host = spec.get("bindHost") or self._place.address
        role = roles.get(INTER_ROUTER)
        if role is None:
            return self._refuse(access, f"there is no role {INTER_ROUTER} in it: routers are interior ones here")
        if foreign := find_foreign(host, self._place):
            return self._refuse(access, f"bindHost: {foreign}")
        port = read_port(role.get("port") or INTER_ROUTER_PORT)
        taken = self._ports.claim(host, port, f"RouterAccess {name_of(access)}")
        if taken:
            return self._refuse(access, f"port {port} is taken by {taken}")
        bad = find_bad_name(spec.get("subjectAlternativeNames") or ())
        if bad and spec.get("generateTlsCredentials"):
            return self._refuse(access, f"subjectAlternativeNames: '{bad}' is neither an address nor a name of a host")
        certificates = self._use(access, coming=bool(spec.get("generateTlsCredentials")))
        if certificates is None:
            return None
        name = f"access/{name_of(access)}"  # a Link may be called as the RouterAccess is
        self._doors.append(NeighbourPort(name, port, host, certificates=certificates))
        self._plan.routing[identify(access)] = (name,)
        reached = self._place.address if host == _ANY else host
        endpoint = {"name": INTER_ROUTER, "host": reached, "port": str(port), "group": name_of(access)}
        self._plan.endpoints[key_of(access)] = [endpoint]
        others = ", ".join(sorted(set(roles) - {INTER_ROUTER}))
        return self._note(access, f"role {others} has no effect: routers are interior ones here" if others else "")

    def _add_link(self, link: Object) -> None:
        spec = spec_of(link)
        target = self._find_target(spec)
        if isinstance(target, str):
            return self._refuse(link, target)
        cost = spec.get("cost") or 1
        if not 0 < cost <= _COST_MAX:
            return self._refuse(link, f"cost {cost} is not from 1 to {_COST_MAX}")
        certificates = self._use(link)
        if certificates is None:
            return None
        first = next((each.name for each in self._links if (each.host, each.port) == target), "")
        self._links.append(NeighbourLink(name_of(link), *target, cost=cost, certificates=certificates))
        self._plan.routing[identify(link)] = (name_of(link),)
        self._plan.links.append(link)
        # routers take the connection that came last, whatever it costs
        return self._note(link, f"Link {first} leads to the same router, and only one of them carries" if first else "")

    def _find_target(self, spec: Mapping[str, Any]) -> tuple[str, int] | str:
        """Address and port of a Link, or what is wrong with them."""
        endpoints = [each for each in spec.get("endpoints") or () if each.get("name") == INTER_ROUTER]
        if not endpoints:
            edge = any(each.get("name") == _EDGE for each in spec.get("endpoints") or ())
            return f"it has no endpoint {INTER_ROUTER}" + (": routers are interior ones here" if edge else "")
        host, port = endpoints[0].get("host") or "", read_port(endpoints[0].get("port") or 0)
        address = find_host(host, self._place)
        if not address:
            return f"host '{host}' is neither an address nor a host of the simulation"
        if not port:
            return f"port '{endpoints[0].get('port', '')}' is none"
        if address in (self._place.address, _ANY) or address.startswith("127."):
            return f"{host} is this site's own router"
        return address, port

    # --- services

    def _add_listeners(self, listeners: Sequence[Object]) -> None:
        offers = Offers(self._site, self._place, self._objects.services, self._ports)
        able = [each for each in listeners if self._can_carry(each)]
        named = []
        for listener in able:
            if not is_named(listener):
                self._offer(listener, offers.offer_fixed(listener))
            elif (fault := offers.claim_service(listener)) is not None:
                self._plan.faults[identify(listener)] = fault
            else:
                named.append(listener)
        offers.keep_targets()
        for listener in named:
            self._offer(listener, offers.offer_named(listener))
        self._plan.listeners = sort_by_age(self._plan.listeners)
        self._plan.objects = offers.build_objects()
        self._own_addresses = self._find_own_addresses()

    def _offer(self, listener: Object, offered: OfferedService | Fault) -> None:
        if isinstance(offered, Fault):
            self._plan.faults[identify(listener)] = offered
            return
        self._offered.append(offered)
        self._plan.listeners.append(listener)
        self._plan.routing[identify(listener)] = (f"listener/{offered.name}",)
        looks = spec_of(listener).get("observer") not in (None, "", "auto", "none")
        self._note(listener, "observer has no effect" if looks else "")

    def _add_connector(self, connector: Object) -> None:
        if not self._can_carry(connector):
            return
        found = find_backends(connector, self._pods, self._objects.services, self._place)
        if isinstance(found, Fault):
            self._plan.faults[identify(connector)] = found
            return
        loop = self._find_loop(found.served)
        if loop:
            self._refuse(connector, f"it leads back to Listener {loop}, which has its routing key")
            return
        self._served += found.served
        self._plan.connectors.append(connector)
        self._plan.routing[identify(connector)] = tuple(f"connector/{each.name}@{each.host}" for each in found.served)
        self._plan.pods[key_of(connector)] = found.pods
        self._note(connector)

    def _can_carry(self, obj: Object) -> bool:
        """Whether nothing is wanted of a Listener or Connector that routers here do not do."""
        spec = spec_of(obj)
        if spec.get("type") not in (None, "", "tcp"):
            self._refuse(obj, f"type '{spec['type']}': only tcp is carried")
        elif spec.get("tlsCredentials"):
            self._refuse(obj, "tlsCredentials: routers here speak no TLS with clients and servers, only with routers")
        elif spec.get("exposePodsByName"):
            self._refuse(obj, "exposePodsByName: all pods are one service here")
        return identify(obj) not in self._plan.faults

    def _find_loop(self, served: Sequence[ServedService]) -> str:
        """The Listener of the same routing key at which a Connector's connections would arrive."""
        for each in served:
            for offered in self._offered:
                if offered.routing_key != each.routing_key:
                    continue
                here = each.host in (self._place.address, "127.0.0.1") and each.port == offered.port
                if here or self._own_addresses.get((each.host, each.port)) == offered.port:
                    return offered.name
        return ""

    def _find_own_addresses(self) -> dict[tuple[str, int], int]:
        found = {}
        for each in self._plan.objects:
            service = self._objects.services.get(key_of(each)) if each["kind"] == "Service" else None
            address = spec_of(service).get("clusterIP") if service is not None else ""
            if address:
                found.update({(address, port["port"]): port["targetPort"] for port in each["spec"]["ports"]})
        return found
