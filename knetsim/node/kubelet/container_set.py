"""All containers of one pod: what each has been through, a plan carried out on them, their common end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from knetsim.api.events import WARNING
from knetsim.api.objects import Object, name_of, namespace_of, parse_time, uid_of
from knetsim.errors import KnetsimError, LeftoverError
from knetsim.node.kubelet.containers import Container
from knetsim.node.kubelet.launch import Launcher
from knetsim.node.kubelet.lifecycle import (
    ContainerView,
    Plan,
    Running,
    Waiting,
    all_containers,
    order_of_end,
    plan_ephemeral,
    read_containers,
)
from knetsim.node.kubelet.surroundings import Surroundings

#: until a container whose configuration cannot be made is tried again, if nothing of it changes before
_CONFIG_PAUSE = 10.0
_STATUS_FIELDS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


class ContainerSet:
    """The containers by name, in the order of the pod's spec. Used by one thread at a time."""

    def __init__(self, pod: Object, launcher: Launcher, around: Surroundings) -> None:
        self._launcher, self._around = launcher, around
        self._containers: dict[str, Container] = {}
        self._specs: dict[str, Mapping[str, Any]] = {}
        self._held: frozenset[str] = frozenset()
        self._read(pod)

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._containers.values()))

    def get(self, name: str) -> Container | None:
        """The container of that name."""
        return self._containers.get(name)

    def names(self) -> list[str]:
        """How they are called."""
        return list(self._containers)

    def _read(self, pod: Object) -> None:
        """Ephemeral containers are added to pods that run; an image may change."""
        self._specs = {one["name"]: one for one in all_containers(pod["spec"])}
        for name in self._specs:
            if name not in self._containers:
                self._containers[name] = Container(name, self._launcher, self._around)

    def restore(self, pod: Object) -> None:
        """Go on with what a kubelet before this one wrote."""
        status = pod.get("status") or {}
        for field in _STATUS_FIELDS:
            for one in status.get(field) or ():
                if one["name"] in self._specs:
                    self._containers[one["name"]].restore(one, self._specs[one["name"]], parse_time)

    def views(self) -> dict[str, ContainerView]:
        """What each has been through."""
        return {name: container.view() for name, container in self._containers.items()}

    # --- living

    def collect(self, pod: Object) -> None:
        """Take note of what has come to pass since the last look."""
        self._read(pod)
        grace = grace_of(pod)
        for name, container in self._containers.items():
            container.collect(self._specs[name], grace)

    def carry_out(self, pod: Object, plan: Plan) -> list[str]:
        """End and start what a plan says, and ephemeral containers that are new; what was started."""
        for name, (message, probe) in plan.stop.items():
            spec = self._specs[name]
            grace = float((spec.get(f"{probe}Probe") or {}).get("terminationGracePeriodSeconds") or grace_of(pod))
            self._containers[name].stop(spec, grace, message, anew="probe" if probe else "image")
        started = [*plan.start, *plan_ephemeral(pod["spec"], self.views())]
        init, containers = read_containers(pod["spec"])
        for number, name in enumerate(started):
            container = self._containers[name]
            container.start(pod, self._specs[name])
            if container.view().starting:  # what follows waits for its postStart hook
                started = started[: number + 1]
                break
        for one in (*init, *containers):
            self._containers[one["name"]].wait_for_start(bool(init))
        self._tell_held(pod, plan)
        return started

    def next_look(self, started: list[str]) -> list[float]:
        """Advance what is ending; the seconds until each that needs it is to be looked at again."""
        looks = [look for container in self if (look := container.go_on()) is not None]
        states = [self._containers[name].state for name in started]
        if any(not isinstance(state, Running | Waiting) for state in states):
            looks.append(0.0)  # it ended as soon as it was started
        if any(isinstance(state, Waiting) for state in states):
            looks.append(_CONFIG_PAUSE)
        return looks

    def _tell_held(self, pod: Object, plan: Plan) -> None:
        """A container that is held back because it ends over and over again is told, once for each time."""
        views = self.views()
        crashed = frozenset(name for name in plan.held if not isinstance(views[name].state, Waiting))
        for name in crashed - self._held:
            where = f"{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})"
            message = f"Back-off restarting failed container {name} in pod {where}"
            self._around.tell("BackOff", message, WARNING, name)
        self._held = crashed

    # --- ending

    def wind_down(self, pod: Object, grace: float) -> float | None:
        """Bring all to their end, sidecars last; the seconds until the next step, or None when all have ended."""
        groups = order_of_end(pod["spec"])
        looks: list[float] = []
        for group in groups:
            turn = not looks
            for name in group:
                container = self._containers[name]
                container.stop(self._specs[name], grace, f"Stopping container {name}")
                look = container.go_on(turn=turn)
                if look is not None:
                    looks.append(look)
        return min(looks, default=None)

    def kill(self, timeout: float) -> None:
        """End all at once. LeftoverError when one does not end within `timeout` seconds."""
        running = [container for container in self if container.running]
        for container in running:
            container.kill()
        for container in running:
            if not container.wait_ended(timeout):
                raise LeftoverError([KnetsimError(f"container {container.name} does not end")])
            container.note_exit(self._specs[container.name])
        for container in self:
            container.abandon()

    def release(self) -> None:
        """Let go of all and leave them as they are."""
        for container in self:
            container.release()


def grace_of(pod: Object) -> float:
    """The seconds that the pod's containers have to end."""
    given = pod["metadata"].get("deletionGracePeriodSeconds")
    return float(given if given is not None else pod["spec"].get("terminationGracePeriodSeconds", 30))
