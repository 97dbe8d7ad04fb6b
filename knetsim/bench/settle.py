"""Waiting for the kernel to have freed namespaces, which it does in the background, after their last user has gone.

It ends namespaces in the order in which they were left, in batches (net/core/net_namespace.c, cleanup_net). So one that
is left now, with a veth pair to one that stays, is a probe: when its end of the pair vanishes, the devices of all that
were left before are gone too. A thousand namespaces take seconds of a processor; whoever measures right after them
measures that as well. Their memory comes back later still, after RCU's grace periods: `read_steady_memory`.
"""

from __future__ import annotations

import time
from collections import deque

from knetsim.bench.machine import kernel_bytes, read_memory
from knetsim.errors import NotReady
from knetsim.system import netns
from knetsim.system.netlink import Monitor, Netlink, add_veth
from knetsim.system.wait import wait_until

_DEADLINE = 300.0
_NEAR, _FAR = "near", "far"
#: the kernel's memory is steady when so many looks in a row, a tenth of a second apart, saw it within so many bytes
_LOOKS, _TOLERANCE = 15, 2_000_000


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


def read_steady_memory(deadline: float = _DEADLINE) -> dict[str, int]:
    """The amounts in /proc/meminfo, in bytes, once the kernel's own part changes no more."""
    looks: deque[dict[str, int]] = deque(maxlen=_LOOKS)

    def missing() -> str:
        looks.append(read_memory())
        sizes = [kernel_bytes(look) for look in looks]
        return "" if len(sizes) == _LOOKS and max(sizes) - min(sizes) <= _TOLERANCE else "it still changes"

    wait_until("the kernel's memory", missing, deadline, hint="end what else runs on this machine")
    return looks[-1]
