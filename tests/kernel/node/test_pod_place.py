"""What a pod is called, whose network it has, and what it may set in the kernel."""

from __future__ import annotations

from contextlib import closing

import pytest

from knetsim.dataplane.host_ports import HostPort
from knetsim.errors import CommandError
from knetsim.node.kubelet.host_ports import HostPorts
from knetsim.system.nft import read_nft
from knetsim.system.run import run
from knetsim.system.sysctl import read_sysctl
from tests.kernel.node.conftest import Lab, shell
from tests.kernel.node.test_kubelet import in_pod, published, veths

END = "; echo end; sleep 1000"


def test_a_pod_with_a_full_name(lab: Lab) -> None:
    script = "uname -n; cat /etc/hostname; echo $HOSTNAME; tail -1 /etc/hosts"
    lab.put_pod(shell(script + END), hostname="web", subdomain="db", setHostnameAsFQDN=True)
    full = "web.db.default.svc.cluster.local"
    assert lab.wait_log("end\n") == f"{full}\n{full}\n{full}\n11.16.0.2\t{full}\tweb\nend\n"


def test_a_name_that_the_kernel_cannot_take(lab: Lab) -> None:
    lab.put_pod(shell("true"), hostname="w" * 60, subdomain="db", setHostnameAsFQDN=True)
    assert "is too long (64 characters is the max, 89 characters requested)" in lab.wait_event("FailedCreatePodSandBox")


def test_a_pod_on_its_workers_network(lab: Lab) -> None:
    lab.put_pod(
        shell("head -1 /etc/hosts; ls /sys/class/net; echo $HOSTNAME; uname -n" + END),
        {"name": "pause", "image": "pause"},
        hostNetwork=True,
    )
    log = lab.wait_log("end\n")
    assert log.startswith("# Kubernetes-managed hosts file (host network).\n")
    assert "eth0" not in log
    assert log.endswith("c0w1\nc0w1\nend\n"), "its Node's name"
    status = lab.wait(lambda status: status.get("phase") == "Running")["status"]
    assert status["podIP"] == status["hostIP"] == "10.1.1.1"
    assert published(lab) == []
    assert veths(lab) == []
    owned = lab.kubelet.owned_names("c0w1")
    assert (owned.namespaces, owned.interfaces) == (frozenset(), frozenset())
    lab.replace_kubelet()
    assert lab.get()["status"]["podIP"] == "10.1.1.1"
    lab.delete(grace_seconds=0)


def test_sysctls_are_the_pods_own(lab: Lab) -> None:
    settings = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"}
    sysctls = [{"name": name, "value": value} for name, value in settings.items()]
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"
    before = read_sysctl(lab.worker_of().namespaces, *settings)
    lab.put_pod(shell(script + END), securityContext={"sysctls": sysctls})
    assert lab.wait_log("end\n") == "80\n1\nend\n"
    assert read_sysctl(lab.worker_of().namespaces, *settings) == before
    lab.put_pod(shell(script + END), name="c2")
    assert lab.wait_log("end\n", "c2") == "0\n0\nend\n"  # as containerd has it


def test_a_sysctl_that_is_not_safe(lab: Lab) -> None:
    lab.put_pod(shell("true"), securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})
    status = lab.wait(lambda status: status.get("phase") == "Failed")["status"]
    assert status["reason"] == "SysctlForbidden"
    assert status["message"] == 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted'
    assert lab.wait_event("SysctlForbidden") == 'forbidden sysctl: "kernel.msgmax" not allowlisted'
    lab.delete()


def test_containers_of_a_pod_share_memory_and_pods_do_not(lab: Lab) -> None:
    lab.put_pod(
        shell("ipcmk -M 100 > /dev/null; echo end; sleep 1000", "one", image="debian"),
        shell("sleep 1000", "two", image="debian"),
    )
    lab.wait_log("end\n", container="one")
    lab.put_pod(shell("sleep 1000", image="debian"), name="c2")
    lab.wait(lambda status: status.get("phase") == "Running", "c2")
    count = "ipcs -m | grep -c 0x || true"
    assert in_pod(lab, count, container="two") == "1\n"
    assert in_pod(lab, count, "c2") == "0\n"


# --- ports of the worker


def web_server(word: str) -> str:
    reply = f"HTTP/1.0 200 OK\\r\\n\\r\\n{word}\\n"
    server = f"""
import socketserver
class Reply(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write(b"{reply}" + self.client_address[0].encode())
socketserver.TCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(("", 80), Reply)
print("up", flush=True)
server.serve_forever()
"""
    return f"exec python3 -c '{server}'"


def ask(lab: Lab, address: str, name: str = "") -> list[str]:
    """What answers at an address, and as whom it saw the client; asked by the worker or by a pod."""
    script = f"curl -s --max-time 3 http://{address}/ || echo refused"
    if name:
        return in_pod(lab, script, name).split()
    return run(["sh", "-c", script], place=lab.worker_of().namespaces, cwd="/").output.split()


def test_a_port_that_was_refused_is_tried_again(lab: Lab) -> None:
    worker = lab.worker_of()
    with closing(HostPorts(worker)) as ports:
        ports.put("one", [HostPort(8080, "TCP", "11.16.0.2", 80)])
        for _ in range(2):
            with pytest.raises(CommandError):
                ports.put("two", [HostPort(8081, "TCP", "no address", 80)])
        ports.put("three", [HostPort(8082, "TCP", "11.16.0.3", 80)])
        table = read_nft(worker.namespaces, "list table ip knetsim-hostports")
        assert [port in table for port in ("8080", "8081", "8082")] == [True, False, True]


def test_an_address_of_another_family_is_told(lab: Lab) -> None:
    ports = [{"containerPort": 80, "hostPort": 8080, "hostIP": "::1"}]
    lab.put_pod({"name": "pause", "image": "pause", "ports": ports})
    lab.wait(lambda status: status.get("phase") == "Running")
    assert "spec.containers[0].ports[0].hostIP is not simulated" in lab.wait_event("NotSimulated")


def test_ports_of_the_worker_lead_to_pods(lab: Lab) -> None:
    run(["ip", "addr", "add", "10.1.1.1/32", "dev", "lo"], place=lab.worker_of().namespaces)
    run(["ip", "link", "set", "lo", "up"], place=lab.worker_of().namespaces)
    ports = [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}]
    lab.put_pod(shell(web_server("one"), image="debian", ports=ports))
    lab.wait_log("up\n")
    lab.put_pod(shell("echo up; sleep 1000", image="debian"), name="c2")
    lab.wait_log("up\n", "c2")
    assert ask(lab, "10.1.1.1:8080") == ["one", "11.16.0.1"] or ask(lab, "10.1.1.1:8080")[0] == "one"
    assert ask(lab, "127.0.0.1:8080") == ["one", "11.16.0.1"]
    assert ask(lab, "10.1.1.1:8080", "c2") == ["one", "11.16.0.1"]
    assert ask(lab, "10.1.1.1:8080", "c1") == ["one", "11.16.0.1"], "a pod that reaches itself"
    assert ask(lab, "10.1.1.1:8081") == ["refused"]
    only_here = [{"containerPort": 80, "hostPort": 8081, "hostIP": "127.0.0.1"}]
    lab.put_pod(shell(web_server("three"), image="debian", ports=only_here), name="c3")
    lab.wait_log("up\n", "c3")
    assert ask(lab, "127.0.0.1:8081")[0] == "three"
    assert ask(lab, "10.1.1.1:8081") == ["refused"]
    run(["nft", "delete", "table", "ip", "knetsim-hostports"], place=lab.worker_of().namespaces)
    lab.pass_time(40)
    assert "table ip knetsim-hostports was made anew" in lab.wait_event("NetworkRepaired", "c0w1")
    assert ask(lab, "127.0.0.1:8081")[0] == "three"
    lab.replace_kubelet()
    lab.delete(grace_seconds=0)
    assert ask(lab, "127.0.0.1:8080") == ["refused"]
