"""What `knetsim status` shows of a cluster: read from objects, daemons and the kernel; nothing is kept."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from knetsim import names
from knetsim.api.objects import parse_time
from knetsim.assembly import ClusterAssembly
from knetsim.cluster_dns import find_dns_address
from knetsim.control.embedded import is_ready
from knetsim.dataplane.pod import BRIDGE
from knetsim.node.etcd import read_health
from knetsim.node.worker import Worker
from knetsim.service_status import find_unmatched
from knetsim.status import (
    AgentState,
    ClusterState,
    EtcdState,
    MemberState,
    OrphanState,
    PodNetworkState,
    PodProblem,
    PodState,
    ProblemState,
    ServiceProblem,
    WorkerState,
)
from knetsim.system.netns import entered

_HEALTH_SECONDS = 1.0


def read_cluster(cluster: ClusterAssembly) -> ClusterState:
    """The cluster as it is now."""
    pods = [_read_pod(cluster, pod) for pod in cluster.pods.items()] if cluster.pods else []
    agents = _read_agents(cluster)
    config = cluster.spec.pod_network
    backend, host = config.backend, names.control_plane_host(cluster.name)
    network: PodNetworkState = {
        "backend": backend.type,
        "vni": getattr(backend, "vni", 0),
        "port": getattr(backend, "port", 0),
        "network": str(config.network),
        "leases": sum(1 for agent in agents if agent["lease"]),
        "agentStates": agents,
    }
    return {
        "name": cluster.name,
        "controlPlane": cluster.control_plane,
        "controlPlaneDaemons": [daemon for name in cluster.daemon_names(host) if (daemon := cluster.daemon(name))],
        "controlPlaneProblems": cluster.read_control_plane_problems(),
        "dnsServer": cluster.dns_server,
        "dnsAddress": find_dns_address(cluster.spec, cluster.dns_server),
        "apiServer": cluster.read_api_server(),
        "etcd": _read_etcd(cluster),
        "workers": [_read_worker(cluster, worker, pods, agents) for worker in cluster.workers],
        "pods": sorted(pods, key=lambda pod: (pod["namespace"], pod["name"])),
        "podNetwork": network,
        "serviceProblems": _read_service_problems(cluster),
        "addonProblems": [
            {"object": name, "what": what} for addon in cluster.addons for name, what in addon.problems()
        ],
        "notSimulated": _read_not_simulated(cluster),
    }


def _read_etcd(cluster: ClusterAssembly) -> EtcdState:
    leaders = (
        {status.name for status in cluster.etcd.status(_HEALTH_SECONDS) if status.leader} if cluster.etcd else set()
    )
    members: list[MemberState] = []
    for member in cluster.members:
        daemon = cluster.daemon(member.daemon_name)
        members.append(
            {
                "name": member.name,
                "host": member.name,
                "address": member.address,
                "pid": daemon["pid"] if daemon else None,
                "healthy": not read_health(names.etcd_socket(member.name), _HEALTH_SECONDS),
                "restarts": daemon["restarts"] if daemon else 0,
                "leader": member.name in leaders,
            }
        )
    return {"healthy": sum(member["healthy"] for member in members), "members": members}


def _read_worker(
    cluster: ClusterAssembly, worker: Worker, pods: list[PodState], agents: list[AgentState]
) -> WorkerState:
    node = cluster.nodes.get(None, worker.node_name) if cluster.nodes else None
    choice = cluster.choices.get(worker.name)
    lease = next((agent["lease"] for agent in agents if agent["worker"] == worker.name), "")
    daemons = [cluster.daemon(name) for name in cluster.daemon_names(worker.name)]
    return {
        "name": worker.name,
        "node": worker.node_name,
        "address": worker.address,
        "ready": node is not None and is_ready(node),
        "agent": choice.agent if choice else "",
        "cni": choice.cni if choice else "",
        "proxy": cluster.spec.worker(worker.name).proxy,
        "podSubnet": lease,
        "pods": sum(pod["worker"] == worker.name for pod in pods),
        "daemons": [daemon for daemon in daemons if daemon],
    }


def _read_agents(cluster: ClusterAssembly) -> list[AgentState]:
    if not cluster.network:
        return []
    return [
        {
            "worker": row.worker,
            "agent": cluster.choices[row.worker].agent,
            "healthy": bool(row.subnet) and not row.error,
            "lease": row.subnet,
            "repairs": row.repairs,
            "detail": row.error,
        }
        for row in cluster.network.status()
    ]


def _read_service_problems(cluster: ClusterAssembly) -> list[ServiceProblem]:
    if cluster.proxies is None:
        return []
    rules = cluster.proxies.rules
    services = [(f"Service {cluster.name}/{key}", why) for key, why in sorted(rules.problems().items())]
    workers = [(f"Services on {row.worker}", row.error) for row in rules.status() if row.error]
    empty = find_unmatched(rules.services.items(), cluster.pods.items() if cluster.pods else ())
    services += [(f"Service {cluster.name}/{key}", "its selector matches no pod") for key in empty]
    return [{"object": name, "what": what} for name, what in services + workers]


def _read_not_simulated(cluster: ClusterAssembly) -> list[PodProblem]:
    """What is not carried out of pods' specs: a line for each field, however many pods have it."""
    found: dict[str, list[str]] = {}
    for key, one in cluster.kubelet.not_simulated() if cluster.is_up() else ():
        pods = found.setdefault(re.sub(r"\[\d+\]", "[]", str(one)), [])
        if key not in pods:
            pods.append(key)
    return [
        {"object": f"Pod {cluster.name}/{pods[0]}" + (f" and {len(pods) - 1} more" if pods[1:] else ""), "what": what}
        for what, pods in sorted(found.items())
    ]


def _read_pod(cluster: ClusterAssembly, pod: dict[str, Any]) -> PodState:
    metadata, status = pod["metadata"], pod.get("status") or {}
    node = pod["spec"].get("nodeName", "")
    worker = next((worker.name for worker in cluster.workers if worker.node_name == node), node)
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    restarts = sum(container.get("restartCount", 0) for container in status.get("containerStatuses") or ())
    created = metadata.get("creationTimestamp")
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "worker": worker,
        "ip": status.get("podIP", ""),
        "phase": "Terminating" if "deletionTimestamp" in metadata else status.get("phase", "Unknown"),
        "ready": conditions.get("Ready") == "True",
        "restarts": restarts,
        "ageSeconds": max(0.0, time.time() - parse_time(created)) if created else 0.0,
    }


#: what to try for a pod without a worker
_WAITING = "it gets one as soon as a worker can take it: see the workers' labels and taints, and the pod's spec"


def find_problems(state: ClusterState) -> list[ProblemState]:
    """What of a cluster is not as it should be, with what to try."""
    problems: list[ProblemState] = []
    problems += [
        {"object": f"{member['name']}/etcd", "what": "does not serve", "hint": f"see {_log(member['name'], 'etcd')}"}
        for member in state["etcd"]["members"]
        if not member["healthy"]
    ]
    problems += _find_part_problems(state)
    for worker in state["workers"]:
        if not worker["ready"]:
            problems.append(
                {
                    "object": f"worker {worker['name']}",
                    "what": "its Node is not Ready",
                    "hint": f"can it reach etcd? {worker['name']} ping {state['name']}e1",
                }
            )
        problems += [
            {"object": daemon["name"], "what": f"is down ({daemon['lastExit']})", "hint": f"see {daemon['log']}"}
            for daemon in worker["daemons"]
            if not daemon["running"]
        ]
    for agent in state["podNetwork"]["agentStates"]:
        if not agent["healthy"]:
            what = agent["detail"] or "has no subnet"
            problems.append(
                {
                    "object": f"pod network of {agent['worker']}",
                    "what": what,
                    "hint": f"see {_log(agent['worker'], 'flannel')}",
                }
            )
    return problems


def _find_part_problems(state: ClusterState) -> list[ProblemState]:
    """Those of the control plane and of Services."""
    logs = f"see the logs in {names.host_directory(names.control_plane_host(state['name']))}"
    services = [(one, _explain_service(one)) for one in state["serviceProblems"]]
    found = [(one, _WAITING if one["object"].startswith("Pod ") else logs) for one in state["controlPlaneProblems"]]
    problems: list[ProblemState] = [{"object": one["object"], "what": one["what"], "hint": hint} for one, hint in found]
    problems += [{"object": one["object"], "what": one["what"], "hint": hint} for one, hint in services]
    problems += [
        {"object": one["object"], "what": one["what"], "hint": "kubectl describe shows it as an Event"}
        for one in (*state["addonProblems"], *state["notSimulated"])
    ]
    return problems


def _explain_service(problem: ServiceProblem) -> str:
    if problem["object"].startswith("Services on "):
        return "see nft list table ip knetsim-services there"
    return "kubectl describe shows its selector, its endpoints and its Events"


def _log(host: str, program: str) -> str:
    return f"{names.host_directory(host)}/{program}.log"


def find_orphans(cluster: ClusterAssembly) -> list[OrphanState]:
    """Network namespaces, interfaces and nft tables on the cluster's workers that belong to no pod and to no agent of
    ours."""
    orphans: list[OrphanState] = []
    if not cluster.is_up():
        return orphans  # what is being made belongs to nobody yet
    for worker in cluster.workers:
        owned = cluster.kubelet.owned_names(worker.node_name)
        with entered(worker.place):
            namespaces = os.listdir("/run/netns")
        orphans += [_orphan("netns", name, worker) for name in namespaces if name not in owned.namespaces]
        for link in worker.netlink.links():
            known = link.name in ("lo", BRIDGE) or link.name in worker.nameToIntf or link.name.startswith("flannel")
            if not known and link.name not in owned.interfaces:
                orphans.append(_orphan("link", link.name, worker))
    return orphans


def _orphan(kind: str, name: str, worker: Worker) -> OrphanState:
    return {"kind": kind, "name": name, "where": worker.name}
