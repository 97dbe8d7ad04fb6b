"""What a test run must leave as it found it: interfaces, routes, rules, namespaces, mounts, processes, files of
ours."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

_RUN = "KNETSIM_TEST_RUN"
_OURS = ("etcd", "flanneld", "knetsim", "nginx", "skrouterd", "kube-apiserver")


def read_machine() -> dict[str, frozenset[str]]:
    """What can be seen of the machine, by kind; equal before and after a run that leaks nothing."""
    return {
        "interfaces": _lines("ip", "-o", "link", column=1),
        "addresses": _lines("ip", "-o", "addr"),
        "routes": _lines("ip", "route", "show", "table", "all"),
        "rules": _lines("ip", "rule"),
        "nft tables": _lines("nft", "list", "tables"),
        "namespaces": frozenset(os.listdir("/run/netns") if os.path.isdir("/run/netns") else ()),
        "mounts": frozenset(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()),
        "state": frozenset(str(path) for path in Path("/run/knetsim").glob(f"{_own_prefix()}*")),
        "modes": frozenset(f"{path} {os.stat(path).st_mode:o}" for path in ("/", "/tmp", "/run", "/etc", "/var")),
        "sysctls": frozenset(_sysctls()),
        "control groups": find_control_groups(_own_prefix()),
        "processes": frozenset(_processes()),
    }


def new_simulation_name() -> str:
    """A simulation's name that tells whose tests started it: several runs may share a machine."""
    return f"{_own_prefix()}{uuid.uuid4().hex[:8]}"


def name_run() -> None:
    """Have this process, and those that it starts, call what they make by one prefix: once, before all tests."""
    os.environ[_RUN] = f"test-{os.getpid()}-"


def find_control_groups(name: str) -> frozenset[str]:
    """Those of simulations whose name begins so, in any hierarchy."""
    return frozenset(
        directory
        for directory, _, _ in os.walk("/sys/fs/cgroup")
        if os.path.basename(directory).startswith(f"knetsim-{name}")
    )


def _own_prefix() -> str:
    return os.environ[_RUN]


def explain_difference(before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]) -> list[str]:
    """What has come and what has gone, in words."""
    lines = []
    for kind, old in before.items():
        lines += [f"{kind}: {item} is left" for item in sorted(after[kind] - old)]
        lines += [f"{kind}: {item} is gone" for item in sorted(old - after[kind])]
    return lines


def _lines(*argv: str, column: int | None = None) -> frozenset[str]:
    output = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    # the lifetime of addresses and cached routes counts down
    rows = [line.split("valid_lft")[0].strip() for line in output.splitlines() if "expires" not in line]
    return frozenset(row.split(": ")[column] if column is not None else row for row in rows)


def _sysctls() -> list[str]:
    names = (
        "net/ipv4/ip_forward",
        "net/bridge/bridge-nf-call-iptables",
        "fs/file-max",
        "net/core/wmem_max",
        "kernel/hostname",
    )
    found = []
    for name in names:
        path = Path("/proc/sys") / name
        if path.exists():
            found.append(f"{name}={path.read_text().strip()}")
    return found


def _processes() -> list[str]:
    """Programs that simulations start, by pid, outside of any sandbox; one inside shows by its state directory."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            if not os.path.samefile(path / "ns/pid", "/proc/self/ns/pid"):
                continue
            argv = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended while we looked
        if not argv[0]:
            continue
        program = os.path.basename(argv[0].decode(errors="replace"))
        if program in _OURS or program.startswith("mininet:"):
            found.append(f"{path.name} {program}")
    return found
