"""What is still missing of a workload, in words."""

from __future__ import annotations

from typing import Any

import pytest

from knetsim.rollout import explain_rollout


def workload(kind: str, spec: Any, status: Any, generation: int = 2) -> Any:
    return {"kind": kind, "metadata": {"name": "web", "generation": generation}, "spec": spec, "status": status}


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"])
def test_replicas(kind: str) -> None:
    seen = {"observedGeneration": 2}
    assert explain_rollout(workload(kind, {"replicas": 3}, {**seen, "readyReplicas": 3})) == ""
    assert explain_rollout(workload(kind, {"replicas": 3}, {**seen, "readyReplicas": 1})) == "1 of 3 pods are ready"
    assert explain_rollout(workload(kind, {"replicas": 0}, seen)) == ""


def test_daemons() -> None:
    status = {"observedGeneration": 2, "desiredNumberScheduled": 3, "numberReady": 2}
    assert explain_rollout(workload("DaemonSet", {}, status)) == "2 of 3 pods are ready"
    assert explain_rollout(workload("DaemonSet", {}, {**status, "numberReady": 3})) == ""


def test_what_its_controller_has_not_seen_counts_for_nothing() -> None:
    status = {"observedGeneration": 1, "readyReplicas": 3}
    assert "has not seen it" in explain_rollout(workload("Deployment", {"replicas": 3}, status))
