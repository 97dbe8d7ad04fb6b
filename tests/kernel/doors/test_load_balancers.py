"""Addresses of load balancers on the underlay: ARP, fail-over when a link goes down, traffic through them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.errors import NotFound
from knetsim.node.load_balancer_pool import Pool, choose_announcer
from knetsim.node.load_balancers import BalancingWorker, LoadBalancers
from knetsim.node.service_objects import BY_OWNER, SERVICE_NAME, index_by_owner
from knetsim.system.arp import Announcer, build_announcement, build_reply, parse_request
from knetsim.system.netlink import set_link
from knetsim.system.netns import entered
from knetsim.system.wait import wait_until
from tests.kernel.services.lab import Answer, Host, ServicesLab, build_port
from tests.memory_etcd import MemoryEtcd

pytestmark = pytest.mark.usefixtures("no_leaks")

SECONDS = 60.0
ADDRESS = IPv4Address("10.1.255.1")
POOL = Pool(ADDRESS, IPv4Address("10.1.255.9"))


def read_mac(host: Host) -> str:
    link = host.netlink.link(f"{host.name}-eth0")
    assert link is not None
    return link.mac


def read_neighbour(host: Host, address: IPv4Address = ADDRESS) -> str | None:
    """The hardware address that a host believes an address is at."""
    found = [each for each in host.netlink.neighbours() if each.address == str(address)]
    return found[0].mac if found else None


def provoke(host: Host, address: IPv4Address = ADDRESS) -> None:
    """Have the host's kernel want to know where an address is."""
    with entered(host.place), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"?", (str(address), 9))


def set_cable(lab: ServicesLab, host: Host, *, up: bool) -> None:
    """Plug in or pull the cable at the switch: the host's own end only loses its carrier."""
    link = lab._switch.netlink.link(f"{host.name}-p")
    assert link is not None
    lab._switch.netlink.apply([set_link(link.index, up=up)])


@pytest.fixture
def announcer() -> Iterator[Announcer]:
    announcer = Announcer("test", lambda host: None)
    yield announcer
    announcer.close()


def announce(announcer: Announcer, host: Host, *addresses: IPv4Address) -> set[IPv4Address]:
    return announcer.announce(host.name, host.place, f"{host.name}-eth0", set(addresses))


def test_frames_are_as_the_standard_says() -> None:
    mac = bytes.fromhex("020000000001")
    assert parse_request(build_announcement(mac, ADDRESS)) == (mac, ADDRESS, ADDRESS)
    request = parse_request(build_announcement(mac, ADDRESS))
    assert request is not None
    reply = build_reply(b"\x02" * 6, request)
    assert (reply[:6], reply[6:12]) == (mac, b"\x02" * 6)
    assert parse_request(reply) is None, "a reply is no request"
    assert parse_request(b"") is None
    assert parse_request(bytes(60)) is None


def test_one_host_answers_and_another_takes_over(lab: ServicesLab, announcer: Announcer) -> None:
    assert announce(announcer, lab.w1, ADDRESS) == {ADDRESS}
    assert announce(announcer, lab.w1, ADDRESS) == set(), "twice is once"
    provoke(lab.out)
    wait_until("an answer", lambda: "" if read_neighbour(lab.out) == read_mac(lab.w1) else "no neighbour", SECONDS)
    announce(announcer, lab.w1)
    announce(announcer, lab.w2, ADDRESS)
    # without being asked again: it is told to those who know the old answer
    wait_until("the news", lambda: "" if read_neighbour(lab.out) == read_mac(lab.w2) else "the old one", SECONDS)


def test_nobody_answers_for_what_is_not_announced(lab: ServicesLab, announcer: Announcer) -> None:
    announce(announcer, lab.w1, ADDRESS)
    other = ADDRESS + 1
    provoke(lab.out, other)
    provoke(lab.out)
    wait_until("an answer", lambda: "" if read_neighbour(lab.out) else "no neighbour", SECONDS)
    assert read_neighbour(lab.out, other) in (None, "")


# --- the agent


class Cluster:
    """Two workers of a lab whose Services are written into a store in memory."""

    def __init__(self, lab: ServicesLab, store: EtcdStore) -> None:
        self.store = store
        self.events: list[tuple[str, str, str]] = []
        for host in (lab.w1, lab.w2):
            self.write_node(host.name.lower(), "True")
        slices = Informer(store, "EndpointSlice", indexes={BY_OWNER: index_by_owner})
        self.informers = (Informer(store, "Node"), Informer(store, "Service"), slices)
        for informer in self.informers:
            informer.start()
            informer.wait_synced(SECONDS)
        workers = [
            BalancingWorker(host.name, host.name.lower(), host.place, host.netlink, f"{host.name}-eth0")
            for host in (lab.w1, lab.w2)
        ]

        def note(obj: dict[str, Any], reason: str, message: str) -> None:
            self.events.append((reason, obj["metadata"]["name"], message))

        self.agent = LoadBalancers("C0", store, *self.informers, workers, POOL, tell=note, note=note)
        self.agent.start()

    def stop(self) -> None:
        self.agent.stop()
        for informer in self.informers:
            informer.stop()

    def write_node(self, name: str, ready: str) -> None:
        node: dict[str, Any] = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}}
        conditions = [{"type": "Ready", "status": ready}]
        try:
            self.store.get("Node", name)
        except NotFound:
            self.store.create(node)
        self.store.update_status({**node, "status": {"conditions": conditions}})

    def write_service(self, name: str, **spec: Any) -> None:
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}], **spec}
        service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec}
        self.store.create(service)

    def address(self, name: str) -> str:
        status = self.store.get("Service", name).get("status") or {}
        return ",".join(each["ip"] for each in (status.get("loadBalancer") or {}).get("ingress") or ())

    def home(self, name: str) -> str:
        return self.agent.homes().get(f"default/{name}", "")


@pytest.fixture
def cluster(lab: ServicesLab) -> Iterator[Cluster]:
    store = EtcdStore(MemoryEtcd())
    store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}})
    cluster = Cluster(lab, store)
    yield cluster
    cluster.stop()
    store.close()


def wait(what: str, found: Any, wanted: Any) -> None:
    wait_until(what, lambda: "" if found() == wanted else f"{found()} instead of {wanted}", SECONDS)


def test_an_address_is_given_written_and_taken_back(cluster: Cluster) -> None:
    cluster.write_service("web")
    cluster.agent.wait_ready()
    assert cluster.address("web") == str(ADDRESS)
    home = choose_announcer(ADDRESS, ["c0w1", "c0w2"])
    wait("the announcer", lambda: cluster.home("web"), home)
    assert ("IPAllocated", "web", 'Assigned IP ["10.1.255.1"]') in cluster.events
    assert ("nodeAssigned", "web", f'announcing from node "{home}" with protocol "layer2"') in cluster.events
    service = cluster.store.get("Service", "web")
    cluster.store.update({**service, "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}})
    wait("no address", lambda: cluster.address("web"), "")
    cluster.write_service("next")
    wait("the address again", lambda: cluster.address("next"), str(ADDRESS))


def test_who_cannot_have_an_address_is_told_and_gets_it_later(cluster: Cluster) -> None:
    cluster.write_service("first", loadBalancerIP=str(ADDRESS))
    cluster.agent.wait_ready()
    cluster.write_service("second", loadBalancerIP=str(ADDRESS))
    cluster.agent.wait_ready()
    what = f"loadBalancerIP {ADDRESS} is the address of Service default/first"
    assert cluster.agent.problems() == [("Service C0/default/second", what)]
    assert ("AllocationFailed", "second", f"failed to allocate an address: {what}") in cluster.events
    cluster.store.delete("Service", "first")
    wait("the address", lambda: cluster.address("second"), str(ADDRESS))
    wait("no problem", cluster.agent.problems, [])


@pytest.mark.parametrize("cause", ["its link is down", "its Node is not Ready"])
def test_another_worker_takes_over_and_gives_back(lab: ServicesLab, cluster: Cluster, cause: str) -> None:
    cluster.write_service("web")
    cluster.agent.wait_ready()
    hosts = {"c0w1": lab.w1, "c0w2": lab.w2}
    home = cluster.home("web")
    other = next(node for node in hosts if node != home)
    provoke(lab.out)
    wait("the neighbour", lambda: read_neighbour(lab.out), read_mac(hosts[home]))

    def change(*, well: bool) -> None:
        if cause == "its link is down":
            set_cable(lab, hosts[home], up=well)
        else:
            cluster.write_node(home, "True" if well else "Unknown")

    change(well=False)
    wait("the other worker", lambda: cluster.home("web"), other)
    wait("the neighbour", lambda: read_neighbour(lab.out), read_mac(hosts[other]))
    change(well=True)
    cluster.agent._loop.add("services")  # the watch is over links of those that answer; else the resync sees it
    wait("the first worker", lambda: cluster.home("web"), home)
    wait("the neighbour", lambda: read_neighbour(lab.out), read_mac(hosts[home]))


def write_slice(store: EtcdStore, *nodes: str) -> None:
    """Backends of the Service `web` on these Nodes."""
    endpoints = [
        {"addresses": [f"11.0.0.{number}"], "nodeName": node, "conditions": {"ready": True}}
        for number, node in enumerate(nodes, 1)
    ]
    written = {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "web-1", "labels": {SERVICE_NAME: "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": endpoints,
    }
    try:
        store.get("EndpointSlice", "web-1")
        store.update(written)
    except NotFound:
        store.create(written)


def test_with_the_policy_local_only_a_worker_with_a_backend_answers(cluster: Cluster) -> None:
    cluster.write_service("web", externalTrafficPolicy="Local")
    cluster.agent.wait_ready()
    assert cluster.home("web") == ""
    what = f"no worker can answer for {ADDRESS}, as none has a backend"
    assert cluster.agent.problems() == [("Service C0/default/web", what)]
    for node in ("c0w1", "c0w2"):
        write_slice(cluster.store, node)
        wait("the worker with the backend", lambda: cluster.home("web"), node)


def test_a_stranger_reaches_the_pods_and_is_refused_without_any(lab: ServicesLab, cluster: Cluster) -> None:
    lab.install_all()
    pods = [lab.serve("c1", lab.w1), lab.serve("c2", lab.w2)]
    cluster.write_service("web")
    cluster.agent.wait_ready()
    lab.apply(build_port(*pods, external_ips=(ADDRESS,)))
    answers = [lab.ask(lab.out.place, ADDRESS) for _ in range(40)]
    assert {answer.pod for answer in answers if isinstance(answer, Answer)} == {"c1", "c2"}
    lab.apply(build_port(external_ips=(ADDRESS,)))
    assert lab.ask(lab.out.place, ADDRESS) == "refused"
