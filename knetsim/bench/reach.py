"""Whether the pods of a simulation reach each other, asked from inside: at its prompt, or by a measurement in it."""

from __future__ import annotations

import time

from knetsim.bench.floor import check_pods
from knetsim.cluster import Cluster
from knetsim.names import DEFAULT_NAMESPACE
from knetsim.simulation import Simulation
from knetsim.system.netns import Namespaces

#: how the line at the prompt begins that says that all is well
REACHED = "bench: reached"
#: what is typed at the prompt to have it said
LINE = "py __import__('knetsim.bench.reach', fromlist=['explain_reach']).explain_reach(sim)"


def explain_reach(simulation: Simulation) -> str:
    """Have every pod answer a pod of another worker of its cluster, and say how many did. NotReady names others."""
    began = time.monotonic()
    pods = sum(check_cluster(cluster) for cluster in simulation.clusters)
    return f"{REACHED} {pods} pods in {time.monotonic() - began:.4f} s"


def check_cluster(cluster: Cluster) -> int:
    """Have every pod of a cluster answer a pod of another worker; how many did. NotReady names those that did not."""

    def open_pod(name: str) -> Namespaces:
        return cluster.kubelet.exec_place(DEFAULT_NAMESPACE, name)

    assert cluster.pods is not None, "the cluster runs"
    pods = [
        (pod["metadata"]["name"], pod["spec"]["nodeName"], pod["status"]["podIP"])
        for pod in cluster.pods.items()
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return check_pods(sorted(pods), open_pod)
