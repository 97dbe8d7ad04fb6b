"""The embedded agent through trouble: damaged kernel state, lost leases, an etcd that is away, its own end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from knetsim.api.etcd import Etcd
from knetsim.dataplane.overlay.agent import OverlayAgent
from knetsim.dataplane.overlay.lease import HOST_GW, VXLAN, Lease, build_lease_value, lease_key, leases_prefix
from knetsim.dataplane.overlay.lease_store import (
    LeaseChange,
    LeaseWatch,
    ensure_network_config,
    list_leases,
    read_network_config,
)
from knetsim.dataplane.overlay.readiness import read_missing
from knetsim.dataplane.overlay.subnet_file import read_subnet_file
from knetsim.errors import KnetsimError, NotReady
from knetsim.system.ping import ping
from knetsim.system.wait import wait_until
from tests.kernel.overlay.lab import Host, Lab, build_config


def missing(lab: Lab, worker: Host) -> str:
    """What a worker lacks, in words."""
    return "; ".join(read_missing(worker.worker, read_network_config(lab.etcd), list_leases(lab.etcd)))


def wait_repaired(lab: Lab, worker: Host) -> None:
    wait_until(worker.name, lambda: missing(lab, worker), 60)


def lease_of(lab: Lab, worker: Host) -> Lease:
    (lease,) = [lease for lease in list_leases(lab.etcd).leases if str(lease.public_ip) == worker.address]
    return lease


# --- the kernel's state

DAMAGE = {
    VXLAN: {
        "a route deleted": "ip route delete {subnet}",
        "a route led elsewhere": "ip route replace {subnet} via 10.1.0.1",
        "a route added": "ip route add 11.200.0.0/20 via 11.200.0.0 dev flannel.100 onlink",
        "a neighbour deleted": "ip neigh delete {gateway} dev flannel.100",
        "a neighbour changed": "ip neigh replace {gateway} lladdr 02:00:00:00:00:99 dev flannel.100",
        "a neighbour that ages": "ip neigh change {gateway} lladdr {mac} dev flannel.100 nud stale",
        "an FDB entry deleted": "bridge fdb delete {mac} dev flannel.100",
        "an FDB entry changed": "bridge fdb replace {mac} dev flannel.100 dst 10.1.0.1 self permanent",
        "the address deleted": "ip address flush dev flannel.100",
        "the device deleted": "ip link delete flannel.100",
        "the device down": "ip link set flannel.100 down",
        "the device's MAC": "ip link set flannel.100 address 02:00:00:00:00:99",
        "the device's MTU": "ip link set flannel.100 mtu 1400",
    },
    HOST_GW: {
        "a route deleted": "ip route delete {subnet}",
        "a route led elsewhere": "ip route replace {subnet} via 10.1.0.1",
        "all routes flushed": "ip route flush via {public_ip}",
        "the interface down and up": "ip link set w1-eth0 down; ip link set w1-eth0 up",
    },
}


@pytest.mark.parametrize(
    ("backend", "damage"), [(backend, damage) for backend, kinds in DAMAGE.items() for damage in kinds]
)
def test_damage_is_repaired(lab: Lab, backend: str, damage: str) -> None:
    """At once, since the kernel tells: the periodic look is an hour away."""
    lab.configure(backend)
    workers = lab.add_workers(2)
    agent = lab.start_agent(workers, resync_seconds=3600)
    pods = [lab.add_pod(worker) for worker in workers]
    peer = lease_of(lab, workers[1])
    values = {
        "subnet": peer.subnet,
        "gateway": peer.subnet.network_address,
        "mac": peer.vtep_mac,
        "public_ip": peer.public_ip,
    }
    for command in DAMAGE[backend][damage].split(";"):
        workers[0].ip(*command.format(**values).split())
    wait_repaired(lab, workers[0])
    wait_until("the status", lambda: "" if agent.status()[0].repairs else "a repair", 60)
    assert agent.status()[0].last_repair
    assert "repaired" in (workers[0].directory / "flannel.log").read_text()
    assert None not in ping(pods[0].place, [pods[1].address]).values()


@pytest.mark.parametrize("kind", ["vxlan id 7 dstport 1", "bridge"])
def test_a_foreign_device_of_that_name_is_replaced(lab: Lab, kind: str) -> None:
    lab.configure()
    workers = lab.add_workers(2)
    lab.start_agent(workers).stop()
    lease = lease_of(lab, workers[0])
    workers[0].ip("ip", "link", "delete", "flannel.100")
    workers[0].ip("ip", "link", "add", "flannel.100", "type", *kind.split())
    lab.start_agent(workers)
    for worker in workers:
        wait_repaired(lab, worker)
    assert "making it anew" in (workers[0].directory / "flannel.log").read_text()
    assert lease_of(lab, workers[0]).subnet == lease.subnet
    assert None not in ping(workers[0].place, [str(lease_of(lab, workers[1]).subnet.network_address)]).values()


def test_a_subnet_file_that_is_gone_comes_back_with_the_periodic_look(lab: Lab) -> None:
    lab.configure()
    (worker,) = lab.add_workers(1)
    lab.start_agent([worker], resync_seconds=0.05)
    content = read_subnet_file(worker.directory)
    (worker.directory / "flannel-subnet.env").unlink()
    wait_until("the file", lambda: "" if read_subnet_file(worker.directory) == content else "the subnet file", 60)


def test_without_repair_things_stay_broken_and_new_leases_are_applied(lab: Lab) -> None:
    lab.configure()
    workers = lab.add_workers(3)
    lab.start_agent(workers[:2], repair=False, resync_seconds=0.01)
    workers[0].ip("ip", "route", "delete", str(lease_of(lab, workers[1]).subnet))
    lab.start_agent(workers[2:])
    routes = {route.dst for route in workers[0].netlink.routes()}
    third = str(lease_of(lab, workers[2]).subnet)
    wait_until("routes", lambda: "" if third in {route.dst for route in workers[0].netlink.routes()} else third, 60)
    assert str(lease_of(lab, workers[1]).subnet) not in routes


def test_foreign_entries_are_left_alone(lab: Lab) -> None:
    lab.configure()
    workers = lab.add_workers(2)
    lab.start_agent(workers, resync_seconds=0.02)
    workers[0].ip("ip", "route", "add", "192.168.0.0/16", "via", "10.1.0.1")
    workers[0].ip("ip", "route", "add", str(lease_of(lab, workers[1]).subnet), "via", "10.1.0.1", "metric", "9")
    workers[0].ip("ip", "neigh", "add", "10.1.0.77", "lladdr", "02:00:00:00:00:77", "dev", "w1-eth0")
    workers[0].ip("ip", "link", "add", "other", "type", "bridge")
    workers[0].ip("ip", "route", "delete", str(lease_of(lab, workers[1]).subnet))
    wait_repaired(lab, workers[0])
    assert "192.168.0.0/16" in workers[0].ip("ip", "route")
    assert "metric 9" in workers[0].ip("ip", "route")
    assert "10.1.0.77" in workers[0].ip("ip", "neigh")
    assert workers[0].netlink.link("other") is not None


# --- leases


def test_a_lease_that_is_deleted_is_taken_again(lab: Lab) -> None:
    lab.configure()
    workers = lab.add_workers(2)
    lab.start_agent(workers)
    pods = [lab.add_pod(worker) for worker in workers]
    before = lease_of(lab, workers[0])
    revision = list_leases(lab.etcd).revision
    assert lab.etcd.delete(lease_key(before.subnet))
    wait_until("the lease", lambda: "" if lab.etcd.get(lease_key(before.subnet)) else "the lease", 60)
    for worker in workers:
        wait_repaired(lab, worker)
    assert lease_of(lab, workers[0]) == before and list_leases(lab.etcd).revision == revision + 2
    assert None not in ping(pods[0].place, [pods[1].address]).values()


@pytest.mark.parametrize("value", ["garbage", '{"PublicIP":"10.1.1.1","BackendType":"vxlan"}', None])
def test_a_lease_whose_value_is_spoiled_is_written_again(lab: Lab, value: str | None) -> None:
    lab.configure()
    workers = lab.add_workers(2)
    lab.start_agent(workers)
    before = lease_of(lab, workers[0])
    wrong = replace(before, vtep_mac="02:00:00:00:00:99")
    lab.etcd.put(lease_key(before.subnet), value or build_lease_value(wrong))
    good = build_lease_value(before).encode()

    def spoiled() -> str:
        stored = lab.etcd.get(lease_key(before.subnet))
        return "" if stored and stored.value == good else "the right value"

    wait_until("the lease", spoiled, 60)
    for worker in workers:
        wait_repaired(lab, worker)


def test_a_subnet_that_another_took_meanwhile_is_given_up(lab: Lab) -> None:
    lab.configure()
    (worker,) = lab.add_workers(1)
    agent = lab.start_agent([worker])
    before = lease_of(lab, worker)
    lab.etcd.put(lease_key(before.subnet), build_lease_value(replace(before, public_ip=IPv4Address("10.1.1.99"))))

    def not_moved() -> str:
        subnet = agent.status()[0].subnet
        return "" if subnet not in ("", str(before.subnet)) else "another subnet"

    wait_until("the worker", not_moved, 60)
    wait_repaired(lab, worker)
    file = read_subnet_file(worker.directory)
    assert file is not None and file.subnet == lease_of(lab, worker).subnet != before.subnet
    addresses = worker.ip("ip", "-br", "address", "show", "flannel.100")
    assert f"{file.subnet.network_address}/32" in addresses and str(before.subnet.network_address) not in addresses


def test_the_subnet_file_remembers_a_subnet_whose_lease_ran_out(lab: Lab) -> None:
    lab.configure()
    (worker,) = lab.add_workers(1)
    lab.start_agent([worker]).stop()
    before = lease_of(lab, worker)
    lab.etcd.delete(lease_key(before.subnet))
    lab.start_agent([worker])
    assert lease_of(lab, worker) == before


def test_agents_that_race_for_the_last_subnets_all_get_one(lab: Lab) -> None:
    config = replace(build_config(), subnet_len=20, subnet_max=IPv4Address("11.10.112.0"))
    ensure_network_config(lab.etcd, config)
    workers = lab.add_workers(8)
    agents = [OverlayAgent(f"A{n}", lab.etcd, [w.worker for w in workers[n::4]]) for n in range(4)]
    for agent in agents:
        lab.stack.callback(agent.stop)
        agent.start()
    for agent in agents:
        agent.wait_ready(20)
    subnets = [status.subnet for agent in agents for status in agent.status()]
    assert len(set(subnets)) == 8
    for worker in workers:
        wait_repaired(lab, worker)


def test_a_worker_without_a_free_subnet_waits_for_one(lab: Lab) -> None:
    ensure_network_config(lab.etcd, replace(build_config(), subnet_max=IPv4Address("11.10.0.0")))
    first, second = lab.add_workers(2)
    lab.start_agent([first])
    agent = OverlayAgent("C0", lab.etcd, [second.worker])
    lab.stack.callback(agent.stop)
    agent.start()
    with pytest.raises(NotReady, match=r"w2: .*no free subnet"):
        agent.wait_ready(0.3)
    assert "no free subnet" in agent.status()[0].error
    foreign = replace(lease_of(lab, first), public_ip=IPv4Address(second.address))
    lab.etcd.put(lease_key(foreign.subnet), build_lease_value(foreign))
    agent.wait_ready(20)
    assert agent.status()[0].error == ""


def test_leases_that_are_no_vxlan_or_no_leases_are_passed_over(lab: Lab) -> None:
    lab.configure()
    (worker,) = lab.add_workers(1)
    prefix = leases_prefix()
    lab.etcd.put(f"{prefix}11.80.0.0-20", '{"PublicIP":"10.1.1.80","PublicIPv6":null,"BackendType":"host-gw"}')
    lab.etcd.put(f"{prefix}11.81.0.0-20", "{")
    lab.etcd.put(f"{prefix}readme", "not a subnet")
    agent = lab.start_agent([worker])
    assert agent.status()[0].leases == 0
    log = (worker.directory / "flannel.log").read_text()
    assert "ignored the lease 11.81.0.0-20" in log and "ignored the lease readme" in log


def test_the_etcd_lease_is_renewed_before_its_end(lab: Lab) -> None:
    """Seen by a clock that jumps to an hour before the end."""
    lab.configure()
    (worker,) = lab.add_workers(1)
    now = [0.0]
    renewed: list[int] = []

    class Store(Etcd):
        def lease_keepalive(self, lease: int) -> int:
            renewed.append(lease)
            return super().lease_keepalive(lease)

    store = lab.client(Store)
    agent = OverlayAgent("C0", store, [worker.worker], clock=lambda: now[0])
    lab.stack.callback(agent.stop)
    agent.start()
    agent.wait_ready(20)
    stored = lab.etcd.get(lease_key(lease_of(lab, worker).subnet))
    assert stored is not None
    lab.etcd.put(f"{leases_prefix()}11.90.0.0-20", "wakes the agent")
    wait_until("the agent", lambda: "" if agent.status()[0].revision >= stored.revision + 1 else "the change", 60)
    assert renewed == []
    now[0] = 23 * 3600 + 1.0
    lab.etcd.put(f"{leases_prefix()}11.90.0.0-20", "wakes it again")
    wait_until("the renewal", lambda: "" if renewed == [stored.lease] else "a renewal", 60)


# --- etcd


def test_without_etcd_the_data_path_lives_and_is_repaired(lab: Lab) -> None:
    lab.configure()
    workers = lab.add_workers(3)
    agent = lab.start_agent(workers[:2])
    pods = [lab.add_pod(worker) for worker in workers[:2]]
    lease = lease_of(lab, workers[1])
    lab.etcd_process.kill()
    lab.etcd_process.wait()
    workers[0].ip("ip", "route", "delete", str(lease.subnet))
    wait_until("the repair", lambda: "" if agent.status()[0].repairs else "a repair", 60)
    assert None not in ping(pods[0].place, [pods[1].address]).values()
    lab.restart_etcd()
    lab.start_agent(workers[2:])
    for worker in workers:
        wait_repaired(lab, worker)


def test_an_agent_that_starts_before_etcd_waits_for_it(lab: Lab) -> None:
    lab.configure()
    lab.etcd_process.kill()
    lab.etcd_process.wait()
    (worker,) = lab.add_workers(1)
    agent = OverlayAgent("C0", lab.etcd, [worker.worker])
    lab.stack.callback(agent.stop)
    agent.start()
    lab.restart_etcd()
    agent.wait_ready(20)


def test_an_agent_waits_for_the_network_configuration_and_says_what_is_wrong(lab: Lab) -> None:
    (worker,) = lab.add_workers(1)
    agent = OverlayAgent("C0", lab.etcd, [worker.worker])
    lab.stack.callback(agent.stop)
    agent.start()
    with pytest.raises(NotReady, match="no network configuration in etcd"):
        agent.wait_ready(0.2)
    lab.etcd.put("/coreos.com/network/config", '{"Network":"11.0.0.0/8","Backend":{"Type":"vxlen"}}')
    wait_until("the status", lambda: "" if "vxlen" in agent.status()[0].error else "the mistake", 60)
    lab.configure()
    agent.wait_ready(20)


def test_a_watch_whose_history_is_gone_is_begun_anew(lab: Lab) -> None:
    """What happened meanwhile is found by listing."""
    lab.configure()
    workers = lab.add_workers(2)

    class Store(Etcd):
        watches = 0

        def watch_prefix(self, prefix: str, from_revision: int) -> LeaseWatch:  # type: ignore[override]
            self.watches += 1
            return EndingWatch() if self.watches < 3 else super().watch_prefix(prefix, from_revision)

    class EndingWatch:
        def __iter__(self) -> Iterator[Sequence[LeaseChange]]:
            raise KnetsimError("etcd has compacted the wanted revision")

        def close(self) -> None:
            pass

    store = lab.client(Store)
    agent = OverlayAgent("C0", store, [workers[0].worker])
    lab.stack.callback(agent.stop)
    agent.start()
    agent.wait_ready(20)
    lab.start_agent(workers[1:])
    for worker in workers:
        wait_repaired(lab, worker)
    wait_until("the watch", lambda: "" if store.watches == 3 else "a third watch", 60)


# --- the agent's own end


def test_the_agent_ends_and_starts_under_traffic_and_nothing_is_lost(lab: Lab) -> None:
    lab.configure()
    workers = lab.add_workers(2)
    agent = lab.start_agent(workers)
    pods = [lab.add_pod(worker) for worker in workers]
    leases = list_leases(lab.etcd).leases
    with lab.traffic(*pods) as traffic:
        for _ in range(5):
            agent.stop()
            agent.stop()
            agent = lab.start_agent(workers)
    assert traffic.lost == 0 and traffic.answered > 0
    assert list_leases(lab.etcd).leases == leases
    assert [status.repairs for status in agent.status()] == [0, 0]


def test_what_changed_while_the_agent_was_away_is_caught_up(lab: Lab) -> None:
    lab.configure()
    workers = lab.add_workers(3)
    agent = lab.start_agent(workers[:2])
    gone = lease_of(lab, workers[1])
    agent.stop()
    lab.etcd.delete(lease_key(gone.subnet))
    lab.start_agent(workers[2:])
    lab.start_agent(workers[:1])
    wait_repaired(lab, workers[0])
    assert str(gone.subnet) not in workers[0].ip("ip", "route")
    assert str(gone.vtep_mac) not in workers[0].ip("bridge", "fdb", "show", "dev", "flannel.100")
    assert str(gone.vtep_mac) not in workers[0].ip("ip", "neigh", "show", "dev", "flannel.100")


def test_a_worker_whose_interface_is_gone_is_told_and_recovers(lab: Lab) -> None:
    lab.configure()
    workers = lab.add_workers(2)
    agent = lab.start_agent(workers)
    workers[0].ip("ip", "link", "set", "w1-eth0", "down")
    workers[0].ip("ip", "link", "set", "w1-eth0", "name", "away")
    workers[0].ip("ip", "link", "delete", "flannel.100")
    wait_until("the status", lambda: "" if "interface is gone" in agent.status()[0].error else "an error", 60)
    assert agent.status()[1].error == ""
    workers[0].ip("ip", "link", "set", "away", "name", "w1-eth0")
    workers[0].ip("ip", "link", "set", "w1-eth0", "up")
    wait_repaired(lab, workers[0])
    wait_until("the status", lambda: agent.status()[0].error, 60)
