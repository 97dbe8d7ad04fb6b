"""The floor as text: what is fed to `ip`, `bridge` and `nft` for a small cluster, and for pods that come later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from knetsim.bench.batches import Stage, build_pods_stage, build_removal, build_stages
from knetsim.bench.dataplane import build_by_hand
from knetsim.bench.layout import Layout

_HERE = Path(__file__).parent / "bench"
Golden = Callable[[Path, str], None]


def show(stages: list[Stage]) -> str:
    """Each stage's script and files, one after the other."""
    parts = []
    for stage in stages:
        parts.append(f"=== {stage.name}: sh -e run.sh\n{stage.script}")
        parts += [f"--- {name}\n{text}" for name, text in stage.files.items()]
    return "\n".join(parts)


def test_a_cluster(golden: Golden) -> None:
    golden(_HERE / "cluster.txt", show(build_stages([Layout(workers=2, pods=3, others=1)])))


def test_two_clusters_share_the_top_switch_and_no_address(golden: Golden) -> None:
    layouts = [Layout(1, 0, others=0), Layout(1, 0, others=0, cluster="C1", index=1)]
    golden(_HERE / "two-clusters.txt", show(build_stages(layouts)))


def test_pods_that_come_later_and_go(golden: Golden) -> None:
    layout = Layout(workers=2, pods=0)
    pods = [layout.pod(3), layout.pod(4)]
    golden(_HERE / "pods.txt", show([build_pods_stage(pods, "pods1"), build_removal(pods, "removal2")]))


def test_every_object_is_made_once() -> None:
    layout = Layout(workers=7, pods=40)
    pods = list(layout.pod_hosts())
    assert (
        len({pod.name for pod in pods}) == len({pod.address for pod in pods}) == len({pod.veth for pod in pods}) == 40
    )
    hosts = [*layout.worker_hosts(), *layout.other_hosts()]
    assert len({host.address for host in hosts}) == len({host.port for host in hosts}) == 7 + 4
    assert all(pod.address in pod.worker.subnet for pod in pods)
    assert {pod.worker.name for pod in pods} == {worker.name for worker in layout.worker_hosts()}


def test_a_service_by_hand(golden: Golden) -> None:
    golden(_HERE / "service.nft", build_by_hand("10.1.1.1", "11.10.16.2"))
