"""What this machine can do: each feature probed, not assumed; what goes without it; how to get it.

    machine.py    read: root, capabilities, memory, limits, cgroups, modules
    kernel.py     tried, in namespaces that end with the process that tries (apart.py): devices, queues, nft rules
    software.py   looked for: programs with their versions, Python modules
    feature.py    what a feature is

`read_features` tells all (`knetsim doctor`); `require` is asked at the start of a simulation, so that a machine that
cannot run it says so in one message, before anything was made. Neither changes the host. A new feature is a row in one
of the tables.
"""

from __future__ import annotations

from collections.abc import Collection

from knetsim.errors import MissingTool
from knetsim.system.features import kernel, machine, software
from knetsim.system.features.feature import Feature, group_remedies
from knetsim.system.invocation import as_typed

__all__ = ["REQUIRED", "Feature", "group_remedies", "read_features", "require"]

#: what the default scenario needs; one whose pod networks are all host-gw needs no "VXLAN"
REQUIRED: frozenset[str] = kernel.REQUIRED | software.REQUIRED


def read_features() -> list[Feature]:
    """Every feature, in the order in which `knetsim doctor` shows them."""
    tried = kernel.read_kernel()  # first: it forks, which is best done before there are threads
    return [*machine.read_machine(), *tried, *machine.read_modules(), *software.read_software()]


def require(names: Collection[str] = REQUIRED) -> None:
    """MissingTool unless we are root, with all capabilities, and this machine has the features `names`.

    One error names all that is missing. Programs and Python modules are found, not run. To be called while the process
    has one thread.
    """
    unknown = set(names) - set(kernel.NAMES) - software.NAMES
    if unknown:
        raise ValueError(f"unknown features {sorted(unknown)}")
    missing = [feature for feature in machine.read_privileges() if not feature.present]
    if not missing:
        tried = kernel.read_kernel([name for name in kernel.NAMES if name in names])
        missing = [feature for feature in (*tried, *software.find_software(names)) if not feature.present]
    if missing:
        # what could not be tried mostly follows from what is missing
        raise _missing_error([feature for feature in missing if feature.present is False] or missing)


def _missing_error(missing: list[Feature]) -> MissingTool:
    if missing[0].name == "root":
        return MissingTool(
            "only root can start a simulation",
            why=f"it makes namespaces and network devices; {missing[0].detail}",
            hint=missing[0].remedy,
        )
    names = ", ".join(feature.name for feature in missing)
    reasons = [f"{feature.name}: {feature.detail or feature.cost}" for feature in missing]
    return MissingTool(
        f"a simulation cannot run here without {names}",
        why="; ".join(reasons),
        hint=f"{'; '.join(group_remedies(missing))} (`{as_typed('doctor')}` tells all)",
    )
