"""Hosts and their programs: what is chosen and how it is started; pure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from knetsim import names
from knetsim.errors import MissingTool, NotFound
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.etcd import build_etcd_argv
from knetsim.node.pod_network import Programs, WorkerNetwork, choose_parts, explain_choice
from knetsim.scenario import parse_scenario
from knetsim.simulation import build_hosts_file

ALL = Programs(Path("/tools/flanneld"), (Path("/cni"),))
NOTHING = Programs(None, ())


def workers(count: int, agent: str = "auto", cni: str = "auto") -> list[Any]:
    return [(cast("Any", SimpleNamespace(name=f"C0w{number}")), agent, cni) for number in range(count)]


def build_scenario(workers: int) -> str:
    spec = f"{{clusters: [{{name: C0, workers: {workers}}}]}}"
    return f"{{apiVersion: knetsim.io/v1, kind: Scenario, metadata: {{name: x}}, spec: {spec}}}"


def kinds(networks: list[WorkerNetwork]) -> set[tuple[str, str]]:
    return {(network.agent, network.cni) for network in networks}


@pytest.mark.parametrize(
    ("count", "programs", "expected"),
    [
        (10, ALL, ("flanneld", "plugins")),
        (11, ALL, ("embedded", "native")),
        (3, NOTHING, ("embedded", "native")),
        (3, Programs(None, (Path("/cni"),)), ("embedded", "plugins")),
    ],
)
def test_auto_is_real_while_there_are_few_workers(count: int, programs: Programs, expected: tuple[str, str]) -> None:
    assert kinds(choose_parts(workers(count), programs)) == {expected}


def test_what_is_demanded_is_taken_or_refused() -> None:
    assert kinds(choose_parts(workers(50, "flanneld", "plugins"), ALL)) == {("flanneld", "plugins")}
    assert kinds(choose_parts(workers(2, "embedded", "native"), ALL)) == {("embedded", "native")}
    with pytest.raises(MissingTool, match="flanneld is not installed"):
        choose_parts(workers(2, "flanneld", "native"), NOTHING)
    with pytest.raises(MissingTool, match="CNI plugins are not installed"):
        choose_parts(workers(2, "embedded", "plugins"), NOTHING)


def test_the_choice_in_words() -> None:
    mixed = choose_parts(workers(2, "flanneld") + workers(1, "embedded", "native"), ALL)
    assert explain_choice(mixed) == (
        "2 workers with flanneld, CNI plugins; 1 worker with the embedded agent, native wiring"
    )
    host = ControlPlaneHost.__new__(ControlPlaneHost)  # without its namespaces
    host.name = "C0cp"
    plane = choose_parts([(host, "embedded", "native")], ALL)
    assert explain_choice(choose_parts(workers(1), ALL) + plane) == (
        "1 worker with flanneld, CNI plugins; C0cp with the embedded agent"
    )


def test_only_the_first_member_hurries_its_election() -> None:
    members = {"C0e1": "10.1.0.1", "C0e2": "10.1.0.2"}
    first = build_etcd_argv("etcd", "C0e1", "10.1.0.1", members, "C0", "/data")
    second = build_etcd_argv("etcd", "C0e2", "10.1.0.2", members, "C0", "/data")
    assert "--initial-election-tick-advance=true" in first
    assert "--initial-election-tick-advance=false" in second
    assert "--initial-cluster=C0e1=http://10.1.0.1:2380,C0e2=http://10.1.0.2:2380" in second
    assert "--listen-client-urls=http://0.0.0.0:2379,unix://client:0" in second


def test_every_host_knows_every_other_by_both_names() -> None:
    text = build_hosts_file(parse_scenario(build_scenario(workers=1)))
    assert "10.1.1.1 C0w1 c0w1\n" in text
    assert "10.1.0.1 C0e1 c0e1\n" in text
    assert "10.1.0.10 C0cp c0cp\n" in text


def test_names_of_pods_never_meet() -> None:
    assert names.pod_netns("C0", "default", "c1") == "k0_c1"
    assert names.pod_netns("C0", "web", "c1") == "k0_web_c1"
    assert len(names.pod_veth("default", "c1", "uid")) <= names.INTERFACE_NAME_MAX
    assert names.pod_veth("default", "c1", "a") != names.pod_veth("default", "c1", "b")


def test_a_worker_is_found_by_any_of_its_names() -> None:
    spec = parse_scenario(build_scenario(workers=2)).clusters[0]
    assert {spec.worker(name).name for name in ("w1", "C0w1", "c0w1")} == {"w1"}
    with pytest.raises(NotFound):
        spec.worker("w3")
