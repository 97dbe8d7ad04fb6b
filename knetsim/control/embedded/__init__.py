"""What stands in for Kubernetes' control plane where it does not run: our store checks and writes, five loops decide.

    control.py                        EmbeddedControl: all of it, to start and stop
    writing.py → placement.py         pods bound when they are written; which worker fits
    scheduler.py                      binds pods that wait, says why they do (events: default-scheduler)
    services.py → allotment.py        ClusterIPs and NodePorts, allotted when a Service is written
    endpoint_slices.py → slices.py    a Service's pods, as EndpointSlices
    node_monitor.py                   a Node that is no longer heard of is not Ready, nor are its pods
    namespaces.py                     empties a namespace that is being deleted

No Kubernetes binary is needed, and nothing is to be waited for. What the real one does besides is not done here:
workload kinds and custom resources are refused with the remedy (api/objects.py), inter-pod affinity, topology spread
and priority classes too (api/pod_rules.py); requests of resources are not counted. Commands that show it:
`C0e1 etcdctl get /registry/endpointslices --prefix`, `C0e1 etcdctl get /registry/events --prefix`.
"""

from knetsim.control.embedded.control import EmbeddedControl
from knetsim.control.embedded.namespaces import (
    STANDARD_NAMESPACES,
    build_namespace,
    ensure_namespaces,
    reconcile_namespace,
)
from knetsim.control.embedded.placement import choose_worker, count_pods, is_ready
from knetsim.control.embedded.writing import write_pod, write_pods

__all__ = [
    "STANDARD_NAMESPACES",
    "EmbeddedControl",
    "build_namespace",
    "choose_worker",
    "count_pods",
    "ensure_namespaces",
    "is_ready",
    "reconcile_namespace",
    "write_pod",
    "write_pods",
]
