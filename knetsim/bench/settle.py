"""Waiting for the kernel to have freed namespaces, which it does in the background, after their last user has gone.

It ends namespaces in the order in which they were left, in batches (net/core/net_namespace.c, cleanup_net). So one that
is left now, with a veth pair to one that stays, is a probe: when its end of the pair vanishes, the devices of all that
were left before are gone too. A thousand namespaces take seconds of a processor; whoever measures right after them
measures that as well.
"""

from __future__ import annotations

import time

from knetsim.errors import NotReady
from knetsim.system import netns
from knetsim.system.netlink import Monitor, Netlink, add_veth

_DEADLINE = 300.0
_NEAR, _FAR = "near", "far"


def wait_freed(deadline: float = _DEADLINE) -> float:
    """Block until the kernel has freed every network namespace that was left before this call; the seconds it took."""
    began = time.monotonic()
    near = netns.create_netns("near", "near")
    far = netns.create_netns("far", "far")
    try:
        with Netlink.in_namespace(near) as netlink, Monitor.in_namespace(near, ("link",)) as monitor:
            netlink.apply([add_veth(_NEAR, _FAR, peer_netns_fd=far.net)])
            far.close()
            while netlink.link(_NEAR) is not None:
                left = began + deadline - time.monotonic()
                if left <= 0:
                    raise NotReady(f"the kernel has not freed its network namespaces after {deadline:g} s")
                monitor.wait(left)
    finally:
        near.close()
        far.close()
    return time.monotonic() - began
