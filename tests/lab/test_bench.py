"""`knetsim bench` on the smallest sizes: it runs, its JSON has the right shape, nothing stays. Never times."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from knetsim.control_choice import has_kubernetes
from knetsim.names import HOST_STATE
from knetsim.system.programs import find_program
from tests.lab.lab import CHECKOUT, KNETSIM, knetsim

SMALL = ("--workers", "2", "--pods", "4", "--runs", "1", "-o", "json")


def run_bench(what: str, *more: str) -> dict[str, Any]:
    report = json.loads(knetsim("bench", what, *SMALL, *more, timeout=110).stdout)
    assert isinstance(report, dict)
    return report


def require_figure(figure: dict[str, Any]) -> None:
    """What every figure has."""
    assert set(figure) == {
        "name", "what", "unit", "target", "measured", "floor", "ratio", "met", "parts", "floorParts", "notes"
    }  # fmt: skip
    for samples in (figure["measured"], figure["floor"]):
        if samples is not None:
            assert samples["min"] <= samples["median"] <= samples["max"]
            assert samples["samples"]
    assert (figure["floor"] is None) == (figure["ratio"] is None)
    assert (figure["target"] is None) == (figure["met"] is None)


def names_of(report: dict[str, Any]) -> list[str]:
    return [figure["name"] for figure in report["figures"]]


def test_pods() -> None:
    report = run_bench("pods")
    assert set(report) == {"knetsim", "machine", "runs", "noise", "figures"}
    assert set(report["machine"]) == {"cores", "model", "memoryMB", "kernel", "system", "load", "stolen", "arpFull"}
    assert report["runs"] == 1
    for figure in report["figures"]:
        require_figure(figure)
        assert figure["unit"] == "ms"
    chain = [name for name in names_of(report) if name.endswith("-chain")]
    assert [name for name in names_of(report) if name not in chain] == ["pod-one", "pod-many"]
    assert chain in ([], ["pod-one-chain", "pod-many-chain", "pod-wiring-chain"])


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("memory", ["memory-worker", "memory-fixed"]),
        ("path", ["path-tcp-1", "path-tcp-4", "path-roundtrip"]),
        ("stop", ["stop", "stop-freed"]),
    ],
)
def test_others(what: str, names: list[str]) -> None:
    report = run_bench(what)
    assert names_of(report) == names
    for figure in report["figures"]:
        require_figure(figure)


def test_control() -> None:
    if not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    report = run_bench("control")
    assert names_of(report) == [
        "control-ready",
        "control-start",
        "control-memory",
        "control-deployment",
        "control-reachable",
        "control-watch",
        "control-memory-worker",
        "control-memory-fixed",
    ]
    for figure in report["figures"]:
        require_figure(figure)


def test_services() -> None:
    report = run_bench("services", "--services", "12,3")
    expected = [f"services-{kind}-{count}" for count in (3, 12) for kind in ("full", "change", "first")]
    proxies = ("", "kube-proxy-") if has_kubernetes() and find_program("kube-proxy") else ("",)
    expected += [f"services-write-{proxy}{count}" for count in (3, 12) for proxy in proxies]
    assert names_of(report) == expected
    for figure in report["figures"]:
        require_figure(figure)


def test_dataplane() -> None:
    report = run_bench("dataplane")
    ways = ("pod", "cluster-ip", "node-port")
    assert names_of(report) == [f"dataplane-{name}-{way}" for name in ("tcp", "request", "connect") for way in ways]
    for figure in report["figures"]:
        require_figure(figure)
        assert figure["floor"] is not None


def test_skupper() -> None:
    report = run_bench("skupper")
    figures = {figure["name"]: figure for figure in report["figures"]}
    measures, others = ("tcp-1", "tcp-4", "request", "connections"), ("memory", "start", "loss", "restored")
    beside = find_program("skrouterd") is not None
    expected = {f"skupper-{name}" for name in (*measures, *others)} | {"skupper-tcp-1-tls", "skupper-request-tls"}
    if beside:
        expected |= {f"skupper-{name}-skrouterd" for name in measures}
        expected |= {"skupper-tcp-1-mixed", "skupper-request-mixed"}
    assert set(figures) == expected
    for name, figure in figures.items():
        require_figure(figure)
        assert figure["measured"]["min"] > 0, name
        assert (figure["floor"] is not None) == (beside or name.removeprefix("skupper-") not in others)


def test_start() -> None:
    report = run_bench("start")
    assert [name for name in names_of(report) if name != "start-real"] == [
        "start-embedded",
        "start-sized",
        "start-host",
    ]
    sized = next(figure for figure in report["figures"] if figure["name"] == "start-sized")
    # in the order in which they were over, which is not always the same
    assert set(sized["parts"]) >= {"underlay", "etcd", "pod network", "pods", "prompt", "check"}
    assert list(sized["floorParts"]) == ["namespaces", "underlay", "workers", "pods", "check"]


def test_an_interrupt_ends_it_and_nothing_stays() -> None:
    with subprocess.Popen([*KNETSIM, "bench", "stop", *SMALL], cwd=CHECKOUT, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, start_new_session=True) as running:  # fmt: skip
        assert running.stderr is not None
        running.stderr.readline()  # it has begun
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert not Path(f"{HOST_STATE}/bench-{running.pid}").exists()
    assert list(Path("/tmp").glob(f"knetsim-bench-{running.pid}-*")) == []
