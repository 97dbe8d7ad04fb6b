"""What the measurements read: /proc, and the lines that `knetsim up` writes as it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from knetsim.bench.dataplane import build_figures as build_dataplane_figures
from knetsim.bench.figures import Figure
from knetsim.bench.layout import Layout
from knetsim.bench.machine import count_arp_full, kernel_bytes, read_cpu_times, read_descendants, stolen_part
from knetsim.bench.plan import Plan
from knetsim.bench.pods import build_figures as build_pod_figures
from knetsim.bench.process import read_moments, read_parts
from knetsim.bench.scenarios import build_pods, build_scenario, change_parts, write_scenario
from knetsim.bench.service_writes import build_figures as build_write_figures
from knetsim.bench.services import build_figures as build_service_figures
from knetsim.bench.services import build_port
from knetsim.bench.skupper import build_figures as build_skupper_figures
from knetsim.bench.start import read_layouts
from knetsim.bench.stop import build_figures as build_stop_figures
from knetsim.cli.progress import Progress
from knetsim.scenario import read_scenario
from knetsim.system.timed import TimedLine

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
PLAN = Plan(workers=4, pods=10, runs=2, default_scenario=SCENARIOS / "default.yaml", has_real_parts=True)


# --- /proc


def test_processor_times() -> None:
    times = read_cpu_times("cpu  10 0 20 100 5 1 2 7 0 0\ncpu0 1 1 1\n")
    assert times == [10, 0, 20, 100, 5, 1, 2, 7]
    assert stolen_part(times) == 7 / 40
    assert stolen_part([0, 0, 0, 9, 9, 0, 0, 0]) is None


def test_arp_statistics_are_hexadecimal_and_per_processor() -> None:
    header = "entries  allocs   table_fulls\n"
    assert count_arp_full(header + "00000048 00000001 00000010\n00000048 00000000 00000002\n") == 18
    assert count_arp_full("entries  allocs\n00000048 00000001\n") == 0


def test_the_kernels_own_memory_leaves_caches_out() -> None:
    meminfo = {"MemTotal": 900, "Slab": 100, "SReclaimable": 60, "SUnreclaim": 40, "Percpu": 2, "VmallocUsed": 8}
    assert kernel_bytes(meminfo) == 50


def test_a_process_is_its_own_first_descendant() -> None:
    assert read_descendants(1 << 30) == [1 << 30]


# --- a start


def test_the_moments_of_a_start_are_the_last_clusters() -> None:
    lines = [
        TimedLine(0.4, "error", "[  0.1s] underlay: 14 hosts on 3 switches"),
        TimedLine(0.9, "error", "[  0.6s] C1: etcd: 3 of 3 members healthy"),
        TimedLine(1.5, "error", "[  1.2s] C0: etcd: 3 of 3 members healthy"),
        TimedLine(2.0, "error", "[  1.7s] C0: pod network: 3 workers with flanneld, CNI plugins"),
        TimedLine(2.25, "error", "✓ something else"),
        TimedLine(2.5, "error", "[  2.2s] C0: 4 pods ready"),
        TimedLine(2.5, "output", "mininet> py …"),
        TimedLine(2.75, "output", "bench: reached 7 pods in 0.0066 s"),
    ]
    moments = read_moments(lines)
    assert moments == {"underlay": 0.4, "etcd": 1.5, "pod network": 2.0, "pods": 2.5, "prompt": 2.5, "check": 2.75}
    parts = read_parts(moments)
    assert list(parts) == list(moments)
    assert sum(parts.values()) == 2.75
    assert parts["check"] == 0.25


def test_steps_are_told_as_the_breakdown_reads_them(tmp_path: Path) -> None:
    """The lines of the real progress, as it writes them into a pipe."""
    with (tmp_path / "out").open("w+") as file:
        with Progress(file) as progress:
            progress.done("C0", "etcd: 3 of 3 members healthy")
        file.seek(0)
        (line,) = file.read().splitlines()
    assert read_moments([TimedLine(1.0, "error", line)]) == {"etcd": 1.0}


# --- scenarios


def test_scenarios_of_any_size_are_sound(tmp_path: Path) -> None:
    scenario = read_scenario(write_scenario(tmp_path, 5, 12))
    assert read_layouts(scenario) == [Layout(5, 12)]
    assert {worker.cni for worker in scenario.clusters[0].workers} == {"native"}


def test_a_scenario_without_pods_has_no_manifests(tmp_path: Path) -> None:
    assert read_layouts(read_scenario(write_scenario(tmp_path, 1, 0))) == [Layout(1, 0)]


def test_workers_may_be_a_list() -> None:
    text = build_scenario([{"name": "w1", "cni": "plugins"}], agent="embedded", cni="native")
    assert yaml.safe_load(text)["spec"]["clusters"][0]["workers"] == [{"name": "w1", "cni": "plugins"}]


def test_pods_are_documents_of_their_own() -> None:
    names = [pod["metadata"]["name"] for pod in yaml.safe_load_all(build_pods(3))]
    assert names == ["p1", "p2", "p3"]


def test_the_default_scenario_with_other_parts(tmp_path: Path) -> None:
    default = SCENARIOS / "default.yaml"
    changed = tmp_path / "changed.yaml"
    changed.write_text(
        change_parts(default.read_text(), SCENARIOS, agent="embedded", cni="native", control_plane="embedded")
    )
    before, after = read_scenario(default), read_scenario(changed)
    assert read_layouts(after) == read_layouts(before)
    assert {cluster.control_plane for cluster in after.clusters} == {"embedded"}
    assert {worker.agent for cluster in after.clusters for worker in cluster.workers} == {"embedded"}
    networks = [replace(cluster.pod_network, agent="auto", cni="auto") for cluster in after.clusters]
    assert networks == [cluster.pod_network for cluster in before.clusters]


# --- figures from samples


def _by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def test_figures_of_pods() -> None:
    timings = {
        "one": {"native": [0.004, 0.006], "plugins": [0.05, 0.05], "by hand": [0.004]},
        "many": {"native": [0.002], "plugins": [0.02], "by hand": [0.001]},
        "wiring": {"native": [0.001], "plugins": [0.02]},
    }
    figures = _by_name(build_pod_figures(timings, PLAN))
    assert {name: figure.ratio for name, figure in figures.items()} == {
        "pod-one": 1.25,
        "pod-one-chain": 10.0,
        "pod-many": 2.0,
        "pod-many-chain": 10.0,
        "pod-wiring-chain": 20.0,
    }
    judged = {name: figure.met for name, figure in figures.items() if figure.target}
    assert judged == {"pod-one": True, "pod-many": True, "pod-wiring-chain": True}
    assert figures["pod-many"].measured.median == 2.0
    assert figures["pod-many"].notes == ("500 a second, against 1000",)


def test_figures_of_pods_without_plugins() -> None:
    timings = {kind: {"native": [0.004], "by hand": [0.004]} for kind in ("one", "many", "wiring")}
    assert list(_by_name(build_pod_figures(timings, PLAN))) == ["pod-one", "pod-many"]


def test_figures_of_the_end() -> None:
    ends = [{"down": 0.5, "kernel frees the rest": 2.0}]
    floors = [{"down": 0.25, "kernel frees the rest": 1.0}]
    figures = _by_name(build_stop_figures(PLAN, ends, floors))
    assert figures["stop"].measured.median == 0.5
    assert figures["stop"].met
    assert figures["stop-freed"].measured.median == 2.5
    assert figures["stop-freed"].ratio == 2.0


# --- Services

KINDS = ("Service comes", "backend comes", "backend goes", "Service goes")


def test_a_change_is_judged_where_there_is_a_target() -> None:
    names = ["full", "full-floor", "first", "first-floor", "Service comes-busy"]
    taken = {key: [0.003, 0.002, 0.004] for key in [*names, *KINDS, *(f"{kind}-floor" for kind in KINDS)]}
    full, change, first = build_service_figures(1000, {**taken, "Service comes": [0.0009]})
    assert (full.name, full.measured.median, full.ratio, full.met) == ("services-full-1000", 3.0, 1.0, None)
    assert (change.name, change.measured.median, change.met) == ("services-change-1000", 0.9, True)
    assert (list(change.parts), change.floor_parts["Service goes"]) == (list(KINDS), 3.0)
    assert (first.unit, first.measured.median) == ("µs", 3000.0)
    assert build_service_figures(1000, taken)[1].met is False
    assert build_service_figures(100, taken)[1].met is None


def test_services_have_addresses_of_their_own() -> None:
    ports = [build_port(number, 3) for number in range(300)]
    assert len({port.cluster_ip for port in ports}) == len(ports)
    assert len({backend.address for port in ports for backend in port.backends}) == 3 * len(ports)
    assert build_port(7, 2).backends == build_port(7, 3).backends[:2]


def test_a_write_has_kube_proxy_beside_it_where_there_is_one() -> None:
    ours = {"write": [0.002], "emulator": [0.005, 0.007, 0.006]}
    (alone,) = build_write_figures({"10": ours})
    assert (alone.name, alone.measured.median, alone.parts["after it"]) == ("services-write-10", 6.0, 4.0)
    _, theirs = build_write_figures({"10": {**ours, "kube-proxy": [1.2]}})
    assert (theirs.name, theirs.ratio) == ("services-write-kube-proxy-10", 200.0)


# --- Skupper

CONVERGENCE = ("start", "loss", "restored")


def build_skupper(tcp: float, request: float, memory: float = 30.0) -> dict[str, dict[str, list[float]]]:
    """What was taken of embedded routers, beside the direct path."""
    ours = {"tcp-1": tcp, "tcp-4": tcp, "request": request, "connections": 900.0}
    direct = {"tcp-1": 16.0, "tcp-4": 16.0, "request": 16.0, "connections": 9000.0}
    taken = {name: {"direct": [direct[name]], "embedded": [value]} for name, value in ours.items()}
    alone = {"idle": memory - 1.0, "loaded": memory, **dict.fromkeys(CONVERGENCE, 2.0)}
    return taken | {name: {"embedded": [value]} for name, value in alone.items()}


def test_routers_are_held_against_the_direct_path() -> None:
    figures = _by_name(build_skupper_figures(build_skupper(4.0, 160.0)))
    assert list(figures) == [
        f"skupper-{name}" for name in ("tcp-1", "tcp-4", "request", "connections", "memory", *CONVERGENCE)
    ]
    assert figures["skupper-tcp-1"].ratio == 0.25
    assert figures["skupper-request"].notes == ("the routers add 144 µs to the direct path",)
    assert figures["skupper-memory"].parts == {"before them": 29.0}
    judged = {name: figure.met for name, figure in figures.items() if figure.target}
    assert judged == {"skupper-tcp-1": True, "skupper-memory": True}


def test_tls_is_held_against_none_where_there_is_no_skrouterd() -> None:
    taken = build_skupper(4.0, 160.0)
    taken["tcp-1"]["embedded-tls"] = [1.0]
    figure = _by_name(build_skupper_figures(taken))["skupper-tcp-1-tls"]
    assert (figure.against, figure.ratio, figure.met) == ("the same without TLS", 0.25, None)


def test_routers_that_are_too_slow_or_too_large_are_told() -> None:
    figures = build_skupper_figures(build_skupper(0.3, 160.0, memory=61.0))
    assert [figure.met for figure in figures if figure.target] == [False, False]


def test_routers_are_held_against_skrouterd_where_it_is() -> None:
    taken = build_skupper(1.0, 600.0)
    theirs = {"tcp-1": 2.0, "tcp-4": 2.5, "request": 290.0, "connections": 600.0}
    for name, value in theirs.items():
        taken[name]["skrouterd"] = [value]
    for name in ("idle", "loaded", *CONVERGENCE):
        taken[name]["skrouterd"] = [40.0]
    for name, value in (("tcp-1", 2.0), ("request", 290.0)):
        taken[name] |= {"embedded-skrouterd": [value], "embedded-tls": [value / 4], "skrouterd-tls": [value]}
    figures = _by_name(build_skupper_figures(taken))
    assert {name: figure.met for name, figure in figures.items() if figure.target} == {
        "skupper-tcp-1-skrouterd": True,
        "skupper-tcp-4-skrouterd": False,
        "skupper-tcp-1-tls": False,
        "skupper-request-skrouterd": False,
        "skupper-request-tls": True,
        "skupper-memory": True,
    }
    assert [name for name in figures if name.endswith("-mixed")] == ["skupper-tcp-1-mixed", "skupper-request-mixed"]
    assert figures["skupper-request-mixed"].ratio == 1.0
    assert figures["skupper-tcp-1-tls"].ratio == 0.25
    assert figures["skupper-memory"].ratio == 0.75
    assert figures["skupper-restored"].ratio == 0.05


# --- Services by a packet


def test_ways_to_a_service_are_held_against_the_same_way_by_hand() -> None:
    sides = {"simulation": [9.7, 9.8], "by hand": [10.0, 10.0]}
    ways = [f"{name} {way}" for name in ("tcp", "request", "connect") for way in ("pod", "cluster-ip", "node-port")]
    figures = build_dataplane_figures(dict.fromkeys(ways, sides))
    assert [figure.name for figure in figures] == [f"dataplane-{way.replace(' ', '-')}" for way in ways]
    assert [figure.met for figure in figures] == [True] * 6 + [None] * 3, "more is better, then less"
