"""`bench dataplane`: what Services cost a packet: from pod to pod, by a ClusterIP, by a NodePort.

Client and server are pods on two workers, as in `path.py`; the NodePort is asked at the client's own worker. Beside the
simulation stands the same path made by hand, with the three rules that somebody who knows `nft` would write for one
Service (`build_by_hand`), and with bridged frames shown to the packet filter, as Services need it. Each way is measured
on both sides in turn, A B B A. A request is one byte there and back. For an open connection the kernel remembers the
backend. The first packet of a connection of its own is put to all rules, and three rules know fewer cases than a
worker's: that is told, not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from knetsim.bench.apart import run_simulation
from knetsim.bench.figures import Figure, Samples, Target
from knetsim.bench.floor import Floor
from knetsim.bench.layout import Layout
from knetsim.bench.path import (
    BY_HAND,
    OURS,
    PATH_RATIO,
    PORT,
    ROUND_TRIPS,
    Ends,
    EndsMeasure,
    ask_program,
    create_pods,
    measure_throughput,
    open_pods,
)
from knetsim.bench.plan import Plan, Tell
from knetsim.bench.scenarios import build_scenario, build_service, build_slice
from knetsim.dataplane.services.table import KEYS, SERVICE_IPS, SERVICE_NODE_PORTS, TABLE
from knetsim.simulation import Simulation
from knetsim.system.nfnetlink import Ruleset
from knetsim.system.nft import apply_nft
from knetsim.system.programs import require_program
from knetsim.system.sysctl import write_sysctl
from knetsim.system.wait import wait_until

REQUESTS = 1000
VIP, NODE_PORT = "100.64.16.1", 30521
DIRECT, BY_VIP, BY_NODE_PORT = "pod", "cluster-ip", "node-port"
_WORDS = {DIRECT: "pod → pod", BY_VIP: "by a ClusterIP", BY_NODE_PORT: "by a NodePort"}
_DEADLINE = 60.0
#: samples by measure and way, then by side
_Samples = dict[str, dict[str, list[float]]]


#: of one way
_MEASURES = {
    "tcp": EndsMeasure(
        "throughput, 1 TCP stream",
        "Gbit/s",
        Target("≥", PATH_RATIO, of="ratio"),
        lambda ends: measure_throughput(ends, 1),
    ),
    "request": EndsMeasure(
        "request over an open connection",
        "µs",
        Target("≤", round(1 / PATH_RATIO, 2), of="ratio"),
        lambda ends: ask_program(ends, "ask", ROUND_TRIPS),
    ),
    "connect": EndsMeasure(
        "request over a connection of its own", "µs", None, lambda ends: ask_program(ends, "connect", REQUESTS)
    ),
}


def measure_dataplane(plan: Plan, directory: Path, tell: Tell) -> list[Figure]:
    """Throughput and requests of each way beside those of the path made by hand. MissingTool without iperf3."""
    require_program("iperf3")
    scenario = directory / "dataplane.yaml"
    scenario.write_text(build_scenario(plan.workers, agent="embedded", cni="native"))
    tell(f"Services between two of {plan.workers} workers: {plan.runs} runs, twice on each side")
    return build_figures(run_simulation(scenario, lambda simulation: _take_turns(simulation, plan, directory)))


def build_figures(samples: _Samples) -> list[Figure]:
    """A row for each measure and way; pure."""
    return [
        Figure(
            name=f"dataplane-{name}-{way}",
            what=f"{measure.what}, {words}",
            unit=measure.unit,
            measured=Samples.of(samples[f"{name} {way}"][OURS]),
            floor=Samples.of(samples[f"{name} {way}"][BY_HAND]),
            against="the same path made by hand with `ip` and `nft`",
            target=measure.target,
        )
        for name, measure in _MEASURES.items()
        for way, words in _WORDS.items()
    ]


def build_by_hand(node_address: str, pod_address: str) -> str:
    """The rules for one Service with one backend, for the client's worker; pure."""
    to_pod = f"dnat to {pod_address}:{PORT}"
    return f"""\
table ip by-hand {{
	chain prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr {VIP} tcp dport {PORT} {to_pod}
		ip daddr {node_address} tcp dport {NODE_PORT} meta mark set 0x1 {to_pod}
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x1 masquerade fully-random
	}}
}}
"""


# --- taking turns, inside the sandbox


def _take_turns(simulation: Simulation, plan: Plan, directory: Path) -> _Samples:
    with ExitStack() as stack:
        floor = Floor([Layout(plan.workers, 2)], directory / "dataplane-floor")
        stack.callback(floor.close)
        floor.build()
        sides = {OURS: _serve(simulation, stack), BY_HAND: _serve_by_hand(floor, stack)}
        samples: _Samples = {f"{name} {way}": {side: [] for side in sides} for name in _MEASURES for way in _WORDS}
        for _ in range(plan.runs):
            for name, measure in _MEASURES.items():
                for way in _WORDS:
                    for side in (OURS, BY_HAND, BY_HAND, OURS):
                        samples[f"{name} {way}"][side].append(measure.take(sides[side][way]))
        return samples


def _ways(ends: Ends, node_address: str) -> Mapping[str, Ends]:
    return {
        DIRECT: ends,
        BY_VIP: replace(ends, address=VIP),
        BY_NODE_PORT: replace(ends, address=node_address, port=NODE_PORT),
    }


def _serve(simulation: Simulation, stack: ExitStack) -> Mapping[str, Ends]:
    """Two pods of the simulation and a Service for one of them, once its rules are in the other one's worker."""
    cluster, ends = simulation.clusters[0], create_pods(simulation, stack)
    cluster.store.create(build_service("server", VIP, PORT, PORT, NODE_PORT))
    cluster.store.create(build_slice("server", [ends.address], PORT))
    worker = cluster.workers[0]
    keys = {SERVICE_IPS: f"{VIP} . tcp . {PORT}", SERVICE_NODE_PORTS: f"tcp . {NODE_PORT}"}
    with Ruleset(worker.place) as ruleset:

        def missing() -> str:
            return " and ".join(
                key for name, key in keys.items() if not ruleset.has_element(TABLE, name, KEYS[name], key)
            )

        wait_until("the Service", missing, _DEADLINE, where=worker.name)
    return _ways(ends, worker.IP())


def _serve_by_hand(floor: Floor, stack: ExitStack) -> Mapping[str, Ends]:
    """The same by hand."""
    ends, layout = open_pods(floor, stack), floor.layouts[0]
    client, *others = layout.worker_hosts()
    for host in (client, *others):
        place = floor.open(host.name)
        stack.callback(place.close)
        write_sysctl(place, {"net.bridge.bridge-nf-call-iptables": "1"}, missing_ok=True)
        if host is client:
            apply_nft(place, build_by_hand(str(client.address), ends.address))
    return _ways(ends, str(client.address))
