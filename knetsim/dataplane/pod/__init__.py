"""A pod's network, the first stop of its packets: eth0 in its namespace, a veth pair, the bridge of its worker.

    pod k0_c1                     worker C0w1
    eth0 11.15.64.2/20  ======  veth1a2b3c4d ── cni0 11.15.64.1/20 ── overlay, underlay
         default via 11.15.64.1   (hairpin)

Two ways to wire, the same result: `plugins.py` executes the real CNI plugins by the CNI specification (`cni.py`),
`native.py` sends the kernel what they send it. `wiring.py` has the words and the calls both share, `bridge.py` what the
pods of a worker share, `addresses.py` who gets which address.
"""

from __future__ import annotations

from knetsim.dataplane.pod.cni import CniError
from knetsim.dataplane.pod.guard import GuardedWiring, PodGuard
from knetsim.dataplane.pod.native import NativeWiring
from knetsim.dataplane.pod.plugins import PluginWiring
from knetsim.dataplane.pod.wiring import BRIDGE, POD_INTERFACE, PodNetwork, PodPlace, Wired, WorkerPlace

__all__ = [
    "BRIDGE",
    "POD_INTERFACE",
    "CniError",
    "GuardedWiring",
    "NativeWiring",
    "PluginWiring",
    "PodGuard",
    "PodNetwork",
    "PodPlace",
    "Wired",
    "WorkerPlace",
]
