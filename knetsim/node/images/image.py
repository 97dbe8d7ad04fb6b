"""An image as containers are made of it, and why there is none; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knetsim.errors import KnetsimError
from knetsim.node.images.reference import Reference
from knetsim.system.rootfs import Mount

ERR_PULL, PULL_BACKOFF = "ErrImagePull", "ImagePullBackOff"
ERR_NEVER_PULL, INVALID_NAME = "ErrImageNeverPull", "InvalidImageName"


class ImageError(KnetsimError):
    """An image cannot be had; `reason` is that of the waiting container, `retry_after` the seconds until it is tried
    again, `message` what the container's status says."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        self.reason, self.message, self.retry_after = reason, message, retry_after
        super().__init__(reason, why=message)


@dataclass(frozen=True, slots=True)
class Image:
    """What containers of an image have.

    `layers` are laid over the machine's root directory, the first uppermost; `programs` are mounted into it. `env` and
    `user` are the image's own, empty when it says nothing. `hold`: without a command of its own, it runs no process.
    """

    reference: Reference
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    user: str
    ports: tuple[int, ...]
    layers: tuple[str, ...]
    programs: tuple[Mount, ...]
    hold: bool

    @property
    def name(self) -> str:
        """In full, as a container's status has it: `docker.io/library/nginx:1.25`."""
        return str(self.reference)

    @property
    def identity(self) -> str:
        """The imageID of a container's status."""
        return self.reference.identity

    @property
    def size(self) -> int:
        """Bytes, as the Event of a pull tells them: those that are not there already, on this machine."""
        return 0

    def holds(self, container: Mapping[str, Any]) -> bool:
        """Whether a container runs no process of its own: its pod's network is held anyway."""
        return self.hold and not container.get("command")

    def argv(self, container: Mapping[str, Any]) -> list[str]:
        """What a container runs: its `command` takes the place of the entrypoint and drops the image's command, its
        `args` take the place of the image's command. Empty when neither says anything."""
        command, args = container.get("command") or (), container.get("args") or ()
        if command:
            return [*command, *args]
        return [*self.entrypoint, *(args or self.command)]
