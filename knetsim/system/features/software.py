"""Programs and Python modules as features."""

from __future__ import annotations

import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata, util

from knetsim.errors import NotReady
from knetsim.system.features.feature import INSTALL, Feature, Need
from knetsim.system.programs import PROGRAMS, Installed, Program, find_known, read_programs
from knetsim.system.run import run

#: an import takes half a second; a machine that is too busy for it is not one without the module
_IMPORT_SECONDS = 1.8


@dataclass(frozen=True, slots=True)
class Module:
    """A Python module that Debian brings."""

    name: str
    package: str
    cost: str
    need: Need = "required"


_MODULES = (
    Module("mininet", "mininet", "no hosts, no switches, no prompt"),
    Module("nftables", "python3-nftables", "no nft rules"),
    Module("etcd3", "python3-etcd3", "no way to etcd, thus no objects"),
    Module("proton", "python3-qpid-proton", "clusters cannot be linked: no embedded Skupper router", "optional"),
)


def _program_name(program: Program) -> str:
    """What the feature is called: `bridge` is a device too, so the plugin is `CNI bridge`."""
    return f"CNI {program.name}" if program.plugin else program.name


def _module_name(module: Module) -> str:
    return f"python {module.name}"


_NEEDS: dict[str, Need] = {_program_name(program): program.need for program in PROGRAMS.values()} | {
    _module_name(module): module.need for module in _MODULES
}
NAMES = frozenset(_NEEDS)
REQUIRED = frozenset(name for name, need in _NEEDS.items() if need == "required")


def read_software() -> list[Feature]:
    """Every program with its version, every module imported once; all at the same time, in other processes."""
    with ThreadPoolExecutor(max_workers=len(_MODULES), thread_name_prefix="import") as pool:
        imports = [pool.submit(_import_trouble, module.name) for module in _MODULES]
        installed = read_programs()
        troubles = [future.result() for future in imports]
    programs = [_program_feature(PROGRAMS[name], found) for name, found in installed.items()]
    modules = [_module_feature(module, trouble) for module, trouble in zip(_MODULES, troubles, strict=True)]
    return [*programs, *modules]


def find_software(names: Collection[str]) -> list[Feature]:
    """The programs and modules `names`, looked for only."""
    features = []
    for program in PROGRAMS.values():
        if _program_name(program) in names:
            path = find_known(program)
            features.append(_program_feature(program, Installed(path, "") if path else None))
    for module in _MODULES:
        if _module_name(module) in names:
            trouble = "" if util.find_spec(module.name) else f"no module of {sys.executable}"
            features.append(_module_feature(module, trouble))
    return features


def _program_feature(program: Program, installed: Installed | None) -> Feature:
    if installed is None:
        present, detail = False, "not installed"
    elif installed.trouble:
        present, detail = False, f"{installed.path} does not run: {installed.trouble}"  # another CPU's, half a file …
    else:
        present, detail = True, f"{installed.version} {installed.path}".strip()
    return Feature(_program_name(program), "program", program.need, present, detail, program.cost, program.remedy)


def _import_trouble(name: str) -> str:
    """Why the module cannot be imported, found by a Python of its own; empty when it can be."""
    if not util.find_spec(name):
        return f"no module of {sys.executable}"
    try:
        answer = run([sys.executable, "-c", f"import {name}"], timeout=_IMPORT_SECONDS, check=False, merge=True)
    except NotReady:
        return ""
    lines = answer.output.strip().splitlines()
    return "" if answer.code == 0 else (lines[-1] if lines else f"exit {answer.code}")


def _module_feature(module: Module, trouble: str) -> Feature:
    detail = trouble or _version(module.name)
    remedy = f"{INSTALL}{module.package}"
    return Feature(_module_name(module), "python", module.need, not trouble, detail, module.cost, remedy)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
