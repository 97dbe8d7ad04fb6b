"""`knetsim version`: of knetsim, Python, the kernel, and the programs a simulation runs."""

from __future__ import annotations

import os
import platform
import sys
from typing import IO

import knetsim
from knetsim.cli.terminal import Output, print_json
from knetsim.system.programs import PROGRAMS, read_programs

#: those whose version decides what a simulation does
_PROGRAMS = ("etcd", "flanneld", "flannel", "bridge", "host-local", "nft", "ip", "nginx", "kube-apiserver", "kubectl",
             "agnhost", "coredns", "skrouterd")  # fmt: skip


def version(output: Output = "table", file: IO[str] | None = None) -> None:
    """Print the versions; of programs, those that are here."""
    programs = {_title(name): found.version for name, found in read_programs(_PROGRAMS).items() if found}
    machine = os.uname()
    versions = {
        "knetsim": knetsim.__version__,
        "python": platform.python_version(),
        "kernel": machine.release,
        "machine": machine.machine,
        "system": read_system(),
    }
    if output == "json":
        print_json({**versions, "programs": programs}, file)
        return
    lines = [
        f"knetsim {versions['knetsim']}",
        f"Python {versions['python']} ({sys.executable})",
        f"Linux {versions['kernel']} {versions['machine']}, {versions['system']}",
        *(f"{name} {version}" for name, version in programs.items()),
    ]
    print("\n".join(lines), file=file or sys.stdout)


def _title(name: str) -> str:
    return f"CNI {name}" if PROGRAMS[name].plugin else name


def read_system() -> str:
    """The distribution's name: `Debian GNU/Linux 12 (bookworm)`; empty when it does not say."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
