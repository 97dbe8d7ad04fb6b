"""What a kubelet does about an image before it starts a container: its policy, its Events, its back-off.

As Kubernetes' kubelet (pkg/kubelet/images, image_manager.go): what is on the node and needs no pull is told as such;
otherwise `Pulling`, then `Pulled` or `Failed`; after a failure the same pod waits 10 s, 20 s … 300 s, and when it is
looked at meanwhile, that is told as `BackOff`. Here a pull is a look into the tables, and what is on a node is what a
pod there has pulled before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from knetsim.api.events import NORMAL, WARNING
from knetsim.node.images.image import ERR_NEVER_PULL, PULL_BACKOFF, Image, ImageError
from knetsim.node.images.images import Images, read_reference

ALWAYS, IF_NOT_PRESENT, NEVER = "Always", "IfNotPresent", "Never"
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0

Tell = Callable[[str, str, str], None]


class NodeImages:
    """The images on one node. Any thread may ask."""

    def __init__(self, images: Images, clock: Callable[[], float]) -> None:
        """`clock` tells seconds that nobody sets."""
        self._images, self._clock = images, clock
        self._present: set[str] = set()
        self._lock = threading.Lock()

    def pull(self, container: Mapping[str, Any], backoff: PullBackoff, tell: Tell) -> Image:
        """The image of a container that is to be started, by its `imagePullPolicy`; `backoff` is its pod's.

        `tell` is called with (reason, message, type) for each Event; nothing is told of an image of which nothing runs,
        as of the one that holds a real pod's network. ImageError says how the container waits.
        """
        asked = container.get("image", "")
        try:
            if self._is_held(asked, container):
                return self._images.find(asked)
            return self._pull(asked, container.get("imagePullPolicy"), backoff, tell)
        except ImageError as error:
            tell("Failed", f"Error: {error.reason}", WARNING)
            raise

    def _is_held(self, asked: str, container: Mapping[str, Any]) -> bool:
        try:
            return self._images.find(asked).holds(container)
        except ImageError:
            return False

    def _pull(self, asked: str, policy: str | None, backoff: PullBackoff, tell: Tell) -> Image:
        try:
            reference = read_reference(asked)
        except ImageError as error:
            tell("InspectFailed", error.message, WARNING)
            raise
        name = str(reference)
        policy = policy or (ALWAYS if name.endswith(":latest") else IF_NOT_PRESENT)
        with self._lock:
            present = name in self._present
        if policy == NEVER and not present:
            message = f'Container image "{asked}" is not present with pull policy of Never'
            tell(ERR_NEVER_PULL, message, WARNING)
            raise ImageError(ERR_NEVER_PULL, message, FIRST_PAUSE)
        if policy != ALWAYS and present:
            tell(
                "Pulled", f'Container image "{asked}" already present on machine and can be accessed by the pod', NORMAL
            )
            return self._images.find(asked)
        return self._fetch(asked, name, backoff, tell)

    def _fetch(self, asked: str, name: str, backoff: PullBackoff, tell: Tell) -> Image:
        left, before = backoff.remaining(name, self._clock())
        if left > 0:
            tell("BackOff", f'Back-off pulling image "{asked}"', NORMAL)
            raise ImageError(PULL_BACKOFF, f'Back-off pulling image "{asked}": {before}', left)
        tell("Pulling", f'Pulling image "{asked}"', NORMAL)
        begin = self._clock()
        try:
            image = self._images.find(asked)
        except ImageError as error:
            pause = backoff.fail(name, self._clock(), f"{error.reason}: {error.message}")
            tell("Failed", f'Failed to pull image "{asked}": {error.message}', WARNING)
            raise ImageError(error.reason, error.message, min(pause / 2, FIRST_PAUSE)) from error
        took = f"{max(round((self._clock() - begin) * 1000), 1)}ms"
        message = f'Successfully pulled image "{asked}" in {took} ({took} including waiting)'
        tell("Pulled", f"{message}. Image size: {image.size} bytes.", NORMAL)
        with self._lock:
            self._present.add(name)
        return image

    def has(self, asked: str) -> bool:
        """Whether a pod of this node has pulled the image before."""
        with self._lock:
            return str(read_reference(asked)) in self._present

    def find(self, asked: str) -> Image:
        """The image, whatever the policy and the back-off say. ImageError."""
        return self._images.find(asked)


class PullBackoff:
    """How long one pod waits before it tries again to pull an image that it did not get."""

    def __init__(self) -> None:
        self._failed: dict[str, tuple[float, float, str]] = {}  # image → until when, the pause, what was wrong

    def remaining(self, name: str, now: float) -> tuple[float, str]:
        """Seconds that are left, and what went wrong; 0 when it may be tried."""
        until, _, why = self._failed.get(name, (now, 0.0, ""))
        return max(0.0, until - now), why

    def fail(self, name: str, now: float, why: str) -> float:
        """Note a failure; the seconds until it may be tried again."""
        _, pause, _ = self._failed.get(name, (0.0, 0.0, ""))
        pause = min(pause * 2, LONGEST_PAUSE) or FIRST_PAUSE
        self._failed[name] = (now + pause, pause, why)
        return pause
