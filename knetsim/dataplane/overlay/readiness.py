"""Whether a worker's part of the pod network is complete, seen from outside: the same question for both agents.

An agent is through when the subnet file names the lease that etcd has, and nothing is left to do between the kernel's
state and the one that all leases in etcd ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

from knetsim.dataplane.overlay.backend import choose_backend
from knetsim.dataplane.overlay.lease import PREFIX, NetworkConfig
from knetsim.dataplane.overlay.lease_store import LeaseListing, LeaseStore, list_leases, read_network_config
from knetsim.dataplane.overlay.snapshot import merge, without
from knetsim.dataplane.overlay.state import Underlay, diff, read_state
from knetsim.dataplane.overlay.subnet_file import NAME, read_subnet_file
from knetsim.dataplane.overlay.worker import OverlayWorker
from knetsim.errors import KnetsimError
from knetsim.system.wait import wait_until


def wait_ready(workers: Iterable[OverlayWorker], store: LeaseStore, deadline: float, *, prefix: str = PREFIX) -> None:
    """Wait until each worker has a lease and reaches all that have one; NotReady after `deadline` seconds."""
    left = list(workers)

    def missing() -> str:
        try:
            config, listing = read_network_config(store, prefix), list_leases(store, prefix)
        except KnetsimError as error:
            return str(error)
        holders = {lease.public_ip for lease in listing.leases}
        if absent := [worker.name for worker in left if worker.address not in holders]:
            return f"subnet leases of {', '.join(absent)}"  # one who reaches all now would have to be asked again
        words = ""
        for worker in list(left):
            if facts := read_missing(worker, config, listing):
                words = words or f"{worker.name}: {facts[0]}" + (f", and {len(facts) - 1} more" if facts[1:] else "")
            else:
                left.remove(worker)
        return words

    wait_until("the pod network", missing, deadline, hint="see flannel.log in the worker's directory")


def read_missing(worker: OverlayWorker, config: NetworkConfig, listing: LeaseListing) -> list[str]:
    """What a worker still lacks, in words or as commands, in the order in which it will come; empty: it is ready."""
    own = next((lease for lease in listing.leases if lease.public_ip == worker.address), None)
    if own is None or own.backend != config.backend.type:
        return [f"a subnet lease of {worker.address} in etcd"]
    link = worker.netlink.link(worker.interface)
    if link is None:
        return [f"the interface {worker.interface}"]
    backend = choose_backend(config.backend)
    entries = without(merge(map(backend.build_entries, listing.leases)), backend.build_entries(own))
    desired = backend.build_desired(own, entries, Underlay(link.name, link.index, link.mtu))
    observed = read_state(worker.netlink, backend.interface(worker.interface), config.network)
    missing = [request.text() for request in diff(observed, desired)]
    file = read_subnet_file(worker.directory)
    if file is None:
        missing.append(f"the file {NAME}")
    elif file.subnet != own.subnet:
        missing.append(f"{own.subnet} in the file {NAME}, which says {file.subnet}")
    return missing
