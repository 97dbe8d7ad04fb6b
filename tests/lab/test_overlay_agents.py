"""flanneld and the embedded agent in one cluster, and what happens when agents and etcd members die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import Lab, running

pytestmark = pytest.mark.skipif(find_program("flanneld") is None, reason="flanneld is not installed")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running("mixed-agents", tmp_path_factory.mktemp("lab")) as lab:
        for number in range(1, 5):
            lab.py(f'C0.get("w{number}").create_container("p{number}")')
        yield lab


def wait_restarted(lab: Lab, name: str, restarts: int) -> None:
    wait_until(
        name, lambda: "" if lab.daemon(name)["restarts"] >= restarts and lab.daemon(name)["running"] else "restart", 30
    )


def test_both_agents_form_one_pod_network(lab: Lab) -> None:
    assert lab.line("pingall").count("0% dropped") == 2


def test_killing_every_flanneld_harms_no_pod(lab: Lab) -> None:
    for worker in ("w1", "w2", "w3", "w4"):
        if any(daemon["name"] == f"C0{worker}/flanneld" for daemon in _flannelds(lab)):
            before = lab.daemon(f"C0{worker}/flanneld")
            os.kill(lab.host_pid(before["pid"]), signal.SIGKILL)
            wait_restarted(lab, before["name"], before["restarts"] + 1)
    assert lab.line("pingall").count("0% dropped") == 2
    address = lab.py('C0w1.create_container("after")')
    lab.exec("C0/p4", "ping", "-c1", "-W2", address)
    lab.py('C0w1.delete_container("after")')
    events = lab.exec("C0e1", "etcdctl", "get", "/registry/events/", "--prefix", "--print-value-only").stdout
    assert "flanneld ended (signal 9 (SIGKILL)); it is started again" in events


def _flannelds(lab: Lab) -> list[dict[str, object]]:
    workers = lab.status()["clusters"][0]["workers"]
    return [daemon for worker in workers for daemon in worker["daemons"] if daemon["name"].endswith("/flanneld")]


def test_the_embedded_agent_stops_and_starts_while_pods_talk(lab: Lab) -> None:
    lab.py("C0.network.stop_agent()")
    assert lab.line("pingall").count("0% dropped") == 2
    lab.py("C0.network.start_agent()")
    address = lab.py('C0w4.create_container("after")')
    lab.exec("C0/p1", "ping", "-c1", "-W2", address)
    lab.py('C0w4.delete_container("after")')


def test_a_lost_etcd_member_is_survived(lab: Lab) -> None:
    member = lab.member("C0e1")
    os.kill(lab.host_pid(member["pid"]), signal.SIGKILL)
    address = lab.py('C0w2.create_container("meanwhile")')
    lab.exec("C0/p3", "ping", "-c1", "-W2", address)
    lab.py('C0w2.delete_container("meanwhile")')
    wait_until("C0e1", lambda: "" if lab.member("C0e1")["healthy"] else str(lab.member("C0e1")), 30)
    assert lab.member("C0e1")["restarts"] == member["restarts"] + 1
    wait_until("etcd", lambda: "" if "cluster is healthy" in _health(lab) else _health(lab), 30)


def test_without_quorum_writes_say_so_and_nothing_is_lost(lab: Lab) -> None:
    lab.py('C0w1.create_container("kept")')
    for name in ("C0e1", "C0e2"):
        lab.exec(name, "ip", "link", "set", f"{name}-eth0", "down")
    output = lab.line('py C0w2.create_container("refused")', check=False)
    assert "2 of 3 members must run" in output
    assert lab.exec("C0/p1", "ping", "-c1", "-W2", lab.py('C0w3.pod_ip("p3")')).returncode == 0
    for name in ("C0e1", "C0e2"):
        lab.exec(name, "ip", "link", "set", f"{name}-eth0", "up")
    wait_until("etcd", lambda: "" if "cluster is healthy" in _health(lab) else _health(lab), 30)
    assert "kept" in lab.py("C0w1.containers")
    lab.py('C0w1.delete_container("kept")')


def _health(lab: Lab) -> str:
    return lab.exec("C0e2", "/tmp/knetsim/etcdctl", "cluster-health", check=False).stdout


def test_ctrl_c_in_a_workers_shell_leaves_its_daemons_alone(lab: Lab) -> None:
    """The first knetsim's known issue: daemons shared the shell's process group, and one Ctrl-C ended flanneld."""
    name = _flannelds(lab)[0]["name"]
    before = lab.daemon(str(name))
    worker = str(name).partition("/")[0]
    address = lab.py('C0w2.pod_ip("p2")')
    for _ in range(3):
        # interrupted once it runs: a signal that comes while bash forks reaches neither
        lab.line(
            f"px {worker}.sendCmd('ping {address}'); {worker}.monitor(); {worker}.sendInt(); {worker}.waitOutput()"
        )
    after = lab.daemon(str(name))
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])


def test_drift_of_the_overlay_is_repaired(lab: Lab) -> None:
    rows = lab.status()["clusters"][0]["workers"]
    worker = next(row["name"] for row in rows if row["agent"] == "embedded")
    for command in (
        "ip route flush dev flannel.100",
        "bridge fdb flush dev flannel.100 self",
        "ip link del flannel.100",
    ):
        lab.exec(worker, *command.split(), check=False)
        wait_until(f"{command} repaired", lambda: _unreached(lab), 40)


def _unreached(lab: Lab) -> str:
    output = lab.line("pingall", check=False)
    return "" if output.count("0% dropped") == 2 else output[-300:]


def test_files_are_where_the_slides_say(lab: Lab) -> None:
    root = Path("/run/knetsim") / lab.name
    for worker in ("C0w1", "C0w4"):
        assert "FLANNEL_SUBNET=" in (root / worker / "flannel-subnet.env").read_text()
        assert (root / worker / "flannel.log").stat().st_size > 0
