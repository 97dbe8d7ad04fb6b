"""The kubelet: what makes Pods of the store true on the workers.

Reality: one daemon per machine that watches the Pods bound to it, has a container runtime make the sandbox (network
namespace, wired by CNI) and the containers, and writes what became of them into `.status`; it also registers the
machine as a Node and renews the Node's Lease every ten seconds. Ours: the same for all workers of a cluster in one
process. A worker costs no thread and no process, a pod whose container is `pause` costs a network namespace and no
process; a container with a `command` is a process of its own.

    lifecycle.py   pure: what containers have been through, what to do next, back-off
    ending.py      pure: hook, SIGTERM, grace period, SIGKILL    not_simulated.py  what of a spec is not carried out
    status.py      pure: `.status` as a real kubelet writes it   container_status.py  pure: one container's part of it
    capacity.py    what is taken of a worker, what still fits    admission.py  pure: what may not run at all
    commands.py    pure: program, arguments                      files.py  pure: /etc/hosts, /etc/resolv.conf
    environment.py variables, with downward.py (what a pod knows of itself) and service_links.py   host_names.py  pure
    sources.py     ConfigMaps, Secrets, Services, tokens         security.py  pure: user, capabilities, sysctls
    volumes/       what volumes are made of, and kept up to date with
    node.py        pure: the Node and its Lease                  heartbeat.py  renewing Leases
    sandbox.py     a pod's namespaces and files                  host_sandbox.py  the same on its worker's network
    host_ports.py  ports of the worker that lead to its pods     containers.py  one container, over all its runs
    pod.py         one pod: sync, end                            kubelet.py  all pods: keys in, `PodRun.sync` out
    launch.py      what a container is started with              container_set.py  all containers of a pod
    probes.py      startup, liveness, readiness                  hooks.py  postStart, preStop
    actions.py     what both do: one event loop for all workers  http_get.py, grpc_health.py, dialing.py  how
    intake.py      what a pod needs, put together                static_pods.py  manifests in a worker's folder
    events.py      Events, written by a thread of their own      resources.py  limits, as control groups
    surroundings.py  what containers need of their kubelet

How it differs: images name programs of this machine (node/images); what of a Pod's spec is not carried out is an Event
and a line of `knetsim status` (not_simulated.py). Commands that show it: `C0w1 ip netns`, `C0w1 ls
/tmp/knetsim/C0w1/pods/default_c1`, `C0e1 etcdctl get /registry/pods/default/c1`, `C0e1 etcdctl get
/registry/leases/kube-node-lease/c0w1`.
"""

from __future__ import annotations

from knetsim.node.kubelet.files import ClusterDns
from knetsim.node.kubelet.kubelet import Kubelet, OwnedNames, WorkerHealth
from knetsim.node.kubelet.node import KubeletWorker

__all__ = ["ClusterDns", "Kubelet", "KubeletWorker", "OwnedNames", "WorkerHealth"]
