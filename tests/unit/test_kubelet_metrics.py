"""What nodes and the metrics API say of usage: pure parts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from knetsim.node.kubelet_api.admission import read_user
from knetsim.node.kubelet_api.remote import build_status, read_size
from knetsim.node.kubelet_api.stats import build_resource_metrics, build_summary
from knetsim.node.kubelet_api.usage import Rates, Sample, UsageWatch
from knetsim.node.metrics_api import build_metrics_objects, build_node_metrics, build_pod_metrics, read_selector
from knetsim.system.counters import InterfaceCounters, Usage

KEY = ("default", "web", "main")
POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default", "uid": "u1", "labels": {"app": "web"}},
    "status": {
        "startTime": "2026-01-01T00:00:00Z",
        "containerStatuses": [
            {"name": "main", "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}}},
            {"name": "over", "state": {"terminated": {"exitCode": 0}}},
        ],
    },
}


def sample(at: float, cpu: int, pid: int = 7, memory: int = 3 << 20) -> Sample:
    return Sample(1_700_000_000 + at, at, {KEY: Usage(cpu, memory, 2)}, {KEY: pid}, {"c0w1": Usage(2 * cpu, memory, 3)})


RATES = Rates(now=sample(12.0, 6_000_000_000), before=sample(2.0, 1_000_000_000))


def test_the_rate_is_what_was_used_between_two_samples() -> None:
    usage, rate = RATES.container(KEY)
    assert (usage.cpu, rate) == (6_000_000_000, 500_000_000)
    assert RATES.node("c0w1")[1] == 1_000_000_000
    assert RATES.container(("default", "web", "other")) == (Usage(), 0)


def test_who_is_gone_before_the_second_sample_spoils_nothing() -> None:
    class Idle:
        def runs(self) -> list[Any]:
            return []

    async def ask() -> Rates:
        watch = UsageWatch(Idle(), list)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.rates(), 0.5)
        return await watch.rates()

    assert asyncio.run(ask()).window >= 1


def test_a_container_that_was_started_again_begins_at_nothing() -> None:
    rates = Rates(now=sample(12.0, 1_000_000_000, pid=8), before=sample(2.0, 9_000_000_000, pid=7))
    assert rates.container(KEY)[1] == 100_000_000
    assert rates.node("c0w1")[1] == 0


def test_metrics_of_a_pod_hold_the_containers_that_run() -> None:
    assert build_pod_metrics(POD, RATES) == {
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "timestamp": "2023-11-14T22:13:32Z",
        "window": "10.000s",
        "containers": [{"name": "main", "usage": {"cpu": "500000000n", "memory": "3072Ki"}}],
    }
    assert build_node_metrics("c0w1", {"zone": "a"}, RATES)["usage"] == {"cpu": "1000000000n", "memory": "3072Ki"}


def test_prometheus_reads_the_resource_metrics() -> None:
    text = build_resource_metrics("c0w1", [POD], RATES)
    where = '{container="main",namespace="default",pod="web"}'
    assert f"container_cpu_usage_seconds_total{where} 6 1700000012000\n" in text
    assert f"container_start_time_seconds{where} 1767225601\n" in text
    assert 'pod_memory_working_set_bytes{namespace="default",pod="web"} 3145728 1700000012000\n' in text
    kinds = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds)) == 8 and "over" not in text


def test_the_summary_has_each_pod_s_interfaces() -> None:
    interfaces = [InterfaceCounters("eth0", 1, 2, 3, 4)]
    summary = build_summary("c0w1", [POD], RATES, {"u1": interfaces}, [])
    (pod,) = summary["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "u1"}
    assert (pod["network"]["name"], pod["network"]["rxBytes"], pod["network"]["txErrors"]) == ("eth0", 1, 4)
    assert [one["name"] for one in pod["containers"]] == ["main"]
    assert pod["cpu"]["usageNanoCores"] == 500_000_000 and summary["node"]["nodeName"] == "c0w1"


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier", False),
        ("app!=web", False),
        ("tier!=db", True),
        ("app", True),
        ("!app", False),
        ("!tier, app in (db, web)", True),
        ("app notin (db,web)", False),
        ("example.com/x=", False),
    ],
)
def test_selectors(selector: str, holds: bool) -> None:
    assert read_selector(selector)({"app": "web"}) is holds


@pytest.mark.parametrize("selector", ["=web", "app=(web)", "app in web", "app=web;", "a b"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="selector"):
        read_selector(selector)


def test_the_api_is_registered_with_the_certificate_that_vouches_for_it() -> None:
    role, service, registration = build_metrics_objects(b"PEM")
    assert registration["spec"]["caBundle"] == "UEVN" and not registration["spec"].get("insecureSkipTLSVerify")
    assert registration["spec"]["service"]["port"] == service["spec"]["ports"][0]["port"]
    assert role["rules"][0]["apiGroups"] == ["metrics.k8s.io"]


def test_exit_codes_are_told_as_kubectl_reads_them() -> None:
    assert build_status(0) == {"metadata": {}, "status": "Success"}
    failed = build_status(3)
    assert failed["reason"] == "NonZeroExitCode"
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


@pytest.mark.parametrize(
    ("said", "size"),
    [(b'{"Width":101,"Height":33}', (101, 33)), (b"{}", None), (b"[1]", None), (b"\xff", None), (b"", None)],
)
def test_sizes_of_terminals(said: bytes, size: tuple[int, int] | None) -> None:
    assert read_size(said) == size


def test_users_are_read_from_certificates() -> None:
    subject = ((("organizationName", "system:masters"),), (("commonName", "kube-apiserver-kubelet-client"),))
    assert read_user({"subject": subject}) == "kube-apiserver-kubelet-client"
    assert read_user({}) == read_user(None) == ""
