"""What a container of a Pod's spec runs: program, arguments; pure.

There is no image registry in a simulator, so far: the `pause` image holds a pod's network and costs no process, and a
container with a `command` runs that, a program of this machine. Anything else has no image to be pulled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from knetsim.node.kubelet.environment import expand

_PAUSE = re.compile(r"^(?:[^\s]*/)?pause(?:[:@][^\s]*)?$")


class Work(Enum):
    """What there is to do for a container."""

    HOLD = "hold"  # the pod's network, without a process
    RUN = "run"  # a program
    PULL = "pull"  # an image that is not to be had


def classify_container(container: Mapping[str, Any]) -> Work:
    """Whether a container is a program to be run, or none, or one that we do not have."""
    if container.get("command"):
        return Work.RUN
    return Work.HOLD if _PAUSE.match(container.get("image", "")) else Work.PULL


def explain_pull(image: str) -> str:
    """Why an image cannot be pulled, and what to do."""
    return (
        f'Failed to pull image "{image}": a simulation has no image registry, and this version no table of images yet: '
        "give the container a `command`, which runs a program of this machine"
    )


def build_argv(container: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """`command` and `args`, in which `$(NAME)` stands for a variable of the environment."""
    return [expand(word, env) for word in (*container["command"], *(container.get("args") or ()))]
