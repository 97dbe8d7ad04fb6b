"""What there is around the prompt: names for examples, and what a mistyped line may have meant."""

from __future__ import annotations

from collections.abc import Collection

from knetsim.cli.mistakes import Known, PodHome
from knetsim.cli.prompt_help import Names
from knetsim.cluster import Cluster
from knetsim.control_planes import KubernetesPlane
from knetsim.names import cluster_switch
from knetsim.node.worker import Worker
from knetsim.simulation import Simulation
from knetsim.system.invocation import enter_as_typed


def read_names(simulation: Simulation) -> Names:
    """Names that examples may speak of."""
    cluster = simulation.clusters[0]
    worker = cluster.workers[0]
    others = [*cluster.workers[1:], *(host for host in simulation.net.hosts if host is not worker)]
    pod = next(iter(worker.containers), "c1")
    return Names(worker.name, others[0].name, pod, cluster.name, cluster_switch(cluster.name))


def build_greeting(simulation: Simulation) -> str:
    """What a newcomer may type first, here and in another terminal."""
    worker, pod = simulation.clusters[0].workers[0], read_names(simulation).pod
    name = "" if simulation.name == simulation.scenario.name else simulation.name
    return (
        f'Try:  {worker.name} ip addr  |  py {worker.name}.exec_container("{pod}", "ip addr")  |  status  |  help\n'
        f"From another terminal:  {enter_as_typed(worker.cluster_id, worker.short_name, pod, name)}"
    )


def read_known(simulation: Simulation, commands: Collection[str], python: Collection[str]) -> Known:
    """What a mistyped line may have meant."""
    first = simulation.clusters[0]
    calls = {name: first.name for name in vars(Cluster) if not name.startswith("_")}
    calls |= {name: first.workers[0].name for name in vars(Worker) if not name.startswith("_")}
    hosts = {cluster.name: _hosts_of(simulation, cluster) for cluster in simulation.clusters}
    return Known(commands, list(simulation.net), hosts, python, calls, lambda name: _find_pod(simulation, name))


def _hosts_of(simulation: Simulation, cluster: Cluster) -> list[str]:
    """Its workers first, then those of etcd and of the control plane."""
    workers = [worker.name for worker in cluster.workers]
    others = [host.name for host in simulation.net.hosts if host.name not in workers and cluster.owns_host(host.name)]
    return workers + others


def _find_pod(simulation: Simulation, name: str) -> PodHome | None:
    """The pod of that name in the namespace `default` of the first cluster that has one."""
    for number, cluster in enumerate(simulation.clusters):
        for worker in cluster.workers if name in cluster.pod_addresses() else ():
            if name in worker.containers:
                kubectl = f"kubectl -c {cluster.name}" if number else "kubectl"
                return PodHome(worker.name, kubectl if isinstance(cluster.plane, KubernetesPlane) else "")
    return None
