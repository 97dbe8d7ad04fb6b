"""What one feature of the machine is, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from knetsim.system.invocation import start_as_typed

Need = Literal["required", "optional", "later"]
Group = Literal["machine", "kernel", "program", "python"]

#: the kernel of a Debian machine has all that is asked for here; those made for one cloud or for WSL leave much out
BETTER_KERNEL = "a kernel that has it, such as that of Debian's linux-image-amd64"
INSTALL = "sudo apt-get install "
RUN_AS_ROOT = f"as root: {start_as_typed()}; in a container: docker run --privileged"


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


def group_remedies(missing: Iterable[Feature]) -> dict[str, list[str]]:
    """Each remedy once, with the names of what it brings; Debian packages in one command."""
    packages: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for feature in missing:
        package = feature.remedy.removeprefix(INSTALL)
        group = others if package == feature.remedy else packages
        group.setdefault(package, []).append(feature.name)
    if not packages:
        return others
    return {INSTALL + " ".join(packages): [name for names in packages.values() for name in names], **others}
