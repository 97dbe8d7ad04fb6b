"""Clients that are not let in, that stop reading or come by the hundred, and what they write that cannot be."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from knetsim.control.kubernetes.certificates import write_credentials
from knetsim.control_choice import has_kubernetes
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import knetsim, running
from tests.lab.trouble_fixture import SECONDS, Hurt, build_pod

pytestmark = pytest.mark.timeout(300)

SCENARIO = """
    apiVersion: knetsim.io/v1
    kind: Scenario
    metadata: {name: clients}
    spec:
      clusters:
        - name: C0
          workers: 1
          controlPlane: kubernetes
          etcd: {members: 1}
          podNetwork: {agent: embedded, cni: native}
    """
FIRST_PORT = 6443
PKI = "/tmp/knetsim/C0cp/pki"
#: an image of ours whose program no machine has
IMAGES = """\
| image | entrypoint | program | package |
|---|---|---|---|
| my/absent | `/usr/bin/knetsim-absent` | knetsim-absent | knetsim-absent-tools |
"""
KUBELET = "https://10.1.1.1:10250"
STREAMS, STDOUT = 200, 1
STOPPED = 10
LOG_BYTES = 30_000_000
#: what the engine may grow by while clients do not read; what they wanted is many times as much
GROWTH_KB = 64 * 1024
#: connections that are kept for later, whoever has used them; hundreds would be a leak
KEPT_FILES = 40


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """Port 6443 of this machine, taken: by this, unless by something else."""
    with socket.socket() as listener:
        # connections of before that linger are nobody who listens
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", FIRST_PORT))
            listener.listen()
        except OSError:
            pass  # by something else
        yield FIRST_PORT


@pytest.fixture(scope="module")
def cluster(taken: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hurt]:
    """One cluster with the pod `shell` for all tests."""
    if not has_kubernetes() or find_program("kubectl") is None:
        pytest.skip("Kubernetes' control plane is not installed")
    directory = tmp_path_factory.mktemp("lab")
    images = directory / "images.md"
    images.write_text(IMAGES)
    with running(SCENARIO, directory, "--images", str(images)) as lab:
        cluster = Hurt(lab)
        write = f"head -c {LOG_BYTES} /dev/zero | tr '\\0' x | fold -w 100; exec sleep 1000000"
        cluster.apply(build_pod("shell", image="busybox", command=["sh", "-c", write]))
        cluster.kubectl("wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
        yield cluster


def url(cluster: Hurt) -> str:
    """The API server's URL for programs of this machine."""
    found = cluster.lab.status()["clusters"][0]["apiServer"]
    assert isinstance(found, str)
    return found


def test_a_port_that_is_taken(cluster: Hurt, taken: int) -> None:
    """The next one that is free is said at the start, by the status and in the kubeconfig; and it works."""
    port = int(url(cluster).rpartition(":")[2])
    assert port > taken
    assert url(cluster) in cluster.lab.started
    assert url(cluster) in cluster.lab.directory.kubeconfig.read_text()
    assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"


# --- who is not let in


class TestWrongCredentials:
    def curl(self, cluster: Hurt, path: str, *words: str) -> tuple[int, str]:
        """curl's exit code and the HTTP code."""
        argv = ["curl", "-sk", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", *words, url(cluster) + path]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def test_nobody_in_particular(self, cluster: Hurt) -> None:
        assert self.curl(cluster, "/api/v1/pods") == (0, "403")

    def test_a_token_that_nobody_issued(self, cluster: Hurt) -> None:
        assert self.curl(cluster, "/api/v1/pods", "-H", "Authorization: Bearer invented") == (0, "401")

    def test_an_administrator_of_another_cluster(self, cluster: Hurt, tmp_path: Path) -> None:
        other = write_credentials(tmp_path / "pki", "C0", ["localhost", "127.0.0.1"]).admin
        pair = ("--cert", str(other.certificate), "--key", str(other.key))
        assert self.curl(cluster, "/api/v1/pods", *pair) == (0, "401")

    def test_who_trusts_another_authority(self, cluster: Hurt, tmp_path: Path) -> None:
        other = write_credentials(tmp_path / "pki", "C0", ["localhost", "127.0.0.1"])
        config = f"--certificate-authority={other.ca}"
        done = cluster.kubectl("get", "pods", config, check=False)
        assert done.returncode == 1
        assert "certificate signed by unknown authority" in done.stdout

    def test_tls_that_is_too_old(self, cluster: Hurt) -> None:
        old = ("--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
        assert self.curl(cluster, "/readyz", *old) == (35, "000")
        assert self.curl(cluster, "/readyz", "--tlsv1.2", "--tls-max", "1.2") == (0, "200")


class TestKubelet:
    def curl(self, cluster: Hurt, *words: str) -> str:
        """curl's exit code and the HTTP code, from the control plane's host."""
        argv = ["curl", "-sk", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", *words]
        done = cluster.lab.exec("C0cp", *argv, f"{KUBELET}/pods", check=False)
        return f"{done.returncode} {done.stdout.strip()}"

    def pair(self, name: str) -> tuple[str, ...]:
        return "--cert", f"{PKI}/{name}.crt", "--key", f"{PKI}/{name}.key"

    def test_only_the_api_server_is_let_in(self, cluster: Hurt) -> None:
        assert self.curl(cluster) == "0 401"
        assert self.curl(cluster, "-H", "Authorization: Bearer invented") == "0 401"
        assert self.curl(cluster, *self.pair("scheduler")) == "0 403"
        assert self.curl(cluster, *self.pair("apiserver-kubelet-client")) == "0 200"

    def test_another_authority(self, cluster: Hurt) -> None:
        """A certificate of the right name, by the authority for something else."""
        assert self.curl(cluster, *self.pair("front-proxy-client")).endswith(" 000"), "TLS ends the connection"

    def test_tls_that_is_too_old(self, cluster: Hurt) -> None:
        old = ("--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
        assert self.curl(cluster, *old, *self.pair("apiserver-kubelet-client")) == "35 000"

    def test_from_another_machine(self, cluster: Hurt) -> None:
        """A pod reaches the port, and is not let in."""
        words = ("exec", "shell", "--", "wget", "-q", "-O", "-", "--no-check-certificate", f"{KUBELET}/pods")
        assert cluster.kubectl(*words, check=False).returncode == 1


# --- who does not read


def engine_pid(cluster: Hurt) -> int:
    """The process that carries out everything, as this machine knows it."""
    return cluster.lab.host_pid(int(cluster.lab.py("__import__('os').getpid()")))


def memory_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_clients_that_stop_reading(cluster: Hurt) -> None:
    """What they do not take is not produced: a command waits, memory is bounded, and others are served."""
    engine = engine_pid(cluster)
    before, files = memory_kb(engine), open_files(engine)
    wishes = [["exec", "shell", "--", "cat", "/dev/zero"]] * STOPPED + [["logs", "-f", "shell"]] * STOPPED
    clients = [subprocess.Popen(cluster.argv(*words), stdout=subprocess.PIPE) for words in wishes]
    try:
        for client in clients:
            assert client.stdout is not None
            assert len(client.stdout.read(200_000)) == 200_000  # it is under way
            client.send_signal(signal.SIGSTOP)
        assert cluster.kubectl("exec", "shell", "--", "echo", "served").stdout == "served\n"
        assert "served" in cluster.kubectl("exec", "-i", "shell", "--", "cat", stdin="served").stdout
        wait_until("the commands' halt", lambda: explain_moving(cluster), SECONDS)
        assert memory_kb(engine) < before + GROWTH_KB
    finally:
        for client in clients:
            client.kill()
            client.wait()
            assert client.stdout is not None
            client.stdout.close()
    wait_until("the commands' end", lambda: str(sorted(readers(cluster))) if readers(cluster) else "", SECONDS)
    wait_until("closed files", lambda: explain_more(open_files(engine), files + KEPT_FILES), SECONDS)


def readers(cluster: Hurt) -> dict[str, str]:
    """The commands `cat /dev/zero` in the pod, and how many bytes each has read so far."""
    script = 'for p in /proc/[0-9]*; do read c <$p/comm; [ "$c" != cat ] || echo ${p#/proc/} $(grep rchar $p/io); done'
    lines = cluster.lab.py(f"C0.exec_pod('shell', {script!r})").splitlines()
    return {words[0]: words[2] for words in map(str.split, lines) if len(words) == 3}


def explain_moving(cluster: Hurt) -> str:
    first, second = readers(cluster), readers(cluster)
    return "" if len(first) == STOPPED and first == second else f"{first} → {second}"


def explain_more(count: int, limit: int) -> str:
    return "" if count <= limit else f"{count}, not {limit}"


# --- by the hundred


def test_exec_streams_by_the_hundred(cluster: Hurt) -> None:
    """All are open at once, each gets what is its own, and they leave nothing."""
    engine = engine_pid(cluster)
    asyncio.run(exec_many(cluster))  # threads and connections that are kept for later are there after the first round
    files = open_files(engine)
    answers = asyncio.run(exec_many(cluster))
    assert answers == [f"stream {number}" for number in range(STREAMS)]
    wait_until("closed files", lambda: explain_more(open_files(engine), files + KEPT_FILES), SECONDS)
    assert not readers(cluster)


async def exec_many(cluster: Hurt) -> list[str]:
    pki = cluster.lab.directory.path / "C0cp/pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    path = "/api/v1/namespaces/default/pods/shell/exec?command=cat&stdin=true&stdout=true"
    target = url(cluster) + path
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    open_now, everybody = 0, asyncio.Event()

    async with aiohttp.ClientSession(connector=connector) as session:

        async def exec_one(number: int) -> str:
            nonlocal open_now
            said = b""
            # pongs are not waited for, and one to a stream that has just ended would be an error here
            async with session.ws_connect(target, protocols=["v5.channel.k8s.io"], autoping=False) as stream:
                await stream.send_bytes(b"\0" + f"stream {number}".encode())
                async for message in stream:
                    if message.type is not aiohttp.WSMsgType.BINARY or message.data[0] != STDOUT:
                        continue
                    said += message.data[1:]
                    if len(message.data) > 1:
                        open_now += 1
                        if open_now == STREAMS:
                            everybody.set()
                        await everybody.wait()
                        await stream.send_bytes(b"\xff\0")  # the end of its input
            return said.decode()

        async with asyncio.timeout(120):
            return list(await asyncio.gather(*(exec_one(number) for number in range(STREAMS))))


# --- what cannot be


def test_manifests_with_unknown_fields(cluster: Hurt, tmp_path: Path) -> None:
    """Refused by kubectl and by knetsim alike, and nothing of them is there."""
    path = tmp_path / "odd.yaml"
    path.write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: odd}, data: {a: b}, datum: {c: d}}\n")
    asked = cluster.kubectl("apply", "-f", str(path), check=False)
    assert asked.returncode == 1
    assert 'unknown field "datum"' in asked.stdout
    applied = knetsim("apply", "--name", cluster.lab.name, "-f", str(path), check=False)
    assert applied.returncode == 1
    assert ".datum: field not declared in schema" in applied.stderr
    assert "NotFound" in cluster.kubectl("get", "configmap", "odd", check=False).stdout


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("nobody/has-this:1", "no row of docs/images.md names it"),
        ("my/absent", "not installed on this machine: sudo apt-get install knetsim-absent-tools"),
    ],
    ids=["no-row", "no-program"],
)
def test_images_that_cannot_be_pulled(cluster: Hurt, image: str, words: str) -> None:
    """The pod waits, and an Event says what helps."""
    cluster.apply(build_pod("waits", image=image))
    waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    cluster.kubectl("wait", "pod/waits", f"--for={waiting}=ErrImagePull", "--timeout=30s")
    uid = cluster.get("pod", "waits")["metadata"]["uid"]
    fields = f"involvedObject.uid={uid},reason=Failed"
    wait_until("the Event", lambda: explain_untold(cluster, fields, words), SECONDS)
    cluster.kubectl("delete", "pod", "waits")


def explain_untold(cluster: Hurt, fields: str, words: str) -> str:
    """What the Events say, unless it is `words`."""
    told = [event["message"] for event in cluster.get("events", "--field-selector", fields)["items"]]
    return "" if any(words in message for message in told) else str(told)
