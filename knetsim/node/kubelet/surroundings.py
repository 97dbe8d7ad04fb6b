"""What the containers of a pod need of everything around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knetsim.node.images import NodeImages
from knetsim.node.kubelet.actions import Actions
from knetsim.node.kubelet.sources import Sources
from knetsim.system.cgroup import Cgroups
from knetsim.system.container_watch import ContainerWatch


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What containers need of their kubelet: who follows them, who probes them, clocks, whom to tell, what else is
    stored.

    `wall` is seconds since 1970, `steady` those of a clock that nobody sets. `tell` is called with (reason, message,
    type, container's name or "") and becomes an Event, `wake` when there is something to look at.
    """

    watch: ContainerWatch
    actions: Actions
    wall: Callable[[], float]
    steady: Callable[[], float]
    tell: Callable[[str, str, str, str], None]
    wake: Callable[[], None]
    sources: Sources
    images: NodeImages
    cgroups: Cgroups
