"""What a container of a Pod's spec runs: program, arguments, environment; pure.

There is no image registry in a simulator, so far: the `pause` image holds a pod's network and costs no process, and a
container with a `command` runs that, a program of this machine. Anything else has no image to be pulled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from knetsim.api.objects import Object
from knetsim.system.container import DEFAULT_ENV

_PAUSE = re.compile(r"^(?:[^\s]*/)?pause(?:[:@][^\s]*)?$")
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]+)\))")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18, "m": 10**-3} | {
    f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGTPE", 1)
}
_QUANTITY = re.compile(r"^\+?([0-9.]+(?:[eE][-+]?[0-9]+)?)([A-Za-z]*)$")


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


def build_env(pod: Object, container: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a container's process; later variables may refer to earlier ones as `$(NAME)`."""
    env = {**DEFAULT_ENV, "HOSTNAME": build_hostname(pod)}
    for variable in container.get("env") or ():
        env[variable["name"]] = expand(variable.get("value", ""), env)
    return env


def build_argv(container: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """`command` and `args`, in which `$(NAME)` stands for a variable of the environment."""
    return [expand(word, env) for word in (*container["command"], *(container.get("args") or ()))]


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by the variable's value; unknown ones stay, `$$` is `$`. As Kubernetes' expansion package."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else env.get(name, match[0])

    return _REFERENCE.sub(replace, text)


def build_hostname(pod: Object) -> str:
    """What the pod calls itself: at most 63 characters of its name, unless its spec says otherwise."""
    name = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return name[:63].rstrip("-.")


def parse_quantity(text: Any) -> int:
    """Bytes of `64Mi`, `1.5G`, `1e6` …; the object was checked when it was stored."""
    match = _QUANTITY.match(str(text))
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity")
    return int(float(match[1]) * _UNITS[match[2]])
