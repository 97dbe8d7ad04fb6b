"""Pods that answer and places that ask, in a simulation with either control plane; who answered, and whom it saw.

A place asks by a process that stays there, since each command costs one. Objects are written by `py` and the socket
that `knetsim apply` uses, which both control planes have.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self

from knetsim.system import rpc
from knetsim.system.wait import wait_until
from tests.lab.lab import CHECKOUT, KNETSIM, Lab

SECONDS = 90.0
PORT = 8080
#: what a place hears that is answered by nobody
REFUSED, LOST = "refused", "lost"
#: answers on PORT, TCP and UDP, with its name and whom it sees asking; a TCP client may ask again. When it is asked to
#: end it goes on for as many seconds as its first argument says
SERVER = f"""\
import os, signal, socket, socketserver, sys, threading
def end(*_):
    threading.Timer(float(sys.argv[1]), os._exit, (0,)).start()
signal.signal(signal.SIGTERM, end)
NAME = socket.gethostname()
class Stream(socketserver.StreamRequestHandler):
    def handle(self):
        for _ in self.rfile:
            self.wfile.write(f"{{NAME}} {{self.client_address[0]}}\\n".encode())
class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(f"{{NAME}} {{self.client_address[0]}}\\n".encode(), self.client_address)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 512
threading.Thread(target=Server(("", {PORT}), Stream).serve_forever, daemon=True).start()
socketserver.UDPServer(("", {PORT}), Datagram).serve_forever()
"""
#: for each line it reads, a list of [protocol, address, port, times, patience in s], asks so and prints a list of
#: counts of answers
ASKER = """\
import collections, json, socket, sys
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
def ask(protocol, address, port, patience):
    with socket.socket(socket.AF_INET, KINDS[protocol]) as sock:
        sock.settimeout(patience)
        try:
            sock.connect((address, port))
            sock.send(b"who?\\n")
            return sock.recv(200).decode().strip() or "lost"
        except (ConnectionRefusedError, PermissionError):
            return "refused"
        except OSError as error:
            return f"lost {error}"
print("here", flush=True)
for line in sys.stdin:
    answers = [
        collections.Counter(ask(*words, patience) for _ in range(times)) for *words, times, patience in json.loads(line)
    ]
    print(json.dumps(answers), flush=True)
"""
#: asks ADDRESS PORT over TCP, PACE times a second, a connection each time, until its standard input ends; then it tells
#: the moments at which those began that failed (of CLOCK_MONOTONIC, which all places share), and how many there were
LOADER = """\
import json, socket, sys, threading, time
address, port, pace = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
failed, count, begin = [], 0, time.monotonic()
while not ended.is_set():
    if (early := begin + count / pace - time.monotonic()) > 0:
        time.sleep(early)
    began, count = time.monotonic(), count + 1
    try:
        with socket.create_connection((address, port), 2) as sock:
            sock.sendall(b"who?\\n")
            if not sock.recv(200):
                raise ConnectionError("empty")
    except OSError as error:
        failed.append([began, str(error)])
    if count == 1:
        print("begun", flush=True)
print(json.dumps([failed, count]))
"""
#: connects to ADDRESS PORT until it is NAME that answers, and then asks that connection once for each line it reads
HOLDER = """\
import socket, sys
answer = ""
while answer.split()[:1] != [sys.argv[3]]:
    stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).makefile("rw")
    print("who?", file=stream, flush=True)
    answer = stream.readline()
print("held", flush=True)
for line in sys.stdin:
    print("who?", file=stream, flush=True)
    print(stream.readline().strip() or "ended", flush=True)
"""

Question = tuple[str, str, int]


class Failure(NamedTuple):
    """A request of a load that failed: where from, when it began, and why."""

    place: str
    began: float
    why: str


class Failures(NamedTuple):
    """The requests of a load: those that failed; and how many there were."""

    failed: list[Failure]
    count: int


class Talk:
    """A process that is told lines and tells lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def has_ended(self) -> bool:
        """Whether the process is gone, as with its pod."""
        return self._process.poll() is not None

    def say(self, line: str) -> str:
        """Tell it a line; what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it has ended: {self._process.wait(SECONDS)}"
        return line.strip()

    def finish(self) -> str:
        """End its standard input; its last words."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.hear()


class ServiceLab:
    """The cluster C0 of a simulation, with pods `SERVER-…` that answer and pods `ask-NODE` that ask."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._askers: dict[str, Talk] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- objects

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create these objects, or make those that exist as these say."""
        answer, _ = rpc.call(self.lab.directory.control_socket, "apply", cluster="C0", objects=list(objects))
        assert not answer["failed"], answer["failed"]

    def delete(self, kind: str, name: str) -> None:
        """Delete an object; returns when the store knows."""
        self.lab.py(f'C0.store.delete("{kind}", "{name}", "default")')

    def serve(self, app: str, nodes: Sequence[str]) -> None:
        """Have exactly these Nodes' pods `APP-NODE` behind the Services that select `app: APP`."""
        present = [pod["name"] for pod in self.pods() if pod["name"].startswith(f"{app}-")]
        wanted = [f"{app}-{node}" for node in nodes]
        for name in set(present) - set(wanted):
            self.lab.py(f'C0.delete_pod("{name}")')
        missing = [build_server(app, node) for node in nodes if f"{app}-{node}" not in present]
        if missing:
            self.apply(*missing)
        self.wait_ready(wanted)

    def pods(self) -> list[dict[str, Any]]:
        """The pods of the namespace `default`, as the status has them."""
        return [pod for pod in self.lab.status()["clusters"][0]["pods"] if pod["namespace"] == "default"]

    def wait_ready(self, names: Iterable[str]) -> None:
        """Wait until these pods are ready."""
        wanted = set(names)

        def explain() -> str:
            ready = {pod["name"] for pod in self.pods() if pod["ready"] and pod["phase"] == "Running"}
            return ", ".join(sorted(wanted - ready))

        wait_until("pods", explain, SECONDS)

    def services(self) -> dict[str, Any]:
        """`knetsim status services` of the namespace `default`: name → Service."""
        answer, _ = rpc.call(self.lab.directory.control_socket, "services")
        return {one["name"]: one for one in answer[0]["services"] if one["namespace"] == "default"}

    # --- questions

    def ask(self, place: str, *questions: Question, times: int = 1, patience: float = 2.0) -> list[Counter[str]]:
        """For each (protocol, address, port): who answered, and whom it saw, how often: `{"web-c0w1 11.10.0.2": 3}`.

        Nobody answers who does not within `patience` seconds; TCP sends again what was lost after 1, 3 and 7.
        """
        asked = json.dumps([[*question, times, patience] for question in questions])
        if place not in self._askers or self._askers[place].has_ended():
            self._askers[place] = self._stack.enter_context(self.running(place, ASKER))
        return [Counter(one) for one in json.loads(self._askers[place].say(asked))]

    @contextmanager
    def running(self, place: str, script: str, *words: str) -> Iterator[Talk]:
        """A script that runs in `place` and talks, once it has said its first line."""
        argv = [*KNETSIM, "exec", "--name", self.lab.name, place, "--", "python3", "-u", "-c", script, *words]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
            try:
                talk = Talk(process)
                talk.hear()
                yield talk
            finally:
                process.kill()

    @contextmanager
    def load(self, address: str, pace: float, places: Sequence[str]) -> Iterator[Callable[[], Failures]]:
        """Requests to port 80 of `address` from all of `places`, `pace` a second from each; what is yielded ends them
        and says which failed."""
        with ExitStack() as stack:
            talks = [stack.enter_context(self.running(place, LOADER, address, "80", f"{pace:g}")) for place in places]

            def finish() -> Failures:
                found = [json.loads(talk.finish()) for talk in talks]
                failed = [
                    Failure(place, *each) for place, (some, _) in zip(places, found, strict=True) for each in some
                ]
                return Failures(failed, sum(count for _, count in found))

            yield finish

    def settle(self, place: str, wanted: set[str], *questions: Question) -> None:
        """Wait until each question is answered by all of `wanted` (pods, REFUSED or LOST) and by nobody else."""

        # a refusal is an ICMP message, of which the kernel sends a client one a second and six at once
        times = 1 if wanted & {REFUSED, LOST} else 8 * len(wanted)

        def explain() -> str:
            for question, found in zip(questions, self.ask(place, *questions, times=times), strict=True):
                if who(found) != wanted:
                    return f"{place} is answered {found} by {question} instead of {wanted}"
            return ""

        wait_until("the Service", explain, SECONDS)


def who(answers: Counter[str]) -> set[str]:
    """Who answered."""
    return {answer.split()[0] for answer in answers}


def build_server(app: str, node: str, linger: float = 0.0) -> dict[str, Any]:
    """A pod `APP-NODE` that answers, and after its deletion goes on doing so for `linger` seconds."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{app}-{node}", "labels": {"app": app}},
        "spec": {"nodeName": node, **build_server_spec(linger)},
    }


def build_server_spec(linger: float) -> dict[str, Any]:
    """The spec of a pod that answers."""
    container = {
        "name": "main",
        "image": "debian:12",
        "command": ["python3", "-c", SERVER, f"{linger:g}"],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    return {"terminationGracePeriodSeconds": 30, "containers": [container]}


def build_service(name: str, address: str, app: str, **spec: Any) -> dict[str, Any]:
    """Port 80 of a VIP, TCP and UDP, for the pods with the label `app`."""
    ports = [
        {"name": protocol.lower(), "protocol": protocol, "port": 80, "targetPort": PORT} for protocol in ("TCP", "UDP")
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "clusterIP": address, "ports": ports, **spec},
    }


def with_node_port(service: dict[str, Any], number: int) -> dict[str, Any]:
    """The Service with NodePort `number` for TCP and for UDP."""
    ports = [{**port, "nodePort": number} for port in service["spec"]["ports"]]
    return {**service, "spec": {"type": "NodePort", **service["spec"], "ports": ports}}
