"""The VIPs of `kp_vip_add` in real kernels: any protocol, a share for each pod, whoever serves Services beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.api.informer import Informer
from knetsim.dataplane.services.host import has_bridge_filter
from knetsim.dataplane.static_vips import TABLE, StaticVip, VipPlace, build_static_vips
from knetsim.node.static_vips import ADDRESSES, StaticVips, VipHost, build_vip_service
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft, apply_nft
from knetsim.system.ping import ping
from knetsim.system.wait import wait_until
from tests.kernel.services.lab import POD_NETWORK, Answer, Host, Pod, ServicesLab
from tests.memory_etcd import MemoryEtcd

pytestmark = pytest.mark.usefixtures("no_leaks")

VIP = IPv4Address("100.64.10.1")
SECONDS = 60.0
#: one address in two takes all of so many flows with a probability of 2^-59
FLOWS = 60


def build_place(lab: ServicesLab, host: Host) -> VipPlace:
    subnet = host.worker.lease.subnet if host.worker else None
    return VipPlace(POD_NETWORK, None if has_bridge_filter(host.place) else subnet)


def put(lab: ServicesLab, *pods: Pod) -> None:
    """The VIP on every host, for these pods."""
    vips = [StaticVip(VIP, tuple(IPv4Address(pod.ip) for pod in pods))] if pods else []
    for host in (lab.w1, lab.w2, lab.cp):
        apply_nft(host.place, build_static_vips(build_place(lab, host), vips))


def count_pings(place: Namespaces, times: int = FLOWS) -> Counter[bool]:
    """How many of so many flows, each a ping of its own, were answered."""
    return Counter(ping(place, [str(VIP)], timeout=0.3, attempts=1)[str(VIP)] is not None for _ in range(times))


def read_shares(host: Host) -> dict[str, int]:
    """The flows that each address got from this host."""
    with Nft(host.place) as nft:
        rules = [entry["rule"] for entry in nft.read_json(f"list table ip {TABLE}") if "rule" in entry]
    return {
        rule["chain"].rpartition("/")[2]: part["counter"]["packets"]
        for rule in rules
        for part in rule["expr"]
        if rule["chain"].startswith("pod/") and "counter" in part
    }


@pytest.fixture(params=["alone", "beside the emulator"])
def served(lab: ServicesLab, request: pytest.FixtureRequest) -> ServicesLab:
    """Hosts that are ready for VIPs. The emulator's rules drop whatever no Service has."""
    lab.install_all()
    if request.param == "alone":
        for host in (lab.w1, lab.w2, lab.cp):
            apply_nft(host.place, "delete table ip knetsim-services")
    return lab


def test_ping_is_answered_by_each_pod_for_its_share(served: ServicesLab) -> None:
    client = served.pod("client", served.w1)
    pods = [served.pod("c2", served.w1), served.pod("c3", served.w2)]
    put(served, *pods)
    for place in (client.place, served.w1.place, served.cp.place):
        assert count_pings(place) == {True: FLOWS}
    shares = read_shares(served.w1)
    assert sum(shares.values()) == 2 * FLOWS, "of the pod and of the worker"
    assert all(shares[pod.ip] > 0 for pod in pods)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_any_port_of_any_protocol_leads_to_the_pods(served: ServicesLab, protocol: str) -> None:
    client = served.pod("client", served.w1)
    pods = [served.serve("c2", served.w1, protocol), served.serve("c3", served.w2, protocol)]
    put(served, *pods)
    found = set()
    for _ in range(FLOWS):
        answer = served.ask(client.place, VIP, 8080, protocol)
        assert isinstance(answer, Answer)
        assert answer.client == client.ip, "the pod sees who asks"
        found.add(answer.pod)
    assert found == {"c2", "c3"}


def test_a_pod_reaches_itself(served: ServicesLab) -> None:
    pod = served.serve("c2", served.w1)
    put(served, pod)
    answer = served.ask(pod.place, VIP, 8080)
    assert isinstance(answer, Answer)
    assert answer.pod == "c2"


def test_a_pod_that_is_gone_keeps_its_share(served: ServicesLab) -> None:
    client = served.pod("client", served.w1)
    alive, gone = served.pod("c2", served.w1), served.pod("c3", served.w2)
    put(served, alive, gone)
    with Nft(served.w2.place) as nft:  # as when its namespace has ended: nobody has the address
        nft.apply(f"table ip gone {{ chain c {{ type filter hook forward priority 0; ip daddr {gone.ip} drop; }}; }}")
    found = count_pings(client.place)
    assert found[True] > 0
    assert found[False] > 0


def test_without_vips_the_table_is_gone(lab: ServicesLab) -> None:
    pod = lab.pod("c2", lab.w1)
    put(lab, pod)
    put(lab)
    put(lab)
    with Nft(lab.w1.place) as nft:
        assert ("ip", TABLE) not in nft.read_tables()


# --- the agent


@pytest.fixture
def store() -> Iterator[EtcdStore]:
    store = EtcdStore(MemoryEtcd())
    store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}})
    yield store
    store.close()


def write_pod(store: EtcdStore, name: str, address: str) -> None:
    spec = {"containers": [{"name": "main", "image": "pause"}]}
    pod: dict[str, Any] = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec}
    store.create(pod)
    store.update_status({**pod, "status": {"podIP": address}})


def test_the_agent_follows_objects_and_mends_what_was_changed(lab: ServicesLab, store: EtcdStore) -> None:
    told: list[tuple[str, str, str]] = []
    hosts = [VipHost(host.name, host.place, build_place(lab, host)) for host in (lab.w1, lab.w2)]
    services, pods = Informer(store, "Service"), Informer(store, "Pod")
    for informer in (services, pods):
        informer.start()
    agent = StaticVips("C0", store, services, pods, hosts, tell=lambda *words: told.append(words))
    agent.start()
    try:
        agent.wait_ready()
        marker = build_vip_service(VIP, ["c2", "c3"], [])
        store.create(marker)
        write_pod(store, "c2", "11.15.64.2")
        wanting = [("Service C0/default/vip-100-64-10-1", "no pod 'c3'")]
        wait_until("what is missing", lambda: "" if agent.problems() == wanting else str(agent.problems()), SECONDS)
        write_pod(store, "c3", "11.15.80.2")
        wanted = StaticVip(VIP, (IPv4Address("11.15.64.2"), IPv4Address("11.15.80.2")))
        agent.wait_applied(lambda vips: list(vips) == [wanted], "the VIP", SECONDS)
        written = store.get("Service", "vip-100-64-10-1")["metadata"]["annotations"]
        assert written[ADDRESSES] == "11.15.64.2,11.15.80.2"
        store.delete("Pod", "c3", grace_seconds=0)
        with Nft(lab.w2.place) as nft:
            nft.apply(f"delete table ip {TABLE}")
        agent._loop.add("C0w2")

        def missing() -> str:
            with Nft(lab.w2.place) as nft:
                return "" if ("ip", TABLE) in nft.read_tables() else "the table"

        wait_until("the table", missing, SECONDS)
        assert read_shares(lab.w2) == {"11.15.64.2": 0, "11.15.80.2": 0}, "the pod that is gone keeps its share"
        assert [words[:2] for words in told] == [("C0w2", "VipsRepaired")]
        store.delete("Service", "vip-100-64-10-1")
        agent.wait_applied(lambda vips: not vips, "no VIP", SECONDS)
        with Nft(lab.w1.place) as nft:
            assert ("ip", TABLE) not in nft.read_tables()
    finally:
        agent.stop()
        for informer in (services, pods):
            informer.stop()
