"""Which control plane a cluster has, and the host's ports that lead to its API server: decided before the sandbox is
entered, so this imports nothing heavy."""

from __future__ import annotations

import socket

from knetsim.control.kubernetes.flags import PROGRAMS, SECURE_PORT
from knetsim.errors import MissingTool
from knetsim.scenario import ClusterSpec, Scenario
from knetsim.system.programs import find_program
from knetsim.system.relay import listen_at

KUBERNETES, EMBEDDED = "kubernetes", "embedded"


def choose_control_plane(spec: ClusterSpec) -> str:
    """The control plane of a cluster: what its scenario says; of `auto`, Kubernetes' own where it is installed.

    MissingTool when it is demanded and not installed.
    """
    if spec.control_plane == EMBEDDED:
        return EMBEDDED
    if has_kubernetes():
        return KUBERNETES
    if spec.control_plane == KUBERNETES:
        missing = [name for name in PROGRAMS if find_program(name) is None]
        what = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        raise MissingTool(what, spec.name, hint="run ./utils/setup, or say controlPlane: embedded")
    return EMBEDDED


def has_kubernetes() -> bool:
    """Whether the programs of Kubernetes' own control plane are installed."""
    return all(find_program(name) is not None for name in PROGRAMS)


def open_api_ports(scenario: Scenario, address: str = "127.0.0.1") -> dict[str, socket.socket]:
    """A listening socket of this machine for each cluster with an API server, by cluster: port 6443 for the first, one
    more for each other, or the next that is free. UsageError, KnetsimError, MissingTool."""
    listeners: dict[str, socket.socket] = {}
    for cluster in scenario.clusters:
        if choose_control_plane(cluster) == KUBERNETES:
            listeners[cluster.name] = listen_at(address, SECURE_PORT + len(listeners))
    return listeners
