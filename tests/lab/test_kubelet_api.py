"""The kubelet's HTTP API as stock kubectl uses it, through the real API server."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knetsim.system.programs import TOOLS, find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import Lab, knetsim, running

SCENARIO = """
    apiVersion: knetsim.io/v1
    kind: Scenario
    metadata: {name: kubelet-api}
    spec:
      clusters:
        - {name: C0, workers: 1, controlPlane: kubernetes, etcd: {members: 1}}
"""
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  containers:
    - name: c
      image: busybox
      workingDir: /etc
      env: [{name: WORD, value: said}]
      command: [sh, -c, 'for i in 1 2 3; do echo line $i; done; exec busybox httpd -f -p 8080 -h /tmp']
"""
INPUT = """
apiVersion: v1
kind: Pod
metadata: {name: input}
spec:
  restartPolicy: Never
  containers: [{name: c, image: busybox, stdin: true, stdinOnce: true, command: [sh, -c, 'cat; echo end; exit 5']}]
"""


class Kubectl:
    """kubectl against a simulation, as a program of the host runs it."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        config = directory / "kubeconfig"
        config.write_text(knetsim("kubeconfig", "--name", lab.name).stdout)
        self.environment = {**os.environ, "KUBECONFIG": str(config), "HOME": str(directory)}
        self.program = str(TOOLS / "kubectl")

    def with_spdy(self) -> Kubectl:
        """The same without WebSockets."""
        made = copy.copy(self)
        switches = ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS")
        made.environment = {**self.environment, **dict.fromkeys(switches, "false")}
        return made

    def run(self, *words: str, stdin: bytes = b"", code: int = 0) -> bytes:
        """What it prints, when it ends with `code`."""
        done = subprocess.run(
            [self.program, *words], input=stdin, capture_output=True, env=self.environment, timeout=60, check=False
        )
        assert done.returncode == code, (words, done.returncode, done.stdout[-500:], done.stderr[-500:])
        return done.stdout + done.stderr

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """One that is still running."""
        return subprocess.Popen(
            [self.program, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
        )


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    if os.geteuid() != 0 or find_program("kube-apiserver") is None:
        pytest.skip("needs root and Kubernetes' programs: sudo ./utils/test")
    directory = tmp_path_factory.mktemp("kubelet-api")
    with running(SCENARIO, directory) as lab:
        made = Kubectl(lab, directory)
        made.run("apply", "-f", "-", stdin=PODS.encode())
        made.run("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        yield made


@pytest.fixture(params=["WebSocket", "SPDY"])
def either(kubectl: Kubectl, request: pytest.FixtureRequest) -> Kubectl:
    """kubectl as it is, and as it was before 1.31."""
    return kubectl if request.param == "WebSocket" else kubectl.with_spdy()


def test_exec_is_in_the_container_and_tells_its_exit_code(either: Kubectl) -> None:
    said = either.run("exec", "p", "--", "sh", "-c", "pwd; echo $WORD; hostname; exit 7", code=7)
    assert said.splitlines()[:3] == [b"/etc", b"said", b"p"]
    missing = either.run("exec", "p", "--", "nosuch", code=127)
    assert b'exec: "nosuch": executable file not found in $PATH' in missing


def test_bytes_come_back_as_they_were(either: Kubectl) -> None:
    sent = os.urandom(20_000_000)
    assert hashlib.md5(either.run("exec", "-i", "p", "--", "cat", stdin=sent)).digest() == hashlib.md5(sent).digest()


def test_many_sessions_at_once(either: Kubectl) -> None:
    with ThreadPoolExecutor(20) as clients:
        said = list(clients.map(lambda n: either.run("exec", "p", "--", "echo", str(n)), range(100)))
    assert said == [b"%d\n" % n for n in range(100)]


@pytest.mark.parametrize("floods", [False, True])
def test_a_command_ends_with_its_client(either: Kubectl, floods: bool) -> None:
    with open("/dev/zero", "rb") as zeros:
        client = either.start("exec", "-i", "p", "--", "sleep", "98765", stdin=zeros.fileno() if floods else -3)
        find = ("exec", "p", "--", "sh", "-c", "cat /proc/[0-9]*/comm | grep -cx sleep; true")
        wait_until("the command", lambda: "" if int(either.run(*find)) else "not there", 30)
        client.send_signal(signal.SIGKILL)
        client.communicate()
    wait_until("its end", lambda: "there" if int(either.run(*find)) else "", 40)


def test_the_logs_of_a_nodes_daemons_and_nothing_else_of_it(kubectl: Kubectl) -> None:
    place = "/api/v1/nodes/c0w1/proxy/logs/"
    assert b'<a href="flannel.log">flannel.log</a>' in kubectl.run("get", "--raw", place)
    assert kubectl.run("get", "--raw", f"{place}flannel.log").startswith(b"I")  # klog's letter for an information
    for other in ("resolv.conf", "..%2fC0cp%2fadmin.conf", "%2e%2e%2fC0cp%2fadmin.conf", "none.log"):
        assert b"NotFound" in kubectl.run("get", "--raw", f"{place}{other}", code=1)


def test_logs(kubectl: Kubectl) -> None:
    assert kubectl.run("logs", "p") == b"line 1\nline 2\nline 3\n"
    assert kubectl.run("logs", "p", "--tail=1") == b"line 3\n"
    assert kubectl.run("logs", "p", "--limit-bytes=8") == b"line 1\nl"
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT[\d:.]+Z line 3\n", kubectl.run("logs", "p", "--tail=1", "--timestamps"))
    refused = kubectl.run("logs", "p", "-p", code=1)
    assert b'previous terminated container "c" in pod "p" not found' in refused


def test_attach_and_its_end(either: Kubectl) -> None:
    either.run("replace", "--force", "-f", "-", stdin=INPUT.encode())
    either.run("wait", "--for=condition=Ready", "pod/input", "--timeout=50s")
    follower = either.start("logs", "-f", "input")
    assert b"hello\nend\n" in either.run("attach", "-i", "input", stdin=b"hello\n")
    either.run("wait", "--for=jsonpath={.status.phase}=Failed", "pod/input", "--timeout=30s")
    assert follower.communicate(timeout=20)[0] == b"hello\nend\n" and follower.returncode == 0


def test_files_are_copied_both_ways(either: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(os.urandom(300_000))
    either.run("cp", str(tmp_path / "there"), "p:/tmp/x")
    either.run("cp", "p:/tmp/x", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


def test_ports_are_forwarded(either: Kubectl) -> None:
    either.run("exec", "p", "--", "sh", "-c", "echo page > /tmp/index.html")
    client = either.start("port-forward", "pod/p", ":8080")
    assert client.stdout is not None
    found = re.search(rb"127\.0\.0\.1:(\d+)", client.stdout.readline())
    assert found is not None
    url = f"http://127.0.0.1:{int(found[1])}/index.html"
    try:
        with ThreadPoolExecutor(10) as clients:
            assert set(clients.map(lambda _: urllib.request.urlopen(url, timeout=20).read(), range(100))) == {b"page\n"}
    finally:
        client.kill()
        client.communicate()


def test_top(kubectl: Kubectl) -> None:
    kubectl.run("wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=30s")
    assert re.search(rb"^p +\d+m +[1-9]\d*Mi", kubectl.run("top", "pod", "-l", "app=p"), re.M)
    kubectl.run("label", "node", "c0w1", "mine=yes")
    assert re.search(rb"^c0w1 +\d+m", kubectl.run("top", "node", "-l", "mine=yes"), re.M)


def test_nobody_else_is_let_in(kubectl: Kubectl) -> None:
    url, pki = "https://10.1.1.1:10250/pods", "/tmp/knetsim/C0cp/pki"

    def ask(*options: str) -> str:
        words = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", *options, url)
        return kubectl.lab.exec("C0cp", *words, check=False).stdout

    assert ask() == "401"
    assert ask("--cert", f"{pki}/admin.crt", "--key", f"{pki}/admin.key") == "403"
    assert ask("--cert", f"{pki}/apiserver-kubelet-client.crt", "--key", f"{pki}/apiserver-kubelet-client.key") == "200"
    stranger = ("--cert", f"{pki}/front-proxy-client.crt", "--key", f"{pki}/front-proxy-client.key")
    assert ask(*stranger) == "000"
    assert ask("--tls-max", "1.1") == "000"
