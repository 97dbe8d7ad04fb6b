"""What a container is started with, gathered step by step: image → environment → volumes → `ContainerSpec`.

What is missing at a step is a `StartRefused`: the word in which the container waits, as a kubelet has it (ErrImagePull,
CreateContainerConfigError …), and how long before it is tried again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knetsim.api.events import WARNING
from knetsim.api.objects import Object
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.commands import Work, build_argv, classify_container, explain_pull
from knetsim.node.kubelet.downward import Addresses
from knetsim.node.kubelet.environment import ConfigError, build_env
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.node.kubelet.security import build_identity
from knetsim.node.kubelet.sources import Sources
from knetsim.system.container import DEFAULT_ENV, ContainerSpec
from knetsim.system.rootfs import Mount

_PULL_PAUSE = 300.0

Tell = Callable[[str, str, str], None]


class StartRefused(KnetsimError):
    """A container cannot be started now: it waits with `reason`, and is tried again after `retry_after` seconds, or
    whenever its pod is looked at (None). `told`: there is an Event about it already."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None, *, told: bool = False) -> None:
        super().__init__(message)
        self.reason, self.message, self.retry_after, self.told = reason, message, retry_after, told


@dataclass(frozen=True, slots=True)
class Found:
    """A container's image as it was found. `hold`: there is no process to be run, the pod's network is enough."""

    image: str
    image_id: str
    hold: bool


class Launcher:
    """Gathers for the containers of one pod."""

    def __init__(self, sandbox: PodSandbox, sources: Sources) -> None:
        self.sandbox, self._sources = sandbox, sources

    def find_image(self, container: Mapping[str, Any], tell: Tell) -> Found:
        """The container's image; `tell` is called with (reason, message, type) of each Event. StartRefused."""
        work, image = classify_container(container), container["image"]
        if work is Work.PULL:
            tell("Failed", explain_pull(image), WARNING)
            raise StartRefused("ErrImagePull", explain_pull(image), _PULL_PAUSE, told=True)
        return Found(image, image, work is Work.HOLD)

    def build(self, pod: Object, container: Mapping[str, Any], found: Found, directory: str, run: int) -> ContainerSpec:
        """What to start. `directory` is the container's own; `run` counts its starts. StartRefused, OSError."""
        sandbox = self.sandbox
        try:
            addresses = Addresses(sandbox.ip, sandbox.worker.address)
            identity = build_identity(pod, container, "")
            declared = build_env(pod, container, self._sources, addresses)
            volumes = sandbox.volumes.mounts(container, declared)
        except ConfigError as error:
            raise StartRefused("CreateContainerConfigError", error.what) from error
        scratch, message = f"{directory}/root", f"{directory}/termination-log"
        os.makedirs(scratch, exist_ok=True)
        Path(message).write_bytes(b"")
        for suffix in ("", ".1"):  # as a kubelet: the log of this run and of the one before are kept
            Path(f"{directory}/{run - 2}.log{suffix}").unlink(missing_ok=True)
        return ContainerSpec(
            name=container["name"],
            place=sandbox.place,
            argv=build_argv(container, declared),
            log=f"{directory}/{run}.log",
            scratch=scratch,
            mounts=[
                *sandbox.files(),
                Mount(message, container.get("terminationMessagePath") or "/dev/termination-log"),
                *volumes,
            ],
            identity=identity,
            env={"PATH": DEFAULT_ENV["PATH"], "HOSTNAME": sandbox.hostname, **declared},
            cwd=container.get("workingDir") or "/",
        )
