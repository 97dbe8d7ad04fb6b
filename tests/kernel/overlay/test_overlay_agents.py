"""The embedded agent, the real flanneld, and both in one cluster: packets between pods, and the same kernel state."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knetsim.dataplane.overlay.lease import HOST_GW, VXLAN
from knetsim.dataplane.overlay.lease_store import list_leases, read_network_config
from knetsim.dataplane.overlay.masquerade import build_masquerade, build_no_masquerade
from knetsim.dataplane.overlay.readiness import read_status
from knetsim.system.netlink import add_address, add_route
from knetsim.system.nft import apply_nft
from knetsim.system.ping import ping
from knetsim.system.wait import wait_until
from tests.kernel.overlay.lab import Host, Lab, Pod, end_process

EMBEDDED, FLANNELD = "embedded", "flanneld"
COMBINATIONS = [
    pytest.param([EMBEDDED, EMBEDDED, EMBEDDED], id="embedded"),
    pytest.param([FLANNELD, FLANNELD, FLANNELD], id="flanneld"),
    pytest.param([FLANNELD, EMBEDDED, FLANNELD, EMBEDDED], id="mixed"),
]


def start_agents(lab: Lab, agents: list[str]) -> list[Host]:
    """A worker for each agent named; the real daemons one after the other (see `flanneld.py` on their races)."""
    workers = lab.add_workers(len(agents))
    for worker, agent in zip(workers, agents, strict=True):
        if agent == FLANNELD:
            lab.start_flanneld(worker)
            lab.wait_ready(worker)
    embedded = [worker for worker, agent in zip(workers, agents, strict=True) if agent == EMBEDDED]
    if embedded:
        lab.start_agent(embedded)
    lab.wait_ready(*workers)
    return workers


def assert_all_reach_all(pods: list[Pod]) -> None:
    for one in pods:
        times = ping(one.place, [pod.address for pod in pods if pod is not one])
        assert None not in times.values(), f"{one.address} does not reach all: {times}"


@pytest.mark.parametrize("backend", [VXLAN, HOST_GW])
@pytest.mark.parametrize("agents", COMBINATIONS)
def test_every_pod_reaches_every_other_and_every_worker(lab: Lab, agents: list[str], backend: str) -> None:
    lab.configure(backend)
    workers = start_agents(lab, agents)
    pods = [lab.add_pod(worker) for worker in workers]
    assert_all_reach_all(pods)
    for worker in workers:
        times = ping(worker.place, [pod.address for pod in pods])
        assert None not in times.values(), f"{worker.name}: {times}"


def test_large_packets_fit(lab: Lab) -> None:
    """A pod's largest packet travels whole: the VTEP's header fits into what its MTU leaves of the underlay's."""
    lab.configure()
    one, other = (lab.add_pod(worker) for worker in start_agents(lab, [EMBEDDED, EMBEDDED]))
    assert " 0% packet loss" in lab.ping_whole(one, other.address, 1450)


def test_packets_travel_in_vxlan_to_flannels_port(lab: Lab) -> None:
    lab.configure()
    workers = start_agents(lab, [EMBEDDED, EMBEDDED])
    one, other = (lab.add_pod(worker) for worker in workers)
    apply_nft(workers[1].place, "table ip t { chain c { type filter hook input priority 0; udp dport 8472 drop; }; }")
    assert ping(one.place, [other.address], timeout=0.2, attempts=1) == {other.address: None}


# --- the same kernel state

#: what is the worker's own, or a matter of the moment
_PRIVATE = {"ifindex", "address", "local", "link_index", "min_mtu", "max_mtu", "inet6_addr_gen_mode"}


def read_device(worker: Host) -> Any:
    (link,) = json.loads(worker.ip("ip", "-j", "-d", "link", "show", "flannel.100"))

    def public(value: Any) -> Any:
        return {k: public(v) for k, v in value.items() if k not in _PRIVATE} if isinstance(value, dict) else value

    assert link["linkinfo"]["info_data"]["local"] == worker.address
    assert link["linkinfo"]["info_data"]["link"] == worker.interface
    link["linkinfo"]["info_data"]["link"] = "the underlay"
    return public(link)


def read_json(worker: Host, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(worker.ip(*words))
    for entry in found:
        if entry.get("dev") == worker.interface:
            entry["dev"] = "the underlay"
    return found


def entries_about(worker: Host, peers: set[str]) -> list[Any]:
    """All that a worker has for those whose subnet, VTEP or address is in `peers`."""
    found = [
        *read_json(worker, "ip", "-j", "-d", "route"),
        *read_json(worker, "ip", "-j", "-d", "neigh"),
        *read_json(worker, "bridge", "-j", "-d", "fdb"),
    ]
    # ARP of the underlay comes and goes with traffic
    kept = [entry for entry in found if not (entry.get("dev") == "the underlay" and "state" in entry)]
    return [entry for entry in kept if peers & {entry.get("dst"), entry.get("gateway"), entry.get("mac")}]


@pytest.mark.parametrize("backend", [VXLAN, HOST_GW])
def test_both_agents_leave_the_same_kernel_state(lab: Lab, backend: str) -> None:
    lab.configure(backend)
    real, ours, *others = start_agents(lab, [FLANNELD, EMBEDDED, FLANNELD, EMBEDDED])
    if backend == VXLAN:
        assert read_device(real) == read_device(ours)
        addresses = [read_json(worker, "ip", "-j", "-4", "address", "show", "flannel.100") for worker in (real, ours)]
        assert [public_address(found) for found in addresses[0]] == [public_address(found) for found in addresses[1]]
        assert [worker.sysctl("net/ipv6/conf/flannel.100/accept_ra") for worker in (real, ours)] == ["0", "0"]
    for other in others:
        (lease,) = [lease for lease in list_leases(lab.etcd).leases if str(lease.public_ip) == other.address]
        peers = {str(lease.subnet), str(lease.subnet.network_address), other.address, lease.vtep_mac or "no VTEP"}
        assert entries_about(real, peers) == entries_about(ours, peers)
        assert len(entries_about(ours, peers)) == (3 if backend == VXLAN else 1)


def public_address(link: dict[str, Any]) -> dict[str, Any]:
    """One address of the VTEP without the worker's own values."""
    (address,) = link["addr_info"]
    return {key: value for key, value in address.items() if key != "local"}


def test_both_agents_write_the_same_subnet_file(lab: Lab) -> None:
    lab.configure()
    real, ours = start_agents(lab, [FLANNELD, EMBEDDED])
    texts = [(worker.directory / "flannel-subnet.env").read_text().splitlines() for worker in (real, ours)]
    assert [line.partition("=")[0] for line in texts[0]] == [line.partition("=")[0] for line in texts[1]]
    assert [line for line in texts[0] if "SUBNET" not in line] == [line for line in texts[1] if "SUBNET" not in line]
    modes = [(worker.directory / "flannel-subnet.env").stat().st_mode for worker in (real, ours)]
    assert modes[0] == modes[1]


def test_both_agents_write_the_same_lease(lab: Lab) -> None:
    lab.configure()
    real, ours = start_agents(lab, [FLANNELD, EMBEDDED])
    values = {}
    for entry in lab.etcd.prefix("/coreos.com/network/subnets/")[0]:
        value = json.loads(entry.value)
        values[value["PublicIP"]] = (list(value), list(value["BackendData"]), value["BackendType"])
    assert values[real.address] == values[ours.address]
    for entry in lab.etcd.prefix("/coreos.com/network/subnets/")[0]:
        stored = lab.etcd.get(entry.key)
        assert stored is not None and stored.lease != 0, "a lease that runs out when nobody renews it"


def test_the_status_of_both_agents_says_the_same(lab: Lab) -> None:
    lab.configure()
    real, ours = start_agents(lab, [FLANNELD, EMBEDDED])
    config, listing = read_network_config(lab.etcd), list_leases(lab.etcd)
    for worker in (real, ours):
        status = read_status(worker.worker, config, listing)
        assert (status.worker, status.leases, status.error) == (worker.name, 1, "")
        assert status.revision == listing.revision
    real.ip("ip", "route", "delete", read_status(ours.worker, config, listing).subnet)
    assert "ip route replace" in read_status(real.worker, config, listing).error


# --- from one agent to the other


@pytest.mark.parametrize("backend", [VXLAN, HOST_GW])
def test_a_worker_changes_its_agent_and_keeps_its_network(lab: Lab, backend: str) -> None:
    """flanneld → embedded → flanneld, under traffic: same subnet, same device, nothing lost."""
    lab.configure(backend)
    first, second = lab.add_workers(2)
    daemon = lab.start_flanneld(first)
    lab.wait_ready(first)
    lab.start_agent([second])
    lab.wait_ready(first, second)
    pods = [lab.add_pod(first), lab.add_pod(second)]
    leases, device = list_leases(lab.etcd).leases, first.netlink.link("flannel.100")
    with lab.traffic(pods[0], pods[1]) as traffic:
        end_process(daemon)
        agent = lab.start_agent([first])
        lab.wait_ready(first, second)
        agent.stop()
        lab.start_flanneld(first)
        log = first.directory / "flannel.log"
        wait_until("flanneld", lambda: "" if log.read_text().count("Running backend") == 2 else "its second start", 60)
        lab.wait_ready(first, second)
    assert traffic.lost == 0 and traffic.answered > 0
    assert list_leases(lab.etcd).leases == leases
    assert first.netlink.link("flannel.100") == device


# --- masquerading


def test_pods_leave_the_pod_network_with_their_workers_address(lab: Lab) -> None:
    lab.configure()
    workers = start_agents(lab, [EMBEDDED, EMBEDDED])
    pods = [lab.add_pod(worker) for worker in workers]
    outside = lab.hosts["e1"]
    for worker in workers:
        apply_nft(worker.place, build_masquerade(lab.network))
        apply_nft(worker.place, build_masquerade(lab.network))
    assert lab.seen_from(outside.place, outside.address, pods[0].place) == workers[0].address
    assert lab.seen_from(workers[1].place, workers[1].address, pods[0].place) == workers[0].address
    assert lab.seen_from(pods[1].place, pods[1].address, pods[0].place) == pods[0].address
    apply_nft(workers[0].place, build_no_masquerade())
    apply_nft(workers[0].place, build_no_masquerade())
    link = outside.netlink.link(outside.interface)
    assert link is not None
    outside.netlink.apply([add_route(str(lab.network), via=workers[0].address)])
    assert lab.seen_from(outside.place, outside.address, pods[0].place) == pods[0].address


def test_the_pod_network_is_not_disturbed_by_other_addresses_on_the_underlay(lab: Lab) -> None:
    """A second address of the underlay's interface is not taken for the VTEP's."""
    lab.configure()
    workers = lab.add_workers(2)
    link = workers[0].netlink.link(workers[0].interface)
    assert link is not None
    workers[0].netlink.apply([add_address(link.index, "10.9.9.9/8")])
    lab.start_agent(workers)
    assert_all_reach_all([lab.add_pod(worker) for worker in workers])
