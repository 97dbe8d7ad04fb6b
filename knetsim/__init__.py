"""knetsim: the whole network of Kubernetes on one laptop, with real packets. The map, in one minute:

A manifest's way, from what a user asks to what the kernel does (each folder one stop):

    knetsim/cli            ask: the command line and the mininet> prompt
    knetsim/api            accept: objects as Kubernetes stores them, the store, the informer
    knetsim/control        decide: Kubernetes' own control plane, or what stands in for it
    knetsim/node           carry out: workers, etcd members, the kubelet, the pod network's agents
    knetsim/dataplane      express: what the kernel shall have
    knetsim/system         touch: the only folder that touches the machine

A packet's way is the tuple `PATH` in knetsim/dataplane/__init__.py. They are put together in knetsim/simulation.py.

    where is the sandbox?                 knetsim/system/sandbox.py
    where are scenario files read?        knetsim/scenario
    where are hosts and switches made?    knetsim/dataplane/underlay.py
    where is etcd started?                knetsim/node/etcd.py
    where does the API server run?        knetsim/control/kubernetes
    where do objects get into etcd?       knetsim/api/etcd_store.py (and http_store.py, through the API server)
    where does a pod come to life?        knetsim/node/kubelet
    what does an image run?               knetsim/node/images
    where does it get its network?        knetsim/dataplane/pod
    who answers names of Services?        knetsim/cluster_dns.py, and knetsim/dataplane/dns
    where is VXLAN?                       knetsim/dataplane/overlay
    how are clusters linked?              knetsim/node/skupper, and the routers: knetsim/dataplane/skupper
    where are daemons kept running?       knetsim/system/daemon.py
    where is all this measured?           knetsim/bench
    where do Kubernetes' own tests run?   knetsim/conformance
    who runs the README's commands?         knetsim/lessons
    where is `C0w1.exec_container`?       knetsim/node/worker.py

From Python: `from knetsim import Simulation, read_scenario`, then
`Simulation.run(read_scenario("scenarios/default.yaml"), lambda simulation: print(simulation.status()))`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knetsim.cluster import Cluster
    from knetsim.cluster_skupper import create_conf
    from knetsim.errors import KnetsimError
    from knetsim.node.worker import Worker
    from knetsim.scenario import read_scenario
    from knetsim.simulation import Simulation

__version__ = "0.1.0"
__all__ = ["Cluster", "KnetsimError", "Simulation", "Worker", "__version__", "create_conf", "read_scenario"]

_HOME = {
    "Cluster": "knetsim.cluster",
    "KnetsimError": "knetsim.errors",
    "Simulation": "knetsim.simulation",
    "Worker": "knetsim.node.worker",
    "create_conf": "knetsim.cluster_skupper",
    "read_scenario": "knetsim.scenario",
}


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are used: `knetsim version` needs neither Mininet nor gRPC."""
    if name not in _HOME:
        raise AttributeError(f"module 'knetsim' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
