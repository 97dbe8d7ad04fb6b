"""Ingresses, with the Services and Secrets that they name, as what nginx is to serve on which worker; pure.

Who came first has a path: Ingresses are gone through by age, and what a younger one claims too is its problem. A fault
of one Ingress touches nobody else's paths: a Service that is not there answers 503, a Secret that is no certificate
leaves its host with the common one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from knetsim import names
from knetsim.api.objects import Object, key_of, namespace_of
from knetsim.dataplane.ingress.certificates import find_fault
from knetsim.dataplane.ingress.sites import Certificate, Door, Match, Options, Route, Site, Upstream
from knetsim.errors import UsageError

CLASS = "nginx"
CONTROLLER = "k8s.io/ingress-nginx"
#: pins an Ingress to one port of one worker, `c0w1:8001`, whatever workers the scenario has for Ingresses
LISTEN = "knetsim.io/listen"
#: a backend that is no Service: `resource: {apiGroup: knetsim.io, kind: Endpoint, name: "100.64.11.1:8000"}`
ENDPOINT_GROUP, ENDPOINT = "knetsim.io", "Endpoint"
ENDPOINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}")

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
_NGINX = "nginx.ingress.kubernetes.io/"
_BODY_SIZE = re.compile(r"[0-9]+[kKmMgG]?")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_HEADLESS = "None"


class Problem(NamedTuple):
    """What is wrong with an Ingress: its key, an Event's reason, words."""

    key: str
    reason: str
    message: str


class View(Protocol):
    """The objects that Ingresses name."""

    def service(self, key: str) -> Object | None:
        """The Service `default/web`."""

    def slices(self, key: str) -> Sequence[Object]:
        """The EndpointSlices of a Service."""

    def secret(self, key: str) -> Object | None:
        """The Secret `default/tls`."""


@dataclass(frozen=True, slots=True)
class IngressPlaces:
    """The Nodes of a cluster, those that serve Ingresses, and their ports."""

    nodes: frozenset[str]
    serving: tuple[str, ...]
    http: int
    https: int


#: (Node, port for HTTP, port for HTTPS or 0)
DoorKey = tuple[str, int, int]


@dataclass
class Plan:
    """What is to be served: doors by Node, files of certificates (`tls/…`), where each Ingress is served, problems."""

    doors: dict[str, list[Door]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    served: dict[str, list[DoorKey]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def build_class() -> Object:
    """The IngressClass of our controller. Not the default one: an Ingress of no class is served all the same."""
    metadata = {"name": CLASS, "labels": {"app.kubernetes.io/managed-by": "knetsim"}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": metadata,
        "spec": {"controller": CONTROLLER},
    }


def build_pinned(name: str, node: str, port: int, rules: Sequence[Mapping[str, str]]) -> Object:
    """The Ingress of `Worker.run_ingress`: on one port of one worker, from prefixes to endpoints. UsageError."""
    example = '[{"path": "/svc1", "endpoint": "100.64.11.1:8000"}]'
    if not 0 < port < 1 << 16:
        raise UsageError(f"{port!r} is no port", hint="8001, for example")
    if not rules or not all({"path", "endpoint"} == set(rule) for rule in rules):
        raise UsageError("each rule needs a path and an endpoint, and nothing else", hint=f"rules={example}")
    for rule in rules:
        if not ENDPOINT_NAME.fullmatch(rule["endpoint"]):
            raise UsageError(f"'{rule['endpoint']}' is no address with a port", hint="100.64.11.1:8000, for example")
    paths = [
        {
            "path": rule["path"],
            "pathType": "ImplementationSpecific",
            "backend": {"resource": {"apiGroup": ENDPOINT_GROUP, "kind": ENDPOINT, "name": rule["endpoint"]}},
        }
        for rule in rules
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": names.DEFAULT_NAMESPACE,
            "annotations": {LISTEN: f"{node}:{port}"},
        },
        "spec": {"ingressClassName": CLASS, "rules": [{"http": {"paths": paths}}]},
    }


def is_ours(ingress: Object, classes: Iterable[Object]) -> bool:
    """Whether an Ingress is this controller's: of its class, or of none where no other class is the default."""
    known = {each["metadata"]["name"]: each for each in classes}
    annotations = ingress["metadata"].get("annotations") or {}
    name = ingress["spec"].get("ingressClassName") or annotations.get(_CLASS_ANNOTATION)
    if name:
        return bool((known[name].get("spec") or {}).get("controller") == CONTROLLER) if name in known else name == CLASS
    defaults = [
        (each.get("spec") or {}).get("controller")
        for each in known.values()
        if (each["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    ]
    return not defaults or CONTROLLER in defaults


def plan_ingresses(ingresses: Iterable[Object], view: View, places: IngressPlaces) -> Plan:
    """What nginx is to serve on each Node, and what of it cannot be."""
    planner = _Planner(view, places)
    for ingress in sorted(ingresses, key=lambda each: (each["metadata"].get("creationTimestamp") or "", key_of(each))):
        planner.add(ingress)
    return planner.finish()


@dataclass
class _Host:
    """A host while it is put together: routes by claim, in the order of age."""

    routes: dict[tuple[str, str], Route] = field(default_factory=dict)
    default: Route | None = None
    certificate: Certificate | None = None


class _Planner:
    def __init__(self, view: View, places: IngressPlaces) -> None:
        self._view, self._places = view, places
        self._doors: dict[DoorKey, dict[str, _Host]] = {}
        self._plan = Plan()
        self._key = ""

    def finish(self) -> Plan:
        for (node, http, https), hosts in self._doors.items():
            sites = [
                Site(host, tuple(each.routes.values()), each.default, each.certificate) for host, each in hosts.items()
            ]
            self._plan.doors.setdefault(node, []).append(Door(http, https, tuple(sites)))
        self._plan.problems = list(dict.fromkeys(self._plan.problems))
        return self._plan

    def _problem(self, reason: str, message: str) -> None:
        self._plan.problems.append(Problem(self._key, reason, message))

    def add(self, ingress: Object) -> None:
        self._key, spec = key_of(ingress), ingress["spec"]
        options = self._read_options(ingress["metadata"].get("annotations") or {})
        doors = self._find_doors(ingress)
        certificates = self._read_certificates(ingress)
        default = self._read_default(ingress, options)
        rules = spec.get("rules") or ()
        routes = [
            (rule.get("host") or "", route) for rule in rules for route in self._read_routes(ingress, rule, options)
        ]
        named = list(dict.fromkeys(rule.get("host") or "" for rule in rules)) or [""]
        for door in doors:
            hosts = self._doors.setdefault(door, {})
            for host, route in routes:
                self._claim(hosts.setdefault(host, _Host()), host, route)
            for host in named:
                found = hosts.setdefault(host, _Host())
                found.certificate = found.certificate or certificates.get(host)
                self._claim_default(found, host, default)
        self._plan.served[self._key] = doors

    # --- where

    def _find_doors(self, ingress: Object) -> list[DoorKey]:
        places = self._places
        if listen := (ingress["metadata"].get("annotations") or {}).get(LISTEN):
            node, _, port = listen.lower().partition(":")
            if node not in places.nodes or not port.isdecimal() or not 0 < int(port) < 1 << 16:
                self._problem("Rejected", f"{LISTEN}: {listen!r} is no worker and port, as in c0w1:8001")
                return []
            shared = node in places.serving and int(port) == places.http
            return [(node, int(port), places.https if shared else 0)]
        if not places.serving:
            self._problem("NotServed", "no worker of the cluster serves Ingresses: ingress.workers of the scenario")
        return [(node, places.http, places.https) for node in places.serving]

    # --- what

    def _claim(self, found: _Host, host: str, route: Route) -> None:
        path = route.path.rstrip("/") or "/" if route.match == "Prefix" else route.path
        first = found.routes.setdefault((route.match, path), route)
        if first.owner != route.owner:
            what = f"{route.match} path {route.path} of {host or 'any host'} belongs to Ingress {first.owner}"
            self._problem("PathTaken", f"{what}, which is older")

    def _claim_default(self, found: _Host, host: str, default: Route | None) -> None:
        if default is None:
            return
        found.default = found.default or default
        if found.default.owner != default.owner:
            what = f"the default backend of {host or 'any host'} belongs to Ingress {found.default.owner}"
            self._problem("PathTaken", f"{what}, which is older")

    def _read_options(self, annotations: Mapping[str, str]) -> Options:
        given = {name.removeprefix(_NGINX): text for name, text in annotations.items() if name.startswith(_NGINX)}
        rewrite, regex = given.pop("rewrite-target", ""), given.pop("use-regex", "false") == "true"
        redirect, size = given.pop("ssl-redirect", "true") != "false", given.pop("proxy-body-size", "")
        if size and not _BODY_SIZE.fullmatch(size):
            self._problem("Rejected", f"{_NGINX}proxy-body-size: {size!r} is no size, as in 8m")
            size = ""
        if _UNPRINTABLE.search(rewrite):
            self._problem("Rejected", f"{_NGINX}rewrite-target: {rewrite!r} is no path")
            rewrite = ""
        for name in given:
            self._problem("NotSimulated", f"the annotation {_NGINX}{name} is not carried out")
        return Options(rewrite, regex, redirect, size)

    def _read_default(self, ingress: Object, options: Options) -> Route | None:
        backend = ingress["spec"].get("defaultBackend")
        if backend is None:
            return None
        plain = Options(redirect=options.redirect, body_size=options.body_size)
        return Route("/", "Prefix", self._read_backend(ingress, backend), self._key, plain)

    def _read_routes(self, ingress: Object, rule: Mapping[str, Any], options: Options) -> Iterable[Route]:
        for entry in (rule.get("http") or {}).get("paths") or ():
            path, match = entry.get("path") or "/", entry["pathType"]
            if _UNPRINTABLE.search(path) or not path.startswith("/"):
                self._problem("Rejected", f"{path!r} is no path")
                continue
            yield Route(path, _match(match), self._read_backend(ingress, entry["backend"]), self._key, options)

    # --- backends

    def _read_backend(self, ingress: Object, backend: Mapping[str, Any]) -> Upstream:
        if (resource := backend.get("resource")) is not None:
            return self._read_resource(resource)
        wanted = backend["service"]
        port = wanted.get("port") or {}
        word = str(port.get("name") or port.get("number") or "")
        key, name = f"{namespace_of(ingress)}/{wanted['name']}", f"{namespace_of(ingress)}.{wanted['name']}.{word}"
        service = self._view.service(key)
        if service is None:
            self._problem("ServiceNotFound", f"there is no Service {key}: its paths answer 503")
            return Upstream(name)
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            self._problem("NotSimulated", f"Service {key} is of type ExternalName: its paths answer 503")
            return Upstream(name)
        for each in spec.get("ports") or ():
            if (each.get("name") == word or str(each["port"]) == word) and (each.get("protocol") or "TCP") == "TCP":
                return Upstream(name, self._find_servers(key, spec, each))
        self._problem("PortNotFound", f"Service {key} has no TCP port {word}: its paths answer 503")
        return Upstream(name)

    def _find_servers(self, key: str, spec: Mapping[str, Any], port: Mapping[str, Any]) -> tuple[str, ...]:
        """The Service's own address, while it has somebody to answer; of a headless one its pods'."""
        pods = find_pods(self._view.slices(key), port)
        address = spec.get("clusterIP")
        if address and address != _HEADLESS:
            return (f"{address}:{port['port']}",) if pods else ()
        return pods

    def _read_resource(self, resource: Mapping[str, Any]) -> Upstream:
        name = resource["name"]
        if (resource.get("apiGroup"), resource["kind"]) != (ENDPOINT_GROUP, ENDPOINT):
            self._problem("NotSimulated", f"a backend of kind {resource['kind']} is not served: its paths answer 503")
            return Upstream("resource")
        if not ENDPOINT_NAME.fullmatch(name):
            self._problem("Rejected", f"{name!r} is no address with a port: its paths answer 503")
            return Upstream("endpoint")
        return Upstream(f"endpoint.{name.replace(':', '.')}", (name,))

    # --- certificates

    def _read_certificates(self, ingress: Object) -> dict[str, Certificate]:
        """The certificates of the Ingress's hosts that have a sound one; its files become part of the plan."""
        found: dict[str, Certificate] = {}
        hosts = [rule.get("host") or "" for rule in ingress["spec"].get("rules") or ()] or [""]
        for entry in ingress["spec"].get("tls") or ():
            if not entry.get("secretName"):
                continue
            key = f"{namespace_of(ingress)}/{entry['secretName']}"
            for host in hosts:
                if host not in found and (not entry.get("hosts") or host in entry["hosts"]):
                    certificate = self._read_certificate(key, host)
                    if certificate is not None:
                        found[host] = certificate
        return found

    def _read_certificate(self, key: str, host: str) -> Certificate | None:
        secret = self._view.secret(key)
        pair = _read_pair(secret) if secret is not None else None
        if secret is None:
            fault = "it does not exist"
        elif pair is None:
            fault = "it has no tls.crt and tls.key"
        else:
            fault = find_fault(*pair, host)
        if fault or pair is None:
            what = f"Secret {key} is no certificate of {host or 'any host'}: {fault}"
            self._problem("BadCertificate", f"{what}; the common one is shown instead")
            return None
        # what changes has another name, so that the configuration changes with it
        digest = hashlib.sha256(b"".join(pair)).hexdigest()[:8]
        chain, private = (f"tls/{key.replace('/', '_')}_{digest}.{part}" for part in ("crt", "key"))
        self._plan.files |= {chain: pair[0], private: pair[1]}
        return Certificate(Path(chain), Path(private))


def _match(text: str) -> Match:
    return "Exact" if text == "Exact" else "Prefix" if text == "Prefix" else "ImplementationSpecific"


def _read_pair(secret: Object) -> tuple[bytes, bytes] | None:
    data = secret.get("data") or {}
    try:
        return base64.b64decode(data["tls.crt"], validate=True), base64.b64decode(data["tls.key"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        return None


def find_pods(slices: Iterable[Object], port: Mapping[str, Any]) -> tuple[str, ...]:
    """Who answers for a Service's port, `11.15.64.2:8080`: the ready ones, or else those that end but still serve."""
    ready: set[str] = set()
    ending: set[str] = set()
    for each in slices:
        if each.get("addressType", "IPv4") != "IPv4":
            continue
        numbers = [
            own["port"] for own in each.get("ports") or () if (own.get("name") or "") == (port.get("name") or "")
        ]
        for endpoint in each.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            found = {f"{endpoint['addresses'][0]}:{number}" for number in numbers}
            if conditions.get("ready") is not False:
                ready |= found
            elif conditions.get("serving") is not False:
                ending |= found
    return tuple(sorted(ready or ending))
