"""Whether a worker's part of the pod network is complete, seen from outside: the same question for both agents.

An agent is through when the subnet file names the lease that etcd has, and nothing is left to do between the kernel's
state and the one that all leases in etcd ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

from knetsim.dataplane.overlay.backend import choose_backend
from knetsim.dataplane.overlay.lease import PREFIX, Lease, NetworkConfig
from knetsim.dataplane.overlay.lease_store import LeaseListing, LeaseStore, list_leases, read_network_config
from knetsim.dataplane.overlay.snapshot import merge, without
from knetsim.dataplane.overlay.state import Underlay, diff, read_state
from knetsim.dataplane.overlay.subnet_file import NAME, read_subnet_file
from knetsim.dataplane.overlay.worker import OverlayStatus, OverlayWorker
from knetsim.errors import KnetsimError, ObjectError
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
                words = words or f"{worker.name}: {_summary(facts)}"
            else:
                left.remove(worker)
        return words

    wait_until("the pod network", missing, deadline, hint="see flannel.log in the worker's directory")


def read_status(worker: OverlayWorker, config: NetworkConfig, listing: LeaseListing) -> OverlayStatus:
    """How far a worker with flanneld is, given what etcd has; what the embedded agent says of its own by itself."""
    own = find_own(worker, config, listing)
    missing = read_missing(worker, config, listing)
    observed = read_state(worker.netlink, choose_backend(config.backend).interface(worker.interface), config.network)
    return OverlayStatus(
        worker.name,
        subnet=str(own.subnet) if own else "",
        leases=len(observed.entries.routes),
        revision=0 if missing else listing.revision,
        error=f"missing: {_summary(missing)}" if missing else "",
    )


def read_missing(worker: OverlayWorker, config: NetworkConfig, listing: LeaseListing) -> list[str]:
    """What a worker still lacks, in words or as commands, in the order in which it will come; empty: it is ready."""
    own = find_own(worker, config, listing)
    if own is None:
        return [f"a subnet lease of {worker.address} in etcd"]
    link = worker.netlink.link(worker.interface)
    if link is None:
        return [f"the interface {worker.interface}"]
    backend = choose_backend(config.backend)
    entries = without(merge(map(backend.build_entries, listing.leases)), backend.build_entries(own))
    desired = backend.build_desired(own, entries, Underlay(link.name, link.index, link.mtu))
    observed = read_state(worker.netlink, backend.interface(worker.interface), config.network)
    missing = [request.text() for request in diff(observed, desired)]
    return missing + _missing_file(worker, own)


def find_own(worker: OverlayWorker, config: NetworkConfig, listing: LeaseListing) -> Lease | None:
    """The lease of a worker: that with its address in the underlay, of the cluster's backend."""
    for lease in listing.leases:
        if lease.public_ip == worker.address and lease.backend == config.backend.type:
            return lease
    return None


def _missing_file(worker: OverlayWorker, own: Lease) -> list[str]:
    try:
        file = read_subnet_file(worker.directory)
    except ObjectError as error:
        return [f"a readable file {NAME} ({error.what})"]
    if file is None:
        return [f"the file {NAME}"]
    if file.subnet != own.subnet:
        return [f"{own.subnet} in the file {NAME}, which says {file.subnet}"]
    return []


def _summary(missing: list[str]) -> str:
    return missing[0] + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
