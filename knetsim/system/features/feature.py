"""What one feature of the machine is, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Need = Literal["required", "optional", "later"]
Group = Literal["machine", "kernel", "program", "python"]

#: the kernel of a Debian machine has all that is asked for here; those made for one cloud or for WSL leave much out
BETTER_KERNEL = "a kernel that has it, such as that of Debian's linux-image-amd64"
RUN_AS_ROOT = "run as root: sudo; in a container: docker run --privileged"


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that this machine has, or has not, or that could not be tried (`present` is None: only root can).

    `detail` is what was found, or why not; `cost` what goes without it; `remedy` a command or words. Nothing works
    without a `required` feature; this version of knetsim does not use what is needed `later`.
    """

    name: str
    group: Group
    need: Need
    present: bool | None
    detail: str = ""
    cost: str = ""
    remedy: str = ""
