"""What the kernel shall have so that packets flow, stop by stop on a packet's way. No stop imports the API.

    pod ── eth0 ── veth ── cni0 ─────────┐            ┌───────── cni0 ── veth ── eth0 ── pod
     pod/                                │            │
                                    nft table         │            services/  (a VIP becomes the address of a pod)
                                         │            │
                                    nft table     nft table        policy/    (may it leave? may it come in?)
                                         │            │
                                    flannel.100   flannel.100      overlay/   (VXLAN, or a route with host-gw)
                                         │            │
                                    C0w1-eth0 ── C0s0 ── C0w2-eth0       underlay.py

Before its first packet a pod asks for the address of a name, mostly a Service's, and dns/ answers by the same path.
A packet between pods of one worker turns back at cni0, and is shown to the rules there. One to a VIP is sent on to a
pod by its first worker, before it is routed. One to the outside leaves cni0 for the worker's own interface and gets the
worker's address (overlay/masquerade.py). Ports of a worker that lead to its pods are turned before anything else
(host_ports.py).
"""

from __future__ import annotations

#: the stops in the order in which a packet from a pod passes them: (stop, module)
PATH: tuple[tuple[str, str], ...] = (
    ("dns", "knetsim.dataplane.dns"),
    ("pod", "knetsim.dataplane.pod"),
    ("services", "knetsim.dataplane.services"),
    ("policy", "knetsim.dataplane.policy"),
    ("overlay", "knetsim.dataplane.overlay"),
    ("underlay", "knetsim.dataplane.underlay"),
)
