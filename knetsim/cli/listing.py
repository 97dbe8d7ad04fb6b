"""What runs on this machine, for `knetsim ls`."""

from __future__ import annotations

import time

from knetsim.errors import KnetsimError
from knetsim.status import Summary
from knetsim.system import rpc, state


def list_simulations() -> list[Summary]:
    """One row a simulation: name, state, scenario, clusters, workers, pods, uptimeSeconds, pid. Stale directories are
    listed too."""
    return [_row(directory) for directory in state.simulations()]


def _row(directory: state.StateDirectory) -> Summary:
    identity = directory.identity()
    row: Summary = {
        "name": directory.name,
        "state": "starting" if directory.is_running() else "crashed",
        "scenario": identity.scenario if identity else "",
        "clusters": None,
        "workers": None,
        "pods": None,
        "uptimeSeconds": int(time.time() - identity.started) if identity else None,
        "pid": identity.outer if identity else None,
    }
    if row["state"] == "starting":
        try:
            row.update(rpc.call(directory.control_socket, "summary", timeout=5)[0])
        except KnetsimError:
            pass  # it is starting or ending: what is known of it is shown
    return row
