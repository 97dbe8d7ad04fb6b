"""The embedded agent, the real flanneld, and both in one cluster: packets between pods, and the same kernel state."""

from __future__ import annotations

from itertools import permutations

import pytest

from knetsim.dataplane.overlay.lease import HOST_GW, VXLAN
from knetsim.system.ping import ping


def assert_all_reach_all(pods) -> None:
    for one in pods:
        others = [pod.address for pod in pods if pod is not one]
        times = ping(one.place, others)
        assert all(times.values()), times


@pytest.mark.parametrize("backend", [VXLAN, HOST_GW])
def test_embedded(lab, backend: str) -> None:
    lab.configure(backend)
    workers = lab.add_workers(3)
    lab.start_agent(workers)
    lab.wait_ready(*workers)
    assert_all_reach_all([lab.add_pod(worker) for worker in workers])
