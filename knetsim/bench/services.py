"""`bench services`: how long a worker's Services take into its kernel: all of them, one change, the first packet.

A worker's table is made beside one that `nft -f` makes of the same text in a namespace of its own; so are changes, in
turns. Of ours everything counts from the Service as data to the kernel's answer (a pure builder, the encoding, the
transaction), of nft's the program that reads the finished text. A first packet is a TCP connection from the worker to
the last Service, beside one to its backend's own address. The way from a write, and the real kube-proxy's, is
`service_writes.py`'s.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from knetsim.bench.apart import run_apart
from knetsim.bench.figures import Figure, Samples, Target
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.service_writes import measure_writes
from knetsim.dataplane.services.ports import Backend, ServicePlace, ServicePort
from knetsim.dataplane.services.rules import build_service
from knetsim.dataplane.services.table import (
    Rules,
    build_changes,
    build_difference,
    build_picks,
    build_table,
    find_picks,
)
from knetsim.dataplane.services.worker import WorkerServices
from knetsim.errors import KnetsimError
from knetsim.system import netns
from knetsim.system.netlink import Netlink, add_address, add_route, add_veth, set_link
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.run import run

#: what one change may take in one worker's kernel, in milliseconds, by how many Services there are
CHANGE_MS = {1000: 1.0, 10_000: 10.0}
#: changes of each kind, and first packets, in each run
CHANGES, CONNECTIONS = 10, 100
BACKENDS = 2
COMES, BACKEND_COMES, BACKEND_GOES, GOES = "Service comes", "backend comes", "backend goes", "Service goes"
_WORKER, _OTHER = IPv4Address("10.1.1.1"), IPv4Address("10.1.1.2")
_PODS, _VIPS = IPv4Network("11.0.0.0/8"), IPv4Network("100.64.0.0/10")
_PLACE = ServicePlace("c0w1", _WORKER, _PODS, _VIPS)
_PORT, _BACKEND_PORT = 80, 8080
_NFT_DEADLINE, _CONNECT_SECONDS = 600.0, 10.0
_MS, _US = 1000.0, 1e6
_LINGER = struct.pack("ii", 1, 0)

#: what was measured of one number of Services: name of the samples → seconds
Taken = Mapping[str, Sequence[float]]


def measure_services(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """A worker's table for each number of Services, then the way there from a write. CommandError, NotReady."""
    figures = []
    for count in plan.services:
        tell(f"{count} Services in a worker's kernel: {plan.runs} runs")
        folder = directory / f"services-{count}"
        folder.mkdir()
        figures += build_figures(count, run_apart(partial(_take, count, plan.runs, folder)))
    return figures + measure_writes(plan, directory, tell)


def build_port(number: int, backends: int = BACKENDS) -> ServicePort:
    """Service number `number`, from 0, with addresses that only it has."""
    first = _PODS.network_address + (1 << 16) + number * 4
    pods = tuple(Backend(first + place, _BACKEND_PORT, "c0w1") for place in range(backends))
    vip = _VIPS.network_address + 256 + number
    return ServicePort(
        namespace="default", service=f"s{number}", protocol="tcp", port=_PORT, cluster_ip=vip, backends=pods
    )


# --- what it comes to; pure


def build_figures(count: int, taken: Taken) -> list[Figure]:
    """Three rows for `count` Services, from the seconds that were taken."""
    full, full_floor = _scale(taken["full"], _MS), _scale(taken["full-floor"], _MS)
    kinds = (COMES, BACKEND_COMES, BACKEND_GOES, GOES)
    parts = {kind: _scale(taken[kind], _MS).median for kind in kinds}
    floor_parts = {kind: _scale(taken[f"{kind}-floor"], _MS).median for kind in kinds}
    limit = CHANGE_MS.get(count)
    return [
        Figure(
            f"services-full-{count}",
            f"the table of {count} Services, from data to a worker's kernel",
            "ms",
            full,
            full_floor,
            "`nft -f` of the same table",
        ),
        Figure(
            f"services-change-{count}",
            f"one Service more in a worker's kernel, beside {count}",
            "ms",
            _scale(taken[COMES], _MS),
            _scale(taken[f"{COMES}-floor"], _MS),
            "`nft -f` of the same change",
            Target("≤", limit) if limit else None,
            parts,
            floor_parts,
            (f"processor time: {_scale(taken[f'{COMES}-busy'], _MS).median:.2f} ms",),
        ),
        Figure(
            f"services-first-{count}",
            f"first packet to the last of {count} Services, there and back",
            "µs",
            _scale(taken["first"], _US),
            _scale(taken["first-floor"], _US),
            "to its backend's own address",
        ),
    ]


def _scale(seconds: Sequence[float], factor: float) -> Samples:
    return Samples.of([value * factor for value in seconds])


# --- taking turns, inside the sandbox


def _take(count: int, runs: int, directory: Path) -> dict[str, list[float]]:
    desired = {str(number): build_service([build_port(number)], _PLACE) for number in range(count)}
    with ExitStack() as stack:
        ours, by_hand = (_open(stack, name) for name in ("ours", "by-hand"))
        listener = _connect(stack, ours)
        floor = _ByNft(by_hand, directory)
        taken: dict[str, list[float]] = {"full": [], "full-floor": [], "first": [], "first-floor": []}
        for _ in range(runs):
            services = WorkerServices(ours, _PLACE)
            try:
                taken["full"].append(_time(lambda: services.apply(desired, ())))  # noqa: B023 - called at once
                taken["full-floor"].append(floor.time(build_table(_PLACE, desired.values())))
                _take_changes(services, floor, desired, count, taken)
                _take_first_packets(ours, listener, count - 1, taken)
                _require_sameness(services)
            finally:
                services.close()
        return taken


def _open(stack: ExitStack, name: str) -> Namespaces:
    place = netns.create_netns(name, name)
    stack.callback(place.close)
    return place


def _connect(stack: ExitStack, worker: Namespaces) -> socket.socket:
    """A second machine, which has every pod's address; where connections to all of them arrive."""
    pods = _open(stack, "pods")
    with Netlink.in_namespace(worker) as here, Netlink.in_namespace(pods) as there:
        here.apply([set_link(1, up=True), add_veth("eth0", "eth0", peer_netns_fd=pods.net)])
        for netlink, address in ((here, _WORKER), (there, _OTHER)):
            index = netlink.index("eth0")
            assert index is not None, "just made"
            netlink.apply([set_link(1, up=True), add_address(index, f"{address}/24"), set_link(index, up=True)])
        here.settle_carrier("eth0")
        there.settle_carrier("eth0")
        here.apply([add_route(str(network), via=str(_OTHER)) for network in (_PODS, _VIPS)])
    run(["ip", "route", "add", "local", str(_PODS), "dev", "lo"], place=pods)
    listener = netns_socket(pods, socket.AF_INET, socket.SOCK_STREAM)
    stack.callback(listener.close)
    listener.bind(("0.0.0.0", _BACKEND_PORT))
    listener.listen()
    return listener


class _ByNft:
    """The program nft with texts in files, in a namespace of its own."""

    def __init__(self, place: Namespaces, directory: Path) -> None:
        self._place, self._file = place, directory / "change.nft"

    def time(self, text: str) -> float:
        """Seconds that `nft -f` takes; writing the file is not part of it."""
        self._file.write_text(text)
        argv = ["nft", "-f", str(self._file)]
        return _time(lambda: run(argv, place=self._place, timeout=_NFT_DEADLINE, cwd="/"))


def _take_changes(
    services: WorkerServices, floor: _ByNft, known: Mapping[str, Rules], count: int, taken: dict[str, list[float]]
) -> None:
    """A Service comes, gets a backend more, loses it, and goes, again and again, here and there in turns."""
    desired, picks = dict(known), find_picks(known.values())
    for number in range(count, count + CHANGES):
        key = str(number)
        for kind, backends in ((COMES, BACKENDS), (BACKEND_COMES, BACKENDS + 1), (BACKEND_GOES, BACKENDS), (GOES, 0)):
            before = desired.get(key)
            port = build_port(number, backends)

            def change(key: str = key, port: ServicePort = port) -> None:
                if port.backends:
                    desired[key] = build_service([port], _PLACE)
                else:
                    del desired[key]
                services.apply(desired, [key])

            busy = time.thread_time()
            taken.setdefault(kind, []).append(_time(change))
            taken.setdefault(f"{kind}-busy", []).append(time.thread_time() - busy)
            after = desired.get(key)
            new = find_picks([after] if after else []) - picks
            picks |= new
            texts = (build_picks(new), build_changes([build_difference(before, after)]))
            taken.setdefault(f"{kind}-floor", []).append(sum(floor.time(text) for text in texts if text))


def _take_first_packets(worker: Namespaces, listener: socket.socket, last: int, taken: dict[str, list[float]]) -> None:
    port = build_port(last)
    ends = {
        "first": (str(port.cluster_ip), port.port),
        "first-floor": (str(port.backends[0].address), _BACKEND_PORT),
    }
    for _ in range(CONNECTIONS):
        for name, end in ends.items():
            taken[name].append(_time_connection(worker, end))
            listener.accept()[0].close()


def _time_connection(place: Namespaces, end: tuple[str, int]) -> float:
    """Seconds until the other end has agreed to a connection. It is reset afterwards: nothing of it lingers."""
    with netns_socket(place, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(_CONNECT_SECONDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        return _time(lambda: sock.connect(end))


def _require_sameness(services: WorkerServices) -> None:
    """What was measured was whole. KnetsimError."""
    if drift := services.find_drift():
        raise KnetsimError("the measured table is not as it was to be", why=drift)


def _time(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
