"""The agent that follows Services and EndpointSlices, on the hosts of `lab.py`, fed from an etcd in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.api.objects import encode, key_of, kind_of, storage_key
from knetsim.node.service_rules import ServiceRules, ServiceWorker
from tests.kernel.services.lab import POD_NETWORK, SERVICE_NETWORK, VIP, ServicesLab
from tests.memory_etcd import MemoryEtcd

SECONDS = 60.0


class Objects:
    """Services and slices in an etcd in memory, written past the store, as a kube-apiserver does."""

    def __init__(self) -> None:
        self.etcd = MemoryEtcd()
        self.store = EtcdStore(self.etcd)

    def put(self, obj: Any) -> None:
        key = storage_key(kind_of(obj), obj["metadata"]["name"], obj["metadata"].get("namespace"))
        with self.etcd._changed:
            self.etcd._write(key, encode(obj))

    def delete(self, obj: Any) -> None:
        self.etcd.delete_prefix(storage_key(kind_of(obj), obj["metadata"]["name"], obj["metadata"]["namespace"]))


def service(name: str = "web", ip: object = VIP) -> Any:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    metadata = {"name": name, "namespace": "default", "uid": name}
    return {"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": {"clusterIP": str(ip), "ports": ports}}


def endpoints(*pods: Any, name: str = "web") -> Any:
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "uid": f"{name}-1",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [pod.ip], "nodeName": pod.node, "conditions": {"ready": True}} for pod in pods],
    }


@contextmanager
def agent(lab: ServicesLab, objects: Objects, told: list[tuple[str, str, str]], **options: Any) -> Iterator[Any]:
    workers = [
        ServiceWorker(
            host.name,
            host.name.lower(),
            host.place,
            host.netlink,
            f"{host.name}-eth0",
            IPv4Address(host.address),
            host.worker.lease.subnet if host.worker else None,
        )
        for host in (lab.w1, lab.w2, lab.cp)
    ]
    rules = ServiceRules(
        "C0",
        objects.store,
        workers,
        pod_network=POD_NETWORK,
        service_network=SERVICE_NETWORK,
        tell=lambda *words: told.append(words),
        **options,
    )
    try:
        rules.start()
        yield rules
    finally:
        rules.stop()
        objects.store.close()


def settle(rules: ServiceRules, *present: Any, gone: Any = None) -> None:
    """Wait until the agent has heard of these objects, and every kernel has them."""
    for obj in present:
        informer = rules.services if obj["kind"] == "Service" else rules.slices
        wanted = {**obj, "metadata": {**obj["metadata"]}}
        informer.wait_for(lambda each, obj=wanted: _same(each.by_key(key_of(obj)), obj), SECONDS, key_of(obj))
    if gone is not None:
        informer = rules.services if gone["kind"] == "Service" else rules.slices
        informer.wait_for(lambda each: each.by_key(key_of(gone)) is None, SECONDS, key_of(gone))
    _settle_callbacks(rules)
    rules.wait_synced(SECONDS)


def _same(found: Any, wanted: Any) -> bool:
    return found is not None and all(found[field] == wanted[field] for field in wanted if field != "metadata")


def _settle_callbacks(rules: ServiceRules) -> None:
    for informer in (rules.services, rules.slices):
        settle_callbacks(informer)


def settle_callbacks(informer: Informer) -> None:
    """An informer stores first and calls then; one that is added now is called after those."""
    heard = threading.Event()
    informer.on_change(function := lambda *_: heard.set())
    informer.forget(function)
