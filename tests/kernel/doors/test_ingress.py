"""A real nginx on a worker, kept by the controller as Ingresses say; asked from outside the cluster."""

from __future__ import annotations

import base64
import http.client
import http.server
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from knetsim.api.etcd_store import EtcdStore
from knetsim.node.ingress import Ingresses, IngressWorker
from knetsim.node.ingress_nginx import WorkerNginx
from knetsim.node.ingress_objects import IngressPlaces, build_pinned
from knetsim.node.service_objects import SERVICE_NAME
from knetsim.system.daemon import Supervisor
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.certificates import issue
from tests.kernel.services.lab import ServicesLab
from tests.memory_etcd import MemoryEtcd

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(find_program("nginx") is None, reason="no nginx on this machine"),
]

SECONDS = 30.0
HTTP, HTTPS = 8001, 8443


class Handler(http.server.BaseHTTPRequestHandler):
    """Says who it is, and what it was asked."""

    server: Server

    def do_GET(self) -> None:
        if self.path == "/slow":
            self._stream()
            return
        text = f"{self.server.name} {self.path} {self.headers.get('X-Forwarded-Proto')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self) -> None:
        """Half of the answer; the other half when the test says so."""
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"half")
        self.server.half_sent.set()
        self.server.go_on.wait(SECONDS)
        self.wfile.write(b"half")

    def do_POST(self) -> None:
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        text = str(size).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Server(http.server.ThreadingHTTPServer):
    """Listens in a pod's namespace."""

    daemon_threads = True

    def __init__(self, name: str, place: Namespaces, port: int) -> None:
        self.name, self.half_sent, self.go_on = name, threading.Event(), threading.Event()
        super().__init__(("0.0.0.0", port), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = netns_socket(place, socket.AF_INET, socket.SOCK_STREAM)
        self.server_bind()
        self.server_activate()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Without a look at the host's names."""
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.name, self.server_address[1]

    def end(self) -> None:
        self.go_on.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


@dataclass
class Door:
    """A worker with a controller, and a store to write Ingresses into."""

    lab: ServicesLab
    store: EtcdStore
    agent: Ingresses
    supervisor: Supervisor
    directory: Path
    told: list[tuple[str, str, str]]
    stack: ExitStack

    def serve(self, name: str) -> Server:
        """A headless Service `name` with one pod that answers."""
        pod = self.lab.pod(name, self.lab.w1)
        server = Server(name, pod.place, 8080)
        self.stack.callback(server.end)
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        metadata = {"name": name}
        spec = {"clusterIP": "None", "ports": ports}
        endpoints = [{"addresses": [pod.ip], "conditions": {"ready": True}}]
        self.store.create(
            {
                "kind": "EndpointSlice",
                "apiVersion": "discovery.k8s.io/v1",
                "metadata": {"name": f"{name}-1", "labels": {SERVICE_NAME: name}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": endpoints,
            }
        )
        self.store.create({"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec})
        return server

    def write(self, name: str, *paths: tuple[str, str], host: str = "", **more: Any) -> dict[str, Any]:
        """An Ingress with these paths, each (path, Service), and wait until it is looked at."""
        annotations = more.pop("annotations", {})
        match = more.pop("match", "Prefix")
        found = [
            {"path": path, "pathType": match, "backend": {"service": {"name": service, "port": {"number": 80}}}}
            for path, service in paths
        ]
        rule = {"http": {"paths": found}} | ({"host": host} if host else {})
        ingress = {
            "kind": "Ingress",
            "apiVersion": "networking.k8s.io/v1",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"rules": [rule], **more},
        }
        written = self.store.create(ingress)
        self.agent.wait_seen(written, SECONDS)
        return written

    def ask(self, path: str, host: str = "any", *, secure: bool = False, body: bytes | None = None) -> str:
        """`STATUS body` of an answer, or `STATUS`, from a machine outside the cluster."""
        port = HTTPS if secure else HTTP
        connection = http.client.HTTPConnection(host, port)
        sock = netns_socket(self.lab.out.place, socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(SECONDS)
        sock.connect((self.lab.w1.address, port))
        if secure:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock, server_hostname=host)
        connection.sock = sock
        try:
            connection.request("POST" if body else "GET", path, body=body, headers={"Host": host})
            answer = connection.getresponse()
            text = answer.read().decode()
            return f"{answer.status} {text}" if answer.status == 200 else str(answer.status)
        finally:
            connection.close()

    def subject(self, host: str) -> str:
        """The certificate that is shown for a host, as PEM."""
        sock = netns_socket(self.lab.out.place, socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(SECONDS)
        sock.connect((self.lab.w1.address, HTTPS))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(sock, server_hostname=host) as secure:
            shown = secure.getpeercert(binary_form=True)
            assert shown is not None
            return ssl.DER_cert_to_PEM_cert(shown)


@pytest.fixture
def door(lab: ServicesLab) -> Iterator[Door]:
    with tempfile.TemporaryDirectory(prefix="kn-") as directory, ExitStack() as stack:
        store = EtcdStore(MemoryEtcd())
        stack.callback(store.close)
        store.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}})
        supervisor = Supervisor()
        stack.callback(supervisor.close)
        path = Path(directory, "nginx")
        path.parent.chmod(0o755)  # as in a simulation: nginx's worker process is not root
        nginx = WorkerNginx("C0w1", lab.w1.place, path, supervisor)
        told: list[tuple[str, str, str]] = []
        agent = Ingresses(
            "C0",
            store,
            [IngressWorker("c0w1", lab.w1.address, nginx)],
            IngressPlaces(frozenset({"c0w1"}), ("c0w1",), HTTP, HTTPS),
            tell=lambda obj, reason, message: told.append((obj["metadata"]["name"], reason, message)),
        )
        agent.start()
        stack.callback(agent.stop)
        yield Door(lab, store, agent, supervisor, path, told, stack)


def test_paths_lead_to_services_and_the_status_says_where(door: Door) -> None:
    door.serve("web")
    door.serve("shop")
    door.write("ing", ("/", "web"), ("/shop", "shop"), host="www.example.com")
    assert door.ask("/x", "www.example.com") == "200 web /x http"
    assert door.ask("/shop", "www.example.com") == "200 shop /shop http"
    assert door.ask("/shop/a?b=c", "www.example.com") == "200 shop /shop/a?b=c http"
    assert door.ask("/shopping", "www.example.com") == "200 web /shopping http"
    assert door.ask("/", "other.example.com") == "404"

    def missing() -> str:
        status = door.store.get("Ingress", "ing").get("status") or {}
        found = (status.get("loadBalancer") or {}).get("ingress")
        ports = [{"port": HTTP, "protocol": "TCP"}, {"port": HTTPS, "protocol": "TCP"}]
        wanted = [{"ip": door.lab.w1.address, "ports": ports}]
        return "" if found == wanted else f"the status is {found}"

    wait_until("the status", missing, SECONDS)
    assert door.agent.problems() == []


def test_a_wildcard_stands_for_one_label(door: Door) -> None:
    door.serve("web")
    door.write("ing", ("/", "web"), host="*.example.com")
    assert door.ask("/", "a.example.com") == "200 web / http"
    assert door.ask("/", "a.b.example.com") == "404"
    assert door.ask("/", "example.com") == "404"


def test_a_rewrite_takes_groups_of_the_path(door: Door) -> None:
    door.serve("web")
    rewrite = {"nginx.ingress.kubernetes.io/rewrite-target": "/$2"}
    door.write("ing", ("/shop(/|$)(.*)", "web"), annotations=rewrite, match="ImplementationSpecific")
    assert door.ask("/shop/a/b") == "200 web /a/b http"
    assert door.ask("/SHOP") == "200 web / http"
    assert door.ask("/other") == "404"


def test_a_service_that_is_missing_answers_503_until_it_is_there(door: Door) -> None:
    door.serve("web")
    door.write("ing", ("/", "web"), ("/late", "late"))
    assert door.ask("/late") == "503"
    assert door.ask("/") == "200 web / http"
    what = "there is no Service default/late: its paths answer 503"
    assert door.told == [("ing", "ServiceNotFound", what)]
    assert door.agent.problems() == [("Ingress C0/default/ing", what)]
    door.serve("late")
    wait_until("the Service", lambda: "" if door.ask("/late") == "200 late /late http" else "503", SECONDS)
    wait_until("no problem", lambda: str(door.agent.problems() or ""), SECONDS)
    slices = door.store.get("EndpointSlice", "late-1")
    door.store.update({**slices, "endpoints": []})
    wait_until("nobody", lambda: "" if door.ask("/late") == "503" else "an answer", SECONDS)


def test_of_two_that_claim_a_path_the_older_has_it_until_it_goes(door: Door) -> None:
    door.serve("web")
    door.serve("shop")
    first = door.write("a-first", ("/x", "web"))
    second = door.write("b-second", ("/x", "shop"), ("/y", "shop"))
    # within one second the name decides
    assert first["metadata"]["creationTimestamp"] <= second["metadata"]["creationTimestamp"]
    assert door.ask("/x") == "200 web /x http"
    assert door.ask("/y") == "200 shop /y http", "what nobody else claims is served"
    assert [told[:2] for told in door.told] == [("b-second", "PathTaken")]
    door.store.delete("Ingress", "a-first")
    wait_until("the younger", lambda: "" if door.ask("/x") == "200 shop /x http" else "the older", SECONDS)


def test_what_nginx_does_not_take_is_left_out(door: Door) -> None:
    door.serve("web")
    door.write("good", ("/good", "web"))
    regex = {"nginx.ingress.kubernetes.io/use-regex": "true"}
    door.write("bad", ("/bad(", "web"), annotations=regex, match="ImplementationSpecific")
    assert [told[:2] for told in door.told] == [("bad", "Rejected")]
    assert "missing" in door.told[0][2], "nginx's own words"
    door.write("better", ("/better", "web"))
    assert door.ask("/good") == "200 web /good http"
    assert door.ask("/better") == "200 web /better http"
    assert len(door.told) == 1, "it is told once"


def write_secret(door: Door, name: str, chain: bytes, key: bytes) -> None:
    data = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
    door.store.create({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}, "data": data})


def test_certificates_of_hosts_and_one_that_is_none(door: Door) -> None:
    door.serve("web")
    chain, key = issue("a.example.com")
    write_secret(door, "sound", chain, key)
    write_secret(door, "broken", b"nonsense", key)
    door.write("a", ("/", "web"), host="a.example.com", tls=[{"hosts": ["a.example.com"], "secretName": "sound"}])
    door.write("b", ("/", "web"), host="b.example.com", tls=[{"hosts": ["b.example.com"], "secretName": "broken"}])
    assert [told[:2] for told in door.told] == [("b", "BadCertificate")]
    assert door.subject("a.example.com") == chain.decode()
    common = door.subject("b.example.com")
    assert common != chain.decode()
    assert door.subject("c.example.com") == common
    assert door.ask("/", "a.example.com", secure=True) == "200 web / https"
    assert door.ask("/", "b.example.com", secure=True) == "200 web / https"
    assert door.ask("/", "a.example.com") == "308", "from HTTP to HTTPS"
    assert door.ask("/", "b.example.com") == "200 web / http"
    # another certificate in the same Secret is shown from then on
    renewed, new_key = issue("a.example.com")
    secret = door.store.get("Secret", "sound")
    data = {"tls.crt": base64.b64encode(renewed).decode(), "tls.key": base64.b64encode(new_key).decode()}
    door.store.update({**secret, "data": data})
    wait_until("the new one", lambda: "" if door.subject("a.example.com") == renewed.decode() else "the old", SECONDS)


def test_a_reload_drops_no_connection(door: Door) -> None:
    server = door.serve("web")
    door.write("ing", ("/", "web"))
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(door.ask("/slow")))
    asking.start()
    assert server.half_sent.wait(SECONDS)
    before = _read_pid(door)
    door.write("more", ("/more", "web"))
    assert door.ask("/more") == "200 web /more http"
    assert not answers
    server.go_on.set()
    asking.join(SECONDS)
    assert answers == ["200 halfhalf"]
    assert _read_pid(door) == before, "the same process"


def _read_pid(door: Door) -> int | None:
    daemon = door.supervisor.get("C0w1/nginx")
    return daemon.status().pid if daemon is not None else None


def test_requests_under_way_while_ingresses_change_all_succeed(door: Door) -> None:
    door.serve("web")
    door.write("ing", ("/", "web"))
    failed: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            if (answer := door.ask("/")) != "200 web / http":
                failed.append(answer)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    for number in range(5):
        door.write(f"more-{number}", (f"/more-{number}", "web"))
    ended.set()
    for client in clients:
        client.join(SECONDS)
    assert failed == []


def test_a_large_body_passes_when_the_ingress_allows_it(door: Door) -> None:
    door.serve("web")
    door.write("small", ("/small", "web"))
    door.write("large", ("/large", "web"), annotations={"nginx.ingress.kubernetes.io/proxy-body-size": "8m"})
    body = b"x" * (2 << 20)
    assert door.ask("/small", body=body) == "413"
    assert door.ask("/large", body=body) == f"200 {len(body)}"


def test_a_pinned_port_is_opened_changed_and_closed(door: Door) -> None:
    door.serve("web")
    address = door.store.get("EndpointSlice", "web-1")["endpoints"][0]["addresses"][0]
    pinned = build_pinned("grp1", "c0w1", 8002, [{"path": "/svc1", "endpoint": f"{address}:8080"}])
    assert door.agent.wait_seen(door.store.create(pinned), SECONDS) == []
    with netns_socket(door.lab.out.place, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(SECONDS)
        sock.connect((door.lab.w1.address, 8002))
        sock.sendall(b"GET /svc1/x HTTP/1.0\r\n\r\n")
        assert sock.makefile("rb").read().endswith(b"web /svc1/x http")
    door.store.delete("Ingress", "grp1")

    def missing() -> str:
        return "" if _read_pid(door) is None else "nginx runs without an Ingress"

    wait_until("the end of nginx", missing, SECONDS)


def test_an_nginx_that_is_killed_comes_back(door: Door) -> None:
    door.serve("web")
    door.write("ing", ("/", "web"))
    before = _read_pid(door)
    door.supervisor.restart("C0w1/nginx")

    def missing() -> str:
        if _read_pid(door) in (before, None):
            return "the next process"
        try:
            return "" if door.ask("/") == "200 web / http" else "an answer"
        except OSError as error:
            return str(error)

    wait_until("nginx", missing, SECONDS)


def test_a_foreign_class_is_nobodys_business_here(door: Door) -> None:
    door.serve("web")
    other = {"kind": "IngressClass", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "other"}}
    door.store.create({**other, "spec": {"controller": "example.com/other"}})
    door.write("ours", ("/ours", "web"), ingressClassName="nginx")
    theirs = {
        "kind": "Ingress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "theirs"},
        "spec": {
            "ingressClassName": "other",
            "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
        },
    }
    door.store.create(theirs)
    door.write("more", ("/more", "web"))
    assert door.ask("/ours") == "200 web /ours http"
    assert door.ask("/theirs") == "404"
    assert not (door.store.get("Ingress", "theirs").get("status") or {}).get("loadBalancer")


def test_a_port_that_is_taken_holds_up_the_start_of_nothing(door: Door) -> None:
    door.serve("web")
    with netns_socket(door.lab.w1.place, socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("0.0.0.0", HTTP))
        taken.listen()
        ingress = {
            "kind": "Ingress",
            "apiVersion": "networking.k8s.io/v1",
            "metadata": {"name": "ing"},
            "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
        }
        written = door.store.create(ingress)
        door.agent.wait_ready()
        (problem,) = door.agent.problems()
        assert "bind() to 0.0.0.0:8001 failed" in problem[1]
    assert door.agent.wait_seen(written, 2 * SECONDS) == []
    assert door.ask("/") == "200 web / http"
