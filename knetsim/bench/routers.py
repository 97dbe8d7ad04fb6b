"""Two machines with a link, and a Skupper router on each: what `bench skupper` measures. Made in namespaces of its own.

The client's machine, west, reaches its router at ports that lead to the other machine, east: one to whatever serves
there at `PORT`, one to a server of ours that answers at any time, by which one sees when the routers have found each
other. A pair without routers is the same two machines: the direct path.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from knetsim.bench.path import PORT, Ends
from knetsim.dataplane.skupper import (
    Certificates,
    NeighbourLink,
    NeighbourPort,
    OfferedService,
    RouterPlan,
    ServedService,
    build_router_config,
)
from knetsim.dataplane.skupper.certificates import AUTHORITY, CERTIFICATE, KEY, build_authority, issue
from knetsim.errors import KnetsimError
from knetsim.system import netns
from knetsim.system.daemon import DaemonSpec, Supervisor
from knetsim.system.listening import is_listening
from knetsim.system.netlink import Netlink, add_address, add_veth, set_link
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.programs import require_program
from knetsim.system.wait import wait_until

EMBEDDED, REAL = "embedded", "skrouterd"
WEST, EAST = "10.99.0.1", "10.99.0.2"
ANSWERING = 5300
#: at west's router: what leads to PORT, and to ANSWERING
PORT_WEST, ANSWERING_WEST = 7001, 7002
_DEADLINE, _PATIENCE = 60.0, 0.5
_LINK = "eth0"
_PROFILE = "tls"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a pair is made of: the routers' programs, west's first, or None for the direct path; TLS between them."""

    programs: tuple[str, str] | None
    tls: bool = False

    @property
    def name(self) -> str:
        """`embedded`, `embedded-skrouterd`, `skrouterd-tls`, `direct`."""
        return "-".join([*dict.fromkeys(self.programs or ("direct",)), *(["tls"] if self.tls else [])])


class RouterPair:
    """A pair that runs. To be closed; what it has measured stays with who asked."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        """The machines and the server; `directory` is for the routers' files."""
        self.kind, self._directory = kind, directory
        directory.mkdir(parents=True)
        self._stack = ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self.west, self.east = (self._open(name) for name in ("west", "east"))
            self._connect()
            self._stack.enter_context(_answering(self.east))
            self._supervisor = Supervisor()
            self._stack.callback(self._end_routers)
            undo.pop_all()

    def close(self) -> None:
        """End the routers, and let go of the machines."""
        self._stack.close()

    @property
    def ends(self) -> Ends:
        """How the client reaches a server at east's PORT."""
        routed = self.kind.programs is not None
        return Ends(self.west, self.east, WEST if routed else EAST, PORT_WEST if routed else PORT)

    def start(self) -> float:
        """Start both routers; seconds until a request of west's is answered by the server at east."""
        assert self.kind.programs is not None, "the direct path has no routers"
        began = time.monotonic()
        for name, program, plan in zip(("west", "east"), self.kind.programs, self._plans(), strict=True):
            file = self._directory / f"{name}.json"
            file.write_text(build_router_config(plan))
            place = self.west if name == "west" else self.east
            self._supervisor.start(
                DaemonSpec(name, [*_find_router(program), "-c", str(file)], file.with_suffix(".out"), place, cwd="/")
            )
        self._wait_answer()
        return time.monotonic() - began

    def cut(self) -> float:
        """Take the machines' link away; seconds until west's router has closed the port that leads nowhere now."""
        began = time.monotonic()
        self._set_link(up=False)
        wait_until(
            "the loss of a link seen",
            lambda: "the port is open" if is_listening(self.west, ANSWERING_WEST) else "",
            _DEADLINE,
            where=self.kind.name,
        )
        return time.monotonic() - began

    def mend(self) -> float:
        """Bring the link back; seconds until a request is answered."""
        began = time.monotonic()
        self._set_link(up=True)
        self._wait_answer()
        return time.monotonic() - began

    def read_memory(self) -> list[int]:
        """Bytes that each router has resident."""
        return [self._read_memory(name) for name in ("west", "east")]

    # --- the machines

    def _open(self, name: str) -> Namespaces:
        place = netns.create_netns(name, name)
        self._stack.callback(place.close)
        return place

    def _connect(self) -> None:
        with Netlink.in_namespace(self.west) as here, Netlink.in_namespace(self.east) as there:
            here.apply([set_link(1, up=True), add_veth(_LINK, _LINK, peer_netns_fd=self.east.net)])
            there.apply([set_link(1, up=True)])
            for netlink, address in ((here, WEST), (there, EAST)):
                netlink.apply([add_address(_index(netlink), f"{address}/24"), set_link(_index(netlink), up=True)])
            for netlink in (here, there):
                netlink.settle_carrier(_LINK)

    def _set_link(self, *, up: bool) -> None:
        with Netlink.in_namespace(self.east) as netlink:
            netlink.apply([set_link(_index(netlink), up=up)])

    # --- the routers

    def _plans(self) -> list[RouterPlan]:
        """West dials; east serves."""
        ports = {"measured": (PORT_WEST, PORT), "answering": (ANSWERING_WEST, ANSWERING)}
        profiles = self._write_certificates() if self.kind.tls else {}
        west = RouterPlan(
            "west",
            links=(NeighbourLink("to-east", EAST, certificates=_PROFILE if self.kind.tls else ""),),
            offered=tuple(OfferedService(name, name, port, WEST) for name, (port, _) in ports.items()),
        )
        east = RouterPlan(
            "east",
            ports=(NeighbourPort("neighbours", host=EAST, certificates=_PROFILE if self.kind.tls else ""),),
            served=tuple(ServedService(name, name, EAST, port) for name, (_, port) in ports.items()),
        )
        return [
            replace(
                plan,
                health_port=None,
                log_file=str(self._directory / f"{plan.router}.log"),
                certificates=profiles.get(plan.router, ()),
            )
            for plan in (west, east)
        ]

    def _write_certificates(self) -> dict[str, tuple[Certificates, ...]]:
        """By which each router knows the other, of an authority of this pair's own."""
        authority = build_authority("bench")
        issued = {
            "west": issue(authority, "west", "client"),
            "east": issue(authority, "east", "server", [EAST]),
        }
        for router, pieces in issued.items():
            for piece, pem in pieces.items():
                (self._directory / f"{router}-{piece}").write_bytes(pem)
        return {
            router: (
                Certificates(
                    _PROFILE, *(str(self._directory / f"{router}-{piece}") for piece in (AUTHORITY, CERTIFICATE, KEY))
                ),
            )
            for router in issued
        }

    def _wait_answer(self) -> None:
        def missing() -> str:
            self._require_running()
            return "" if _is_answered(self.west) else f"an answer; the logs are in {self._directory}"

        wait_until("a pair of routers", missing, _DEADLINE, where=self.kind.name)

    def _require_running(self) -> None:
        for status in self._supervisor.status():
            if status.restarts or not status.running:
                raise KnetsimError(
                    f"the router {status.name} of {self.kind.name} ended",
                    why=f"{status.last_exit}\n{self._read_logs()}",
                )

    def _read_logs(self) -> str:
        files = [self._directory / f"{name}.{kind}" for name in ("west", "east") for kind in ("log", "out")]
        texts = [file.read_text(errors="replace")[-500:] for file in files if file.exists()]
        return "\n".join(filter(None, texts))

    def _read_memory(self, name: str) -> int:
        daemon = self._supervisor.get(name)
        assert daemon is not None, "it was started"
        pid = daemon.status().pid
        status = Path(f"/proc/{pid}/status").read_text() if pid else ""
        match = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        if match is None:
            raise KnetsimError(f"the router {name} of {self.kind.name} ended", why=self._read_logs())
        return int(match[1]) * 1024

    def _end_routers(self) -> None:
        for status in self._supervisor.status():
            self._supervisor.stop(status.name)
        self._supervisor.close()


def _find_router(program: str) -> list[str]:
    if program == REAL:
        return [str(require_program(REAL))]
    return [sys.executable, "-m", "knetsim.dataplane.skupper.router"]


def _index(netlink: Netlink) -> int:
    index = netlink.index(_LINK)
    assert index is not None, "just made"
    return index


def _is_answered(place: Namespaces) -> bool:
    """Whether a byte sent through west's router comes back; one that hangs is given up soon, to be tried again."""
    with netns_socket(place, socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(_PATIENCE)
        try:
            client.connect((WEST, ANSWERING_WEST))
            client.sendall(b".")
            return client.recv(1) == b"."
        except OSError:
            return False


@contextlib.contextmanager
def _answering(place: Namespaces) -> Iterator[None]:
    """A server at ANSWERING that sends back what comes first of each connection, as long as the block."""
    listener = netns_socket(place, socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", ANSWERING))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_PATIENCE)
                connection.sendall(connection.recv(64))

    thread = threading.Thread(target=serve, name="answering", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
