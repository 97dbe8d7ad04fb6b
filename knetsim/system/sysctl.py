"""Kernel settings of a network namespace (`sysctl net.…`): read and written by a thread that stands in it.

/proc/sys/net shows the namespace of the thread that opens a file (fs/proc/proc_sysctl.c: net_ctl_header_lookup, asking
`current`), so no process has to be there. /proc/net is another matter: it shows that of the process's first thread.

A name is written with dots, or with slashes when a part holds a dot: `net/ipv4/conf/flannel.100/rp_filter`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from knetsim.errors import KernelError
from knetsim.system.netns import Namespaces, entered


def _path(name: str) -> str:
    return "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))


def write_sysctl(place: Namespaces, settings: Mapping[str, str], *, missing_ok: bool = False) -> None:
    """Write settings in order, `{"net.ipv4.ip_forward": "1"}`; KernelError names the first that is refused.

    `missing_ok`: pass over what this kernel does not have, such as `net.ipv6` where IPv6 is off.
    """
    with entered(place):
        for name, value in settings.items():
            try:
                with open(_path(name), "w", encoding="ascii") as file:
                    file.write(value)
            except OSError as error:
                if missing_ok and error.errno == errno.ENOENT:
                    continue
                raise _error(f"sysctl -w {name}={value}", error, place) from error


def read_sysctl(place: Namespaces, *names: str) -> dict[str, str]:
    """The values of settings, without the newline; KernelError names the first that is not there."""
    found = {}
    with entered(place):
        for name in names:
            try:
                with open(_path(name), encoding="ascii") as file:
                    found[name] = file.read().strip()
            except OSError as error:
                raise _error(f"sysctl {name}", error, place) from error
    return found


def _error(command: str, error: OSError, place: Namespaces) -> KernelError:
    return KernelError(command, error.errno or 0, os.strerror(error.errno or 0), where=place.name)
