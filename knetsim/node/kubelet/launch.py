"""What a container is started with, gathered step by step: image → environment → volumes → `ContainerSpec`.

What is missing at a step is a `StartRefused`: the word in which the container waits, as a kubelet has it (ErrImagePull,
CreateContainerConfigError …), and how long before it is tried again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from knetsim.api.objects import Object
from knetsim.errors import KnetsimError
from knetsim.node.images import Image, ImageError, NodeImages, PullBackoff
from knetsim.node.kubelet.commands import build_argv
from knetsim.node.kubelet.downward import Addresses
from knetsim.node.kubelet.environment import ConfigError, build_env
from knetsim.node.kubelet.resources import limited_pod
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.node.kubelet.security import build_identity
from knetsim.node.kubelet.sources import Sources
from knetsim.system.cgroup import Cgroup, Cgroups
from knetsim.system.container import DEFAULT_ENV, ContainerSpec
from knetsim.system.rootfs import Mount
from knetsim.system.signals import find_signal

Tell = Callable[[str, str, str], None]


class StartRefused(KnetsimError):
    """A container cannot be started now: it waits with `reason`, and is tried again after `retry_after` seconds, or
    whenever its pod is looked at (None). `told`: there is an Event about it already."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None, *, told: bool = False) -> None:
        super().__init__(message)
        self.reason, self.message, self.retry_after, self.told = reason, message, retry_after, told


class Launcher:
    """Gathers for the containers of one pod."""

    def __init__(self, sandbox: PodSandbox, sources: Sources, images: NodeImages, cgroups: Cgroups) -> None:
        """`images` are those of the pod's node."""
        self.sandbox, self._sources, self._images, self._cgroups = sandbox, sources, images, cgroups
        self._pulls = PullBackoff()

    def find_image(self, container: Mapping[str, Any], tell: Tell) -> Image:
        """The container's image; `tell` is called with (reason, message, type) of each Event. StartRefused."""
        try:
            return self._images.pull(container, self._pulls, tell)
        except ImageError as error:
            raise StartRefused(error.reason, error.message, error.retry_after, told=True) from error

    def known_image(self, container: Mapping[str, Any]) -> Image | None:
        """The container's image if there is one, whether it was pulled or not."""
        try:
            return self._images.find(container["image"])
        except ImageError:
            return None

    def holds(self, container: Mapping[str, Any]) -> bool:
        """Whether there is no process to be run for a container: its pod's network is enough."""
        image = self.known_image(container)
        return image is not None and image.holds(container)

    def build(self, pod: Object, container: Mapping[str, Any], image: Image, directory: str, run: int) -> ContainerSpec:
        """What to start. `directory` is the container's own; `run` counts its starts. StartRefused, OSError."""
        sandbox = self.sandbox
        try:
            addresses = Addresses(sandbox.ip, sandbox.worker.address)
            identity = build_identity(pod, container, image.user)
            declared = build_env(pod, container, self._sources, addresses)
            volumes = sandbox.volumes.mounts(container, declared)
        except ConfigError as error:
            raise StartRefused("CreateContainerConfigError", error.what) from error
        scratch, message = f"{directory}/root", f"{directory}/termination-log"
        os.makedirs(scratch, exist_ok=True)
        Path(message).write_bytes(b"")
        for old in Path(directory).glob(f"{run - 2}.log*"):  # the log of this run and of the one before are kept
            old.unlink(missing_ok=True)
        return ContainerSpec(
            name=container["name"],
            place=sandbox.place,
            argv=build_argv(image, container, declared),
            log=f"{directory}/{run}.log",
            scratch=scratch,
            mounts=[
                *image.programs,
                *sandbox.files(),
                Mount(message, container.get("terminationMessagePath") or "/dev/termination-log"),
                *volumes,
            ],
            identity=identity,
            env={"PATH": DEFAULT_ENV["PATH"], **image.env, "HOSTNAME": sandbox.hostname, **declared},
            cwd=container.get("workingDir") or image.workdir,
            layers=image.layers,
            stdin=bool(container.get("stdin")),
            tty=bool(container.get("tty")),
            cgroup=self._limit(pod, container, run),
            stop_signal=_read_stop_signal(container),
        )

    def _limit(self, pod: Object, container: Mapping[str, Any], run: int) -> Cgroup | None:
        try:
            return limited_pod(pod, self._cgroups).create(pod, container, run)
        except OSError as error:
            raise StartRefused("CreateContainerError", f"its limits cannot be set: {error}") from error


def _read_stop_signal(container: Mapping[str, Any]) -> int:
    name = (container.get("lifecycle") or {}).get("stopSignal") or "SIGTERM"
    try:
        return find_signal(name)
    except KeyError as error:
        raise StartRefused("CreateContainerError", f'"{name}" is no signal of this machine') from error
