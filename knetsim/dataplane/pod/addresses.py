"""Which address a pod gets: round robin over its worker's subnet, as host-local gives them; no file, no fork.

host-local keeps a file per address (`cni/networks/cbr0/` in a worker's directory) and walks through them under a lock;
here a set in memory says the same, filled again from the pods that are found (`take`) when the kubelet starts anew. The
order is host-local's (plugins/ipam/host-local/backend/allocator): the next one after the last that was given out, from
the second address on when the end is reached; never the network, the gateway (the first address) or the broadcast one.
So an address that was just freed is not given again at once, and a client that still knows it talks to nobody.
"""

from __future__ import annotations

import threading
from ipaddress import IPv4Address, IPv4Network

from knetsim.errors import KnetsimError


class AddressPool:
    """The addresses of one subnet that pods may have; any thread may use it."""

    def __init__(self, subnet: IPv4Network) -> None:
        self.subnet = subnet
        self._first = int(subnet.network_address) + 2
        self._last = int(subnet.broadcast_address) - 1
        self._used: set[int] = set()
        self._recent = self._first - 1
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many addresses are in use."""
        return len(self._used)

    def reserve(self) -> IPv4Address:
        """The next free address; KnetsimError names the subnet when there is none."""
        with self._lock:
            size = self._last - self._first + 1
            if len(self._used) >= size:
                raise KnetsimError(
                    f"no free address in the subnet {self.subnet}",
                    why=f"all {max(size, 0)} are taken by pods",
                    hint="delete pods, or give the cluster a larger podNetwork or a smaller subnetLen",
                )
            candidate = self._recent
            while True:
                candidate = candidate + 1 if candidate < self._last else self._first
                if candidate not in self._used:
                    break
            self._used.add(candidate)
            self._recent = candidate
            return IPv4Address(candidate)

    def take(self, address: IPv4Address) -> None:
        """Mark an address that a pod was found to have; one outside of the subnet needs no mark."""
        with self._lock:
            if self._first <= int(address) <= self._last:
                self._used.add(int(address))
                self._recent = max(self._recent, int(address))

    def release(self, address: IPv4Address) -> None:
        """Free an address; one that is not taken is fine."""
        with self._lock:
            self._used.discard(int(address))
