"""What only the CNI plugins have: errors in their own words, files that learners look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knetsim.dataplane.pod import PodNetwork
from knetsim.errors import KnetsimError
from tests.kernel.pods import PodMaker, make_wiring, reaches

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_plugin_error_is_kept_with_its_words(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("plugins"), pod_maker.worker()
    Path(worker.directory, "flannel-subnet.env").unlink()
    pod = pod_maker.pod(worker, "c1")
    with pytest.raises(KnetsimError) as caught:
        wiring.add(worker, pod)
    assert caught.value.what == "the CNI plugin `flannel` failed on ADD"
    assert "flannel-subnet.env: no such file or directory" in caught.value.why
    kept = json.loads(Path(worker.directory, "cni/results/cbr0-uid-c1-eth0.error").read_text())
    assert kept["stdin"]["type"] == "flannel"
    assert "no such file or directory" in kept["output"]
    assert worker.netlink.links(kind="veth") == []
    pod_maker.end_pod(worker, pod)


def test_the_files_are_where_learners_look(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("plugins"), pod_maker.worker()
    pod = pod_maker.pod(worker, "c1")
    wiring.add(worker, pod)

    def files() -> set[str]:
        return {str(path.relative_to(worker.directory)) for path in Path(worker.directory).rglob("*")}

    of_pod = {"cni/networks/cbr0/11.15.64.2", "cni/flannel/uid-c1", "cni/results/cbr0-uid-c1-eth0"}
    assert files() >= of_pod | {"10-flannel.conflist", "flannel-subnet.env"}
    wiring.remove(worker, pod)
    assert not files() & of_pod


def test_clusters_may_use_the_same_addresses(wiring: PodNetwork, pod_maker: PodMaker) -> None:
    workers = [pod_maker.worker("C0w1"), pod_maker.worker("C1w1")]
    pods = [(worker, pod_maker.pod(worker, "c1")) for worker in workers]
    assert [wiring.add(*pair).ip for pair in pods] == ["11.15.64.2"] * 2
    wiring.remove(*pods[0])
    assert reaches(pods[1][1], "11.15.64.1")
    assert wiring.check(*pods[1]) == []


def test_an_edited_conflist_holds_for_the_next_pod(pod_maker: PodMaker) -> None:
    wiring, worker = make_wiring("plugins"), pod_maker.worker()
    first, second = pod_maker.pod(worker, "c1"), pod_maker.pod(worker, "c2")
    wiring.add(worker, first)
    path = Path(worker.directory, "10-flannel.conflist")
    path.write_text(path.read_text().replace('"hairpinMode": true', '"hairpinMode": true, "mtu": 1300'))
    assert wiring.add(worker, second).mtu == 1300
    path.write_text("{")
    with pytest.raises(KnetsimError, match="not JSON"):
        wiring.add(worker, pod_maker.pod(worker, "c3"))
    for pod in (first, second):
        wiring.remove(worker, pod)
    assert worker.netlink.links(kind="veth") == []
