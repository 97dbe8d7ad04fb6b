"""The second half of `bench services`: from the write of an EndpointSlice until it is in a worker's kernel.

One simulation with Kubernetes' control plane has two workers, one served by the emulator and one by the real
kube-proxy, so both hear of the same write at the same time. A Service without backends gets its slice, and the clock
stops when the Service's address is in the map of a worker's table that leads to backends: both tables have a map
`service-ips` with the same keys. Each worker is asked whenever its kernel tells that rules were changed. Without
kube-proxy or Kubernetes' control plane the emulator is measured alone.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

from knetsim.bench.apart import run_simulation
from knetsim.bench.figures import Figure, Samples
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.scenarios import build_scenario, build_service, build_slice
from knetsim.cluster import Cluster
from knetsim.control_choice import EMBEDDED, KUBERNETES, has_kubernetes
from knetsim.dataplane.services.table import KEYS, SERVICE_IPS, TABLE
from knetsim.errors import NotReady
from knetsim.node.service_proxy import EMULATOR, KUBE_PROXY
from knetsim.simulation import Simulation
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.nfnetlink import Ruleset
from knetsim.system.nfnetlink.wire import NETLINK_NETFILTER
from knetsim.system.programs import find_program

#: more Services are not written through an API server: that alone would take minutes
WRITTEN_MAX = 1000
#: slices whose way is timed, in each run
WRITES = 5
KUBE_PROXY_TABLE = "kube-proxy"
_FIRST_ADDRESS, _FIRST_BACKEND = IPv4Address("100.64.16.0"), IPv4Address("11.200.0.0")
_EVENTS_OF_NFTABLES = 1 << 6  # linux/nfnetlink_compat.h: group 7
_DEADLINE = 300.0
_LOOK_SECONDS = 1.0
_MS = 1000.0

#: seconds from a write, by number of Services and proxy; `write` is how long the write itself took
Taken = Mapping[str, Mapping[str, Sequence[float]]]


def measure_writes(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """A row for each number of Services up to WRITTEN_MAX, and one for kube-proxy's. NotReady."""
    counts = [count for count in plan.services if count <= WRITTEN_MAX]
    if not counts:
        return []
    real = has_kubernetes() and find_program(KUBE_PROXY) is not None
    proxies = (EMULATOR, KUBE_PROXY) if real else (EMULATOR,)
    workers = [{"name": f"w{number}", "proxy": proxy} for number, proxy in enumerate(proxies, 1)]
    scenario = directory / "service-writes.yaml"
    plane = KUBERNETES if real else EMBEDDED
    scenario.write_text(build_scenario(workers, agent="embedded", cni="native", control_plane=plane))
    tell(f"from a write to the kernel, with {', '.join(map(str, counts))} Services: {plan.runs} runs")
    taken = run_simulation(scenario, lambda simulation: _take(simulation, proxies, counts, plan.runs))
    return build_figures(taken)


def build_figures(taken: Taken) -> list[Figure]:
    """What it comes to; pure."""
    figures = []
    for count, seconds in taken.items():
        ours = _milliseconds(seconds[EMULATOR])
        written = _milliseconds(seconds["write"]).median
        what = f"write of an EndpointSlice → in a worker's kernel, with {count} Services"
        parts = {"write": written, "after it": ours.median - written}
        figures.append(Figure(f"services-write-{count}", what, "ms", ours, parts=parts))
        if KUBE_PROXY in seconds:
            theirs = _milliseconds(seconds[KUBE_PROXY])
            name = f"services-write-kube-proxy-{count}"
            figures.append(Figure(name, f"{what}: kube-proxy", "ms", theirs, ours, "the emulator, of the same writes"))
    return figures


def _milliseconds(seconds: Sequence[float]) -> Samples:
    return Samples.of([value * _MS for value in seconds])


# --- inside the simulation


def _take(
    simulation: Simulation, proxies: Sequence[str], counts: Sequence[int], runs: int
) -> dict[str, dict[str, list[float]]]:
    cluster, taken = simulation.clusters[0], {}
    tables = dict(zip(proxies, (TABLE, KUBE_PROXY_TABLE), strict=False))
    with ExitStack() as stack:
        watched = {
            proxy: stack.enter_context(_Kernel(worker.place, tables[proxy]))
            for proxy, worker in zip(proxies, cluster.workers, strict=True)
        }
        pool = stack.enter_context(ThreadPoolExecutor(len(watched), "watch"))
        made = 0
        for count in sorted(counts):
            for number in range(made, count):
                _write_service(cluster, number)
                _write_slice(cluster, number)
            made = max(made, count)
            for kernel in watched.values():
                kernel.wait_for(_address(made - 1))
            found: dict[str, list[float]] = {name: [] for name in ("write", *watched)}
            for _ in range(runs * WRITES):
                _write_service(cluster, made)
                _time_slice(cluster, made, watched, pool, found)
                made += 1
            taken[str(count)] = found
    return taken


def _time_slice(
    cluster: Cluster,
    number: int,
    watched: Mapping[str, _Kernel],
    pool: ThreadPoolExecutor,
    found: Mapping[str, list[float]],
) -> None:
    waiting = {proxy: pool.submit(kernel.wait_for, _address(number)) for proxy, kernel in watched.items()}
    began = time.monotonic()
    _write_slice(cluster, number)
    found["write"].append(time.monotonic() - began)
    for proxy, future in waiting.items():
        found[proxy].append(future.result() - began)


def _address(number: int) -> IPv4Address:
    return _FIRST_ADDRESS + number


def _write_service(cluster: Cluster, number: int) -> None:
    cluster.store.create(build_service(f"s{number}", str(_address(number)), 80, 8080))


def _write_slice(cluster: Cluster, number: int) -> None:
    first = _FIRST_BACKEND + 4 * number
    cluster.store.create(build_slice(f"s{number}", [str(first + 1), str(first + 2)], 8080))


class _Kernel:
    """The rules of a worker, and the kernel's word whenever they change."""

    def __init__(self, place: Namespaces, table: str) -> None:
        self._name, self._table = place.name, table
        self._ruleset = Ruleset(place)
        self._events = netns_socket(place, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._events.bind((0, _EVENTS_OF_NFTABLES))
        self._events.settimeout(_LOOK_SECONDS)

    def __enter__(self) -> _Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self._ruleset.close()
        self._events.close()

    def wait_for(self, address: IPv4Address) -> float:
        """The moment (time.monotonic) at which the Service with this address was seen to have backends. NotReady."""
        key, end = f"{address} . tcp . 80", time.monotonic() + _DEADLINE
        while True:
            if self._ruleset.has_element(self._table, SERVICE_IPS, KEYS[SERVICE_IPS], key):
                return time.monotonic()
            if time.monotonic() > end:
                raise NotReady(f"Service {address} is not in the kernel", self._name)
            self._await_change()

    def _await_change(self) -> None:
        try:
            self._events.recv(64 << 10)
        except TimeoutError:
            return  # look in any case
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # so many changes that not all of them were told
                raise
