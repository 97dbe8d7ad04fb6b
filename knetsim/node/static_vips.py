"""The VIPs of `kp_vip_add` as objects, and every worker's table kept as they say.

A VIP is a Service that no proxy serves: its label `service.kubernetes.io/service-proxy-name` says that somebody else
does. So its clusterIP is taken, as far as the API server is concerned, and no other Service is ever given it; it is in
`kubectl get services`, and goes with `kubectl delete service`.

    metadata:
      name: vip-100-64-10-1
      labels: {service.kubernetes.io/service-proxy-name: knetsim.io}
      annotations:
        knetsim.io/vip-pods: c2,c3                              whose VIP it is, as the user says
        knetsim.io/vip-addresses: 11.15.64.2,11.80.0.2          their addresses, once each has one; never again changed

The addresses are static by intent: what a pod had when the VIP was made is kept when the pod is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from knetsim import names
from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, key_of
from knetsim.api.store import Store
from knetsim.dataplane.static_vips import TABLE, StaticVip, VipPlace, build_static_vips
from knetsim.errors import Conflict, KnetsimError, NotFound, NotReady, UsageError
from knetsim.node.service_objects import PROXY_NAME
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft

PROXY = "knetsim.io"
PODS = "knetsim.io/vip-pods"
ADDRESSES = "knetsim.io/vip-addresses"
RESYNC_SECONDS = 15.0
LIST_DEADLINE = 60.0
#: the key of the look at the objects; all others are hosts
_OBJECTS = ""

#: called with (host, reason, message)
Tell = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class VipHost:
    """A worker, or the control plane's host."""

    name: str
    namespaces: Namespaces
    place: VipPlace


def build_vip_service(vip: IPv4Address, pods: Sequence[str], addresses: Sequence[str]) -> Object:
    """The object of a VIP; pure. A Service must have a port; nobody serves this one's."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(vip),
            "namespace": names.DEFAULT_NAMESPACE,
            "labels": {PROXY_NAME: PROXY},
            "annotations": {PODS: ",".join(pods), ADDRESSES: ",".join(addresses)},
        },
        "spec": {"clusterIP": str(vip), "ports": [{"name": "any", "port": 1, "protocol": "TCP"}]},
    }


def service_name(vip: IPv4Address) -> str:
    """`vip-100-64-10-1`."""
    return f"vip-{str(vip).replace('.', '-')}"


def is_vip(service: Object) -> bool:
    """Whether a Service is a VIP of this kind."""
    metadata = service["metadata"]
    return (metadata.get("labels") or {}).get(PROXY_NAME) == PROXY and PODS in (metadata.get("annotations") or {})


def read_words(service: Object, annotation: str) -> list[str]:
    """The words of one of the two annotations."""
    text = (service["metadata"].get("annotations") or {}).get(annotation) or ""
    return [word for each in text.split(",") if (word := each.strip())]


def read_vip(service: Object) -> StaticVip | None:
    """The VIP that a Service is, once its addresses are known. UsageError for words that are no addresses."""
    addresses = read_words(service, ADDRESSES)
    if not addresses:
        return None
    try:
        backends = tuple(dict.fromkeys(map(IPv4Address, addresses)))
        return StaticVip(IPv4Address(service["spec"]["clusterIP"]), backends)
    except ValueError as error:
        raise UsageError(f"{ADDRESSES} of Service {key_of(service)}: {error}") from error


def find_address(pods: Informer, word: str) -> str:
    """The address of the pod `c2` or `namespace/c2`. NotFound; NotReady while it has none."""
    namespace, _, name = word.rpartition("/")
    namespace = namespace or names.DEFAULT_NAMESPACE
    pod = pods.get(namespace, name)
    if pod is None:
        known = [each["metadata"]["name"] for each in pods.items() if each["metadata"]["namespace"] == namespace]
        raise NotFound(f"no pod '{word}'", hint=names.did_you_mean(name, known))
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise NotReady(f"pod {word} has no address yet")
    return str(address)


@dataclass
class _Host:
    """A host while VIPs are served; `shown` is the kernel's own words for the table that was put there."""

    host: VipHost
    applied: tuple[StaticVip, ...] | None = None
    shown: str = ""
    error: str = ""


@dataclass
class _Wanted:
    """What the objects say."""

    vips: tuple[StaticVip, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)


class StaticVips:
    """The VIPs of one cluster's hosts; an add-on of the cluster."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        services: Informer,
        pods: Informer,
        hosts: Iterable[VipHost],
        *,
        repair: bool = True,
        tell: Tell = lambda host, reason, message: None,
    ) -> None:
        """`services` and `pods` are running informers."""
        self._cluster, self._store, self._repair, self._tell = cluster, store, repair, tell
        self._services, self._pods = services, pods
        self._hosts = {host.name: _Host(host) for host in hosts}
        self._wanted = _Wanted()
        self._looked = False
        self._progress = threading.Condition()
        self._loop = Loop(
            f"vips {cluster}",
            self._reconcile,
            self._failed,
            threads=1,
            keys=lambda: list(self._hosts) if self._wanted.vips else [],
            resync_seconds=RESYNC_SECONDS if repair else None,
        )

    # --- the add-on

    def start(self) -> None:
        """Begin; returns at once."""
        self._services.on_change(self._service_changed)
        self._pods.on_change(self._pod_changed)
        self._loop.add(_OBJECTS)
        self._loop.start()

    def wait_ready(self) -> None:
        """Wait until every host has the VIPs that are known by now; NotReady."""
        services = self._store.list("Service").items
        written = {key_of(each): each["spec"].get("clusterIP") for each in services if is_vip(each)}

        def looked_at(vips: Sequence[StaticVip]) -> bool:
            known = {str(vip.address) for vip in vips}
            return all(address in known or key in self._wanted.problems for key, address in written.items())

        self.wait_applied(looked_at, "VIPs", LIST_DEADLINE)

    def problems(self) -> list[tuple[str, str]]:
        """VIPs that wait for a pod, and hosts whose table could not be made."""
        with self._progress:
            objects = [(f"Service {self._cluster}/{key}", why) for key, why in sorted(self._wanted.problems.items())]
            hosts = [(f"VIPs on {name}", each.error) for name, each in self._hosts.items() if each.error]
        return objects + hosts

    def stop(self) -> None:
        """End the thread; the tables stay. Twice is once."""
        self._pods.forget(self._pod_changed)
        self._services.forget(self._service_changed)
        self._loop.stop()

    # --- for those who add and delete

    def find(self, vip: IPv4Address) -> Object | None:
        """The object of a VIP, however it is called; another Service that has the address, too."""
        return next((each for each in self._services.items() if each["spec"].get("clusterIP") == str(vip)), None)

    def known(self) -> list[str]:
        """The addresses of all VIPs."""
        return sorted(str(each["spec"].get("clusterIP")) for each in self._services.items() if is_vip(each))

    def wait_applied(self, condition: Callable[[Sequence[StaticVip]], bool], what: str, timeout: float) -> None:
        """Wait until what the objects say fulfils `condition` and is in every host's kernel; NotReady."""
        with self._progress:
            if not self._progress.wait_for(lambda: condition(self._wanted.vips) and not self._behind(), timeout):
                why = "; ".join(self._behind()[:3]) or "the objects do not say so"
                raise NotReady(f"{what} of {self._cluster} are not in every kernel after {timeout:g} s", why=why)

    def _behind(self) -> list[str]:
        if not self._looked:
            return ["the objects were not looked at yet"]
        wanted = self._wanted.vips
        return [
            f"{name}: {each.error or 'not yet'}"
            for name, each in self._hosts.items()
            if (each.applied or ()) != wanted or each.error
        ]

    # --- changes

    def _service_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if any(each is not None and is_vip(each) for each in (before, after)):
            self._loop.add(_OBJECTS)

    def _pod_changed(self, key: str, before: Object | None, after: Object | None) -> None:
        if key in self._wanted.problems or (after is not None and self._wanted.problems):
            self._loop.add(_OBJECTS)

    def _reconcile(self, key: str) -> float | None:
        if key == _OBJECTS:
            self._look()
        else:
            self._apply(self._hosts[key])
        return None

    def _look(self) -> None:
        """Read the objects; give those their addresses that have none."""
        wanted = _Wanted()
        vips: set[StaticVip] = set()
        for service in self._services.items():
            if not is_vip(service) or service["metadata"].get("deletionTimestamp"):
                continue
            try:
                vip = read_vip(service) or self._resolve(service)
            except KnetsimError as error:
                wanted.problems[key_of(service)] = str(error)
                continue
            vips.add(vip)
        wanted.vips = tuple(sorted(vips))
        with self._progress:
            changed = wanted.vips != self._wanted.vips or not self._looked
            self._wanted, self._looked = wanted, True
            self._progress.notify_all()
        if changed:
            for name in self._hosts:
                self._loop.add(name)

    def _resolve(self, service: Object) -> StaticVip:
        """Write the addresses that the pods of a VIP have now into its object."""
        addresses = [find_address(self._pods, word) for word in read_words(service, PODS)]
        if not addresses:
            raise UsageError(f"{PODS} names no pod")
        metadata: Mapping[str, Any] = service["metadata"]
        annotations = {**metadata["annotations"], ADDRESSES: ",".join(addresses)}
        try:
            self._store.update({**service, "metadata": {**metadata, "annotations": annotations}})
        except (Conflict, NotFound) as error:
            raise NotReady("its addresses are being written", why=str(error)) from error  # the change tells again
        return StaticVip(IPv4Address(service["spec"]["clusterIP"]), tuple(map(IPv4Address, addresses)))

    # --- one host

    def _apply(self, each: _Host) -> None:
        vips = self._wanted.vips
        if each.applied is None and not vips:
            return
        with Nft(each.host.namespaces) as nft:
            shown = _show(nft) if self._repair or each.applied != vips else each.shown
            if each.applied == vips and shown == each.shown:
                return
            if each.applied == vips:
                self._tell(each.host.name, "VipsRepaired", f"the table {TABLE} was changed by hand")
            nft.apply(build_static_vips(each.host.place, vips))
            shown = _show(nft)
        with self._progress:
            each.applied, each.shown, each.error = vips, shown, ""
            self._progress.notify_all()

    def _failed(self, key: str, error: Exception, pause: float) -> None:
        with self._progress:
            if key not in self._hosts:
                return  # the objects are looked at again, and waited for by those who changed them
            self._hosts[key].error = str(error)
            self._progress.notify_all()
        self._tell(key, "VipsFailed", f"{error}; again in {pause:.1f} s")


def _show(nft: Nft) -> str:
    """The table as the kernel has it, without counters; empty where there is none."""
    if ("ip", TABLE) not in nft.read_tables():
        return ""
    return nft.read(f"list table ip {TABLE}", stateless=True)
